"""Domains and matched tokens: loops, hand-made cases, planted specialists found, nothing found in uniform routing."""

import math

import pytest
import torch

from minimoe.errors import BadArgument
from minimoe.routing.statistics import (
    domain_distance,
    domain_specialisation,
    jensen_shannon,
    matched_tokens,
    specialisation_score,
)
from minimoe.routing.trace.synthetic import synthetic_trace
from tests.routing.statistics.made import EXPERTS, LAYERS, SLOTS, TOKENS, split, uniform, weighted

DOCUMENTS, DOMAINS = split()
EVEN = torch.ones(LAYERS, TOKENS, EXPERTS)


@pytest.fixture(scope="module")
def planted():
    return synthetic_trace(layers=7, tokens=4096, num_experts=64, top_k=4, seed=2)


def score_of(trace):
    return specialisation_score(trace.experts, 64, trace.domains, 4, trace.documents)


def test_domain_specialisation_equals_a_loop():
    experts = uniform(4, 2, 90, 3, 11)
    domains = torch.randint(-1, 3, (90,), generator=torch.Generator().manual_seed(0))
    found = domain_specialisation(experts, 11, domains, 5)  # two of the five domains are absent
    for domain in range(5):
        inside = [token for token in range(90) if domains[token] == domain]
        for layer in range(2):
            for expert in range(11):
                hits = sum(expert in experts[layer, token].tolist() for token in inside)
                assert float(found.value[domain, layer, expert]) == pytest.approx(hits / max(len(inside), 1))
    assert found.n.flatten().tolist() == [int((domains == domain).sum()) for domain in range(5)]
    assert found.chance == 3 / 11 and not found.enough.any() and (found.high == 1).all()


def test_an_absent_domain_and_a_single_document_have_the_widest_interval():
    labels = torch.where(DOMAINS == 2, -1, DOMAINS)
    single = torch.where(DOMAINS == 1, DOCUMENTS[DOMAINS == 1][0], DOCUMENTS)
    found = domain_specialisation(uniform(0), EXPERTS, labels, 4, single, rounds=40)
    assert found.n.flatten().tolist() == [20, 1, 0, 20] and found.enough.flatten().tolist() == [
        True,
        False,
        False,
        True,
    ]
    assert (found.low[1:3] == 0).all() and (found.high[1:3] == 1).all() and (found.value[2] == 0).all()
    for edges in (found.low, found.high):
        assert torch.isfinite(edges).all()
    assert ((found.low <= found.value) & (found.value <= found.high)).all() and (found.high[0] < 0.5).all()


def test_score_by_hand():
    """Expert 0 only in domain 0; expert 2 in both, three of four times in domain 0; expert 3 never."""
    rows = [[0, 2], [0, 2], [0, 2], [0, 1], [1, 2], [1, 4], [1, 4], [1, 4]]
    experts = torch.tensor([rows])
    domains, documents = torch.tensor([0, 0, 0, 0, 1, 1, 1, 1]), torch.arange(8) // 2
    found = specialisation_score(experts, 5, domains, 2, documents, rounds=30)
    three = 1 + 0.75 * math.log2(0.75) + 0.25 * math.log2(0.25)
    assert found.score.value[0, [0, 2, 3]].tolist() == pytest.approx([1, three, 0])
    assert found.share[:, 0, 2].tolist() == pytest.approx([0.75, 0.25])
    assert found.share[:, 0, 3].tolist() == [0.5, 0.5] and found.p[0, 3] == 1 and found.q[0, 3] == 1
    assert found.domain[0, :3].tolist() == [0, 1, 0] and not found.score.enough


