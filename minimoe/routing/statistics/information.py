"""Information: how much of the choice of experts does the token alone tell, and how much its surroundings?"""

import torch
from torch import Tensor

from minimoe.routing.statistics.chance import Estimate
from minimoe.routing.statistics.counting import check_experts, check_labels, compact
from minimoe.routing.statistics.load import entropy_of
from minimoe.routing.statistics.paths import mutual_information
from minimoe.routing.statistics.resampling import bootstrap_weights, interval, permuted_labels
from minimoe.routing.statistics.vocabulary import frequent_ids, id_counts

MINIMUM_TOKENS = 2048
OCCURRENCES = 20


def token_information(
    experts: Tensor,
    num_experts: int,
    token_ids: Tensor,
    documents: Tensor,
    occurrences: int = OCCURRENCES,
    rounds: int = 20,
    seed: int = 0,
) -> Estimate:
    """(layer): I(E; X) / H(E), the part of the uncertainty about a random slot's expert that the token id removes.

    Context-independent routing (OpenMoE, arXiv 2402.01739) would be high here. Only ids with at least `occurrences`.
    Plug-in information is far above 0 by chance, so the mean over `rounds` is subtracted, in which the choices of each
    document are turned against its tokens by a random number of places: documents stay whole, and so do runs of
    similar choices, but token and choice no longer belong together. Chance 0 after that; a little below 0 is possible.
    The ceiling is 1 - log k / H(E) (0.57 for 8 of 128 at even load), not 1, since a slot is drawn from k that one
    token selects.

    Interval: bootstrap over documents; with a single document -1..1. n counts tokens of frequent ids, at least 2,048.
    No frequent id, or a layer with one expert only: 0.
    """
    check_experts(experts, num_experts)
    token_ids, documents = (
        check_labels("token_ids", token_ids, experts),
        check_labels("documents", documents, experts),
    )
    ids = frequent_ids(token_ids, occurrences)
    places = compact(token_ids, ids)
    rows = documents.unique(return_inverse=True)[1]
    generator = torch.Generator().manual_seed(seed)
    turned = [rotation(rows, generator) for _ in range(rounds)]
    return corrected(
        experts, num_experts, places, len(ids), None, [places[turn] for turn in turned], rows, rounds, seed
    )


def context_information(
    experts: Tensor,
    num_experts: int,
    token_ids: Tensor,
    context: Tensor,
    documents: Tensor,
    occurrences: int = OCCURRENCES,
    rounds: int = 20,
    seed: int = 0,
    of_documents: bool = False,
) -> Estimate:
    """(layer): I(E; C given X) / H(E), what a context label C adds once the token id X is known.

    context (token): the previous token id, or the domain; -1 for none. Corrected as `token_information`, by labels
    dealt anew: with `of_documents` (C is one label a document, such as the domain) among the documents, otherwise
    among the occurrences of the same id. The latter removes the plug-in bias only: what documents have in common
    counts as context. Chance 0. Interval, n, minimum and edge cases as `token_information`.
    """
    check_experts(experts, num_experts)
    token_ids, context = check_labels("token_ids", token_ids, experts), check_labels("context", context, experts)
    documents = check_labels("documents", documents, experts)
    known = torch.where(context >= 0, token_ids, -1)
    ids = frequent_ids(known, occurrences)
    places = compact(known, ids)
    labels = torch.where(context >= 0, context, 0).unique(return_inverse=True)[1]
    rows = documents.unique(return_inverse=True)[1]
    if of_documents:
        owned = torch.zeros(int(rows.max()) + 1, dtype=torch.int64)
        owned[rows[context >= 0]] = labels[context >= 0]
        dealt = [part[rows] for part in permuted_labels(owned, rounds, seed)]
    else:
        generator = torch.Generator().manual_seed(seed)
        dealt = [labels[within(places, generator)] for _ in range(rounds)]
    return corrected(experts, num_experts, places, len(ids), labels, dealt, rows, rounds, seed)


def rotation(rows: Tensor, generator: torch.Generator) -> Tensor:
    """(token) int64: a new place for every token of each document, turned round by a random number of places."""
    order = rows.argsort(stable=True)
    sizes = torch.bincount(rows)
    starts = sizes.cumsum(0) - sizes
    offsets = (torch.rand(len(sizes), generator=generator) * (sizes - 1).clamp(min=0)).long() + 1
    ranks = torch.arange(len(rows)) - starts[rows[order]]
    turned = (ranks + offsets[rows[order]]) % sizes[rows[order]]
    new = torch.empty_like(rows)
    new[order] = order[starts[rows[order]] + turned]
    return new


def within(groups: Tensor, generator: torch.Generator) -> Tensor:
    """(token) int64: a random order in which every token is replaced by one of its own group."""
    order = groups.argsort(stable=True)
    shuffled = torch.rand(len(groups), generator=generator).argsort()
    shuffled = shuffled[groups[shuffled].argsort(stable=True)]
    new = torch.empty_like(groups)
    new[order] = shuffled
    return new


def corrected(
    experts: Tensor,
    num_experts: int,
    places: Tensor,
    ids: int,
    context: Tensor | None,
    dealt: list[Tensor],
    rows: Tensor,
    rounds: int,
    seed: int,
) -> Estimate:
    """Plug-in information of each layer minus its mean over `dealt` (places, or contexts if there are any), over
    H(E)."""
    layers, n = len(experts), int((places >= 0).sum())
    value = torch.zeros(layers, dtype=torch.float64)
    low, high = torch.full_like(value, -1.0), torch.ones_like(value)
    if n == 0:
        return Estimate(value, 0.0, low, high, 0, MINIMUM_TOKENS)
    inside = places >= 0
    cells, alternatives = places, dealt
    if context is not None:
        kinds = int(context.max()) + 1
        combined = [torch.where(inside, places * kinds + each, -1) for each in (context, *dealt)]
        used = torch.cat(combined)[torch.cat(combined) >= 0].unique()
        cells, *alternatives = [compact(each, used) for each in combined]
        ids_of_cells = used // kinds
        groups = len(used)
    else:
        groups, ids_of_cells = ids, torch.zeros(ids, dtype=torch.int64)

    def information(counts: Tensor) -> Tensor:
        """() nats of (cell, expert): I(cell; expert), less I(id; expert) if the cells are (id, context)."""
        if context is None:
            return mutual_information(counts)
        # this part is the same however contexts are dealt; in a bootstrap it is not
        merged = counts.new_zeros(ids, num_experts).index_add_(0, ids_of_cells, counts)
        return mutual_information(counts) - mutual_information(merged)

    strata = torch.zeros(int(rows.max()) + 1, dtype=torch.int64)
    repeats = bootstrap_weights(strata, rounds, seed)[:, rows] if len(strata) > 1 else None
    for layer, chosen in enumerate(experts):
        observed = id_counts(chosen, num_experts, cells, groups)
        entropy = float(entropy_of(observed.sum(0)))
        if entropy == 0:
            low[layer] = high[layer] = 0.0
            continue
        null = [information(id_counts(chosen, num_experts, each, groups)) for each in alternatives]
        value[layer] = (information(observed) - torch.stack(null).mean()) / entropy
        if repeats is not None:
            samples = [information(id_counts(chosen, num_experts, cells, groups, times)) for times in repeats]
            low[layer], high[layer] = interval(torch.stack(samples) / entropy, value[layer])
    return Estimate(value, 0.0, low, high, n, MINIMUM_TOKENS)
