"""Matched tokens: do two domains still differ when only the very same tokens are compared?

English and Chinese use different tokens, so a router that looked at nothing but the token would tell them apart. Here
each token id that occurs in both domains counts equally on both sides; what is left is the context.
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
    """distance (layer), as `domain_distance`; token_ids (id) that occur in both; weights (id) float64, sum 1, the part
    of each in both domains; frequencies (2, layer, expert) float64 of the matched domains, each sums to k."""

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
    """Jensen-Shannon divergence (bits) a layer of two domains, from token ids that both contain.

    f_D(e) = sum over ids x of w(x) N(x in D selects e) / N(x in D), with w(x) proportional to min(N(x in A), N(x in
    B)). w is the same in both domains, so a difference cannot come from one of them using an id more often; the
    smaller count sets it, so an id with a single example on one side weighs little.

    Dealing documents to the domains would be no fair chance: mixed documents match far more tokens, so their noise is
    smaller. Instead (wild cluster bootstrap, Cameron, Gelbach and Miller 2008) every token is taken as the mean of its
    id in both domains plus a residual, the residuals of a document all keep or all change their sign, at random, and
    the distance is measured again: `chance` is its mean, the band its middle 95 %, over `rounds`. n counts documents
    with a matched token in the smaller domain, at least 20. No id in common: distance 0, no ids, frequencies 0, n 0.
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

    once = torch.ones(1, len(labels))
    plain, weights = token_weights(labels, once, rows, of_id, len(ids))
    n = int(torch.bincount(labels, minlength=2).min())
    signs = random_signs(len(labels), rounds, seed)
    repeats = bootstrap_weights(labels, rounds, seed)
    resampled = token_weights(labels, repeats, rows, of_id, len(ids))[0]
    times = torch.bincount(of_id, minlength=len(ids)).float()
    # the mean of an id lies nearer to its own tokens than the truth does: residuals are too small by this
    flipped = plain * signs[:, rows] * (times / (times - 1)).sqrt()[of_id]
    offsets = torch.zeros(2, rounds, len(ids)).index_add_(2, of_id, flipped)
    found = torch.empty(1 + 2 * rounds, layers, dtype=torch.float64)
    frequencies = torch.empty(2, layers, num_experts, dtype=torch.float64)
    for layer, chosen in enumerate(experts):
        selected = indicator(chosen, num_experts)
        means = torch.zeros(len(ids), num_experts).index_add_(0, of_id, selected) / times[:, None]
        null = weights @ means + flipped @ selected - offsets @ means
        sums = torch.cat([plain @ selected, null.clamp(min=0), resampled @ selected], dim=1).double()
        found[:, layer] = jensen_shannon(sums[0], sums[1])
        frequencies[:, layer] = sums[:, 0]
    distance = unknown_distance(found[0], n)
    if n >= 2:
        distance = distance_of(found[0], found[1 : 1 + rounds], found[1 + rounds :], n)
    return MatchedTokens(distance, ids, weights[0].double(), frequencies)


def random_signs(documents: int, rounds: int, seed: int) -> Tensor:
    """(round, document) float32: 1 or -1, equally likely."""
    return torch.randint(0, 2, (rounds, documents), generator=torch.Generator().manual_seed(seed)).float() * 2 - 1


def token_weights(labels: Tensor, repeats: Tensor, rows: Tensor, of_id: Tensor, ids: int) -> tuple[Tensor, Tensor]:
    """(2, round, token) what each token counts in its domain, and (round, id) w, when documents are repeated.

    labels (document) 0 or 1; repeats (round, document); rows and of_id (token): document and id of each token.
    """
    side = torch.stack([labels == 0, labels == 1])[:, None] * repeats
    present = side[:, :, rows]
    counts = torch.zeros(*present.shape[:2], ids).index_add_(2, of_id, present)
    smaller = counts.amin(0)
    weights = smaller / smaller.sum(1, keepdim=True).clamp(min=1)
    return present * (weights / counts.clamp(min=1))[:, :, of_id], weights
