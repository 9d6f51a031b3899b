"""Snapshots of the routers: at the right steps, with what the model does at that step, and without changing the run."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from minimoe.checkpoint.load import load
from minimoe.model.config import ModelConfig
from minimoe.training.evaluation.dense_twin import dense_twin
from minimoe.training.loop import train
from minimoe.training.snapshots import TOKENS, file_of, snapshot_steps
from tests.training.test_loop import CONFIG, MINI, QUICK

FEW = replace(QUICK, steps=6, log_every=3, evaluate_every=6, checkpoint_every=6, snapshots=3)


def test_snapshot_steps_are_logarithmic_and_include_the_last() -> None:
    assert snapshot_steps(4000, 10) == [1, 3, 6, 16, 40, 100, 252, 633, 1592, 4000]
    assert snapshot_steps(1, 10) == [1] and snapshot_steps(50, 0) == [] and snapshot_steps(5, 10)[-1] == 5


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:  # type: ignore[no-untyped-def]
    out = tmp_path_factory.mktemp("snapshots")
    train(CONFIG, out=out, settings=FEW)
    return out


def test_last_snapshot_equals_the_routers_of_the_checkpoint(run: Path) -> None:
    kept = load_file(file_of(run, 6))
    model, _ = load(run / "checkpoint")
    for layer in range(CONFIG.num_hidden_layers):
        assert torch.equal(kept[f"gate.{layer}"], model.get_parameter(f"layers.{layer}.mlp.gate.weight"))
    for domain in ("en", "zh", "code", "math", "chat"):
        assert kept[f"{domain}.tokens"].shape == (TOKENS,)
        experts = kept[f"{domain}.experts"]
        assert experts.dtype == torch.uint8 and experts.shape == (2, TOKENS, CONFIG.num_experts_per_tok)
        assert int(experts.max()) < CONFIG.num_experts
        assert torch.allclose(kept[f"{domain}.weights"].float().sum(-1), torch.ones(2, TOKENS), atol=2e-3)
    first = load_file(file_of(run, 1))
    assert torch.equal(first["en.tokens"], kept["en.tokens"]) and not torch.equal(first["gate.0"], kept["gate.0"])


def test_snapshots_do_not_change_the_run(run: Path, tmp_path: Path) -> None:
    train(CONFIG, out=tmp_path, settings=replace(FEW, snapshots=0))
    one, other = (load_file(folder / "checkpoint" / "model.safetensors") for folder in (run, tmp_path))
    assert not (tmp_path / "history").exists()
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("name", ["mini", "Qwen3-235B-A22B", "Qwen3-30B-A3B"])
def test_the_dense_twin_has_the_active_size(name: str) -> None:
    config = ModelConfig.from_file(MINI) if name == "mini" else ModelConfig.named(name)
    twin = dense_twin(config)
    assert twin.moe_layers == () and twin.model_type == "qwen3"
    unit = 3 * config.hidden_size * config.num_hidden_layers
    assert abs(twin.total_parameters - config.active_parameters) <= unit / 2


def test_the_dense_twin_trains(tmp_path: Path) -> None:
    train(dense_twin(CONFIG), out=tmp_path, settings=FEW)
    model, _ = load(tmp_path / "checkpoint")
    assert model.config.model_type == "qwen3"
    assert set(load_file(file_of(tmp_path, 6))) == {f"{d}.tokens" for d in ("en", "zh", "code", "math", "chat")}
