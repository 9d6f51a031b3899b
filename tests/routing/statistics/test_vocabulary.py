"""Vocabulary and information: loops, chance values, planted vocabulary and context, nothing in uniform routing."""

import math

import pytest
import torch

from minimoe.routing.statistics import (
    context_information,
    token_information,
    vocabulary_specialisation,
)
from minimoe.routing.statistics.information import rotation, shuffle_within
from tests.routing.statistics.made import EXPERTS, LAYERS, SLOTS, TOKENS, split, uniform, weighted

DOCUMENTS, DOMAINS = split()


def ids_of(seed, kinds=15):
    return torch.randint(0, kinds, (TOKENS,), generator=torch.Generator().manual_seed(seed))


def by_token(seed):
    """Layer 1 selects by token, layers 0 and 2 do not; layer 2 has an uneven load."""
    ids = ids_of(seed)
    generator = torch.Generator().manual_seed(seed + 1)
    weights = torch.ones(LAYERS, TOKENS, EXPERTS)
    weights[1] = torch.exp(1.2 * torch.randn(15, EXPERTS, generator=generator))[ids]
    weights[2] = torch.exp(1.2 * torch.randn(EXPERTS, generator=generator))
    return ids, weighted(weights, seed)


def test_vocabulary_equals_a_loop():
    experts, ids = uniform(0, 2, 70, 3, 11), torch.randint(-1, 6, (70,), generator=torch.Generator().manual_seed(0))
    found = vocabulary_specialisation(experts, 11, ids, occurrences=9)
    for layer in range(2):
        values = []
        for x in range(6):
            here = [token for token in range(70) if ids[token] == x]
            if len(here) >= 9:
                shares = [sum(e in experts[layer, token].tolist() for token in here) / len(here) for e in range(11)]
                values.append(max(shares))
        assert found.n == len(values)
        assert float(found.value[layer]) == pytest.approx(sum(values) / len(values))
    assert (found.low == 0).all() and (found.high == 1).all()


def test_chance_of_vocabulary_accounts_for_the_maximum_and_the_load():
    excess, widths = [], []
    for seed in range(6):
        ids, experts = by_token(seed)
        found = vocabulary_specialisation(experts, EXPERTS, ids, DOCUMENTS, seed=seed)
        excess.append(found.value - found.chance)
        widths.append(found.high - found.low)
        assert found.value[2] > 1.5 * found.value[0]  # the busy experts alone, which chance must know
        assert found.low[1] > found.chance[1] and found.enough and found.chance[0] > 1.5 * SLOTS / EXPERTS
    mean = torch.stack(excess).mean(0)
    assert abs(float(mean[0])) < 0.006 and abs(float(mean[2])) < 0.012 and float(mean[1]) > 0.1
    assert (torch.stack(widths) > 0).all()


def naive_information(rows, labels):
    """I(e; label) and H(e) in nats, from lists of selections and labels."""
    joint = {}
    for row, label in zip(rows, labels, strict=True):
        for expert in row:
            joint[expert, label] = joint.get((expert, label), 0) + 1
    total = sum(joint.values())

    def entropy(place):
        sums = {}
        for cell, n in joint.items():
            key = cell if place is None else cell[place]
            sums[key] = sums.get(key, 0) + n
        return -sum(n / total * math.log(n / total) for n in sums.values())

    return entropy(0) + entropy(1) - entropy(None), entropy(0)


def test_information_equals_a_loop():
    experts, ids = uniform(3, 2, 150, 3, 11), ids_of(0, 5)[:150]
    documents = torch.arange(150) // 10
    context = torch.randint(0, 3, (150,), generator=torch.Generator().manual_seed(1))
    found = token_information(experts, 11, ids, documents, occurrences=1, rounds=4, seed=6)
    added = context_information(experts, 11, ids, context, documents, occurrences=1, rounds=4, seed=6)
    generators = [torch.Generator().manual_seed(6) for _ in range(2)]
    turned = [ids[rotation(documents, generators[0])].tolist() for _ in range(4)]
    dealt = [context[shuffle_within(ids, generators[1])].tolist() for _ in range(4)]
    for layer, rows in enumerate(experts.tolist()):
        plain, entropy = naive_information(rows, ids.tolist())
        null = sum(naive_information(rows, labels)[0] for labels in turned) / 4
        assert float(found.value[layer]) == pytest.approx((plain - null) / entropy)
        together = naive_information(rows, list(zip(ids.tolist(), context.tolist(), strict=True)))[0]
        null = sum(naive_information(rows, list(zip(ids.tolist(), each, strict=True)))[0] for each in dealt) / 4
        assert float(added.value[layer]) == pytest.approx((together - null) / entropy)


