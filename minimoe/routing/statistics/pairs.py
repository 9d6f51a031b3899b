"""Pairs: which experts of one layer are selected together more often than their loads explain."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from minimoe.errors import BadArgument
from minimoe.routing.statistics.chance import Estimate, Z, benjamini_hochberg
from minimoe.routing.statistics.counting import check_experts, indicator
from minimoe.routing.statistics.joint import JointTest, joint_test, ratio_interval

MINIMUM_EXPECTED = 5  # smallest joint count expected by chance at which views colour a cell


def coactivation(experts: Tensor, num_experts: int) -> Tensor:
    """(expert, expert) int64: tokens that selected both, the diagonal being tokens that selected one. Symmetric.

    experts: (token, slot) of one layer, or (layer, token, slot), which gives (layer, expert, expert). All k(k-1)/2
    pairs of a token count, not only those of neighbouring rank (arXiv 2409.02060's published script counts only
    these). C(j given i) = N_ij / N_i; under uniform routing (k-1)/(E-1), 5.5 % for 8 of 128. Minimum: see `pmi`.
    """
    if experts.dim() == 3:
        return torch.stack([coactivation(each, num_experts) for each in experts])
    check_experts(experts[None], num_experts)
    selected = indicator(experts, num_experts)
    return (selected.T @ selected).long()


@dataclass(frozen=True)
class Pairs:
    """Joint selections of the experts of one layer, all (expert, expert).

    counts int64; expected float64; ratio: counts / expected, chance 1 (NaN where nothing is expected); pmi in nats;
    two-sided p and q for "as often as chance". On the diagonal pmi is 0 and p = q = 1. dispersion: variance between
    documents over that of independent tokens, of all pairs together.
    """

    counts: Tensor
    expected: Tensor
    ratio: Estimate
    pmi: Estimate
    p: Tensor
    q: Tensor
    dispersion: float


def expected_pairs(loads: Tensor, top_k: int) -> Tensor:
    """(expert, expert) float64: expected joint selections of independent experts with these loads (expert).

    a_i a_j off the diagonal, with a such that row i sums to (k-1) N_i (quasi-independence, Goodman 1968). Equal loads
    give N_i (k-1)/(E-1) exactly. With uneven loads, a busy expert leaves fewer slots for the others, which this takes
    into account.
    """
    target = loads.double() * (top_k - 1)
    factors = target / target.sum().clamp(min=1e-300).sqrt()
    for _ in range(100):  # a <- sqrt(a target / (sum - a)), damped, converges geometrically
        factors = (factors * target / (factors.sum() - factors).clamp(min=1e-300)).sqrt()
    table = factors[:, None] * factors[None]
    return table.fill_diagonal_(0.0)


def pmi(experts: Tensor, num_experts: int, documents: Tensor | None = None, shrinkage: float = 1.0) -> Pairs:
    """Pointwise mutual information log(N_ij N / (N_i N_j)) of the experts of one layer, experts (token, slot).

    Under uniform routing it is log((k-1)E / (k(E-1))), -0.126 for 8 of 128, since a token has only k slots; `chance` is
    this value for the observed loads. The estimate is shrunk towards chance by `shrinkage` joint selections, so that a
    pair never selected together has a finite value: log((N_ij + s) / (expected + s)) + chance. For an expert that was
    never selected, PMI and chance are 0.

    p: see `joint_test`; q: over all pairs of the layer. Interval: 1.96 sqrt(dispersion / (N_ij + s)) around the
    logarithm, with the dispersion of the pair.
    n (expert, expert) is the expected joint count, at least 5 (14 for 4,096 tokens and 8 of 128). Two experts that are
    specialised in the same domain also have a high PMI. Raises BadArgument for k = 1.
    """
    if experts.dim() != 2:
        raise BadArgument(
            f"experts has shape {tuple(experts.shape)}: expected (token, slot) of one layer, such as "
            "trace.experts[layer]."
        )
    if experts.shape[1] < 2:
        raise BadArgument("top_k=1: no two experts are ever selected together; expected top_k >= 2.")
    if not shrinkage > 0:
        raise BadArgument(f"shrinkage={shrinkage}: expected more than 0, since unseen pairs would be infinite.")
    counts = coactivation(experts, num_experts)
    loads = counts.diagonal().double()
    expected = expected_pairs(loads, experts.shape[1])
    both = loads[:, None] * loads[None]
    usable = (both > 0) & ~torch.eye(num_experts, dtype=torch.bool)
    chance = torch.where(usable, (expected * len(experts) / both.clamp(min=1)).clamp(min=1e-12).log(), 0.0)
    excess = ((counts + shrinkage) / (expected + shrinkage)).log()
    value = torch.where(usable, excess + chance, 0.0)
    upper = torch.ones_like(counts, dtype=torch.bool).triu(1)
    test = joint_test(experts, experts, num_experts, counts, expected, documents)
    width = torch.where(usable, Z * (test.dispersion / (counts + shrinkage)).sqrt(), math.log(len(experts) + 1))
    p = torch.where(usable, test.p, 1.0)
    q = torch.ones_like(p)
    q[upper & usable] = benjamini_hochberg(p[upper & usable])
    q = torch.minimum(q, q.T)
    estimate = Estimate(
        value, chance, value - width, value + width, expected, MINIMUM_EXPECTED, "expected joint selections"
    )
    return Pairs(counts, expected, ratio_of(counts, expected, test), estimate, p, q, test.pooled)


def ratio_of(counts: Tensor, expected: Tensor, test: JointTest) -> Estimate:
    """counts / expected with its interval; NaN where nothing is expected."""
    value = counts / torch.where(expected > 0, expected, math.nan)
    low, high = ratio_interval(counts, expected, test.dispersion)
    return Estimate(value, 1.0, low, high, expected, MINIMUM_EXPECTED, "expected joint selections")


def seriate(similarity: Tensor) -> Tensor:
    """(expert) int64: an order that places similar experts next to each other; similarity (expert, expert), symmetric.

    Average-linkage clustering; when two groups are merged, they are oriented so that their most similar ends meet. A
    homogeneous group always stays contiguous. Deterministic: ties are resolved by the lowest ids. Noise also yields an
    order, so an order alone is no evidence: see `q`. No minimum. Raises BadArgument for NaN or infinite values.
    """
    size = similarity.shape[0]
    if similarity.shape != (size, size) or not bool(torch.isfinite(similarity).all()):
        raise BadArgument(f"similarity has shape {tuple(similarity.shape)}: expected square, with finite values.")
    table = ((similarity + similarity.T) / 2).double()
    links = table.clone().fill_diagonal_(-math.inf)
    chains = {number: [number] for number in range(size)}
    for _ in range(size - 1):
        first, second = divmod(int(links.argmax()), size)
        first, second = min(first, second), max(first, second)
        left, right = chains[first], chains.pop(second)
        turns = [(left, right), (left, right[::-1]), (left[::-1], right), (left[::-1], right[::-1])]
        left, right = max(turns, key=lambda pair: float(table[pair[0][-1], pair[1][0]]))
        share = len(chains[first]) / (len(left) + len(right))
        chains[first] = left + right
        merged = share * links[first] + (1 - share) * links[second]
        links[first], links[:, first] = merged, merged
        links[second], links[:, second] = -math.inf, -math.inf
        links[first, first] = -math.inf
    return torch.tensor(next(iter(chains.values())) if chains else [], dtype=torch.int64)
