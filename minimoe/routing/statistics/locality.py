"""Locality: whether consecutive tokens select the same experts."""

from dataclasses import dataclass

import torch
from torch import Tensor

from minimoe.routing.statistics.chance import Estimate, overlap_chance
from minimoe.routing.statistics.counting import check_experts, check_labels, selection_counts
from minimoe.routing.statistics.resampling import mean_over_documents

MINIMUM_PAIRS = 512


@dataclass(frozen=True)
class Locality:
    """Overlap of the selections of consecutive tokens, each (layer).

    shared: number of common experts; any: probability of at least one; jaccard: Jaccard index; first: probability of
    the same first expert. shared_by_load (layer) float64: expected number of common experts of two unrelated tokens of
    the layer, sum of f^2. It exceeds k*k/E if the load is uneven, and only an excess over it is locality.
    """

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

    A pair is formed by positions p and p+1 of one sequence, wherever they are in the trace. Chance, hypergeometric (8
    of 128): 0.5 shared, 41.2 % at least one, Jaccard 0.034, same first expert 0.78 %. Interval: bootstrap over
    documents (or sequences, without documents). n counts pairs, at least 512. Without pairs, the values and n are 0
    and the interval spans all possible values.
    """
    check_experts(experts, num_experts)
    sequences, positions = check_labels("sequences", sequences, experts), check_labels("positions", positions, experts)
    documents = sequences if documents is None else check_labels("documents", documents, experts)
    key = sequences * (int(positions.max()) + 2) + positions
    order = key.argsort(stable=True)
    current, following = order[:-1], order[1:]
    adjacent = (sequences[current] == sequences[following]) & (positions[current] + 1 == positions[following])
    current, following = current[adjacent], following[adjacent]
    top_k = experts.shape[2]
    names = ("shared", "any", "jaccard", "first")
    table = torch.zeros(len(names), len(experts), len(current))
    for layer, chosen in enumerate(experts):
        shared = overlap(chosen[current], chosen[following]).float()
        same_first = (chosen[current, 0] == chosen[following, 0]).float()
        table[:, layer] = torch.stack([shared, (shared > 0).float(), shared / (2 * top_k - shared), same_first])
    chance = overlap_chance(num_experts, top_k)
    largest = {"shared": float(top_k), "any": 1.0, "jaccard": 1.0, "first": 1.0}
    pairs = documents[current]
    estimates = {
        name: mean_over_documents(values, pairs, chance[name], largest[name], MINIMUM_PAIRS, rounds, seed)
        for name, values in zip(names, table, strict=True)
    }
    load = selection_counts(experts, num_experts).double() / experts.shape[1]
    return Locality(**estimates, shared_by_load=(load**2).sum(-1))


def overlap(first: Tensor, second: Tensor) -> Tensor:
    """(token) int64: number of experts that two selections (token, slot) have in common."""
    return sum(
        ((second == slot[:, None]).sum(-1) for slot in first.unbind(-1)), torch.zeros(len(first), dtype=torch.int64)
    )
