"""Natural answers to 12.7 and 12.8: missing controls, and three ways to do without an expert."""

from types import MappingProxyType

import numpy as np
import torch
from einops import rearrange, reduce

from minimoe.model.router import Routing
from minimoe.model.router import route as library_route
from tests.course.natural_answers.collect import Collection

collection = Collection("12.7", "12.8")
wrong, right, ANSWERS = collection.wrong, collection.right, collection.answers

# 12.7 predictions ----------------------------------------------------------------------------------------------------

LAYERS = "expert 17 is for code in layers 0, 2 and 3"
DOCUMENTS = "twice as often in code, p < 0.001 over 900 tokens of 2 files"
MATCHED = "three times as often in code, so it understands code"
MAXIMUM = "40% of the 10 tokens 'zebra' went to one of the 128 experts"
FIXED = "most pairs of experts have a negative PMI, so they avoid each other"
RANDOM = "the loss rises by 0.004 without it, so it matters"
CONTROLS = {
    LAYERS: "layers",
    DOCUMENTS: "documents",
    MATCHED: "matched tokens",
    MAXIMUM: "maximum",
    FIXED: "fixed k",
    RANDOM: "random experts",
}
SENTENCES = tuple(CONTROLS)


def exchanged(*sentences):
    """The right answers, with those to these sentences passed on in a circle."""
    told = [CONTROLS[sentence] for sentence in sentences]
    return CONTROLS | dict(zip(sentences, told[1:] + told[:1], strict=True))


wrong("12.7", "documents and matched tokens exchanged", "documents", "texts", "files", "tokens", "words")(
    exchanged(DOCUMENTS, MATCHED)
)
wrong("12.7", "documents and maximum exchanged", "documents", "maximum", "best", "files", "texts")(
    exchanged(DOCUMENTS, MAXIMUM)
)
wrong("12.7", "maximum and random experts exchanged", "maximum", "best", "random", "other experts")(
    exchanged(MAXIMUM, RANDOM)
)
wrong("12.7", "fixed k and random experts exchanged", "fixed", "places", "random", "other experts", "compete")(
    exchanged(FIXED, RANDOM)
)
wrong("12.7", "fixed k and maximum exchanged", "fixed", "places", "maximum", "best", "compete")(
    exchanged(FIXED, MAXIMUM)
)
wrong("12.7", "layers and matched tokens exchanged", "layer", "words", "tokens", "number")(exchanged(LAYERS, MATCHED))
wrong("12.7", "layers and documents exchanged", "layer", "documents", "files", "texts")(exchanged(LAYERS, DOCUMENTS))
wrong("12.7", "matched tokens and maximum exchanged", "words", "tokens", "maximum", "best")(exchanged(MATCHED, MAXIMUM))
wrong("12.7", "matched tokens and random experts exchanged", "words", "tokens", "random", "other experts")(
    exchanged(MATCHED, RANDOM)
)
wrong("12.7", "three in a circle", "documents", "maximum", "random", "best", "other experts", "files")(
    exchanged(DOCUMENTS, RANDOM, MAXIMUM)
)
wrong("12.7", "two exchanges at once", "documents", "words", "fixed", "random", "places", "files", "other experts")(
    exchanged(DOCUMENTS, MATCHED) | {FIXED: "random experts", RANDOM: "fixed k"}
)
wrong("12.7", "all shifted by one", "layer", "documents", "words", "best", "places", "random")(exchanged(*SENTENCES))
wrong("12.7", "one control twice", "once", "documents", "twice", "files", "words", "tokens")(
    CONTROLS | {MATCHED: "documents"}
)
wrong("12.7", "a sentence is missing", "missing", "lacks", "all", "question", "six")(
    {sentence: control for sentence, control in CONTROLS.items() if sentence != RANDOM}
)

right("12.7", "as asked")(CONTROLS)
right("12.7", "capital letters")({sentence: control.capitalize() for sentence, control in CONTROLS.items()})
right("12.7", "in another order")(dict(reversed(CONTROLS.items())))
right("12.7", "a mapping that is no dict")(MappingProxyType(CONTROLS))
right("12.7", "strings of NumPy")({sentence: np.str_(control) for sentence, control in CONTROLS.items()})
right("12.7", "spaces around")({sentence: f" {control} " for sentence, control in CONTROLS.items()})

# 12.8 without --------------------------------------------------------------------------------------------------------


def masked(logits, expert):
    return logits.index_fill(-1, torch.tensor(expert), float("-inf"))


def drop(logits, top_k, expert, renormalise):
    """The library's choice, with weight 0 for the expert."""
    routing = library_route(logits, top_k, True)
    weights = routing.weights.masked_fill(routing.experts == expert, 0)
    if renormalise:
        weights = weights / weights.sum(dim=-1, keepdim=True)
    return Routing(logits, routing.experts, weights)


def mask(logits, top_k, expert):
    """The library's choice among the other experts."""
    return library_route(masked(logits, expert), top_k, True)._replace(logits=logits)


