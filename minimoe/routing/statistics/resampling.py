"""Bootstrap and permutation over whole documents, both determined by a seed.

Tokens of one document are similar (topic, names, style). Resampling single tokens would treat them as independent and
make noise look significant, so documents are never split.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from minimoe.errors import BadArgument
from minimoe.routing.statistics.chance import Estimate

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


def resampled_means(values: Tensor, documents: Tensor, rounds: int, seed: int) -> Tensor | None:
    """(round, layer) float64: means of values (layer, token) over resampled documents (token).

    None for fewer than two documents, whose variation cannot be estimated.
    """
    ids, rows = documents.unique(return_inverse=True)
    if len(ids) < 2:
        return None
    sums = torch.zeros(len(ids), len(values) + 1, dtype=torch.float64)  # the last column counts tokens
    ones = torch.ones(1, values.shape[1], dtype=torch.float64)
    sums.index_add_(0, rows, torch.cat([values.double(), ones]).T.contiguous())
    drawn = bootstrap_weights(torch.zeros(len(ids), dtype=torch.int64), rounds, seed).double() @ sums
    return drawn[:, :-1] / drawn[:, -1:]


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
    """(layer): mean of values (layer, token), with a bootstrap interval over documents (token).

    least, largest: the possible range, used as the interval if there is only one document. Without tokens the value is
    `least` and n is 0. Raises BadArgument for NaN.
    """
    if bool(values.isnan().any()):
        layer, token = values.isnan().nonzero()[0].tolist()
        raise BadArgument(f"values contains NaN in row {layer}, token {token}, expected numbers. Exclude that token.")
    n = values.shape[1]
    value = values.double().mean(1) if n else torch.full((len(values),), least, dtype=torch.float64)
    low, high = torch.full_like(value, least), torch.full_like(value, largest)
    if (means := resampled_means(values, documents, rounds, seed)) is not None:
        low, high = interval(means, value)
    low, high = torch.minimum(low.clamp(min=least), value), torch.maximum(high.clamp(max=largest), value)
    return Estimate(value, chance, low, high, n, minimum, unit)
