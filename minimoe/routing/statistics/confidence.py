"""Confidence: how concentrated the router's probabilities are in each layer."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from minimoe.errors import BadArgument
from minimoe.routing.statistics.chance import Estimate, check_choice
from minimoe.routing.statistics.counting import check_labels
from minimoe.routing.statistics.locality import mean_over_documents

MINIMUM_TOKENS = 512
LEVELS = (0.05, 0.25, 0.5, 0.75, 0.95)


@dataclass(frozen=True)
class Confidence:
    """Means per layer of four measures of confidence.

    first: probability of the first expert; mass: total probability of the selected experts; margin: in logits;
    entropy: in bits. quantiles: name -> (layer, 5) float64, the 5, 25, 50, 75 and 95 % quantiles over tokens.
    """

    first: Estimate
    mass: Estimate
    margin: Estimate
    entropy: Estimate
    quantiles: dict[str, Tensor]


def router_confidence(
    probabilities: Tensor,
    margins: Tensor,
    entropies: Tensor,
    num_experts: int,
    documents: Tensor | None = None,
    rounds: int = 200,
    seed: int = 0,
) -> Confidence:
    """Confidence of the router, with intervals over documents.

    probabilities: (layer, token, slot), before renormalisation; margins: (layer, token), logits; entropies: (layer,
    token), nats. Chance is a router without preferences, all logits equal (in brackets: 8 of 128): first 1/E (0.78 %),
    mass k/E (6.25 %), margin 0, entropy log2 E (7 bits). The logits of a randomly initialised router are not equal, so
    compare with a trace of random weights too. Interval: bootstrap over documents; without documents, all possible
    values (margins: 0 to the largest observed). n counts tokens, at least 512.
    """
    check_choice(num_experts, probabilities.shape[-1])
    if not margins.shape == entropies.shape == probabilities.shape[:2] or 0 in probabilities.shape:
        raise BadArgument(
            f"probabilities {tuple(probabilities.shape)}, margins {tuple(margins.shape)}, "
            f"entropies {tuple(entropies.shape)}: expected shapes (layer, token, slot), (layer, token), (layer, token) "
            "with at least one token."
        )
    labels = torch.zeros(probabilities.shape[1], dtype=torch.int64)
    labels = labels if documents is None else check_labels("documents", documents, probabilities)
    top_k, bits = probabilities.shape[-1], math.log2(num_experts)
    tables = {
        "first": (probabilities[..., 0], 1 / num_experts, 1.0),
        "mass": (probabilities.sum(-1), top_k / num_experts, 1.0),
        "margin": (margins, 0.0, float(margins.max())),
        "entropy": (entropies / math.log(2), bits, bits),
    }
    means = {
        name: mean_over_documents(values, labels, chance, largest, MINIMUM_TOKENS, rounds, seed)
        for name, (values, chance, largest) in tables.items()
    }
    levels = torch.tensor(LEVELS, dtype=torch.float64)
    quantiles = {name: torch.quantile(values.double(), levels, dim=1).T for name, (values, *_) in tables.items()}
    return Confidence(**means, quantiles=quantiles)
