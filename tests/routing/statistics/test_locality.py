"""Locality, agreement and placement."""

import pytest
import torch

from minimoe.errors import BadArgument
from minimoe.routing.statistics import (
    balanced_placement,
    contiguous_placement,
    locality,
    router_agreement,
    router_saturation,
    selection_counts,
)
from tests.routing.statistics.made import EXPERTS, LAYERS, SLOTS, TOKENS, split, uniform, weighted

DOCUMENTS, _ = split()
PLACES = torch.arange(TOKENS)


def test_locality_equals_a_loop_in_any_order():
    experts = uniform(0, 2, 50, 3, 7)
    sequences, positions = torch.arange(50) % 4, torch.arange(50) // 4
    positions = torch.where(positions > 6, positions + 1, positions)  # a gap in each sequence: no neighbours there
    order = torch.randperm(50, generator=torch.Generator().manual_seed(0))
    found = locality(experts[:, order], 7, sequences[order], positions[order])
    where = {(int(s), int(p)): t for t, (s, p) in enumerate(zip(sequences, positions, strict=True))}
    pairs = [(t, where[s, p + 1]) for (s, p), t in where.items() if (s, p + 1) in where]
    assert found.shared.n == len(pairs) == 50 - 4 - 4
    for layer in range(2):
        rows = [set(row) for row in experts[layer].tolist()]
        shared = [len(rows[a] & rows[b]) for a, b in pairs]
        jaccard = [len(rows[a] & rows[b]) / len(rows[a] | rows[b]) for a, b in pairs]
        first = [experts[layer, a, 0] == experts[layer, b, 0] for a, b in pairs]
        for estimate, values in (
            (found.shared, shared),
            (found.any, [s > 0 for s in shared]),
            (found.jaccard, jaccard),
            (found.first, first),
        ):
            assert float(estimate.value[layer]) == pytest.approx(float(sum(values)) / len(pairs))


def test_locality_of_uniform_routing_is_chance_and_uneven_load_is_not_locality():
    found = locality(uniform(0, 40), EXPERTS, DOCUMENTS, PLACES)
    for estimate in (found.shared, found.any, found.jaccard, found.first):
        assert float(estimate.value.mean()) == pytest.approx(estimate.chance, rel=0.03)
        covered = (estimate.low <= estimate.chance) & (estimate.chance <= estimate.high)
        assert estimate.enough and float(covered.double().mean()) > 0.8
    weights = torch.exp(torch.randn(EXPERTS, generator=torch.Generator().manual_seed(0)))
    uneven = locality(weighted(weights.expand(LAYERS, TOKENS, EXPERTS), 0), EXPERTS, DOCUMENTS, PLACES)
    assert (uneven.shared.low > uneven.shared.chance).all()
    torch.testing.assert_close(uneven.shared.value, uneven.shared_by_load, rtol=0.05, atol=0)


def test_repeated_choices_are_found():
    experts = uniform(0)
    experts[1, 1::2] = experts[1, 0::2]
    found = locality(experts, EXPERTS, DOCUMENTS, PLACES)
    assert found.shared.low[1] > 2 > found.shared.high[0] and found.first.low[1] > 0.4


def test_locality_of_one_token():
    found = locality(torch.tensor([[[1, 2]]]), 5, torch.tensor([0]), torch.tensor([0]))
    assert found.shared.n == 0 and not found.shared.enough and found.shared.value.tolist() == [0]
    assert found.shared.low.tolist() == [0] and found.shared.high.tolist() == [2]


def test_agreement():
    experts = uniform(0)
    same = router_agreement(experts, experts.flip(-1), EXPERTS, DOCUMENTS)
    assert (same.value == 1).all() and (same.low == 1).all() and (same.high == 1).all()
    other = router_agreement(uniform(0, 30), uniform(1, 30), EXPERTS, DOCUMENTS)
    assert float(other.value.mean()) == pytest.approx(other.chance, rel=0.02) and other.chance == SLOTS / EXPERTS
    half = experts.clone()
    half[:, :, :2] = EXPERTS + torch.arange(2)
    assert router_agreement(experts, half, EXPERTS + 2).value.tolist() == [0.5] * LAYERS
    curve = router_saturation([uniform(5), half, experts], EXPERTS + 2)
    assert [float(step.value[0]) for step in curve[1:]] == [0.5, 1.0] and float(curve[0].value[0]) < 0.2
    with pytest.raises(BadArgument, match="same layers"):
        router_agreement(experts, experts[:, 1:], EXPERTS)
    with pytest.raises(BadArgument, match="empty"):
        router_saturation([], EXPERTS)


def test_contiguous_placement_by_hand():
    counts = torch.tensor([[4, 0, 1, 1], [1, 1, 1, 1]])
    placement = contiguous_placement(2, 4, 2)
    assert placement.device_load(counts).tolist() == [[4, 2], [2, 2]]
    assert placement.imbalance(counts).tolist() == pytest.approx([4 / 3, 1])
    assert placement.imbalance(torch.zeros(2, 4, dtype=torch.int64)).tolist() == [1, 1]


def test_balanced_placement_by_hand():
    counts = torch.tensor([[7, 5, 4, 2]])
    placement = balanced_placement(counts, 2)
    assert sorted(map(sorted, placement.experts[0].tolist())) == [[0, 3], [1, 2]]
    assert float(placement.imbalance(counts)) == 1.0
    apart = balanced_placement(
        torch.tensor([[10, 9, 1]]), 2, replicas=1
    )  # both halves of 10 would fit on the device without the 9
    assert all(0 in row for row in apart.experts[0].tolist())
    copied = balanced_placement(torch.tensor([[90, 5, 5, 10]]), 3, replicas=2)
    assert sum(row.count(0) for row in copied.experts[0].tolist()) == 3  # both replicas are of the busy one
    assert all(0 in row for row in copied.experts[0].tolist())  # and no device has two
    assert copied.device_load(torch.tensor([[90, 5, 5, 10]])).sum() == 110


@pytest.mark.parametrize("devices, replicas", [(8, 0), (8, 16), (1, 0), (32, 0)])
def test_balanced_placement_is_complete_and_balanced(devices, replicas):
    weights = torch.exp(0.6 * torch.randn(LAYERS, 1, EXPERTS, generator=torch.Generator().manual_seed(0)))
    counts = selection_counts(weighted(weights.expand(-1, TOKENS, -1), 0), EXPERTS)
    placement = balanced_placement(counts, devices, replicas)
    assert placement.experts.shape == (LAYERS, devices, (EXPERTS + replicas) // devices)
    for layer in placement.experts.flatten(1):
        assert len(layer.unique()) == EXPERTS
    torch.testing.assert_close(placement.device_load(counts).sum(1), counts.sum(1).double())
    assert (
        placement.imbalance(counts) <= contiguous_placement(LAYERS, EXPERTS, devices).imbalance(counts) + 1e-9
    ).all()
    if devices == 8:
        assert float(placement.imbalance(counts).mean()) < (1.03 if replicas else 1.2)


def test_devices_must_divide():
    with pytest.raises(BadArgument, match="devices=5"):
        contiguous_placement(1, 32, 5)
    with pytest.raises(BadArgument, match="replicas=3"):
        balanced_placement(torch.ones(1, 32, dtype=torch.int64), 8, 3)
