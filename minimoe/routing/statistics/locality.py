"""Locality: does the next token go to the same experts?"""

from dataclasses import dataclass

import torch
from torch import Tensor

from minimoe.errors import BadArgument
from minimoe.routing.statistics.chance import Estimate, overlap_chance
from minimoe.routing.statistics.counting import check_experts, check_labels, selection_counts
from minimoe.routing.statistics.resampling import bootstrap_weights, interval

MINIMUM_PAIRS = 512


@dataclass(frozen=True)
class Locality:
    """Each (layer): shared experts of neighbours, P(at least one), Jaccard, and P(same first expert).

    shared_by_load (layer) float64: experts that two unrelated tokens of this layer share, sum of f^2. With uneven load
    it lies above k*k/E, and only what exceeds it is locality."""

    shared: Estimate
    any: Estimate
    jaccard: Estimate
    first: Estimate
    shared_by_load: Tensor


def locality(
    experts: Tensor,
    num_experts: int,
    sequences: Tensor,
    positions: Tensor,
    documents: Tensor | None = None,
    rounds: int = 200,
    seed: int = 0,
) -> Locality:
    """Overlap of the selections of a token and the next one (Mixtral, arXiv 2401.04088 section 5, figures 7 and 8).

    Neighbours are position p and p+1 of one sequence, in whatever order the trace holds them. Chance, hypergeometric
    (8 of 128): 0.5 shared, 41.2 % at least one, Jaccard 0.034, same first expert 0.78 %. Interval: bootstrap over
    documents (sequences if not given). n counts neighbours, at least 512. No neighbours (one token): values 0, n 0,
    widest interval.
    """
    check_experts(experts, num_experts)
    sequences, positions = check_labels("sequences", sequences, experts), check_labels("positions", positions, experts)
    documents = sequences if documents is None else check_labels("documents", documents, experts)
    key = sequences * (int(positions.max()) + 2) + positions
    order = key.argsort(stable=True)
    here, there = order[:-1], order[1:]
    near = (sequences[here] == sequences[there]) & (positions[here] + 1 == positions[there])
    here, there = here[near], there[near]
    top_k = experts.shape[2]
    names = ("shared", "any", "jaccard", "first")
    table = torch.zeros(len(names), len(experts), len(here))
    for layer, chosen in enumerate(experts):
        shared = overlap(chosen[here], chosen[there]).float()
        same = (chosen[here, 0] == chosen[there, 0]).float()
        table[:, layer] = torch.stack([shared, (shared > 0).float(), shared / (2 * top_k - shared), same])
    chance = overlap_chance(num_experts, top_k)
    largest = {"shared": float(top_k), "any": 1.0, "jaccard": 1.0, "first": 1.0}
    found = {
        name: mean_over_documents(values, documents[here], chance[name], largest[name], MINIMUM_PAIRS, rounds, seed)
        for name, values in zip(names, table, strict=True)
    }
    load = selection_counts(experts, num_experts).double() / experts.shape[1]
    return Locality(**found, shared_by_load=(load**2).sum(-1))


def overlap(first: Tensor, second: Tensor) -> Tensor:
    """(token) int64: how many experts two selections (token, slot) share."""
    return sum(
        ((second == slot[:, None]).sum(-1) for slot in first.unbind(-1)), torch.zeros(len(first), dtype=torch.int64)
    )


def mean_over_documents(
    values: Tensor,
    documents: Tensor,
    chance: float,
    largest: float,
    minimum: int,
    rounds: int,
    seed: int,
    unit: str = "tokens",
    least: float = 0.0,
) -> Estimate:
    """(layer): mean of values (layer, token) with a bootstrap over documents (token); least..largest if that is
    impossible.

    Raises BadArgument for NaN. No tokens: value `least`, n 0.
    """
    if bool(values.isnan().any()):
        layer, token = values.isnan().nonzero()[0].tolist()
        raise BadArgument(f"values hold NaN in row {layer}, token {token}; expected numbers. Leave that token out.")
    n = values.shape[1]
    value = values.double().mean(1) if n else torch.full((len(values),), least, dtype=torch.float64)
    low, high = torch.full_like(value, least), torch.full_like(value, largest)
    ids, rows = documents.unique(return_inverse=True)
    if len(ids) > 1:
        sums = torch.zeros(len(ids), len(values) + 1, dtype=torch.float64)
        sums.index_add_(0, rows, torch.cat([values.double(), torch.ones(1, n, dtype=torch.float64)]).T.contiguous())
        weights = bootstrap_weights(torch.zeros(len(ids), dtype=torch.int64), rounds, seed).double()
        drawn = weights @ sums
        low, high = interval(drawn[:, :-1] / drawn[:, -1:], value)
    low, high = torch.minimum(low.clamp(min=least), value), torch.maximum(high.clamp(max=largest), value)
    return Estimate(value, chance, low, high, n, minimum, unit)
