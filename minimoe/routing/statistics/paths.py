"""Paths: whether the experts of one layer predict the experts of the next layer."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from minimoe.errors import BadArgument
from minimoe.routing.statistics.chance import Estimate, benjamini_hochberg, count_limit, poisson_tail
from minimoe.routing.statistics.counting import check_experts, check_labels, indicator
from minimoe.routing.statistics.load import entropy_of
from minimoe.routing.statistics.pairs import MINIMUM_EXPECTED, overdispersion
from minimoe.routing.statistics.resampling import bootstrap_weights, interval

MINIMUM_TOKENS = 4096  # the expected count of a transition is then 16 for 8 of 128


@dataclass(frozen=True)
class Transitions:
    """Transitions from the experts of one layer to those of the next, all (expert here, expert there).

    counts int64; lift; one-sided p and q for "more often than chance". dispersion: as in `Pairs`.
    """

    counts: Tensor
    lift: Estimate
    p: Tensor
    q: Tensor
    dispersion: float


def transition_lift(
    here: Tensor, there: Tensor, num_experts: int, documents: Tensor | None = None, shrinkage: float = 1.0
) -> Transitions:
    """(expert here, expert there): P(e' selected there given e selected here) / f_e', of two layers (token, slot) each.

    All k*k pairs of a token count, regardless of rank. Chance 1. n is the expected count N_e N_e' / T, at least 5 (16
    for 4,096 tokens and 8 of 128). The lift is shrunk towards 1 by `shrinkage` transitions: (N + s) / (expected + s);
    it is 1 for an expert that was never selected. p, q and the interval as in `pmi`, with q over all E*E transitions.
    Raises BadArgument unless both layers have the same number of tokens.
    """
    check_experts(here[None], num_experts)
    check_experts(there[None], num_experts)
    if len(here) != len(there):
        raise BadArgument(f"here has {len(here)} tokens and there {len(there)}: expected two layers of one trace.")
    if not shrinkage > 0:
        raise BadArgument(f"shrinkage={shrinkage}: expected more than 0.")
    first, second = indicator(here, num_experts), indicator(there, num_experts)
    counts = (first.T @ second).long()
    expected = first.sum(0).double()[:, None] * second.sum(0).double()[None] / len(here)
    every_cell = torch.ones_like(counts, dtype=torch.bool)
    dispersion = overdispersion(here, there, num_experts, expected, documents, every_cell)
    value = (counts + shrinkage) / (expected + shrinkage)
    factor = (1.96 * (dispersion / (counts + shrinkage)).sqrt()).exp()
    p = poisson_tail(counts, expected, dispersion)
    estimate = Estimate(
        value, 1.0, value / factor, value * factor, expected, MINIMUM_EXPECTED, "expected joint selections"
    )
    return Transitions(counts, estimate, p, benjamini_hochberg(p), dispersion)


def path_information(
    experts: Tensor, num_experts: int, documents: Tensor | None = None, rounds: int = 50, seed: int = 0
) -> Estimate:
    """(layer - 1): I(e; e') / H(e'), for a random slot of one layer and a random slot of the next.

    Plug-in values are far above 0 (T k*k pairs in 16,384 cells), so the exact expectation for independent layers with
    the same loads is subtracted; slightly negative values are possible. For k > 1 the slots are interchangeable, so
    even a deterministic path from set to set gives at most 1 - log k / log E. Chance 0. Interval: bootstrap over
    documents; -1..1 without documents or with a single one. n counts tokens, at least 4,096.
    """
    check_experts(experts, num_experts)
    layers, tokens, top_k = experts.shape
    sizes: list[int] = []
    weights = None
    if documents is not None:
        labels = check_labels("documents", documents, experts)
        if bool((labels < 0).any()):
            experts, labels = experts[:, labels >= 0], labels[labels >= 0]
            tokens = len(labels)
        order = labels.argsort(stable=True)  # makes each document contiguous
        experts, sizes = experts[:, order], labels[order].unique_consecutive(return_counts=True)[1].tolist()
        if tokens == 0:
            raise BadArgument("documents has no label >= 0, expected a document for at least one token.")
        if len(sizes) > 1:
            weights = bootstrap_weights(torch.zeros(len(sizes), dtype=torch.int64), rounds, seed)
    value = torch.zeros(max(layers - 1, 0), dtype=torch.float64)
    low, high = torch.full_like(value, -1.0), torch.ones_like(value)
    for layer in range(layers - 1):
        first, second = indicator(experts[layer], num_experts), indicator(experts[layer + 1], num_experts)
        counts = (first.T @ second).double()
        entropy = float(entropy_of(second.sum(0)))
        if entropy == 0:  # a single expert: there is no uncertainty to explain
            low[layer] = high[layer] = 0.0
            continue
        plug_in = mutual_information(counts[None])[0]
        value[layer] = (plug_in - independent_information(first.sum(0), second.sum(0), tokens, top_k)) / entropy
        if weights is not None:
            tables = torch.stack([a.T @ b for a, b in zip(first.split(sizes), second.split(sizes), strict=True)])
            sums = (weights @ tables.flatten(1)).reshape(-1, num_experts, num_experts)
            low[layer], high[layer] = interval(mutual_information(sums) / entropy, value[layer])
    return Estimate(value, 0.0, low, high, tokens, MINIMUM_TOKENS)


def mutual_information(counts: Tensor) -> Tensor:
    """(...) nats: mutual information of row and column, from joint counts (..., row, column); 0 for an empty table."""
    return (entropy_of(counts.sum(-1)) + entropy_of(counts.sum(-2)) - entropy_of(counts.flatten(-2))).clamp(min=0)


def independent_information(first: Tensor, second: Tensor, tokens: int, top_k: int) -> float:
    """Exact expectation of the plug-in information (nats) of two independent layers with loads (expert) each.

    I = sum n log n / N - sum N_e k log(N_e k) / N - (the same for the other layer) + log N over joint counts n, with
    N = T k*k. Under a random permutation of the tokens of one layer, n is hypergeometric: N_e' draws from T tokens, N_e
    of which count. Terms with equal loads are computed once.
    """
    total = tokens * top_k * top_k
    sides, times = zip(*(side.long().unique(return_counts=True) for side in (first, second)), strict=True)
    a, b = sides[0][:, None, None], sides[1][None, :, None]
    n = torch.arange(count_limit(tokens, float(sides[0][-1] * sides[1][-1]) / tokens**2) + 1)
    possible = (n <= a) & (n <= b) & (a + b - n <= tokens)
    log_factorial = torch.lgamma(torch.arange(1, tokens + 2, dtype=torch.float64))
    bounded = torch.where(possible, n, torch.minimum(a, b).clamp(min=0))  # impossible counts become valid indices
    bounded = torch.maximum(bounded, a + b - tokens)
    log_p = log_factorial[a] + log_factorial[tokens - a] + log_factorial[b] + log_factorial[tokens - b]
    log_p = log_p - log_factorial[tokens] - log_factorial[bounded] - log_factorial[a - bounded]
    log_p = log_p - log_factorial[b - bounded] - log_factorial[tokens - a - b + bounded]
    joint = (torch.where(possible, log_p.exp(), 0.0) * torch.xlogy(n.double(), n.double())).sum(-1)
    joint_sum = float((joint * times[0][:, None] * times[1][None]).sum())
    marginal_sum = sum(
        float(torch.xlogy(side.double() * top_k, side.double() * top_k).sum()) for side in (first, second)
    )
    return (joint_sum - marginal_sum) / total + math.log(total)
