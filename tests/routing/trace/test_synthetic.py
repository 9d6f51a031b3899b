"""A synthetic trace is uniform but for what it says was planted, consistent, and never taken for a measurement."""

import math
import time

import pytest
import torch

from minimoe.errors import BadArgument, BadTrace
from minimoe.routing.trace.synthetic import JOINING, plant_truth, synthetic_trace, uniform_sets
from minimoe.routing.trace.trace import RoutingTrace
from tests.routing.conftest import small_model


@pytest.fixture(scope="module")
def trace():
    return synthetic_trace(layers=30, tokens=4096, seed=3)


def selected(trace, layer, expert):
    return (trace.experts[layer] == expert).any(dim=-1)


def test_full_size_passes_the_checks_within_two_seconds():
    begin = time.process_time()  # not the clock on the wall: tests run side by side
    trace = synthetic_trace()
    assert time.process_time() - begin < 2
    assert trace.experts.shape == (94, 4096, 8)
    assert trace.title == "synthetic, 94 layers x 4,096 tokens"
    assert trace.provenance == "synthetic"
    trace.check()
    assert {name: len(found) for name, found in trace.metadata["planted"].items()} == {
        "specialists": 12, "pairs": 6, "paths": 6,
    }  # fmt: skip


def test_the_same_seed_gives_the_same_trace(trace):
    again, other = (synthetic_trace(layers=30, tokens=4096, seed=seed) for seed in (3, 4))
    for name, tensor in trace.tensors.items():
        assert torch.equal(tensor.nan_to_num(-7), again.tensors[name].nan_to_num(-7)), name
    assert again.metadata == trace.metadata
    assert not torch.equal(trace.experts, other.experts)


@pytest.mark.parametrize("slots", [1, 3, 4])
def test_every_set_is_equally_likely(slots):
    sets = uniform_sets(2, 20_000, 6, slots, torch.Generator().manual_seed(0)).sort(dim=-1).values.flatten(0, 1)
    _, counts = sets.unique(dim=0, return_counts=True)
    expected = 40_000 / math.comb(6, slots)
    assert len(counts) == math.comb(6, slots)
    chi_square = float(((counts - expected) ** 2 / expected).sum())
    freedom = len(counts) - 1
    assert abs(chi_square - freedom) < 4 * math.sqrt(2 * freedom)


def test_without_planting_every_load_is_chance():
    trace = synthetic_trace(layers=20, tokens=4096, plant=False)
    assert trace.metadata["planted"] == {"specialists": [], "pairs": [], "paths": []}
    loads = torch.stack([layer.flatten().bincount(minlength=128) for layer in trace.experts]).float()
    spread = math.sqrt(4096 * (8 / 128) * (1 - 8 / 128))
    assert float((loads - 256).abs().max()) < 5 * spread
    assert float((loads - 256).std()) == pytest.approx(spread, rel=0.05)


def test_specialists_have_the_planted_lift(trace):
    for one in trace.metadata["planted"]["specialists"]:
        chosen = selected(trace, one["layer"], one["expert"])
        here = trace.domains == trace.domain_names.index(one["domain"])
        assert float(chosen[here].float().mean()) * 16 == pytest.approx(one["lift"], abs=0.9)
        assert float(chosen[~here].float().mean()) * 16 == pytest.approx(1, abs=0.35)


def test_planted_pairs_and_paths_are_selected_together(trace):
    planted = trace.metadata["planted"]
    ends = [
        (selected(trace, pair["layer"], pair["experts"][0]), selected(trace, pair["layer"], pair["experts"][1]))
        for pair in planted["pairs"]
    ] + [
        (selected(trace, path["layer"], path["from"]), selected(trace, path["layer"] + 1, path["to"]))
        for path in planted["paths"]
    ]
    assert len(ends) >= 4
    for first, second in ends:
        assert float(second[first].float().mean()) == pytest.approx(JOINING + (1 - JOINING) / 16, abs=0.1)
        assert float(second[~first].float().mean()) < 0.09


def test_planting_a_pair_keeps_the_first_expert():
    draw = torch.Generator().manual_seed(0)
    experts = uniform_sets(1, 2000, 16, 4, draw)
    before = (experts[0] == 5).any(dim=-1)
    planted = {"specialists": [], "pairs": [{"layer": 0, "experts": [5, 9]}], "paths": []}
    plant_truth(experts, torch.zeros(2000, dtype=torch.long), planted, 4 / 16, draw)
    assert torch.equal((experts[0] == 5).any(dim=-1), before)
    assert (experts[0][before] == 9).any(dim=-1).float().mean() > 0.7


