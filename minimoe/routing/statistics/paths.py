"""Paths: does the expert of one layer say something about the expert of the next?"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from minimoe.errors import BadArgument
from minimoe.routing.statistics.chance import Estimate, benjamini_hochberg, reach, tail
from minimoe.routing.statistics.counting import check_experts, check_labels, indicator
from minimoe.routing.statistics.load import entropy_of
from minimoe.routing.statistics.pairs import MINIMUM_EXPECTED, spread
from minimoe.routing.statistics.resampling import bootstrap_weights, interval

MINIMUM_TOKENS = 4096  # the expected count of a transition is then 16 for 8 of 128


@dataclass(frozen=True)
class Transitions:
    """From (expert) of one layer to (expert) of the next: counts int64, lift, one-sided p and q ("more than
    chance")."""

    counts: Tensor
    lift: Estimate
    p: Tensor
    q: Tensor
    dispersion: float


def transition_lift(
    here: Tensor, there: Tensor, num_experts: int, documents: Tensor | None = None, shrinkage: float = 1.0
) -> Transitions:
    """(expert here, expert there): P(e' selected there given e selected here) / f_e', of two layers (token, slot) each.

    All k*k pairs of a token count, whatever the ranks. Chance 1; the expected count N_e N_e' / T is 16 at 4,096 tokens
    of 8 of 128, n counts it and needs at least 5. Shrunk towards 1 by `shrinkage` transitions: (N + s) / (expected +
    s); a never selected expert has lift 1. p, q and the interval as in `pmi`, q over all E*E transitions.
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
    dispersion = spread(here, there, num_experts, expected, documents, torch.ones_like(counts, dtype=torch.bool))
    value = (counts + shrinkage) / (expected + shrinkage)
    factor = (1.96 * (dispersion / (counts + shrinkage)).sqrt()).exp()
    p = tail(counts, expected, dispersion)
    estimate = Estimate(
        value, 1.0, value / factor, value * factor, expected, MINIMUM_EXPECTED, "expected joint selections"
    )
    return Transitions(counts, estimate, p, benjamini_hochberg(p), dispersion)


def path_information(
    experts: Tensor, num_experts: int, documents: Tensor | None = None, rounds: int = 50, seed: int = 0
) -> Estimate:
    """(layer - 1): I(e; e') / H(e'), of a random slot of one layer and one of the next; 0 under uniform routing.

    Plug-in values lie far above 0 (16,384 cells filled by T k*k pairs), so the value expected of independent layers
    with the same loads is subtracted, exact. It can come out a little
    below 0. With k > 1 the slots are told apart by nothing, so even a fixed path from set to set gives at most 1 - log
    k / log E. Chance 0. Interval: bootstrap over documents; without, or with one, -1..1. n counts tokens, at least
    4,096.
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
        order = labels.argsort(stable=True)  # each document in one piece
        experts, sizes = experts[:, order], labels[order].unique_consecutive(return_counts=True)[1].tolist()
        if tokens == 0:
            raise BadArgument("no token has a document; expected labels >= 0 for at least one token.")
        if len(sizes) > 1:
            weights = bootstrap_weights(torch.zeros(len(sizes), dtype=torch.int64), rounds, seed)
    value = torch.zeros(max(layers - 1, 0), dtype=torch.float64)
    low, high = torch.full_like(value, -1.0), torch.ones_like(value)
    for layer in range(layers - 1):
        first, second = indicator(experts[layer], num_experts), indicator(experts[layer + 1], num_experts)
        counts = (first.T @ second).double()
        entropy = float(entropy_of(second.sum(0)))
        if entropy == 0:  # one expert only: nothing can be told about it
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
    """(...) nats: I(row; column) of joint counts (..., row, column); 0 for an empty table."""
    return (entropy_of(counts.sum(-1)) + entropy_of(counts.sum(-2)) - entropy_of(counts.flatten(-2))).clamp(min=0)


def independent_information(first: Tensor, second: Tensor, tokens: int, top_k: int) -> float:
    """Expected plug-in I (nats) of two layers that take no notice of each other, loads (expert) of each. Exact.

    I = sum n log n / N - sum N_e k log(N_e k) / N - the same of the other layer + log N over joint counts n, with
    N = T k*k. If the tokens of one layer were dealt at random, n would be hypergeometric: N_e' draws from T tokens of
    which N_e count. Equal loads share one term.
    """
    total = tokens * top_k * top_k
    sides, times = zip(*(side.long().unique(return_counts=True) for side in (first, second)), strict=True)
    a, b = sides[0][:, None, None], sides[1][None, :, None]
    n = torch.arange(reach(tokens, float(sides[0][-1] * sides[1][-1]) / tokens**2) + 1)
    possible = (n <= a) & (n <= b) & (a + b - n <= tokens)
    logs = torch.lgamma(torch.arange(1, tokens + 2, dtype=torch.float64))  # log of n factorial
    bounded = torch.where(possible, n, torch.minimum(a, b).clamp(min=0))  # any possible count, to be left out below
    bounded = torch.maximum(bounded, a + b - tokens)
    parts = logs[a] + logs[tokens - a] + logs[b] + logs[tokens - b] - logs[tokens]
    likely = parts - logs[bounded] - logs[a - bounded] - logs[b - bounded] - logs[tokens - a - b + bounded]
    joint = (torch.where(possible, likely.exp(), 0.0) * torch.xlogy(n.double(), n.double())).sum(-1)
    joint_sum = float((joint * times[0][:, None] * times[1][None]).sum())
    alone = sum(float(torch.xlogy(side.double() * top_k, side.double() * top_k).sum()) for side in (first, second))
    return (joint_sum - alone) / total + math.log(total)