def test_rotation_keeps_documents_and_shuffling_keeps_ids():
    generator = torch.Generator().manual_seed(0)
    mixed = DOCUMENTS[torch.randperm(TOKENS, generator=generator)]
    turned = rotation(mixed, generator)
    assert torch.equal(mixed[turned], mixed) and torch.equal(turned.sort().values, torch.arange(TOKENS))
    assert (turned != torch.arange(TOKENS)).all()  # every token has moved
    order = (mixed == 3).nonzero().flatten()
    steps = torch.searchsorted(order, turned[order]) - torch.arange(len(order))
    assert len((steps % len(order)).unique()) == 1  # by one and the same number of places
    ids = ids_of(0)
    dealt = shuffle_within(ids, generator)
    assert torch.equal(ids[dealt], ids) and torch.equal(dealt.sort().values, torch.arange(TOKENS))
    assert rotation(torch.tensor([0, 1, 1]), generator).tolist() == [0, 2, 1]  # a document of one token stays


def test_information_of_planted_vocabulary_and_none_of_uniform_routing():
    values = []
    for seed in range(6):
        ids, experts = by_token(seed)
        found = token_information(experts, EXPERTS, ids, DOCUMENTS, seed=seed)
        values.append(found.value)
        assert found.low[1] > 0.03 and not found.enough and found.n == TOKENS
    mean = torch.stack(values).mean(0)
    assert abs(float(mean[0])) < 2e-3 and abs(float(mean[2])) < 2e-3 and float(mean[1]) > 0.05


def test_routing_by_token_alone_reaches_the_maximum():
    ids = ids_of(1, 8)
    experts = (ids[:, None] * 4 + torch.arange(4))[None]
    found = token_information(experts, 32, ids, DOCUMENTS)
    assert float(found.value[0]) == pytest.approx(1 - math.log(4) / math.log(32), abs=0.02)


@pytest.mark.parametrize("of_documents", [False, True])
def test_information_of_context(of_documents):
    ids = ids_of(4, 6)
    context = DOMAINS if of_documents else ids.roll(1)
    weights = torch.ones(LAYERS, TOKENS, EXPERTS)
    generator = torch.Generator().manual_seed(0)
    weights[0] = torch.exp(1.0 * torch.randn(6, EXPERTS, generator=generator))[ids]  # the token only
    weights[1] = weights[0] * torch.exp(1.0 * torch.randn(6, EXPERTS, generator=generator))[context]
    experts = weighted(weights, 0)
    found = context_information(experts, EXPERTS, ids, context, DOCUMENTS, of_documents=of_documents)
    assert float(found.value[1]) > 0.04 and found.low[1] > 0.02
    assert abs(float(found.value[0])) < 5e-3 and abs(float(found.value[2])) < 5e-3


def test_information_and_vocabulary_without_frequent_ids():
    rare, one = torch.arange(TOKENS), torch.zeros(1, 40, 1, dtype=torch.int64)
    documents = torch.arange(40) // 5
    for found in (
        vocabulary_specialisation(uniform(0), EXPERTS, rare, DOCUMENTS),
        token_information(uniform(0), EXPERTS, rare, DOCUMENTS),
        context_information(uniform(0), EXPERTS, rare, DOMAINS, DOCUMENTS),
        token_information(one, 3, torch.zeros(40), documents),
        context_information(one, 3, torch.zeros(40), documents, documents, of_documents=True),
        token_information(uniform(0)[:, :1], EXPERTS, torch.tensor([3]), torch.tensor([0]), occurrences=1),
    ):
        assert torch.equal(found.value, torch.zeros_like(found.value)) and not found.enough
        assert torch.isfinite(found.low).all() and torch.isfinite(found.high).all()