def test_score_does_not_depend_on_domain_size():
    experts = torch.tensor([[[0], [1]] * 10])
    domains = (torch.arange(20) >= 16).long()
    found = specialisation_score(experts, 2, domains, 2, torch.arange(20) // 2, rounds=10)
    assert float(found.score.value.max()) == pytest.approx(0, abs=1e-9)


def test_planted_specialists_are_found(planted):
    found = score_of(planted)
    truth = {(each["layer"], each["expert"]): each["domain"] for each in planted.metadata["planted"]["specialists"]}
    selected = {tuple(cell) for cell in (found.q <= 0.05).nonzero().tolist()}
    assert set(truth) <= selected and len(selected - set(truth)) <= 1
    for (layer, expert), domain in truth.items():
        assert planted.domain_names[found.domain[layer, expert]] == domain
        assert found.score.value[layer, expert] > 5 * found.score.chance[layer, expert]
        assert found.score.low[layer, expert] > found.score.chance[layer, expert]
    assert found.score.enough


def test_nothing_is_found_in_uniform_routing():
    """At a rate of 5 % a uniform trace yields a discovery in at most about one of twenty seeds."""
    wrong, small = 0, []
    for seed in range(20):
        found = specialisation_score(uniform(seed), EXPERTS, DOMAINS, 4, DOCUMENTS, rounds=60, seed=seed)
        wrong += bool((found.q <= 0.05).any())
        small.append((found.p <= 0.05).double().mean())
    assert wrong <= 3 and 0.03 < float(sum(small) / 20) < 0.07


def test_document_effects_are_not_specialists():
    """Every document favours some experts, whatever its domain: chance by tokens would find dozens."""
    wrong = 0
    for seed in range(8):
        generator = torch.Generator().manual_seed(50 + seed)
        habit = torch.exp(0.8 * torch.randn(LAYERS, 80, EXPERTS, generator=generator))
        experts = weighted(habit[:, DOCUMENTS], seed)
        wrong += int((specialisation_score(experts, EXPERTS, DOMAINS, 4, DOCUMENTS, 60, seed).q <= 0.05).sum())
        counts = domain_specialisation(experts, EXPERTS, DOMAINS, 4).value * torch.bincount(DOMAINS)[:, None, None]
        expected = counts.sum(0) * (torch.bincount(DOMAINS) / TOKENS)[:, None, None]
        assert float((((counts - expected) ** 2 / expected).sum(0) > 7.81).double().mean()) > 0.15  # chi-squared, 5 %
    assert wrong <= 2


def test_one_domain_or_one_document_per_domain_has_p_of_one():
    for domains, documents in ((torch.zeros_like(DOMAINS), DOCUMENTS), (DOMAINS, DOMAINS)):
        found = specialisation_score(uniform(0), EXPERTS, domains, 4, documents)
        assert (found.p == 1).all() and (found.q == 1).all() and torch.isfinite(found.score.high).all()
    lonely = specialisation_score(torch.tensor([[[1, 0]]]), 4, torch.tensor([3]), 4, torch.tensor([9]))
    assert (lonely.score.value == 0).all() and lonely.share[:, 0, 1].tolist() == [0, 0, 0, 1]


def test_jensen_shannon_by_hand():
    a, b = torch.tensor([1.0, 1, 0, 0]), torch.tensor([0.0, 0, 3, 1])
    assert float(jensen_shannon(a, b)) == pytest.approx(1) and float(jensen_shannon(a, 5 * a)) == pytest.approx(0)
    mixed = [(0.5, 1), (0.5, 0)]
    value = sum(sum(p / 2 * math.log2(p / ((p + q) / 2)) for p, q in ((x, y), (y, x)) if p) for x, y in mixed)
    assert float(jensen_shannon(torch.tensor([1.0, 1]), torch.tensor([1.0, 0]))) == pytest.approx(value)
    assert float(jensen_shannon(torch.zeros(2), torch.ones(2))) == pytest.approx(0)


def test_distance_is_in_the_band_by_chance_and_above_it_if_planted():
    plain = domain_distance(uniform(0, 30), EXPERTS, DOMAINS, DOCUMENTS, 0, 3)
    outside = (plain.estimate.value < plain.band_low) | (plain.estimate.value > plain.band_high)
    assert int(outside.sum()) <= 5 and (plain.q > 0.05).all()
    weights = EVEN.clone()
    weights[1, DOMAINS == 3, :6] = 3.0
    found = domain_distance(weighted(weights, 0), EXPERTS, DOMAINS, DOCUMENTS, 0, 3)
    assert found.q[1] <= 0.05 and found.estimate.value[1] > found.band_high[1] and (found.q[[0, 2]] > 0.05).all()
    assert found.estimate.n == 20 and found.estimate.enough
    other = domain_distance(weighted(weights, 0), EXPERTS, DOMAINS, DOCUMENTS, 3, 0)
    torch.testing.assert_close(other.estimate.value, found.estimate.value)


def test_distance_to_an_absent_domain_is_unknown():
    for found in (
        domain_distance(uniform(0), EXPERTS, DOMAINS, DOCUMENTS, 0, 7),
        domain_distance(uniform(0), EXPERTS, DOMAINS, DOMAINS, 0, 1),
    ):
        assert (found.p == 1).all() and (found.band_low == 0).all() and (found.band_high == 1).all()
        assert torch.isfinite(found.estimate.value).all() and not found.estimate.enough
    with pytest.raises(BadArgument, match="both domain 2"):
        domain_distance(uniform(0), EXPERTS, DOMAINS, DOCUMENTS, 2, 2)


def test_matched_frequencies_equal_a_loop():
    experts = uniform(1, 2, 60, 3, 11)
    ids = torch.randint(0, 9, (60,), generator=torch.Generator().manual_seed(1))
    domains = torch.arange(60) // 30
    ids[(ids == 4) & (domains == 0)], ids[7] = 5, -1
    found = matched_tokens(experts, 11, ids, domains, torch.arange(60) // 5, 0, 1, rounds=20)
    where = [{x: [t for t in range(60) if ids[t] == x and domains[t] == d] for x in range(9)} for d in (0, 1)]
    smaller = {x: min(len(where[0][x]), len(where[1][x])) for x in range(9)}
    total = sum(smaller.values())
    assert found.token_ids.tolist() == [x for x in smaller if smaller[x]]
    assert found.weights.tolist() == pytest.approx([n / total for n in smaller.values() if n])
    for side in (0, 1):
        for layer in range(2):
            for expert in range(11):
                value = sum(
                    n / total * sum(expert in experts[layer, t].tolist() for t in where[side][x]) / len(where[side][x])
                    for x, n in smaller.items()
                    if n
                )
                assert float(found.frequencies[side, layer, expert]) == pytest.approx(value, abs=1e-6)
    torch.testing.assert_close(found.distance.estimate.value, jensen_shannon(*found.frequencies), atol=1e-6, rtol=0)


def by_token(seed, context):
    """Routing by the token alone (plus, with `context`, by the domain in layer 2); domains use the ids unevenly."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.where(
        torch.rand(TOKENS, generator=generator) < 0.7,
        torch.randint(0, 6, (TOKENS,), generator=generator) + 6 * (DOMAINS % 2),
        torch.randint(0, 12, (TOKENS,), generator=generator),
    )
    taste = torch.exp(1.5 * torch.randn(LAYERS, 12, EXPERTS, generator=generator))
    weights = taste[:, ids]
    if context:
        weights[2, DOMAINS == 1, :6] *= 4
    return ids, weighted(weights, seed)


def test_matched_tokens_separate_context_from_vocabulary():
    context = 0
    for seed in range(5):
        ids, experts = by_token(seed, context=False)
        plain = domain_distance(experts, EXPERTS, DOMAINS, DOCUMENTS, 0, 1)
        matched = matched_tokens(experts, EXPERTS, ids, DOMAINS, DOCUMENTS, 0, 1)
        assert (plain.q <= 0.05).all()  # domains look different in every layer, by their tokens alone
        context += int((matched.distance.q <= 0.05).sum())
    assert context <= 1
    ids, experts = by_token(9, context=True)
    found = matched_tokens(experts, EXPERTS, ids, DOMAINS, DOCUMENTS, 0, 1).distance
    assert found.q[2] <= 0.05 and (found.q[:2] > 0.05).all() and found.estimate.enough


def test_no_token_in_common():
    found = matched_tokens(uniform(0), EXPERTS, DOMAINS * 5, DOMAINS, DOCUMENTS, 0, 1)
    assert len(found.token_ids) == len(found.weights) == found.distance.estimate.n == 0
    assert (found.frequencies == 0).all() and (found.distance.p == 1).all() and not found.distance.estimate.enough
    few = matched_tokens(uniform(0), EXPERTS, DOMAINS * 0, DOMAINS, DOMAINS, 0, 1)  # one document each
    assert (few.distance.p == 1).all() and (few.distance.estimate.value > 0).all()
    assert few.frequencies.sum(-1).flatten().tolist() == pytest.approx([SLOTS] * 6)


def test_tables_are_fixed_by_the_seed(planted):
    trace = planted.select(torch.arange(0, 4096, 3))
    first, again = score_of(trace), score_of(trace)
    assert torch.equal(first.q, again.q) and torch.equal(first.score.low, again.score.low)
