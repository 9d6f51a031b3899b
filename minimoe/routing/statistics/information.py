"""Information: how much of the expert selection is determined by the token id, and how much by its context."""

import torch
from torch import Tensor

from minimoe.routing.statistics.chance import Estimate
from minimoe.routing.statistics.counting import check_experts, check_labels, compact
from minimoe.routing.statistics.load import entropy_of
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
    """(layer): I(E; X) / H(E), the share of the entropy of a random slot's expert that the token id explains.

    It is high for context-independent routing (OpenMoE, arXiv 2402.01739). Only ids with at least `occurrences` count.
    Plug-in information is far above 0 by chance, so its mean over `rounds` random rotations is subtracted: in each,
    the selections of every document are shifted cyclically against its tokens by a random offset. This keeps documents
    and runs of similar selections intact, but separates tokens from their selections. Chance is 0 after the
    correction; slightly negative values are possible. The maximum is 1 - log k / H(E) (0.57 for 8 of 128 at even load),
    not 1, since one token selects k experts.

    Interval: bootstrap over documents; -1..1 with a single document. n counts tokens of frequent ids, at least 2,048.
    The value is 0 without frequent ids, and in a layer that uses a single expert.
    """
    check_experts(experts, num_experts)
    token_ids = check_labels("token_ids", token_ids, experts)
    documents = check_labels("documents", documents, experts)
    ids = frequent_ids(token_ids, occurrences)
    id_index = compact(token_ids, ids)
    rows = documents.unique(return_inverse=True)[1]
    generator = torch.Generator().manual_seed(seed)
    rotated = [id_index[rotation(rows, generator)] for _ in range(rounds)]
    return corrected_information(experts, num_experts, id_index, len(ids), None, rotated, rows, rounds, seed)


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
    """(layer): I(E; C given X) / H(E), the share explained by a context label C beyond the token id X.

    context (token): the previous token id, or the domain; -1 for none. Corrected as in `token_information`, but by
    permuted labels: with `of_documents` (C is one label per document, such as the domain) labels are permuted among
    documents, otherwise among the occurrences of the same id. The latter removes only the plug-in bias, so similarity
    within documents counts as context. Chance 0. Interval, n, minimum and edge cases as in `token_information`.
    """
    check_experts(experts, num_experts)
    token_ids, context = check_labels("token_ids", token_ids, experts), check_labels("context", context, experts)
    documents = check_labels("documents", documents, experts)
    known = torch.where(context >= 0, token_ids, -1)
    ids = frequent_ids(known, occurrences)
    id_index = compact(known, ids)
    labels = torch.where(context >= 0, context, 0).unique(return_inverse=True)[1]
    rows = documents.unique(return_inverse=True)[1]
    if of_documents:
        document_labels = torch.zeros(int(rows.max()) + 1, dtype=torch.int64)
        document_labels[rows[context >= 0]] = labels[context >= 0]
        permuted = [round_labels[rows] for round_labels in permuted_labels(document_labels, rounds, seed)]
    else:
        generator = torch.Generator().manual_seed(seed)
        permuted = [labels[shuffle_within(id_index, generator)] for _ in range(rounds)]
    return corrected_information(experts, num_experts, id_index, len(ids), labels, permuted, rows, rounds, seed)


def rotation(rows: Tensor, generator: torch.Generator) -> Tensor:
    """(token) int64: a permutation that shifts the tokens of each document cyclically by a random offset, not 0.

    rows: (token), the document of each token.
    """
    order = rows.argsort(stable=True)
    sizes = torch.bincount(rows)
    starts = sizes.cumsum(0) - sizes
    offsets = (torch.rand(len(sizes), generator=generator) * (sizes - 1).clamp(min=0)).long() + 1
    ranks = torch.arange(len(rows)) - starts[rows[order]]
    shifted = (ranks + offsets[rows[order]]) % sizes[rows[order]]
    permutation = torch.empty_like(rows)
    permutation[order] = order[starts[rows[order]] + shifted]
    return permutation


def shuffle_within(groups: Tensor, generator: torch.Generator) -> Tensor:
    """(token) int64: a random permutation that maps every token to one of its own group, groups (token)."""
    order = groups.argsort(stable=True)
    shuffled = torch.rand(len(groups), generator=generator).argsort()
    shuffled = shuffled[groups[shuffled].argsort(stable=True)]
    permutation = torch.empty_like(groups)
    permutation[order] = shuffled
    return permutation


def corrected_information(
    experts: Tensor,
    num_experts: int,
    id_index: Tensor,
    ids: int,
    context: Tensor | None,
    permuted: list[Tensor],
    rows: Tensor,
    rounds: int,
    seed: int,
) -> Estimate:
    """Plug-in information of each layer minus its mean over `permuted`, divided by H(E).

    id_index: (token) index of the token id in 0..ids-1, -1 for none; context: (token) labels, or None for the
    information of the id alone; permuted: one id_index, or one context if it is given, per round; rows: (token) the
    document of each token.
    """
    layers, n = len(experts), int((id_index >= 0).sum())
    value = torch.zeros(layers, dtype=torch.float64)
    low, high = torch.full_like(value, -1.0), torch.ones_like(value)
    if n == 0:
        return Estimate(value, 0.0, low, high, 0, MINIMUM_TOKENS)
    inside = id_index >= 0
    cells, permuted_cells = id_index, permuted
    if context is not None:
        kinds = int(context.max()) + 1
        combined = [torch.where(inside, id_index * kinds + labels, -1) for labels in (context, *permuted)]
        used = torch.cat(combined)[torch.cat(combined) >= 0].unique()
        cells, *permuted_cells = [compact(pairs, used) for pairs in combined]
        ids_of_cells = used // kinds
        groups = len(used)
    else:
        groups, ids_of_cells = ids, torch.zeros(ids, dtype=torch.int64)

    def information(counts: Tensor) -> Tensor:
        """() nats from counts (cell, expert): I(cell; expert), minus I(id; expert) if cells are (id, context) pairs."""
        if context is None:
            return mutual_information(counts)
        # I(id; expert) is the same for all permutations of the context, but not for bootstrap samples
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
        null = [information(id_counts(chosen, num_experts, cell, groups)) for cell in permuted_cells]
        value[layer] = (information(observed) - torch.stack(null).mean()) / entropy
        if repeats is not None:
            samples = [information(id_counts(chosen, num_experts, cells, groups, times)) for times in repeats]
            low[layer], high[layer] = interval(torch.stack(samples) / entropy, value[layer])
    return Estimate(value, 0.0, low, high, n, MINIMUM_TOKENS)


def mutual_information(counts: Tensor) -> Tensor:
    """(...) nats: mutual information of row and column, from joint counts (..., row, column); 0 for an empty table."""
    return (entropy_of(counts.sum(-1)) + entropy_of(counts.sum(-2)) - entropy_of(counts.flatten(-2))).clamp(min=0)
