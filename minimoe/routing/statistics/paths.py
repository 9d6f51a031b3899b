"""Paths: whether the experts of one layer predict the experts of the next layer."""

from dataclasses import dataclass

import torch
from torch import Tensor

from minimoe.errors import BadArgument
from minimoe.routing.statistics.chance import Estimate, benjamini_hochberg, poisson_tail
from minimoe.routing.statistics.counting import check_experts, indicator
from minimoe.routing.statistics.pairs import MINIMUM_EXPECTED, overdispersion

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