def test_no_expert_takes_part_in_two_effects(trace):
    planted = trace.metadata["planted"]
    parts = [(one["layer"], one["expert"]) for one in planted["specialists"]]
    parts += [(pair["layer"], expert) for pair in planted["pairs"] for expert in pair["experts"]]
    parts += [(path["layer"], path["from"]) for path in planted["paths"]]
    parts += [(path["layer"] + 1, path["to"]) for path in planted["paths"]]
    assert len(parts) == len(set(parts))


def test_numbers_are_consistent_with_one_softmax():
    """Rebuild the whole softmax of a row from what the trace says, and take margin, entropy and sums from it."""
    trace = synthetic_trace(layers=2, tokens=64, num_experts=32, top_k=4)
    sums = torch.zeros(2, 32, dtype=torch.float64)
    for layer in range(2):
        for token in range(64):
            chosen = trace.probabilities[layer, token].double()
            tail = (-0.03 * torch.arange(28)).double().exp()
            rest = (1 - chosen.sum()) * tail / tail.sum()
            everyone = torch.cat([chosen, rest])
            assert float(everyone[3].log() - everyone[4].log()) == pytest.approx(
                float(trace.margins[layer, token]), abs=1e-4
            )
            assert float(torch.special.entr(everyone).sum()) == pytest.approx(
                float(trace.entropies[layer, token]), abs=1e-4
            )
            row = torch.full((32,), float(rest.sum()) / 28, dtype=torch.float64)
            row[trace.experts[layer, token]] = chosen
            sums[layer] += row
    torch.testing.assert_close(trace.probability_sums.double(), sums, atol=1e-3, rtol=1e-4)
    torch.testing.assert_close(trace.weights.sum(dim=-1), torch.ones(2, 64))


def test_the_text(trace):
    assert trace.domain_names == ("en", "zh", "code", "math")
    domains = [entry["domain"] for entry in trace.metadata["documents"]]
    assert all(domains.count(name) == 24 for name in trace.domain_names)
    texts = list(trace.prompts.values())
    assert len(texts) == 96 and not any("\ufffd" in text for text in texts)
    assert any("你" in text for text in texts) and any("</script>" in text for text in texts)
    in_en, in_code = (set(trace.tokens[trace.domains == number].tolist()) for number in (0, 2))
    assert len(in_en & in_code) >= 10
    assert int(trace.losses.isnan().sum()) == 96
    first = trace.positions == 0
    assert (trace.documents.diff() != 0).sum() == first.sum() - 1


def test_saved_trace_stays_synthetic(trace, tmp_path):
    trace.save(tmp_path / "t.safetensors")
    again = RoutingTrace.load(tmp_path / "t.safetensors")
    assert again.provenance == "synthetic" and again.title.startswith("synthetic, 30 layers")
    assert again.metadata["planted"] == trace.metadata["planted"]
    with pytest.raises(BadTrace, match="synthetic: it was not recorded from a model"):
        synthetic_trace(layers=4, tokens=32, num_experts=16, top_k=4).verify(small_model(mlp_only_layers=()))


@pytest.mark.parametrize(
    "sizes",
    [dict(layers=1, tokens=4, num_experts=8, top_k=2), dict(layers=2, tokens=33, num_experts=300, top_k=8),
     dict(layers=2, tokens=50, num_experts=4, top_k=3, plant=False), dict(layers=1, tokens=5, top_k=1, plant=False)],
)  # fmt: skip
def test_other_sizes(sizes):
    trace = synthetic_trace(**sizes)
    trace.check()
    assert trace.experts.shape == (sizes["layers"], sizes["tokens"], sizes["top_k"])


@pytest.mark.parametrize(
    ("wrong", "message"),
    [({"layers": 0}, "layers is 0"), ({"tokens": 3}, "tokens is 3"), ({"top_k": 128}, "top_k is 128"),
     ({"top_k": 1}, "too dense"), ({"num_experts": 9}, "too dense"), ({"tokens": 4.0}, "tokens is 4.0")],
)  # fmt: skip
def test_invalid_sizes(wrong, message):
    with pytest.raises(BadArgument, match=message):
        synthetic_trace(**wrong)
