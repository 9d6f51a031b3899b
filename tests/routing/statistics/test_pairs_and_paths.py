"""Pairs and paths: loops, chance values, planted pairs and paths are found and few others, orders that keep blocks."""

import math

import pytest
import torch

from minimoe.errors import BadArgument
from minimoe.routing.statistics import (
    coactivation,
    expected_pairs,
    pmi,
    pmi_chance,
    seriate,
    transition_lift,
)
from minimoe.routing.trace.synthetic import synthetic_trace
from tests.routing.statistics.made import EXPERTS, split, uniform, weighted

DOCUMENTS, DOMAINS = split()


@pytest.fixture(scope="module")
def planted():
    return synthetic_trace(layers=7, tokens=4096, num_experts=64, top_k=4, seed=2)


def test_coactivation_counts_all_pairs_not_only_neighbours():
    experts = uniform(0, 2, 40, 5, 11)
    counts = torch.zeros(2, 11, 11, dtype=torch.int64)
    for layer, rows in enumerate(experts.tolist()):
        for row in rows:
            for a in row:
                for b in row:
                    counts[layer, a, b] += 1
    assert torch.equal(coactivation(experts, 11), counts)
    assert torch.equal(coactivation(experts[1], 11), counts[1])
    assert (counts.sum((1, 2)) == 40 * 25).all()


def test_pmi_equals_a_loop_and_is_finite():
    experts = uniform(0, 1, 90, 3, 13)[0]
    experts = torch.where(experts == 12, 12, experts)[~(experts == 12).any(-1)]  # expert 12 is never selected
    found, tokens = pmi(experts, 13, shrinkage=1e-9), len(experts)
    sets = [set(row) for row in experts.tolist()]
    for i in range(13):
        for j in range(13):
            together, alone = sum({i, j} <= s for s in sets), [sum(e in s for s in sets) for e in (i, j)]
            if i != j and together:
                assert float(found.pmi.value[i, j]) == pytest.approx(math.log(together * tokens / math.prod(alone)))
    for table in (found.pmi.value, found.pmi.low, found.pmi.high, found.pmi.chance, found.q):
        assert torch.isfinite(table).all() and torch.equal(table, table.T)
    assert (found.pmi.value[12] == 0).all() and (found.p[12] == 1).all() and (found.q.diagonal() == 1).all()
    assert not found.pmi.enough[12].any()


def test_expected_pairs():
    even = expected_pairs(torch.full((128,), 256.0), 8)
    assert float((even[0, 1] * 4096 / 256**2).log()) == pytest.approx(pmi_chance(128, 8))
    assert float(even[0, 1]) == pytest.approx(14.1, abs=0.05)
    loads = torch.tensor([9.0, 7, 5, 3, 2, 0])
    found = expected_pairs(loads, 2)
    torch.testing.assert_close(found.sum(1), loads.double())
    assert torch.equal(found, found.T) and (found.diagonal() == 0).all()


def test_expected_pairs_of_uneven_loads_match_sampling_without_replacement():
    """Choice without replacement by weight: the product of the loads alone would be wrong by up to a third."""
    weights = torch.exp(1.0 * torch.randn(12, generator=torch.Generator().manual_seed(0)))
    counts = coactivation(weighted(weights.expand(1, 60_000, 12), 1, top_k=4)[0], 12).double()
    loads, away = counts.diagonal(), ~torch.eye(12, dtype=torch.bool)
    naive = (loads[:, None] * loads[None] / 60_000)[away]
    assert float((naive / counts[away] - 1).abs().max()) > 0.2
    found = expected_pairs(loads, 4)[away]
    assert float((found / counts[away] - 1).abs().mean()) < 0.25 * float((naive / counts[away] - 1).abs().mean())


def test_chance_of_pairs_is_the_mean_over_uniform_routing():
    found = [pmi(uniform(seed, 1, 4000, 8, 64)[0], 64) for seed in range(3)]
    away = ~torch.eye(64, dtype=torch.bool)
    mean = torch.stack([each.pmi.value[away] for each in found]).mean()
    assert float(mean) == pytest.approx(pmi_chance(64, 8), abs=0.01)
    covered = torch.stack([((e.pmi.low <= e.pmi.chance) & (e.pmi.chance <= e.pmi.high))[away] for e in found])
    assert 0.93 < float(covered.double().mean()) < 0.98 and all(e.pmi.enough[away].all() for e in found)


def test_planted_pairs_are_found(planted):
    for each in planted.metadata["planted"]["pairs"]:
        found = pmi(planted.experts[each["layer"]], 64, planted.documents)
        a, b = each["experts"]
        assert found.q[a, b] <= 0.05 and found.pmi.low[a, b] > found.pmi.chance[a, b]
        assert int((found.q <= 0.05).sum()) // 2 <= 2


