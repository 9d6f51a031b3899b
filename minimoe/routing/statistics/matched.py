"""Matched tokens: whether two domains still differ when the same token ids are compared.

English and Chinese use different tokens, so the routing would differ even if it depended on the token id alone. Here
each token id that occurs in both domains has the same weight in both; a remaining difference is due to the context.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from minimoe.errors import BadArgument
from minimoe.routing.statistics.counting import check_experts, check_labels, compact, indicator
from minimoe.routing.statistics.domains import Distance, distance_of, jensen_shannon, unknown_distance
from minimoe.routing.statistics.resampling import bootstrap_weights


@dataclass(frozen=True)
class MatchedTokens:
    """The distance of two domains on their common token ids.

    distance (layer), as in `domain_distance`; token_ids (id), the ids in both domains; weights (id) float64, the weight
    of each id in both domains, sum 1; frequencies (2, layer, expert) float64 of the matched domains, each with sum k.
    """

    distance: Distance
    token_ids: Tensor
    weights: Tensor
    frequencies: Tensor


def matched_tokens(
    experts: Tensor,
    num_experts: int,
    token_ids: Tensor,
    domains: Tensor,
    documents: Tensor,
    first: int,
    second: int,
    rounds: int = 200,
    seed: int = 0,
) -> MatchedTokens:
    """Jensen-Shannon divergence (bits) of two domains in each layer, from the token ids that occur in both.

    f_D(e) = sum over ids x of w(x) N(x in D selects e) / N(x in D), with w(x) proportional to min(N(x in A), N(x in
    B)). w is the same in both domains, so different frequencies of an id cannot cause a difference; w follows the
    smaller count, so an id with a single occurrence in one domain has little weight.

    Permuting documents between the domains would give too low a chance value: mixed domains share far more tokens, so
    their noise is smaller. A wild cluster bootstrap is used instead (Cameron, Gelbach and Miller 2008): every token is
    the mean of its id in both domains plus a residual, all residuals of a document keep or change their sign together,
    at random, and the distance is measured again. Over `rounds`, `chance` is the mean and the band the central 95 %.
    n counts documents with a matched token in the smaller domain, at least 20. Without common ids, the distance, the
    frequencies and n are 0, and there are no ids.
    """
    if first == second:
        raise BadArgument(f"first and second are both domain {first}: expected two different domains.")
    check_experts(experts, num_experts)
    token_ids = check_labels("token_ids", token_ids, experts)
    domains, documents = check_labels("domains", domains, experts), check_labels("documents", documents, experts)
    known = (token_ids >= 0) & (documents >= 0)
    sides = [known & (domains == domain) for domain in (first, second)]
    ids = token_ids[sides[0]].unique()
    ids = ids[torch.isin(ids, token_ids[sides[1]].unique())]
    kept = ((sides[0] | sides[1]) & torch.isin(token_ids, ids)).nonzero().flatten()
    layers = len(experts)
    if len(kept) == 0:
        nothing = torch.zeros(2, layers, num_experts, dtype=torch.float64)
        return MatchedTokens(unknown_distance(nothing[0, :, 0], 0), ids, torch.zeros(0, dtype=torch.float64), nothing)
    experts, of_id = experts[:, kept], compact(token_ids[kept], ids)
    rows = documents[kept].unique(return_inverse=True)[1]
    labels = torch.zeros(int(rows.max()) + 1, dtype=torch.int64)
    labels[rows] = (domains[kept] == second).long()

    unit_weights = torch.ones(1, len(labels))
    observed, weights = token_weights(labels, unit_weights, rows, of_id, len(ids))
    n = int(torch.bincount(labels, minlength=2).min())
    signs = random_signs(len(labels), rounds, seed)
    repeats = bootstrap_weights(labels, rounds, seed)
    resampled = token_weights(labels, repeats, rows, of_id, len(ids))[0]
    times = torch.bincount(of_id, minlength=len(ids)).float()
    # Residuals from a sample mean are too small by the factor sqrt((n - 1) / n)
    flipped = observed * signs[:, rows] * (times / (times - 1)).sqrt()[of_id]
    offsets = torch.zeros(2, rounds, len(ids)).index_add_(2, of_id, flipped)
    distances = torch.empty(1 + 2 * rounds, layers, dtype=torch.float64)
    frequencies = torch.empty(2, layers, num_experts, dtype=torch.float64)
    for layer, chosen in enumerate(experts):
        selected = indicator(chosen, num_experts)
        means = torch.zeros(len(ids), num_experts).index_add_(0, of_id, selected) / times[:, None]
        null = weights @ means + flipped @ selected - offsets @ means
        sums = torch.cat([observed @ selected, null.clamp(min=0), resampled @ selected], dim=1).double()
        distances[:, layer] = jensen_shannon(sums[0], sums[1])
        frequencies[:, layer] = sums[:, 0]
    distance = unknown_distance(distances[0], n)
    if n >= 2:
        distance = distance_of(distances[0], distances[1 : 1 + rounds], distances[1 + rounds :], n)
    return MatchedTokens(distance, ids, weights[0].double(), frequencies)


def random_signs(documents: int, rounds: int, seed: int) -> Tensor:
    """(round, document) float32: 1 or -1 with equal probability."""
    return torch.randint(0, 2, (rounds, documents), generator=torch.Generator().manual_seed(seed)).float() * 2 - 1


def token_weights(labels: Tensor, repeats: Tensor, rows: Tensor, of_id: Tensor, ids: int) -> tuple[Tensor, Tensor]:
    """The weight of each token in its domain, (2, round, token), and the weight w of each id, (round, id).

    labels (document), 0 or 1 for the domain; repeats (round, document), how often a document is drawn; rows and of_id
    (token), document and id of each token.
    """
    side = torch.stack([labels == 0, labels == 1])[:, None] * repeats
    present = side[:, :, rows]
    counts = torch.zeros(*present.shape[:2], ids).index_add_(2, of_id, present)
    smaller = counts.amin(0)
    weights = smaller / smaller.sum(1, keepdim=True).clamp(min=1)
    return present * (weights / counts.clamp(min=1))[:, :, of_id], weights
