"""The figure shows the plan's numbers, and its text alternative has them too."""

import json

import pytest

from minimoe.model.config import ModelConfig
from minimoe.scale.planner.deployment import deploy
from minimoe.scale.planner.figures import COLOURS, memory_per_rank
from minimoe.scale.planner.gpus import CARDS

BIG = ModelConfig.named("Qwen3-235B-A22B")
GB = 10**9


@pytest.mark.parametrize("split", ["tensor", "layers"])
def test_bars_sum_to_the_total_of_each_rank(split):
    plan = deploy(BIG, 4, CARDS["H200"], context=32_768, split=split, name="the 235B")
    figure = memory_per_rank(plan).figure
    assert [bar.name for bar in figure.data] == list(COLOURS)
    for rank, column in zip(plan.ranks, zip(*(bar.x for bar in figure.data), strict=True), strict=True):
        assert sum(column) == pytest.approx((rank.total + plan.reserve) / GB, abs=0.003)
        assert column[0] == pytest.approx(rank.parts["experts"] / GB, abs=0.001)
    assert list(figure.data[0].y) == ["rank 0", "rank 1", "rank 2", "rank 3"]
    assert figure.layout.barmode == "stack" and figure.layout.showlegend
    (line,) = figure.layout.shapes
    assert line.x0 == line.x1 == pytest.approx(CARDS["H200"].bytes / GB, abs=0.001)
    assert "GB" in figure.layout.xaxis.title.text and "235B" in figure.layout.title.text


def test_bars_differ_without_colour():
    bars = memory_per_rank(deploy(BIG, 2, CARDS["H100"])).figure.data
    assert {bar.marker.pattern.fillmode for bar in bars} == {"overlay"}  # "replace" would draw the pattern on nothing
    assert len({pattern for _, pattern in COLOURS.values()}) == len({colour for colour, _ in COLOURS.values()}) == 5


def test_it_has_a_text_alternative_and_is_stored_as_json():
    plan = deploy(BIG, 2, CARDS["H100"], context=32_768, name="the 235B")
    picture = memory_per_rank(plan)
    assert repr(picture) == (
        "the 235B in bf16, 32,768 tokens in a bf16 cache, on 2 devices, split 'tensor'. Ranks 0 to 1 need each "
        "238.40 GB: weights 235.14 GB, KV cache 3.15 GB, work space 102.24 MB. A device has 85.52 GB, of which 2.15 GB "
        "are kept back: it does not fit, 155.03 GB short."
    )
    bundle = picture._repr_mimebundle_()
    assert bundle["text/plain"] == picture.alt
    json.dumps(bundle["application/vnd.plotly.v1+json"])
    assert "it fits" in memory_per_rank(deploy(BIG, 4, CARDS["H200"], context=32_768)).alt


def test_without_device_memory_there_is_no_line_and_no_reserve():
    picture = memory_per_rank(deploy(BIG, 3, split="layers"))
    assert not picture.figure.layout.shapes
    assert "kept back" not in [bar.name for bar in picture.figure.data]
    assert "fit" not in picture.alt
    assert [f"ank {rank} needs" in picture.alt for rank in range(3)] == [True] * 3
    assert "on 1 device." in memory_per_rank(deploy(BIG)).alt


def test_a_dense_model_has_no_experts_to_draw():
    plan = deploy(ModelConfig.named("Qwen3-0.6B"), 2)
    assert [bar.name for bar in memory_per_rank(plan).figure.data] == ["all other weights", "KV cache", "work space"]
