"""Chance: baselines under uniform routing, and the correction of p-values for multiple comparisons.

Uniform routing selects k of E experts for every token; all sets of k are equally likely and tokens are independent.
Every statistic of this package is reported with its value under uniform routing, which is usually not zero.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from minimoe.errors import BadArgument

Z = 1.959964  # a normal variable lies between -Z and Z with 95 %


@dataclass(frozen=True)
class Estimate:
    """A measured statistic with its chance value and its 95 % interval over documents.

    value, low, high: tensors of one shape. The interval low..high is never NaN; if it cannot be estimated, it spans all
    possible values (0..1 for shares). chance: the same statistic under uniform routing (or the null hypothesis named by
    the function), a number or a tensor that broadcasts. n: the sample size in `unit`; minimum: the smallest reliable n.
    """

    value: Tensor
    chance: Tensor | float
    low: Tensor
    high: Tensor
    n: Tensor | int
    minimum: int
    unit: str = "tokens"

    @property
    def enough(self) -> Tensor:
        """Whether n reaches `minimum`; bool, broadcasts against value. Otherwise views hatch instead of colouring."""
        return torch.as_tensor(self.n) >= self.minimum


def check_choice(num_experts: int, top_k: int) -> None:
    """Raise BadArgument unless 1 <= top_k <= num_experts."""
    if not 1 <= top_k <= num_experts:
        raise BadArgument(f"top_k={top_k} of num_experts={num_experts} cannot be selected: expected 1 <= top_k <= E.")


def frequency_chance(num_experts: int, top_k: int) -> float:
    """k/E, the share of tokens that select a given expert (8 of 128: 6.25 %); not 1/E, since a token has k slots."""
    check_choice(num_experts, top_k)
    return top_k / num_experts


def overlap_distribution(num_experts: int, top_k: int, other_k: int | None = None) -> Tensor:
    """(shared) float64: probabilities that two independent selections share s = 0, 1, ... min(k, k') experts.

    Hypergeometric: C(k, s) C(E-k, k'-s) / C(E, k').
    """
    other_k = top_k if other_k is None else other_k
    check_choice(num_experts, top_k)
    check_choice(num_experts, other_k)
    ways = [math.comb(top_k, s) * math.comb(num_experts - top_k, other_k - s) for s in range(min(top_k, other_k) + 1)]
    total = math.comb(num_experts, other_k)
    return torch.tensor([way / total for way in ways], dtype=torch.float64)


def overlap_chance(num_experts: int, top_k: int) -> dict[str, float]:
    """Expected overlap of two independent selections (in brackets: 8 of 128).

    "shared": number of common experts, k*k/E (0.5); "any": probability of at least one (0.412); "jaccard" (0.034);
    "first": probability of the same first expert, 1/E.
    """
    chances = overlap_distribution(num_experts, top_k)
    shared = torch.arange(len(chances), dtype=torch.float64)
    return {
        "shared": float((chances * shared).sum()),
        "any": float(1 - chances[0]),
        "jaccard": float((chances * shared / (2 * top_k - shared)).sum()),
        "first": 1 / num_experts,
    }


def pmi_chance(num_experts: int, top_k: int) -> float:
    """log((k-1)E / (k(E-1))) nats, the expected PMI of two experts of one layer (8 of 128: -0.126).

    It is negative because k is fixed: a selected expert leaves one slot fewer for all others. Raises BadArgument for
    k = 1, which has no pairs.
    """
    check_choice(num_experts, top_k)
    if top_k == 1:
        raise BadArgument(
            "top_k=1: no two experts are ever selected together, so PMI is undefined; expected top_k >= 2."
        )
    return math.log((top_k - 1) * num_experts / (top_k * (num_experts - 1)))


def binomial(trials: int, probabilities: Tensor, largest: int | None = None) -> Tensor:
    """(..., successes) float64: binomial probabilities of 0..`largest` successes, for probabilities (...)."""
    largest = trials if largest is None else min(largest, trials)
    successes = torch.arange(largest + 1, dtype=torch.float64)
    ways = math.lgamma(trials + 1) - torch.lgamma(successes + 1) - torch.lgamma(trials - successes + 1)
    p = probabilities.double()[..., None]
    return (ways + torch.xlogy(successes, p) + torch.xlogy(trials - successes, 1 - p)).exp()


def count_limit(trials: int, probability: float) -> int:
    """A number of successes exceeded with a probability below 1e-15: the mean + 10 standard deviations + 10."""
    mean = trials * probability
    return min(trials, math.ceil(mean + 10 * math.sqrt(mean * (1 - probability)) + 10))


def expected_maximum(trials: int, probabilities: Tensor) -> Tensor:
    """(...) float64: the expected maximum of E binomial counts with probabilities (..., expert).

    Sum over m of 1 - prod_e F_e(m), treating the experts as independent. They compete for the k slots of a token, so
    the true value is slightly larger: in simulations of 128 experts by 2 % at 10 tokens, by 1 % or less from 50 tokens.
    """
    largest = count_limit(trials, float(probabilities.max()))
    below = binomial(trials, probabilities, largest).cumsum(-1).clamp(max=1)
    return (1 - below.log().sum(-2).exp()).sum(-1)


def benjamini_hochberg(p: Tensor) -> Tensor:
    """q-values, float64, shape of p: among all with q <= a, the expected share of false positives is at most a.

    Benjamini and Hochberg 1995: q = min over larger p of p m / rank, with m the number of p-values. Pass the p-values
    of all comparisons, not only the small ones. Raises BadArgument for a value outside 0..1 or NaN.
    """
    flat = p.double().flatten()
    if not bool(((flat >= 0) & (flat <= 1)).all()):
        raise BadArgument("p contains a value outside 0..1 (or NaN), expected p-values.")
    ordered, order = flat.sort()
    ranks = torch.arange(1, len(flat) + 1, dtype=torch.float64)
    smallest = (ordered * len(flat) / ranks).flip(0).cummin(0).values.flip(0).clamp(max=1) if len(flat) else flat
    return torch.empty_like(flat).scatter_(0, order, smallest).reshape(p.shape)
