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
from minimoe.routing.statistics.resampling import bootstrap_weights, permuted_labels


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

    Chance and band as in `domain_distance`: documents dealt to the two domains anew, w worked out anew each time, over
    the ids that are matched in the true labelling. n counts documents with a matched token in the smaller domain, at
    least 20. No id in common: distance 0, no ids, frequencies 0, n 0.
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

    def loads(dealt: Tensor, repeats: Tensor) -> tuple[Tensor, Tensor]:
        """(2, round, token) what each token counts in its domain, and (round, id) w."""
        side = torch.stack([dealt == 0, dealt == 1]) * repeats  # (2, round, document)
        present = side[:, :, rows].float()
        counts = torch.zeros(*present.shape[:2], len(ids)).index_add_(2, of_id, present)
        smaller = counts.amin(0)
        weights = smaller / smaller.sum(1, keepdim=True).clamp(min=1)
        return present * (weights / counts.clamp(min=1))[:, :, of_id], weights

    once = torch.ones(1, len(labels))
    sizes = torch.bincount(labels, minlength=2)
    plain, weights = loads(labels[None], once)
    pieces = [plain]
    enough = int(sizes.min()) >= 2
    if enough:
        pieces.append(loads(permuted_labels(labels, rounds, seed), once)[0])
        pieces.append(loads(labels[None], bootstrap_weights(labels, rounds, seed))[0])
    table = torch.cat(pieces, dim=1)
    found = torch.empty(table.shape[1], layers, dtype=torch.float64)
    frequencies = torch.empty(2, layers, num_experts, dtype=torch.float64)
    for layer in range(layers):
        sums = (table.flatten(0, 1) @ indicator(experts[layer], num_experts)).double().unflatten(0, table.shape[:2])
        found[:, layer] = jensen_shannon(sums[0], sums[1])
        frequencies[:, layer] = sums[:, 0]
    n = int(sizes.min())
    distance = (
        distance_of(found[0], found[1 : 1 + rounds], found[1 + rounds :], n)
        if enough
        else unknown_distance(found[0], n)
    )
    return MatchedTokens(distance, ids, weights[0].double(), frequencies)
