"""Vocabulary: whether a token id is consistently routed to the same expert."""

import torch
from torch import Tensor

from minimoe.routing.statistics.chance import Estimate, expected_maximum
from minimoe.routing.statistics.counting import check_experts, check_labels, compact, indicator
from minimoe.routing.statistics.resampling import bootstrap_weights, interval

MINIMUM_OCCURRENCES = 50  # of an id; with the usual 10, the largest of 128 shares is 32 % by chance alone
MINIMUM_IDS = 10


def frequent_ids(token_ids: Tensor, occurrences: int) -> Tensor:
    """(id) int64, sorted: the ids >= 0 with at least `occurrences` occurrences."""
    ids, times = token_ids[token_ids >= 0].unique(return_counts=True)
    return ids[times >= occurrences]


def id_counts(experts: Tensor, num_experts: int, id_index: Tensor, ids: int, weights: Tensor | None = None) -> Tensor:
    """(id, expert): number of tokens of each id that selected each expert, int64; float64 with `weights` (token).

    experts: (token, slot) of one layer; id_index: (token) in 0..ids-1, -1 for none.
    """
    inside = id_index >= 0
    index = (id_index[inside, None] * num_experts + experts[inside]).flatten()
    slot_weights = None if weights is None else weights[inside].double().repeat_interleave(experts.shape[1])
    return torch.bincount(index, slot_weights, minlength=ids * num_experts).reshape(ids, num_experts)


def mean_maximum(counts: Tensor, top_k: int) -> Tensor:
    """() float64: mean, over the ids that occur, of the largest VS(e, x), from counts (id, expert)."""
    occurrences = counts.sum(1).double() / top_k
    largest = counts.amax(1) / occurrences.clamp(min=1)
    return largest.sum() / (occurrences > 0).sum().clamp(min=1)


def vocabulary_specialisation(
    experts: Tensor,
    num_experts: int,
    token_ids: Tensor,
    documents: Tensor | None = None,
    occurrences: int = MINIMUM_OCCURRENCES,
    rounds: int = 100,
    seed: int = 0,
) -> Estimate:
    """(layer): mean over ids x of max over e of VS(e, x) = N(x selects e) / N_x (OLMoE, arXiv 2409.02060 section 5).

    token_ids (token) may be the input ids (trace.tokens), the predicted or the true next ids; -1 is ignored. Only ids
    with at least `occurrences` count. Chance is not k/E, because the maximum of E shares is far above it: under uniform
    routing of 8 of 128, an id with 10 occurrences scores 32 %, one with 50 occurrences 17 %. `chance` (layer) is the
    expected maximum for the observed N_x and the layer's own loads f (a busy expert is the maximum for every id, which
    is no effect of vocabulary); subtract it. Interval: bootstrap over documents; 0..1 without documents. n counts ids,
    at least 10. Without frequent ids, value, chance and n are 0.
    """
    check_experts(experts, num_experts)
    token_ids = check_labels("token_ids", token_ids, experts)
    ids = frequent_ids(token_ids, occurrences)
    layers = len(experts)
    value, chance = torch.zeros(layers, dtype=torch.float64), torch.zeros(layers, dtype=torch.float64)
    low, high = torch.zeros_like(value), torch.ones_like(value)
    if len(ids) == 0:
        return Estimate(value, chance, low, high, 0, MINIMUM_IDS, "token ids")
    id_index = compact(token_ids, ids)
    id_occurrences = torch.bincount(id_index[id_index >= 0], minlength=len(ids))
    distinct, multiplicity = id_occurrences.unique(return_counts=True)  # each expected maximum is computed once
    repeats = None
    if documents is not None:
        rows = check_labels("documents", documents, experts).unique(return_inverse=True)[1]
        strata = torch.zeros(int(rows.max()) + 1, dtype=torch.int64)
        repeats = bootstrap_weights(strata, rounds, seed)[:, rows] if len(strata) > 1 else None
    for layer, chosen in enumerate(experts):
        counts = id_counts(chosen, num_experts, id_index, len(ids))
        value[layer] = mean_maximum(counts, experts.shape[2])
        load = indicator(chosen, num_experts).double().mean(0)
        maxima = torch.stack([expected_maximum(int(times), load) / int(times) for times in distinct])
        chance[layer] = (maxima * multiplicity).sum() / len(ids)
        if repeats is not None:
            resampled = (id_counts(chosen, num_experts, id_index, len(ids), weights) for weights in repeats)
            samples = [mean_maximum(sample, experts.shape[2]) for sample in resampled]
            low[layer], high[layer] = interval(torch.stack(samples), value[layer])
    return Estimate(value, chance, low.clamp(min=0), high.clamp(max=1), len(ids), MINIMUM_IDS, "token ids")
