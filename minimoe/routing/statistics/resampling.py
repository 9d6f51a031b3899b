"""Other documents: the bootstrap and the permutation, both over whole documents, both fixed by a seed.

Tokens of one document are alike (a topic, a name, a habit). Resampling tokens would take them for independent and
call noise a finding; here a document stays in one piece.
"""

from collections.abc import Callable

import torch
from torch import Tensor

MINIMUM_DOCUMENTS = 20  # a domain with fewer documents is not compared: its interval rests on too few texts


def bootstrap_weights(strata: Tensor, rounds: int, seed: int) -> Tensor:
    """(round, document) float32: how often each document is drawn, with replacement, within its own stratum.

    strata: (document) int64; every round draws as many documents of each stratum as there are. Efron 1979.
    """
    generator = torch.Generator().manual_seed(seed)
    weights = torch.zeros(rounds, len(strata))
    for stratum in strata.unique():
        members = (strata == stratum).nonzero().flatten()
        drawn = members[torch.randint(len(members), (rounds, len(members)), generator=generator)]
        weights.scatter_add_(1, drawn, torch.ones(1, 1).expand_as(drawn))
    return weights


def permuted_labels(labels: Tensor, rounds: int, seed: int) -> Tensor:
    """(round, document) int64: the labels of the documents, dealt anew each round."""
    generator = torch.Generator().manual_seed(seed)
    return labels[torch.rand(rounds, len(labels), generator=generator).argsort(dim=1)]


def middle(samples: Tensor, share: float = 0.95) -> Tensor:
    """(2, ...) float64: the edges of the middle part of samples (round, ...), as `torch.quantile` has them."""
    ordered = samples.flatten(1).T.contiguous().sort(dim=1).values if samples.dim() > 1 else samples.sort().values[None]
    places = torch.tensor([(1 - share) / 2, (1 + share) / 2], dtype=torch.float64) * (ordered.shape[1] - 1)
    below, part = places.long(), places - places.floor()
    above = (below + 1).clamp(max=ordered.shape[1] - 1)
    edges = ordered[:, below].double() * (1 - part) + ordered[:, above].double() * part
    return edges.T.reshape(2, *samples.shape[1:])


def interval(samples: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    """The middle 95 % of samples (round, ...), moved so that their mean lies on `value` (...).

    Moved, since a resample repeats documents and so doubles the bias of entropies, maxima and divergences. What is left
    says how far the same statistic of equally many other documents would scatter.
    """
    edges = middle(samples)
    shift = value - samples.mean(0, dtype=torch.float64)
    return torch.minimum(edges[0] + shift, value), torch.maximum(edges[1] + shift, value)


def bootstrap(
    counts: Tensor, statistic: Callable[[Tensor], Tensor], value: Tensor, strata: Tensor, rounds: int, seed: int
) -> tuple[Tensor, Tensor]:
    """95 % interval of statistic(sum over documents of counts), counts (document, ...).

    statistic takes (round, ...) sums, float64, and gives (round, shape of value).
    """
    weights = bootstrap_weights(strata, rounds, seed)
    flat = counts.reshape(len(counts), -1).float()
    pieces = [statistic((part @ flat).double().reshape(-1, *counts.shape[1:])) for part in weights.split(25)]
    return interval(torch.cat(pieces), value)