@wrong("12.8", "the mask comes after the choice", "before", "choice", "next", "ninth", "selected", "replaced")
def _(logits, top_k, expert, mode):
    return drop(logits, top_k, expert, renormalise=mode != "drop")


@wrong("12.8", "masked with zero", "inf", "zero", "score", "still")
def _(logits, top_k, expert, mode):
    if mode != "mask":
        return drop(logits, top_k, expert, mode == "drop_renormalise")
    zeroed = logits.index_fill(-1, torch.tensor(expert), 0.0)
    return library_route(zeroed, top_k, True)._replace(logits=logits)


@wrong("12.8", "mask written into the logits", "in place", "changed", "clone", "copy", "input", "argument")
def _(logits, top_k, expert, mode):
    if mode != "mask":
        return drop(logits, top_k, expert, mode == "drop_renormalise")
    logits[:, expert] = float("-inf")
    return library_route(logits, top_k, True)


@wrong("12.8", "the two kinds of dropping exchanged", "drop", "exchanged", "swapped", "renormalise", "sum", "other way")
def _(logits, top_k, expert, mode):
    return mask(logits, top_k, expert) if mode == "mask" else drop(logits, top_k, expert, mode == "drop")


@wrong("12.8", "weights never renormalised", "renormalise", "sum", "before", "one")
def _(logits, top_k, expert, mode):
    scores = masked(logits, expert) if mode == "mask" else logits
    weights, experts = scores.softmax(dim=-1).topk(top_k, dim=-1)
    if mode != "mask":
        weights = weights.masked_fill(experts == expert, 0)
    return Routing(logits, experts, weights)


@wrong("12.8", "drop starts from weights that do not sum to one", "renormalise", "sum", "before", "as they are", "one")
def _(logits, top_k, expert, mode):
    if mode != "drop":
        return mask(logits, top_k, expert) if mode == "mask" else drop(logits, top_k, expert, True)
    weights, experts = logits.softmax(dim=-1).topk(top_k, dim=-1)
    return Routing(logits, experts, weights.masked_fill(experts == expert, 0))


@wrong("12.8", "the mask leaves the sum of the others", "renormalise", "sum", "mask", "one")
def _(logits, top_k, expert, mode):
    if mode != "mask":
        return drop(logits, top_k, expert, mode == "drop_renormalise")
    probabilities = logits.softmax(dim=-1).index_fill(-1, torch.tensor(expert), 0.0)
    weights, experts = probabilities.topk(top_k, dim=-1)
    return Routing(logits, experts, weights)


@wrong("12.8", "slot number taken for the expert's", "slot", "number", "column", "experts ==")
def _(logits, top_k, expert, mode):
    if mode == "mask":
        return mask(logits, top_k, expert)
    routing = library_route(logits, top_k, True)
    weights = routing.weights.clone()
    weights[:, expert % top_k] = 0
    if mode == "drop_renormalise":
        weights = weights / weights.sum(dim=-1, keepdim=True)
    return routing._replace(weights=weights)


@wrong("12.8", "weights and experts exchanged", "order", "exchanged", "swapped", "weights", "fields")
def _(logits, top_k, expert, mode):
    if mode == "mask":
        found = mask(logits, top_k, expert)
    else:
        found = drop(logits, top_k, expert, mode == "drop_renormalise")
    return Routing(logits, found.weights, found.experts)


@wrong("12.8", "weights stay in float32", "dtype", "cast", "float32", "bfloat16", "logits'")
def _(logits, top_k, expert, mode):
    found = mask(logits.float(), top_k, expert)
    if mode != "mask":
        found = drop(logits.float(), top_k, expert, mode == "drop_renormalise")
    return found._replace(logits=logits)


@wrong("12.8", "softmax in the dtype of the logits", "float32", "precision", "bfloat16", "dtype", "round")
def _(logits, top_k, expert, mode):
    scores = masked(logits, expert) if mode == "mask" else logits
    weights, experts = scores.softmax(dim=-1).topk(top_k, dim=-1)
    weights = weights / weights.sum(dim=-1, keepdim=True)
    if mode != "mask":
        weights = weights.masked_fill(experts == expert, 0)
    if mode == "drop_renormalise":
        weights = weights / weights.sum(dim=-1, keepdim=True)
    return Routing(logits, experts, weights)


@wrong("12.8", "divided by the sum over tokens", "dim", "token", "slot", "axis", "sum")
def _(logits, top_k, expert, mode):
    if mode != "drop_renormalise":
        return mask(logits, top_k, expert) if mode == "mask" else drop(logits, top_k, expert, False)
    routing = drop(logits, top_k, expert, False)
    return routing._replace(weights=routing.weights / routing.weights.sum(dim=0, keepdim=True))


@wrong("12.8", "the last slot is dropped of every token", "last", "did not select", "slot", "stay", "other tokens")
def _(logits, top_k, expert, mode):
    if mode == "mask":
        return mask(logits, top_k, expert)
    routing = library_route(logits, top_k, True)
    weights = routing.weights.clone()
    weights[:, -1] = 0
    if mode == "drop_renormalise":
        weights = weights / weights.sum(dim=-1, keepdim=True)
    return routing._replace(weights=weights)


