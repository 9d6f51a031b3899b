"""Baselines against brute force, and the published figures of 8 of 128."""

import itertools
import math

import pytest
import torch

from minimoe.errors import BadArgument
from minimoe.routing.statistics import (
    Estimate,
    benjamini_hochberg,
    expected_maximum,
    frequency_chance,
    overlap_chance,
    overlap_distribution,
    pmi_chance,
)
from minimoe.routing.statistics.chance import binomial
from minimoe.routing.statistics.resampling import bootstrap_weights, interval, middle, permuted_labels
from tests.routing.statistics.made import uniform


def test_figures_of_8_of_128():
    chance = overlap_chance(128, 8)
    assert frequency_chance(128, 8) == 0.0625
    assert chance["shared"] == pytest.approx(0.5)
    assert chance["any"] == pytest.approx(0.412, abs=5e-4)
    assert chance["jaccard"] == pytest.approx(0.034, abs=5e-4)
    assert chance["first"] == pytest.approx(0.0078, abs=5e-5)
    assert pmi_chance(128, 8) == pytest.approx(-0.126, abs=5e-4)


def test_overlap_against_every_pair_of_selections():
    selections = [set(each) for each in itertools.combinations(range(7), 3)]
    shared = [len(a & b) for a in selections for b in selections]
    brute = torch.tensor([shared.count(s) / len(shared) for s in range(4)], dtype=torch.float64)
    torch.testing.assert_close(overlap_distribution(7, 3), brute)
    jaccard = sum(len(a & b) / len(a | b) for a in selections for b in selections) / len(shared)
    assert overlap_chance(7, 3)["jaccard"] == pytest.approx(jaccard)
    together = sum({0, 1} <= each for each in selections) / len(selections)
    assert pmi_chance(7, 3) == pytest.approx(math.log(together / (3 / 7) ** 2))


def test_unequal_selections_overlap():
    torch.testing.assert_close(overlap_distribution(5, 1, 2), torch.tensor([3 / 5, 2 / 5], dtype=torch.float64))


def test_binomial_and_maximum_by_hand():
    torch.testing.assert_close(
        binomial(2, torch.tensor([0.5, 0.0, 1.0])),
        torch.tensor([[0.25, 0.5, 0.25], [1, 0, 0], [0, 0, 1]], dtype=torch.float64),
    )
    # two coins, one throw each: the larger is 1 unless both are 0
    assert float(expected_maximum(1, torch.tensor([0.5, 0.5]))) == pytest.approx(0.75)


@pytest.mark.parametrize("top_k, occurrences, expected", [(1, 10, 0.13), (8, 10, 0.32), (1, 50, 0.05), (8, 50, 0.17)])
def test_expected_maximum_of_128_shares(top_k, occurrences, expected):
    share = torch.full((128,), top_k / 128)
    chance = float(expected_maximum(occurrences, share)) / occurrences
    drawn = uniform(0, 1000, occurrences, top_k, 128)
    simulated = sum(torch.bincount(each.flatten()).max() for each in drawn) / 1000 / occurrences
    assert chance == pytest.approx(float(simulated), rel=0.03)
    assert chance == pytest.approx(expected, abs=0.007)


def test_benjamini_hochberg_by_hand():
    p = torch.tensor([[0.04, 0.01], [0.03, 0.005]])  # ranks 4, 2, 3, 1: p m / rank = .04, .02, .04, .02
    torch.testing.assert_close(benjamini_hochberg(p), torch.tensor([[0.04, 0.02], [0.04, 0.02]]).double())
    assert benjamini_hochberg(torch.tensor([0.9, 1.0])).tolist() == pytest.approx([1.0, 1.0])
    assert benjamini_hochberg(torch.zeros(0)).shape == (0,)
    for wrong in (float("nan"), -0.1, 1.1):
        with pytest.raises(BadArgument, match=r"outside 0\.\.1"):
            benjamini_hochberg(torch.tensor([0.5, wrong]))


def test_false_discovery_rate_is_controlled():
    generator = torch.Generator().manual_seed(3)
    false, found = [], 0
    for _ in range(200):
        p = torch.rand(300, generator=generator)
        p[:30] *= 1e-4
        chosen = benjamini_hochberg(p) <= 0.1
        false.append(float(chosen[30:].sum() / chosen.sum().clamp(min=1)))
        found += int(chosen[:30].sum())
    assert sum(false) / len(false) <= 0.1 and found == 200 * 30


def test_enough():
    value = torch.tensor([1.0, 2.0])
    found = Estimate(value, 1.5, value - 0.2, value + 0.2, torch.tensor([19, 20]), 20, "documents")
    assert found.enough.tolist() == [False, True]
    assert Estimate(value, 1.0, value - 2, value + 2, 5, 5).enough


@pytest.mark.parametrize("arguments", [(4, 5), (4, 0)])
def test_impossible_top_k_is_rejected(arguments):
    for function in (frequency_chance, overlap_chance, pmi_chance):
        with pytest.raises(BadArgument, match="top_k"):
            function(*arguments)
    with pytest.raises(BadArgument, match="top_k=1"):
        pmi_chance(8, 1)


def test_resamples_keep_strata_and_are_fixed_by_the_seed():
    strata = torch.tensor([0, 0, 0, 1, 1])
    weights = bootstrap_weights(strata, 7, seed=5)
    assert weights.shape == (7, 5) and (weights[:, :3].sum(1) == 3).all() and (weights[:, 3:].sum(1) == 2).all()
    assert torch.equal(weights, bootstrap_weights(strata, 7, seed=5))
    assert not torch.equal(weights, bootstrap_weights(strata, 7, seed=6))
    dealt = permuted_labels(strata, 7, seed=5)
    assert (dealt.sort(1).values == strata).all() and not torch.equal(dealt[0], dealt[1])


def test_middle_equals_the_quantiles_and_interval_contains_the_value():
    samples = torch.rand(201, 3, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    torch.testing.assert_close(middle(samples), torch.quantile(samples, torch.tensor([0.025, 0.975]).double(), dim=0))
    value = torch.full((3, 2), 9.0, dtype=torch.float64)
    low, high = interval(samples, value)
    assert (low < value).all() and (value < high).all() and (high - low < 1).all()
