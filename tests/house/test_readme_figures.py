"""The numbers in README.md are those that follow from the config."""

from minimoe.checkpoint.layout import expected_tensors
from minimoe.model.config import ModelConfig
from tests.house.repository import ROOT


def test_figures_of_the_235b():
    config = ModelConfig.named("Qwen3-235B-A22B")
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    counts = config.total_parameters, config.active_parameters, sum(1 for _ in expected_tensors(config))
    for count in counts:
        assert f"{count:,}" in text
