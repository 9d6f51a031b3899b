"""Paths: whether the experts of one layer predict the experts of the next layer."""

from dataclasses import dataclass

import torch
from torch import Tensor

from minimoe.errors import BadArgument
from minimoe.routing.statistics.chance import Estimate, Z, benjamini_hochberg
from minimoe.routing.statistics.counting import check_experts, check_labels, indicator
from minimoe.routing.statistics.joint import joint_test
from minimoe.routing.statistics.pairs import MINIMUM_EXPECTED, ratio_of

MINIMUM_TOKENS = 4096  # the expected count of a transition is then 16 for 8 of 128


@dataclass(frozen=True)
class Transitions:
    """Transitions from the experts of one layer to those of the next, all (expert here, expert there).

    counts int64; expected float64; ratio: counts / expected (NaN where nothing is expected); lift, its shrunk estimate;
    two-sided p and q for "as often as chance"; dispersion: as in `Pairs`. alike: the expected counts if, among tokens
    of equal ids, both layers chose independently; None without token ids. counts / alike is what the words of the text
    do not explain.
    """

    counts: Tensor
    expected: Tensor
    ratio: Estimate
    lift: Estimate
    p: Tensor
    q: Tensor
    dispersion: float
    alike: Tensor | None = None


def transition_lift(
    here: Tensor,
    there: Tensor,
    num_experts: int,
    documents: Tensor | None = None,
    shrinkage: float = 1.0,
    token_ids: Tensor | None = None,
) -> Transitions:
    """(expert here, expert there): P(e' selected there given e selected here) / f_e', of two layers (token, slot) each.

    All k*k pairs of a token count, regardless of rank. Chance 1. n is the expected count N_e N_e' / T, at least 5 (16
    for 4,096 tokens and 8 of 128). The lift is shrunk towards 1 by `shrinkage` transitions: (N + s) / (expected + s);
    it is 1 for an expert that was never selected. p, q and the interval as in `pmi`, with q over all E*E transitions.
    token_ids (token): gives `alike`, the baseline of tokens of equal ids. Raises BadArgument unless both layers have
    the same number of tokens.
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
    test = joint_test(here, there, num_experts, counts, expected, documents)
    value = (counts + shrinkage) / (expected + shrinkage)
    factor = (Z * (test.dispersion / (counts + shrinkage)).sqrt()).exp()
    estimate = Estimate(
        value, 1.0, value / factor, value * factor, expected, MINIMUM_EXPECTED, "expected joint selections"
    )
    q = torch.ones_like(test.p)
    q[expected > 0] = benjamini_hochberg(test.p[expected > 0])
    alike = None if token_ids is None else alike_transitions(here, there, num_experts, token_ids)
    return Transitions(counts, expected, ratio_of(counts, expected, test), estimate, test.p, q, test.pooled, alike)


def alike_transitions(here: Tensor, there: Tensor, num_experts: int, token_ids: Tensor) -> Tensor:
    """(expert here, expert there) float64: expected transitions if each token's second layer were dealt anew among the
    tokens of its id: the sum over ids x of N_x(e) N_x(e') / N_x.
    """
    check_labels("token_ids", token_ids, here[None])
    first, second = indicator(here, num_experts).double(), indicator(there, num_experts).double()
    ids, index, times = token_ids.unique(return_inverse=True, return_counts=True)
    sums = [
        torch.zeros(len(ids), num_experts, dtype=torch.float64).index_add_(0, index, side) for side in (first, second)
    ]
    return (sums[0] / times[:, None]).T @ sums[1]
