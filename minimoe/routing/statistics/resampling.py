"""Bootstrap and permutation over whole documents, both determined by a seed.

Tokens of one document are similar (topic, names, style). Resampling single tokens would treat them as independent and
make noise look significant, so documents are never split.
"""

from collections.abc import Callable

import torch
from torch import Tensor

MINIMUM_DOCUMENTS = 20  # a domain with fewer documents is not compared, since its interval would be unreliable


def bootstrap_weights(strata: Tensor, rounds: int, seed: int) -> Tensor:
    """(round, document) float32: how often each document is drawn, with replacement, within its own stratum.

    strata: (document) int64; every round draws as many documents of each stratum as it contains. Efron 1979.
    """
    generator = torch.Generator().manual_seed(seed)
    weights = torch.zeros(rounds, len(strata))
    for stratum in strata.unique():
        members = (strata == stratum).nonzero().flatten()
        drawn = members[torch.randint(len(members), (rounds, len(members)), generator=generator)]
        weights.scatter_add_(1, drawn, torch.ones(1, 1).expand_as(drawn))
    return weights


def permuted_labels(labels: Tensor, rounds: int, seed: int) -> Tensor:
    """(round, document) int64: a random permutation of the document labels in each round."""
    generator = torch.Generator().manual_seed(seed)
    return labels[torch.rand(rounds, len(labels), generator=generator).argsort(dim=1)]


def middle(samples: Tensor, share: float = 0.95) -> Tensor:
    """(2, ...) float64: edges of the central part of samples (round, ...), interpolated as by `torch.quantile`."""
    ordered = samples.flatten(1).T.contiguous().sort(dim=1).values if samples.dim() > 1 else samples.sort().values[None]
    ranks = torch.tensor([(1 - share) / 2, (1 + share) / 2], dtype=torch.float64) * (ordered.shape[1] - 1)
    below, fraction = ranks.long(), ranks - ranks.floor()
    above = (below + 1).clamp(max=ordered.shape[1] - 1)
    edges = ordered[:, below].double() * (1 - fraction) + ordered[:, above].double() * fraction
    return edges.T.reshape(2, *samples.shape[1:])


def interval(samples: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    """The central 95 % of samples (round, ...), shifted so that their mean equals `value` (...).

    The shift is needed because a resample repeats documents, which doubles the bias of entropies, maxima and
    divergences. The result estimates the variation of the statistic over other sets of as many documents.
    """
    edges = middle(samples)
    shift = value - samples.mean(0, dtype=torch.float64)
    return torch.minimum(edges[0] + shift, value), torch.maximum(edges[1] + shift, value)


def bootstrap(
    counts: Tensor, statistic: Callable[[Tensor], Tensor], value: Tensor, strata: Tensor, rounds: int, seed: int
) -> tuple[Tensor, Tensor]:
    """95 % bootstrap interval of statistic(sum over documents of counts), counts (document, ...).

    statistic: (round, ...) sums, float64 -> (round, *shape of value). strata: (document), see `bootstrap_weights`.
    """
    weights = bootstrap_weights(strata, rounds, seed)
    flat = counts.reshape(len(counts), -1).float()
    pieces = [statistic((part @ flat).double().reshape(-1, *counts.shape[1:])) for part in weights.split(25)]
    return interval(torch.cat(pieces), value)
