"""Counts beyond chance: the band against an exact sum, the design effect by simulation, false findings of dice."""

import math

import pytest
import torch

from minimoe.routing.statistics import beyond_chance, count_band, design_effect
from minimoe.routing.trace.synthetic import synthetic_trace


@pytest.mark.parametrize(("n", "p"), [(1, 0.5), (35, 1 / 16), (100, 1 / 16), (2012, 1 / 16), (700, 0.9)])
def test_the_band_leaves_at_most_one_fortieth_on_either_side(n, p):
    low, high = count_band(n, p)
    probability = [math.comb(n, x) * p**x * (1 - p) ** (n - x) if n < 1000 else exact(n, x, p) for x in range(n + 1)]
    assert sum(probability[:low]) <= 0.025 + 1e-12 and sum(probability[high + 1 :]) <= 0.025 + 1e-12
    assert sum(probability[: low + 1]) > 0.025 and sum(probability[high:]) > 0.025, "no narrower band would do"


def exact(n, x, p):
    ways = math.lgamma(n + 1) - math.lgamma(x + 1) - math.lgamma(n - x + 1)
    return math.exp(ways + x * math.log(p) + (n - x) * math.log(1 - p))


def test_dice_are_beyond_chance_one_time_in_twenty():
    trace = synthetic_trace(layers=8, tokens=3000, num_experts=64, top_k=4, seed=3, plant=False)
    found = beyond_chance(trace.experts, 64, trace.documents, trace.domains)
    assert 0.005 < found.double().mean() < 0.06


def test_documents_that_differ_widen_the_band():
    """Each document prefers experts of its own: without documents most cells look like findings."""
    draw = torch.Generator().manual_seed(0)
    documents = torch.arange(60).repeat_interleave(50)
    scores = torch.randn(60, 32, generator=draw)[documents] + torch.randn(3000, 32, generator=draw)
    experts = scores.topk(4).indices[None]
    apart = design_effect(experts, 32, documents, torch.zeros_like(documents))
    assert apart.mean() > 8
    naive = beyond_chance(experts, 32).double().mean()
    clustered = beyond_chance(experts, 32, documents, torch.zeros_like(documents)).double().mean()
    assert naive > 0.4 > 0.1 > clustered


def test_the_mix_of_domains_is_not_counted_as_scatter():
    draw = torch.Generator().manual_seed(1)
    documents = torch.arange(40).repeat_interleave(50)
    domains = documents % 2
    experts = (torch.randn(2000, 32, generator=draw) + 1.5 * (torch.arange(32) % 2 == domains[:, None])).topk(4).indices
    effect = design_effect(experts[None], 32, documents, domains)
    assert effect.mean() < 1.3 < design_effect(experts[None], 32, documents, torch.zeros_like(domains)).mean()


def test_without_documents_the_effect_is_one():
    experts = torch.rand(2, 30, 8).topk(2).indices
    assert design_effect(experts, 8, torch.full((30,), -1), torch.zeros(30)).eq(1).all()
