"""Pairs: which experts of one layer are selected together more than their own loads explain."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from minimoe.errors import BadArgument
from minimoe.routing.statistics.chance import Estimate, benjamini_hochberg, tail
from minimoe.routing.statistics.counting import check_experts, check_labels, indicator

MINIMUM_EXPECTED = 5  # joint selections that chance must be able to give before a cell is coloured


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
    """One layer, all (expert, expert): counts int64, expected float64, pmi in nats, one-sided p and q ("more often than
    chance"). Diagonals: pmi 0, p = q = 1. dispersion: variance between documents over that of a Poisson count."""

    counts: Tensor
    expected: Tensor
    pmi: Estimate
    p: Tensor
    q: Tensor
    dispersion: float


def expected_pairs(loads: Tensor, top_k: int) -> Tensor:
    """(expert, expert) float64: joint selections of experts with these loads (expert) that take no notice of each
    other.

    a_i a_j off the diagonal, with a such that the row of i sums to (k-1) N_i (quasi-independence, Goodman 1968). Equal
    loads give N_i (k-1)/(E-1) exactly; with uneven loads a busy expert leaves fewer places for the others, and this
    counts it.
    """
    target = loads.double() * (top_k - 1)
    factors = target / target.sum().clamp(min=1e-300).sqrt()
    for _ in range(100):  # a <- sqrt(a target / (sum - a)): damped, converges geometrically
        factors = (factors * target / (factors.sum() - factors).clamp(min=1e-300)).sqrt()
    table = factors[:, None] * factors[None]
    return table.fill_diagonal_(0.0)


def pmi(experts: Tensor, num_experts: int, documents: Tensor | None = None, shrinkage: float = 1.0) -> Pairs:
    """Pointwise mutual information log(N_ij N / (N_i N_j)) of the experts of one layer, experts (token, slot).

    Under uniform routing log((k-1)E / (k(E-1))), -0.126 for 8 of 128, since k places are shared; `chance` gives it for
    the loads at hand. Shrunk towards chance by `shrinkage` joint selections, so that a pair never seen together has a
    finite value: log((N_ij + s) / (expected + s)) + chance. A never selected expert has PMI = chance 0.

    p: Poisson tail above the expected count, widened by the spread between documents (never narrowed); q: over all
    pairs of the layer. Interval: 1.96 sqrt(dispersion / (N_ij + s)) around the logarithm. n (expert, expert) is the
    expected joint count, at least 5: 14 at 4,096 tokens of 8 of 128. Experts that like the same domain appear here
    too. k = 1: BadArgument.
    """
    if experts.dim() != 2:
        raise BadArgument(
            f"experts has shape {tuple(experts.shape)}: expected (token, slot), one layer: trace.experts[layer]."
        )
    if experts.shape[1] < 2:
        raise BadArgument("top_k=1: no two experts are ever selected together; expected top_k >= 2.")
    if not shrinkage > 0:
        raise BadArgument(f"shrinkage={shrinkage}: expected more than 0, or unseen pairs have an infinite value.")
    counts = coactivation(experts, num_experts)
    loads = counts.diagonal().double()
    expected = expected_pairs(loads, experts.shape[1])
    both = loads[:, None] * loads[None]
    usable = (both > 0) & ~torch.eye(num_experts, dtype=torch.bool)
    chance = torch.where(usable, (expected * len(experts) / both.clamp(min=1)).clamp(min=1e-12).log(), 0.0)
    excess = ((counts + shrinkage) / (expected + shrinkage)).log()
    value = torch.where(usable, excess + chance, 0.0)
    upper = torch.ones_like(counts, dtype=torch.bool).triu(1)
    dispersion = spread(experts, experts, num_experts, expected, documents, upper)
    width = torch.where(usable, 1.96 * (dispersion / (counts + shrinkage)).sqrt(), math.log(len(experts) + 1))
    p = torch.where(usable, tail(counts, expected, dispersion), 1.0)
    q = torch.ones_like(p)
    q[upper] = benjamini_hochberg(p[upper])
    q = torch.minimum(q, q.T)
    estimate = Estimate(
        value, chance, value - width, value + width, expected, MINIMUM_EXPECTED, "expected joint selections"
    )
    return Pairs(counts, expected, estimate, p, q, dispersion)


def spread(
    here: Tensor, there: Tensor, num_experts: int, expected: Tensor, documents: Tensor | None, cells: Tensor
) -> float:
    """How much wider than Poisson the joint counts of documents scatter; never below 1, and 1 if it cannot be told.

    Mean over `cells` (expert, expert, bool) of sum_d (N_d - N T_d/T)^2 / (N (1 - sum_d (T_d/T)^2)), whose expectation
    is 1 where every token decides for itself. here, there: (token, slot) of two layers, or twice the same one.
    """
    if documents is None:
        return 1.0
    documents = check_labels("documents", documents, here[None])
    ids = documents[documents >= 0].unique()
    if len(ids) < 2:
        return 1.0
    squares = torch.zeros(num_experts, num_experts)
    total = torch.zeros(num_experts, num_experts)
    parts = []
    for document in ids:
        inside = (documents == document).nonzero().flatten()
        table = indicator(here[inside], num_experts).T @ indicator(there[inside], num_experts)
        total += table
        parts.append((table, len(inside)))
    tokens = sum(size for _, size in parts)
    for table, size in parts:
        squares += (table - total * (size / tokens)) ** 2
    free = 1 - sum(
        (size / tokens) ** 2 for _, size in parts
    )  # the expectation of the sum of squares is total times this
    seen = cells & (expected > 0) & (total > 0)
    if not bool(seen.any()):
        return 1.0
    ratios = (squares[seen] / total[seen]) / max(free, 1e-9)
    return max(1.0, float(ratios.mean()))


def seriate(similarity: Tensor) -> Tensor:
    """(expert) int64: an order in which similar experts stand side by side; similarity (expert, expert), symmetric.

    Average-linkage clustering; where two groups join, they are turned so that their most similar ends touch. A group
    that is alike inside always stands in one piece. Deterministic: of equals the lowest ids first. Chance: noise also
    gets an order, so an order proves nothing; look at `q`. Minimum: none. NaN or infinite values raise BadArgument.
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
