"""Rooflines and the bill of chapter 14, against enumeration, simulation and arithmetic by hand."""

from dataclasses import replace
from itertools import combinations

import pytest
import torch

from minimoe import ModelConfig
from minimoe.course.exercises.ch14_placing import SMALL
from minimoe.course.figures import ch14_renting as renting
from minimoe.errors import BadArgument
from minimoe.scale.planner.gpus import CARDS
from minimoe.scale.planner.model_size import plan

BIG = ModelConfig.named("Qwen3-235B-A22B")
PLOTLY = "application/vnd.plotly.v1+json"


@pytest.mark.parametrize("ranks", [1, 2, 4, 8])
def test_the_busiest_rank_is_that_of_all_choices(ranks):
    config = replace(SMALL, num_experts_per_tok=3)
    each = config.num_experts // ranks
    choices = list(combinations(range(config.num_experts), 3))
    work = [max(sum(expert // each == rank for expert in chosen) for rank in range(ranks)) for chosen in choices]
    assert renting.busiest(config, ranks) == pytest.approx(sum(work) / len(work))


def test_the_busiest_of_eight_ranks_is_that_of_dice():
    dice = torch.rand(40_000, 128, generator=torch.Generator().manual_seed(1)).topk(8).indices // 16
    simulated = float((dice[..., None] == torch.arange(8)).sum(dim=1).amax(dim=-1).double().mean())
    assert renting.busiest(BIG, 8) == pytest.approx(simulated, abs=0.02)
    with pytest.raises(BadArgument, match="a divisor of the 128 experts"):
        renting.busiest(BIG, 6)


def test_one_device_reads_what_a_token_uses():
    sizes = plan(BIG, precision="bf16")
    head = BIG.vocab_size * BIG.hidden_size * 2
    for split in renting.SPLITS:
        assert renting.bytes_of_a_token(BIG, 1, split) == pytest.approx(sizes.active_bytes - head)
        more = renting.bytes_of_a_token(BIG, 4, split, context=1000) - renting.bytes_of_a_token(BIG, 4, split)
        assert more == pytest.approx(1000 * sizes.kv_cache_bytes_per_token / (1 if split == "layers" else 4))
    with pytest.raises(BadArgument, match="expected one of tensor, slices, layers"):
        renting.bytes_of_a_token(BIG, 1, "rows")


def test_more_ranks_read_less_and_layers_as_much():
    whole, sliced, layers = (renting.bytes_of_a_token(BIG, 8, split) for split in renting.SPLITS)
    assert sliced < whole < layers == renting.bytes_of_a_token(BIG, 1, "layers")
    experts = next(part.active_bytes for part in plan(BIG, precision="bf16").parts if part.name == "experts")
    assert whole - sliced == pytest.approx(experts * (renting.busiest(BIG, 8) - 1) / 8)
    assert renting.next_token_seconds(BIG, "H100", 8) == pytest.approx(whole / 3.35e12)


def test_bounds_of_the_first_token():
    one, many = (renting.first_token_seconds(BIG, "H100", 8, prompt) for prompt in (1, 2000))
    used = 22_190_763_520 - 2 * BIG.vocab_size * BIG.hidden_size
    assert many["arithmetic"] == pytest.approx(2 * used * 2000 / (8 * 989e12)) == 2000 * one["arithmetic"]
    assert many["sums between the GPUs"] == pytest.approx(94 * 2 * 2000 * 4096 * 2 * 2 * 7 / 8 / 450e9)
    assert many["reading the weights"] == pytest.approx((470_187_269_120 - 4 * BIG.vocab_size * 4096) / 8 / 3.35e12)
    assert one["reading the weights"] == pytest.approx(2 * used / 8 / 3.35e12)
    pcie = renting.first_token_seconds(BIG, "H100 PCIe", 8, 2000)
    assert pcie["sums between the GPUs"] == pytest.approx(450 / 64 * many["sums between the GPUs"])
    assert renting.first_token_seconds(BIG, "H100", 1, 2000)["sums between the GPUs"] == 0


def test_cards_have_the_planners_names():
    assert set(renting.SPEEDS) - {"H100 PCIe"} <= set(CARDS)
    assert {each.card for each in (*renting.REPORTED, renting.MANY)} <= set(renting.SPEEDS)


def test_a_bill_by_hand():
    each = renting.bill(8, 2.0, 1.5, 100, download=450 * 10**9, network=1.25e9, load=360 * 10**9, disk=1e9)
    assert each.per_hour == 16
    assert each.parts == pytest.approx({"download": 1.6, "load": 1.6, "answers": 24.0})
    assert each.total == pytest.approx(27.2) and each.per_million_tokens == pytest.approx(16e6 / 100 / 3600)
    assert "27.20 USD, of which 3.20 USD before the first word" in renting.bill_bars(each).alt
    assert renting.bill(8, 2.0, 1.5, 100, 450 * 10**9, 0, 1, 1e9).parts["download"] == 0


def test_the_bill_follows_its_sliders():
    dial = renting.explore_bill(450 * 10**9, 360 * 10**9)
    price, gpus, use, speed, network, disk = dial.children[0].children

    def says():
        return dial.children[1].outputs[0]["data"]["text/plain"]

    assert "8 GPUs x 2.50 USD an hour = 20.00 USD an hour" in says()
    price.value, gpus.value, speed.value = 3.0, 4, 1000
    assert "4 GPUs x 3.00 USD an hour = 12.00 USD" in says() and "a million tokens cost 3.33 USD" in says()
    network.value = 0.0
    assert "download, 0.0 s: 0.00 USD" in says()
    use.value, disk.value = 2.0, 1e9
    assert "answers, 2.0 h: 24.00 USD" in says() and "load, 6.0 min: 1.20 USD" in says()


def test_pictures_say_their_numbers():
    roofline = renting.roofline_bars(BIG)
    assert "8 x H20, bf16, reported: 13.4 ms, 74.5/s" in roofline.alt
    assert len(roofline.figure.data[0].x) == 2 * len(renting.REPORTED)
    first = renting.first_token_bars(BIG, (("H100", 8), ("H100 PCIe", 8)), 2000)
    assert "on H100 reading the weights; on H100 PCIe sums between the GPUs" in first.alt
    assert "8 x H100 PCIe: sums between the GPUs 84 ms" in first.alt
    assert PLOTLY in first._repr_mimebundle_()
