"""Vocabulary: whether a token id is consistently routed to the same expert."""

from dataclasses import dataclass

import torch
from torch import Tensor

from minimoe.errors import BadArgument
from minimoe.routing.statistics.chance import Estimate, benjamini_hochberg, expected_maximum
from minimoe.routing.statistics.counting import check_experts, check_labels, compact, indicator
from minimoe.routing.statistics.joint import share_test, wilson
from minimoe.routing.statistics.resampling import bootstrap_weights, interval

MINIMUM_OCCURRENCES = 50  # of an id; with the usual 10, the largest of 128 shares is 32 % by chance alone
MINIMUM_IDS = 10
FEWEST_OCCURRENCES = 10  # of an id in the list of an expert


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


@dataclass(frozen=True)
class Preferences:
    """For which token ids the experts of a layer are selected; rows are ids.

    token_ids (id) int64; times, documents (id) int64: occurrences, and the documents they lie in (0 if unknown); used
    (id, expert) int64. lift (id, expert): share of the occurrences that select the expert over its share of all tokens,
    chance 1. q (id, expert): of each expert over all ids.
    """

    token_ids: Tensor
    times: Tensor
    documents: Tensor
    used: Tensor
    lift: Estimate
    q: Tensor


def token_preferences(
    experts: Tensor,
    num_experts: int,
    token_ids: Tensor,
    documents: Tensor | None = None,
    occurrences: int = FEWEST_OCCURRENCES,
) -> Preferences:
    """(id, expert): whether tokens of an id select an expert more or less often than all tokens do.

    experts: (token, slot) of one layer. Test and dispersion: `share_test`, pooled over the ids of an expert. Interval:
    Wilson's, of occurrences divided by the dispersion, and 0..1 / base for an id of one document, which says nothing
    about others. n (id, 1) counts occurrences, at least 50; ids with fewer than `occurrences` are left out, -1 as well.
    The same in web/math/vocabulary.js.
    """
    check_experts(experts[None], num_experts)
    token_ids = check_labels("token_ids", token_ids, experts[None])
    known = torch.full_like(token_ids, -1) if documents is None else check_labels("documents", documents, experts[None])
    ids = frequent_ids(token_ids, occurrences)
    if len(ids) == 0:
        raise BadArgument(f"no token id occurs {occurrences} times; expected at least one. Select more tokens.")
    base = indicator(experts, num_experts).double().mean(0)
    id_index = compact(token_ids, ids)
    used = id_counts(experts, num_experts, id_index, len(ids))
    times = torch.bincount(id_index[id_index >= 0], minlength=len(ids))
    inside = (id_index >= 0) & (known >= 0)
    cells, rows = (known * len(ids) + id_index)[inside].unique(return_inverse=True)  # a cell: an id in a document
    of_id = cells % len(ids)
    part = torch.zeros(len(cells), num_experts, dtype=torch.float64)
    part.index_add_(0, rows, indicator(experts[inside], num_experts).double())
    size = torch.bincount(rows, minlength=len(cells)).double()[:, None]
    squares, mixed, sizes = (
        torch.zeros(len(ids), each.shape[1], dtype=torch.float64).index_add_(0, of_id, each)
        for each in (part**2, part * size, size**2)
    )
    seen = torch.bincount(of_id, minlength=len(ids))
    some = bool((known >= 0).any())
    test = share_test(used, times[:, None], base, (squares, mixed, sizes), seen[:, None] if some else None, (0,))
    q = torch.stack([benjamini_hochberg(p) for p in test.p.T], dim=1)
    safe = base.clamp(min=1e-300)
    low, high = wilson(used, times[:, None].expand_as(used), test.dispersion)
    if some:
        single = (seen < 2)[:, None]
        low, high = torch.where(single, 0.0, low), torch.where(single, 1.0, high)
    value = used.double() / times[:, None] / safe
    lift = Estimate(value, 1.0, low / safe, high / safe, times[:, None], MINIMUM_OCCURRENCES, "occurrences")
    return Preferences(ids, times, seen, used, lift, q)


@dataclass(frozen=True)
class ExpertPreferences:
    """Which experts some tokens select, all (layer, expert): used int64; base, the share of the others; lift; q."""

    used: Tensor
    base: Tensor
    lift: Estimate
    q: Tensor


def expert_preferences(
    experts: Tensor, num_experts: int, chosen: Tensor, documents: Tensor | None = None
) -> ExpertPreferences:
    """(layer, expert): whether the `chosen` tokens select an expert more or less often than the other tokens do.

    experts (layer, token, slot); chosen (token) bool. base is the share of the others, with half a token of uniform
    routing added. Test, interval and minimum as in `token_preferences`; q over all layers and experts.
    """
    check_experts(experts, num_experts)
    if chosen.shape != experts.shape[1:2] or not bool(chosen.any()):
        raise BadArgument(
            f"chosen has shape {tuple(chosen.shape)} and {int(chosen.sum())} tokens: expected one bool for each of "
            f"{experts.shape[1]} tokens, at least one of them True."
        )
    chosen = chosen.bool()
    times, rest = int(chosen.sum()), int((~chosen).sum())
    used = torch.stack([indicator(each[chosen], num_experts).sum(0).double() for each in experts])
    others = torch.stack([indicator(each[~chosen], num_experts).sum(0).double() for each in experts])
    base = ((others + 0.5 * experts.shape[2] / num_experts) / (rest + 0.5)).clamp(max=1)
    known = torch.full((times,), -1) if documents is None else check_labels("documents", documents, experts)[chosen]
    inside = known >= 0
    ids, rows = known[inside].unique(return_inverse=True)
    size = torch.bincount(rows, minlength=len(ids)).double()
    squares, mixed = torch.zeros_like(used), torch.zeros_like(used)
    for layer, each in enumerate(experts[:, chosen][:, inside]):
        part = torch.zeros(len(ids), num_experts, dtype=torch.float64)
        part.index_add_(0, rows, indicator(each, num_experts).double())
        squares[layer], mixed[layer] = (part**2).sum(0), (part * size[:, None]).sum(0)
    seen = torch.tensor(len(ids)) if len(ids) else None
    test = share_test(used, torch.tensor(times), base, (squares, mixed, (size**2).sum()), seen, (0, 1))
    low, high = wilson(used, torch.full_like(used, times), test.dispersion)
    if len(ids) == 1:
        low, high = torch.zeros_like(low), torch.ones_like(high)
    lift = Estimate(used / times / base, 1.0, low / base, high / base, times, MINIMUM_OCCURRENCES, "occurrences")
    return ExpertPreferences(used.long(), base, lift, benjamini_hochberg(test.p))