@wrong("12.8", "a softmax over the selected ones only, of what is left", "drop", "renormalise", "as they are", "sum")
def _(logits, top_k, expert, mode):
    if mode == "mask":
        return mask(logits, top_k, expert)
    routing = library_route(logits, top_k, True)
    left = logits.gather(-1, routing.experts).masked_fill(routing.experts == expert, float("-inf"))
    return routing._replace(weights=left.softmax(dim=-1))


@wrong("12.8", "the slot is cut out", "slot", "shape", "stays", "weight 0", "slots")
def _(logits, top_k, expert, mode):
    if mode == "mask":
        return mask(logits, top_k, expert)
    found = drop(logits, top_k, expert, mode == "drop_renormalise")
    others = (found.experts == expert).long().argsort(dim=-1, stable=True)[:, : top_k - 1]
    return Routing(logits, found.experts.gather(-1, others), found.weights.gather(-1, others))


@wrong("12.8", "a tuple without names", "routing", "tuple", "names", "fields")
def _(logits, top_k, expert, mode):
    routing = mask(logits, top_k, expert) if mode == "mask" else drop(logits, top_k, expert, mode == "drop_renormalise")
    return tuple(routing)


@wrong("12.8", "without the logits", "logits", "missing", "none")
def _(logits, top_k, expert, mode):
    routing = mask(logits, top_k, expert) if mode == "mask" else drop(logits, top_k, expert, mode == "drop_renormalise")
    return routing._replace(logits=None)


@right("12.8", "the library's router twice")
def _(logits, top_k, expert, mode):
    if mode == "mask":
        return mask(logits, top_k, expert)
    return drop(logits, top_k, expert, mode == "drop_renormalise")


@right("12.8", "torch from scratch")
def _(logits, top_k, expert, mode):
    scores = logits.clone()
    if mode == "mask":
        scores[..., expert] = -torch.inf
    weights, experts = torch.topk(
        torch.softmax(scores, -1, dtype=torch.promote_types(scores.dtype, torch.float32)), top_k
    )
    weights /= weights.sum(-1, keepdim=True)
    if mode.startswith("drop"):
        weights *= experts != expert
    if mode == "drop_renormalise":
        weights /= weights.sum(-1, keepdim=True)
    return Routing(logits, experts, weights.to(logits.dtype))


@right("12.8", "k + 1 experts, and one leaves")
def _(logits, top_k, expert, mode):
    if mode != "mask":
        return drop(logits, top_k, expert, mode == "drop_renormalise")
    wide = logits.double().topk(min(top_k + 1, logits.shape[-1]), dim=-1)
    rows = [[each for each in row if each != expert][:top_k] for row in wide.indices.tolist()]
    experts = torch.tensor(rows, dtype=torch.int64).reshape(len(logits), top_k)
    return Routing(logits, experts, logits.double().gather(-1, experts).softmax(dim=-1).to(logits.dtype))


@right("12.8", "einops and where, in double")
def _(logits, top_k, expert, mode):
    wide = logits.double()
    if mode == "mask":
        wide = torch.where(torch.arange(wide.shape[-1]) == expert, torch.full_like(wide, float("-inf")), wide)
    best, experts = wide.topk(top_k)
    weights = best.softmax(dim=-1)
    if mode != "mask":
        weights = torch.where(experts == expert, torch.zeros_like(weights), weights)
    if mode == "drop_renormalise":
        weights = weights / rearrange(reduce(weights, "token slot -> token", "sum"), "token -> token 1")
    return Routing(logits, experts, weights.to(logits.dtype))


@right("12.8", "token by token")
def _(logits, top_k, expert, mode):
    rows = []
    for row in logits.double():
        allowed = [each for each in range(len(row)) if mode != "mask" or each != expert]
        best = sorted(allowed, key=lambda each, row=row: -float(row[each]))[:top_k]
        weights = row[best].softmax(dim=-1)
        if mode != "mask":
            weights = weights * torch.tensor([each != expert for each in best])
        rows.append((torch.tensor(best), weights / weights.sum() if mode == "drop_renormalise" else weights))
    experts, weights = (torch.stack(part) for part in zip(*rows, strict=True))
    return Routing(logits, experts, weights.to(logits.dtype))


@right("12.8", "NumPy round trip")
def _(logits, top_k, expert, mode):
    scores = logits.double().numpy().copy()
    if mode == "mask":
        scores[:, expert] = -np.inf
    experts = np.argsort(-scores, axis=-1, kind="stable")[:, :top_k]
    weights = np.exp(np.take_along_axis(scores, experts, -1) - scores.max(axis=-1, keepdims=True))
    weights = weights / weights.sum(axis=-1, keepdims=True)
    if mode != "mask":
        weights = np.where(experts == expert, 0, weights)
    if mode == "drop_renormalise":
        weights = weights / weights.sum(axis=-1, keepdims=True)
    return Routing(logits, torch.from_numpy(experts), torch.from_numpy(weights).to(logits.dtype))