def test_planted_paths_are_found(planted):
    for each in planted.metadata["planted"]["paths"]:
        layer = each["layer"]
        found = transition_lift(planted.experts[layer], planted.experts[layer + 1], 64, planted.documents)
        assert found.q[each["from"], each["to"]] <= 0.05 and found.lift.low[each["from"], each["to"]] > 1
        domain_alike = {(s["layer"], s["expert"]) for s in planted.metadata["planted"]["specialists"]}
        others = [
            (a, b)
            for a, b in (found.q <= 0.05).nonzero().tolist()
            if (a, b) != (each["from"], each["to"]) and not {(layer, a), (layer + 1, b)} <= domain_alike
        ]
        assert len(others) <= 2


def test_nothing_is_found_in_uniform_routing():
    pairs, paths = 0, 0
    for seed in range(20):
        experts = uniform(seed, 2)
        pairs += bool((pmi(experts[0], EXPERTS, DOCUMENTS).q <= 0.05).any())
        paths += bool((transition_lift(experts[0], experts[1], EXPERTS, DOCUMENTS).q <= 0.05).any())
    assert pairs <= 3 and paths <= 3


def test_document_effects_increase_the_dispersion_of_paths():
    generator = torch.Generator().manual_seed(5)
    documents = DOCUMENTS // 8
    habit = torch.exp(1.3 * torch.randn(2, 10, EXPERTS, generator=generator))
    experts = weighted(habit[:, documents], 0)
    careless = transition_lift(experts[0], experts[1], EXPERTS)
    careful = transition_lift(experts[0], experts[1], EXPERTS, documents)
    assert careful.dispersion > 2 and careless.dispersion == 1.0
    assert int((careful.q <= 0.05).sum()) < int((careless.q <= 0.05).sum())
    assert ((careful.lift.high - careful.lift.low) > (careless.lift.high - careless.lift.low)).all()


def test_lift_equals_a_loop():
    experts = uniform(0, 2, 80, 3, 11)
    found = transition_lift(experts[0], experts[1], 11, shrinkage=1e-9)
    here, there = ([set(row) for row in layer] for layer in experts.tolist())
    for a in range(11):
        for b in range(11):
            both = sum(a in x and b in y for x, y in zip(here, there, strict=True))
            given = both / sum(a in x for x in here)
            assert int(found.counts[a, b]) == both
            assert float(found.lift.value[a, b]) == pytest.approx(given / (sum(b in y for y in there) / 80), abs=1e-6)
    unused = transition_lift(experts[0], experts[1], 14)
    assert (unused.lift.value[12:] == 1).all() and (unused.p[:, 12:] == 1).all() and not unused.lift.enough[12:].any()
    assert torch.isfinite(unused.lift.low).all() and torch.isfinite(unused.lift.high).all()


@pytest.mark.parametrize("sizes", [(5, 9, 7), (1, 1, 14, 2)])
def test_seriation_keeps_groups_contiguous(sizes):
    labels = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    labels = labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))]
    noise = torch.rand(len(labels), len(labels), generator=torch.Generator().manual_seed(1)) * 0.2
    order = seriate((labels[:, None] == labels[None]).float() + noise + noise.T)
    assert order.sort().values.tolist() == list(range(len(labels)))
    assert len(labels[order].unique_consecutive()) == len(sizes)


def test_seriation_unrolls_a_chain():
    place = torch.randperm(20, generator=torch.Generator().manual_seed(0))
    order = seriate(-(place[:, None] - place[None]).abs().double())
    steps = (place[order][1:] - place[order][:-1]).abs()
    assert float(steps.double().mean()) < 2  # random orders step 7 on average
    assert torch.equal(order, seriate(-(place[:, None] - place[None]).abs().double()))
    assert seriate(torch.zeros(1, 1)).tolist() == [0] and seriate(torch.zeros(0, 0)).tolist() == []


def test_invalid_input():
    experts = uniform(0, 2, 9, 3, 7)
    with pytest.raises(BadArgument, match="one layer"):
        pmi(experts, 7)
    with pytest.raises(BadArgument, match="top_k=1"):
        pmi(experts[0, :, :1], 7)
    with pytest.raises(BadArgument, match="shrinkage=0"):
        pmi(experts[0], 7, shrinkage=0)
    with pytest.raises(BadArgument, match="9 tokens and there 8"):
        transition_lift(experts[0], experts[1, :8], 7)
    with pytest.raises(BadArgument, match="square"):
        seriate(torch.zeros(3, 4))
    with pytest.raises(BadArgument, match="finite"):
        seriate(torch.full((2, 2), math.nan))
