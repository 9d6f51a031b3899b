"""Vocabulary: does one and the same token keep going to one and the same expert?"""

import torch
from torch import Tensor

from minimoe.routing.statistics.chance import Estimate, expected_maximum
from minimoe.routing.statistics.counting import check_experts, check_labels, compact, indicator
from minimoe.routing.statistics.resampling import bootstrap_weights, interval

MINIMUM_OCCURRENCES = 50  # of an id; at the usual 10 the largest of 128 shares is 32 % by chance alone
MINIMUM_IDS = 10


def frequent_ids(token_ids: Tensor, occurrences: int) -> Tensor:
    """(id) int64, sorted: the ids >= 0 that occur at least so often."""
    ids, times = token_ids[token_ids >= 0].unique(return_counts=True)
    return ids[times >= occurrences]


def id_counts(experts: Tensor, num_experts: int, places: Tensor, ids: int, weights: Tensor | None = None) -> Tensor:
    """(id, expert): tokens of each id that selected each expert, int64, or float64 if tokens count `weights` (token).

    experts: (token, slot) of one layer; places: (token), -1 for none.
    """
    inside = places >= 0
    index = (places[inside, None] * num_experts + experts[inside]).flatten()
    counted = None if weights is None else weights[inside].double().repeat_interleave(experts.shape[1])
    return torch.bincount(index, counted, minlength=ids * num_experts).reshape(ids, num_experts)


def mean_maximum(counts: Tensor, top_k: int) -> Tensor:
    """() float64: mean over the ids that occur of the largest VS(e, x), of counts (id, expert)."""
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

    token_ids (token) may be the input ids (trace.tokens), the predicted or the true next ids; -1 is left out. Only ids
    with at least `occurrences` count. Chance is not k/E: the largest of E shares is far above it. An id seen 10 times
    scores 32 %, 50 times 17 %, under uniform routing of 8 of 128. `chance` (layer) is that expected maximum for the
    N_x at hand and the layer's own loads f (a busy expert is the largest for every id, which says nothing about
    vocabulary); subtract it. Interval: bootstrap over documents; without them 0..1. n counts ids, at least 10. No
    frequent id: value = chance = 0, n 0.
    """
    check_experts(experts, num_experts)
    token_ids = check_labels("token_ids", token_ids, experts)
    ids = frequent_ids(token_ids, occurrences)
    layers = len(experts)
    value, chance = torch.zeros(layers, dtype=torch.float64), torch.zeros(layers, dtype=torch.float64)
    low, high = torch.zeros_like(value), torch.ones_like(value)
    if len(ids) == 0:
        return Estimate(value, chance, low, high, 0, MINIMUM_IDS, "token ids")
    places = compact(token_ids, ids)
    times = torch.bincount(places[places >= 0], minlength=len(ids))
    kinds, ids_of_kind = times.unique(return_counts=True)
    repeats = None
    if documents is not None:
        rows = check_labels("documents", documents, experts).unique(return_inverse=True)[1]
        strata = torch.zeros(int(rows.max()) + 1, dtype=torch.int64)
        repeats = bootstrap_weights(strata, rounds, seed)[:, rows] if len(strata) > 1 else None
    for layer, chosen in enumerate(experts):
        counts = id_counts(chosen, num_experts, places, len(ids))
        value[layer] = mean_maximum(counts, experts.shape[2])
        load = indicator(chosen, num_experts).double().mean(0)
        maxima = torch.stack([expected_maximum(int(kind), load) / int(kind) for kind in kinds])
        chance[layer] = (maxima * ids_of_kind).sum() / len(ids)
        if repeats is not None:
            drawn = (id_counts(chosen, num_experts, places, len(ids), times_drawn) for times_drawn in repeats)
            samples = [mean_maximum(each, experts.shape[2]) for each in drawn]
            low[layer], high[layer] = interval(torch.stack(samples), value[layer])
    return Estimate(value, chance, low.clamp(min=0), high.clamp(max=1), len(ids), MINIMUM_IDS, "token ids")


def vocabulary_shares(experts: Tensor, num_experts: int, token_ids: Tensor, token_id: int) -> Estimate:
    """(layer, expert): VS(e, x) of one id x, for the question "where does `def` go?". Chance k/E for one expert named
    before.

    For the largest of E experts found afterwards, compare with `expected_maximum(n, f) / n` instead. Interval:
    Wilson's, as if the occurrences were independent, so too narrow where they share a document. n counts them, at
    least 50; 0: 0..1.
    """
    check_experts(experts, num_experts)
    here = check_labels("token_ids", token_ids, experts) == token_id
    n = int(here.sum())
    value = torch.zeros(len(experts), num_experts, dtype=torch.float64)
    if n == 0:
        wide = torch.zeros_like(value), torch.ones_like(value)
        return Estimate(value, experts.shape[2] / num_experts, *wide, 0, MINIMUM_OCCURRENCES)
    value = torch.stack([indicator(chosen[here], num_experts).double().mean(0) for chosen in experts])
    square = 1.96**2 / n
    centre = (value + square / 2) / (1 + square)
    half = ((value * (1 - value) + square / 4) * square).sqrt() / (1 + square)
    low, high = (centre - half).clamp(0, 1), (centre + half).clamp(0, 1)
    return Estimate(value, experts.shape[2] / num_experts, low, high, n, MINIMUM_OCCURRENCES)
