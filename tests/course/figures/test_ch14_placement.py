"""The pictures of chapter 14: what they say in words is what the planner says, and the driven ones follow."""

from itertools import pairwise

import pytest
import torch

from minimoe import ModelConfig
from minimoe.checkpoint.open import open_checkpoint
from minimoe.checkpoint.sparse_checkpoint import write_sparse
from minimoe.course.exercises.ch14_placing import SMALL
from minimoe.course.figures import ch14_charts as charts
from minimoe.course.figures import ch14_placement as pictures
from minimoe.errors import BadArgument
from minimoe.humanize import units
from minimoe.scale.planner.deployment import deploy
from minimoe.scale.planner.gpus import CARDS
from minimoe.scale.planner.model_size import plan

BIG = ModelConfig.named("Qwen3-235B-A22B")
PLOTLY = "application/vnd.plotly.v1+json"


def drawn(dial):
    """The figure that the dial shows, and its description in words."""
    (shown,) = dial.children[1].outputs
    return shown["data"][PLOTLY], shown["data"]["text/plain"]


@pytest.mark.parametrize("step", pictures.STEPS)
def test_the_map_lights_one_step(step):
    figure = pictures.journey_map(step).figure
    lit = [shape for shape in figure.layout.shapes if shape.fillcolor == pictures.MARK]
    assert len(lit) == 1 and lit[0].x0 == pictures.STEPS.index(step)


def test_parts_are_shares_of_the_whole():
    picture = pictures.parts_bars(plan(BIG, name="235B"))
    for row in range(2):
        assert sum(trace.x[row] for trace in picture.figure.data) == pytest.approx(1, abs=1e-4)
    assert "experts 96.60%" in picture.alt and picture.figure.data[0].name == "experts"


def test_what_is_short_is_what_the_planner_says():
    picture = pictures.claim_bars(BIG, [("A100-80GB", 2, ("bf16", "int4"))], 32_768)
    plans = [deploy(BIG, 2, CARDS["A100-80GB"], each, context=32_768) for each in ("bf16", "int4")]
    needs, has = picture.figure.data
    assert list(needs.text) == [f"{units(plans[0].short_bytes)} short", "fits"]
    assert needs.x[0] > has.x[0] and needs.x[1] < has.x[1]


@pytest.mark.parametrize("devices", [1, 2, 4, 8, 16])
def test_pieces_cover_every_tensor_once_and_every_rank_holds_one(devices):
    placed = deploy(BIG, devices, precision="bf16", context=0)
    for kind in pictures.ROWS.values():
        pieces = pictures.holders(placed, kind)
        assert [rank for _, _, ranks in pieces for rank in ranks] == list(range(devices))
        assert pieces[0][0] == 0 and pieces[-1][1] == 1
        assert all(one[1] == other[0] for one, other in pairwise(pieces))


def test_neighbours_share_a_head_in_the_picture():
    picture = pictures.who_holds(deploy(BIG, 8, precision="bf16", context=0), rank=5)
    assert "k_proj, v_proj 50.0% to 75.0% (ranks 4, 5)" in picture.alt
    lit = [shape for shape in picture.figure.layout.shapes if shape.fillcolor == pictures.MARK]
    assert len(lit) == len(pictures.ROWS)


def test_the_holders_follow_their_widgets():
    dial = pictures.explore_holders(BIG)
    devices, rank = dial.children[0].children
    assert "rank 5 of 8" in drawn(dial)[1]
    rank.value = 7
    assert "rank 7 of 8" in drawn(dial)[1] and "(ranks 6, 7)" in drawn(dial)[1]
    devices.value = 4
    assert "rank 3 of 4" in drawn(dial)[1]
    devices.value = 16
    assert f"rank {rank.value} of 16" in drawn(dial)[1]


def test_the_plan_follows_its_widgets_and_refuses_in_words():
    dial = charts.explore_plan(BIG)
    devices, context, card, precision, split = dial.children[0].children
    assert "8 x H100, bf16, 32,768 tokens" in drawn(dial)[0]["layout"]["title"]["text"]
    assert "to spare on the fullest device" in drawn(dial)[1]
    devices.value = 4
    assert "What fits: the weights in fp8" in drawn(dial)[0]["layout"]["title"]["text"].replace("<br>", " ")
    devices.value = 6
    assert "64 query heads cannot be dealt out evenly" in drawn(dial)[1] and drawn(dial)[0]["data"] == []
    split.value = "layers"
    assert len(drawn(dial)[0]["data"][0]["x"]) == 6
    precision.value, card.value, context.value = "int4", "RTX 4090", 4096
    assert "6 x RTX 4090, int4, 4,096 tokens" in drawn(dial)[0]["layout"]["title"]["text"]


def test_the_map_of_a_file_marks_where_tensors_lie(tmp_path):
    shards = open_checkpoint(write_sparse(tmp_path / "small", SMALL)).shards
    name = "model.layers.1.mlp.experts.3.up_proj.weight"
    header, entry = shards.find(name)
    picture = pictures.shard_map(header, {"it": [name]}, "a file")
    assert f"from byte {entry.start:,} on" in picture.alt and units(entry.nbytes) in picture.alt
    shown = sum(trace.x[0] for trace in picture.figure.data) * pictures.GB
    assert shown == pytest.approx(header.payload_bytes, abs=10_000 * len(picture.figure.data))
    assert sum(trace.showlegend for trace in picture.figure.data) == len({trace.name for trace in picture.figure.data})
    with pytest.raises(BadArgument, match="no such name"):
        pictures.shard_map(header, {"it": ["no such name"]}, "a file")


def test_work_is_counted_where_experts_live():
    home = torch.tensor([0, 0, 1, 1, 2, 2])
    experts = torch.tensor([[0, 1, 2], [0, 3, 5], [4, 5, 1]])
    work = charts.work_of_ranks(experts, home, 3)
    assert work.tolist() == [[2, 1, 0], [1, 1, 1], [1, 0, 2]]
    assert charts.busiest_shares(work, 3) == pytest.approx([0, 1 / 3, 2 / 3, 0])
    one, two = charts.waiting(work, (1, 2))
    assert one == pytest.approx((2 + 1 + 2) / 3) and two == pytest.approx(3 / 2)  # the third has no partner
    picture = charts.waiting_lines({"it": [one, two]}, (1, 2), "waiting")
    assert "it: 1.67 with 1, 1.50 with 2" in picture.alt


def test_bars_and_lines_say_their_numbers():
    bars = charts.busiest_bars({"mini": [0, 0.25, 0.75]}, "busiest")
    assert "mini: 1.75" in bars.alt and list(bars.figure.data[0].x) == [1, 2]
    lines = charts.hit_lines({"mini": [0.0, 0.5]}, [10, 20], "hits", "room", cliff=12)
    assert "mini: 0% at 10, 50% at 20" in lines.alt and lines.figure.layout.shapes[0].x0 == 12
