"""Load: how often each expert is selected, and how unevenly, in each layer separately.

All statistics are plug-in values of the observed counts. Chance is computed for the same number of tokens, so it has
the same bias: at 512 tokens even uniform routing looks slightly uneven, and `chance` says by how much.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from minimoe.routing.statistics.chance import (
    Estimate,
    binomial,
    check_choice,
    count_limit,
    expected_maximum,
    frequency_chance,
)
from minimoe.routing.statistics.counting import DocumentCounts, document_counts, selection_counts
from minimoe.routing.statistics.resampling import MINIMUM_DOCUMENTS, bootstrap

MINIMUM_TOKENS = 512  # with fewer, the plug-in bias of the entropy exceeds 0.02 bits for 8 of 128


def frequency(
    experts: Tensor, num_experts: int, documents: Tensor | None = None, rounds: int = 200, seed: int = 0
) -> Estimate:
    """(layer, expert): the share of tokens that selected the expert. Sums to k over the experts.

    Chance k/E (8 of 128: 6.25 %), standard error 1.07 percentage points at 512 independent tokens. Interval: bootstrap
    over documents; 0..1 without documents or with a single one, since nothing is known about other texts. n counts
    documents, at least 20. Tokens without a document (-1) are ignored. An expert that was never selected has value 0
    and, because all its resamples are 0, the interval 0..0: check `enough` before relying on it.
    """
    parts = counts_by_document(experts, num_experts, documents)
    value = parts.counts.sum(0) / parts.tokens.sum().double()
    low, high = torch.zeros_like(value), torch.ones_like(value)
    if len(parts.tokens) > 1:
        table = torch.cat([parts.counts.flatten(1), parts.tokens[:, None]], dim=1)
        low, high = bootstrap(
            table,
            lambda sums: (sums[:, :-1] / sums[:, -1:]).reshape(-1, *value.shape),
            value,
            torch.zeros_like(parts.tokens),
            rounds,
            seed,
        )
    chance = frequency_chance(num_experts, experts.shape[2])
    return Estimate(value, chance, low.clamp(0, 1), high.clamp(0, 1), len(parts.tokens), MINIMUM_DOCUMENTS, "documents")


def fold_over_uniform(
    experts: Tensor, num_experts: int, documents: Tensor | None = None, rounds: int = 200, seed: int = 0
) -> Estimate:
    """(layer, expert): frequency divided by k/E. Chance 1; views draw log2 of it, so a never selected expert (0) is
    apart.

    Interval, n and minimum as `frequency`; where nothing is known the interval is 0..E/k.
    """
    found = frequency(experts, num_experts, documents, rounds, seed)
    scale = num_experts / experts.shape[2]
    return Estimate(found.value * scale, 1.0, found.low * scale, found.high * scale, found.n, found.minimum, found.unit)


def entropy_of(counts: Tensor) -> Tensor:
    """(...): entropy in nats of the shares of counts (..., expert); 0 if all counts are 0."""
    total = counts.sum(-1, keepdim=True).double().clamp(min=1e-300)
    shares = counts / total
    return -torch.xlogy(shares, shares).sum(-1)


def evenness_of(counts: Tensor) -> Tensor:
    """(...): entropy of counts (..., expert) divided by log E; 1 for a single expert."""
    return entropy_of(counts) / math.log(counts.shape[-1]) if counts.shape[-1] > 1 else torch.ones(counts.shape[:-1])


def variation_of(counts: Tensor) -> Tensor:
    """(...): population standard deviation of counts (..., expert) divided by their mean."""
    counts = counts.double()
    return counts.std(-1, correction=0) / counts.mean(-1).clamp(min=1e-300)


def violation_of(counts: Tensor) -> Tensor:
    """(...): largest of counts (..., expert) divided by their mean, minus 1."""
    counts = counts.double()
    return counts.amax(-1) / counts.mean(-1).clamp(min=1e-300) - 1


def load_entropy(
    experts: Tensor, num_experts: int, documents: Tensor | None = None, rounds: int = 200, seed: int = 0
) -> Estimate:
    """(layer): H(f/k) / log E, from log k / log E if only k experts are ever selected to 1 if all are selected equally.

    Chance: the exact expectation for the number of tokens, about 1 - (E-k) / (2 T k log E). (The textbook bias has E-1
    instead, for k independent draws; k distinct experts vary less.) n counts tokens, at least 512.
    """
    chance = entropy_chance(num_experts, experts.shape[-1])
    relative = (lambda tokens: chance(tokens) / math.log(num_experts)) if num_experts > 1 else (lambda tokens: 1.0)
    return estimate(evenness_of, relative, 0.0, 1.0, experts, num_experts, documents, rounds, seed)


def effective_experts(
    experts: Tensor, num_experts: int, documents: Tensor | None = None, rounds: int = 200, seed: int = 0
) -> Estimate:
    """(layer): exp H(f/k), the number of equally used experts with the same entropy; from k to E.

    Chance: exp of the expected entropy, slightly below E. n counts tokens, at least 512.
    """
    chance = entropy_chance(num_experts, experts.shape[-1])
    return estimate(
        lambda counts: entropy_of(counts).exp(), lambda tokens: math.exp(chance(tokens)), 1.0, float(num_experts),
        experts, num_experts, documents, rounds, seed,
    )  # fmt: skip


def coefficient_of_variation(
    experts: Tensor, num_experts: int, documents: Tensor | None = None, rounds: int = 200, seed: int = 0
) -> Estimate:
    """(layer): standard deviation of the loads divided by their mean (squared, the loss of Shazeer et al. 2017).

    Chance sqrt((E-k) / (T k)), the root mean square, which approaches 0 only as T grows. n counts tokens, at least 512.
    """
    top_k = experts.shape[-1]
    chance = lambda tokens: math.sqrt((num_experts - top_k) / (tokens * top_k))  # noqa: E731
    largest = math.sqrt(max(num_experts / top_k - 1, 0))
    return estimate(variation_of, chance, 0.0, largest, experts, num_experts, documents, rounds, seed)


def max_violation(
    experts: Tensor, num_experts: int, documents: Tensor | None = None, rounds: int = 200, seed: int = 0
) -> Estimate:
    """(layer): max f E / k - 1, the relative excess of the busiest expert over an even share.

    This is MaxVio of arXiv 2408.15664. Chance: from the expected maximum of E binomial loads, it decreases like
    1 / sqrt(T). n counts tokens, at least 512.
    """
    share = frequency_chance(num_experts, experts.shape[-1])
    equal = torch.full((num_experts,), share, dtype=torch.float64)
    chance = lambda tokens: float(expected_maximum(tokens, equal)) / (tokens * share) - 1  # noqa: E731
    return estimate(violation_of, chance, 0.0, 1 / share - 1, experts, num_experts, documents, rounds, seed)


def lorenz(counts: Tensor) -> Tensor:
    """(..., expert + 1) float64: the Lorenz curve, the joint share of selections of the 0, 1, ... E least used experts.

    counts: (..., expert), see `selection_counts`. It rises from 0 to 1. An even load gives the diagonal; uniform
    routing is slightly below it for finite T (see `coefficient_of_variation`). Without selections: the diagonal.
    """
    counts = counts.double().sort(-1).values
    total = counts.sum(-1, keepdim=True)
    counts = torch.where(total > 0, counts / total.clamp(min=1), 1 / counts.shape[-1])
    return torch.cat([torch.zeros_like(counts[..., :1]), counts.cumsum(-1)], dim=-1).clamp(max=1)


def entropy_chance(num_experts: int, top_k: int) -> Callable[[int], float]:
    """A function tokens -> expected plug-in entropy (nats) of the loads under uniform routing, exact.

    H = log N - sum n log n / N with N = T k; each n is binomial (T, k/E), and the expectation is linear.
    """
    check_choice(num_experts, top_k)

    def chance(tokens: int) -> float:
        share = top_k / num_experts
        loads = torch.arange(count_limit(tokens, share) + 1, dtype=torch.float64)
        probabilities = binomial(tokens, torch.tensor(share), len(loads) - 1)
        selections = tokens * top_k
        mean = float((probabilities * torch.xlogy(loads, loads)).sum())
        return math.log(selections) - num_experts * mean / selections

    return chance


def estimate(
    statistic: Callable[[Tensor], Tensor],
    chance: Callable[[int], float],
    least: float,
    largest: float,
    experts: Tensor,
    num_experts: int,
    documents: Tensor | None,
    rounds: int,
    seed: int,
) -> Estimate:
    """The Estimate of a statistic of counts (layer, expert), with its chance value and its interval over documents.

    statistic: (..., layer, expert) -> (..., layer); chance: of the number of tokens; least, largest: possible range.
    """
    parts = counts_by_document(experts, num_experts, documents)
    tokens = int(parts.tokens.sum())
    value = statistic(parts.counts.sum(0)).double()
    low, high = torch.full_like(value, least), torch.full_like(value, largest)
    if len(parts.tokens) > 1:
        low, high = bootstrap(parts.counts, statistic, value, torch.zeros_like(parts.tokens), rounds, seed)
    low, high = torch.minimum(low.clamp(least), value), torch.maximum(high.clamp(max=largest), value)
    return Estimate(value, chance(tokens), low, high, tokens, MINIMUM_TOKENS)


def counts_by_document(experts: Tensor, num_experts: int, documents: Tensor | None) -> DocumentCounts:
    """Counts per document; without documents all tokens count as one document, so there is no interval."""
    if documents is not None:
        return document_counts(experts, num_experts, documents)
    counts = selection_counts(experts, num_experts)
    one = torch.zeros(1, dtype=torch.int64)
    return DocumentCounts(counts[None], one + experts.shape[1], one, one)
