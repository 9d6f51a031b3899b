"""Natural answers to 07.6 to 07.9: expected hits, a dispatch mask, an expert left out, and what engines read."""

import math

import torch
from einops import einsum, rearrange

from minimoe.model.router import Routing
from tests.course.natural_answers.collect import Collection

collection = Collection("07.6", "07.7", "07.8", "07.9")
wrong, right, ANSWERS = collection.wrong, collection.right, collection.answers

# 07.6 expected hits ---------------------------------------------------------------------------------------------------

wrong("07.6", "no overlap", "twice", "share", "overlap", "same", "all")(lambda experts, top_k, tokens: tokens * top_k)
wrong("07.6", "no overlap, capped", "twice", "share", "overlap", "same", "none chose")(
    lambda experts, top_k, tokens: min(experts, tokens * top_k)
)
wrong("07.6", "the share, not the number", "share", "number", "experts", "probab")(
    lambda experts, top_k, tokens: 1 - (1 - top_k / experts) ** tokens
)
wrong("07.6", "those that are missed", "not hit", "missed", "none")(
    lambda experts, top_k, tokens: experts * (1 - top_k / experts) ** tokens
)
wrong("07.6", "one choice for each token", "top_k", "one", "each token")(
    lambda experts, top_k, tokens: experts * (1 - (1 - 1 / experts) ** tokens)
)
wrong("07.6", "exponent is top_k", "exponent", "token", "power")(
    lambda experts, top_k, tokens: experts * (1 - (1 - tokens / experts) ** top_k)
)
wrong("07.6", "dice with replacement", "different", "twice", "replac", "same expert")(
    lambda experts, top_k, tokens: experts * (1 - (1 - 1 / experts) ** (top_k * tokens))
)
wrong("07.6", "an exponential", "approx", "exp", "exact", "different")(
    lambda experts, top_k, tokens: experts * (1 - math.exp(-top_k * tokens / experts))
)
wrong("07.6", "all of them", "all", "experts")(lambda experts, top_k, tokens: experts)
wrong("07.6", "rounded to whole experts", "round", "whole", "exact", "average", "integer")(
    lambda experts, top_k, tokens: round(experts * (1 - (1 - top_k / experts) ** tokens))
)

right("07.6", "one minus the chance to be missed")(
    lambda experts, top_k, tokens: experts * (1 - (1 - top_k / experts) ** tokens)
)
right("07.6", "experts less the missed ones")(
    lambda experts, top_k, tokens: experts - experts * ((experts - top_k) / experts) ** tokens
)


@right("07.6", "token by token")
def _(experts, top_k, tokens):
    hit = 0.0
    for _ in range(tokens):
        hit += (experts - hit) * top_k / experts
    return hit


@right("07.6", "binomials")
def _(experts, top_k, tokens):
    return experts * (1 - (math.comb(experts - 1, top_k) / math.comb(experts, top_k)) ** tokens)


# 07.7 dispatch mask ---------------------------------------------------------------------------------------------------


@wrong("07.7", "rows first", "shape", "axes", "order", "expert row")
def _(mask, x):
    return einsum(mask, x, "token expert row, token hidden -> row expert hidden")


@wrong("07.7", "one axis", "shape", "axes", "expert row")
def _(mask, x):
    return einsum(mask, x, "token expert row, token hidden -> expert hidden")


@wrong("07.7", "not summed over tokens", "token", "shape", "sum")
def _(mask, x):
    return einsum(mask, x, "token expert row, token hidden -> token expert row hidden")


@wrong("07.7", "flat", "shape", "expert", "row")
def _(mask, x):
    return rearrange(mask, "token expert row -> (expert row) token") @ x


@wrong("07.7", "hidden in front", "shape", "order", "hidden", "axes")
def _(mask, x):
    return einsum(mask, x, "token expert row, token hidden -> hidden expert row")


def as_it_was(mask, x):
    token, expert, row = mask.shape
    return (mask.permute(1, 2, 0).reshape(expert * row, token) @ x).view(expert, row, x.shape[-1])


wrong("07.7", "the given code", "einops", "rewrite", "given", "same code")(as_it_was)


@wrong("07.7", "mask reshaped", "transpos", "reshape", "order", "axes", "token")
def _(mask, x):
    token, expert, row = mask.shape
    return (mask.reshape(expert * row, token) @ x).reshape(expert, row, -1)


@right("07.7", "one einsum")
def _(mask, x):
    return einsum(mask, x, "token expert row, token hidden -> expert row hidden")


@right("07.7", "einsum, the tokens first")
def _(mask, x):
    return einsum(x, mask, "t h, t e r -> e r h")


@right("07.7", "rearrange around a product")
def _(mask, x):
    flat = rearrange(mask, "token expert row -> (expert row) token") @ x
    return rearrange(flat, "(expert row) hidden -> expert row hidden", expert=mask.shape[1])


# 07.8 without an expert -----------------------------------------------------------------------------------------------


@wrong("07.8", "not scaled", "scale", "sum")
def _(routing, expert):
    return routing._replace(weights=routing.weights * (routing.experts != expert))


@wrong("07.8", "scaled to one", "one", "sum", "before")
def _(routing, expert):
    weights = routing.weights * (routing.experts != expert)
    return routing._replace(weights=weights / weights.sum(-1, keepdim=True))


@wrong("07.8", "shared out equally", "equal", "factor", "scale", "common")
def _(routing, expert):
    gone = routing.experts == expert
    lost = (routing.weights * gone).sum(-1, keepdim=True)
    return routing._replace(weights=(routing.weights + lost / (~gone).sum(-1, keepdim=True)) * ~gone)


@wrong("07.8", "slot, not expert", "slot", "expert", "number")
def _(routing, expert):
    weights = routing.weights.clone()
    weights[:, expert % weights.shape[1]] = 0
    return routing._replace(
        weights=weights * routing.weights.sum(-1, keepdim=True) / weights.sum(-1, keepdim=True)
    )


@wrong("07.8", "only this expert is kept", "kept", "only", "instead", "others")
def _(routing, expert):
    weights = routing.weights * (routing.experts == expert)
    return routing._replace(weights=weights)


@wrong("07.8", "all tokens scaled alike", "each token", "token", "scale", "factor")
def _(routing, expert):
    weights = routing.weights * (routing.experts != expert)
    return routing._replace(weights=weights * routing.weights.sum() / weights.sum())


@wrong("07.8", "tokens without it scaled to one", "sum", "token", "before")
def _(routing, expert):
    kept = routing.weights * (routing.experts != expert)
    return routing._replace(weights=torch.softmax(kept, dim=-1))


@wrong("07.8", "the weights alone", "routing", "type", "tuple")
def _(routing, expert):
    weights = routing.weights * (routing.experts != expert)
    return weights * (routing.weights.sum(-1, keepdim=True) / weights.sum(-1, keepdim=True))


@right("07.8", "masked and scaled")
def _(routing, expert):
    weights = routing.weights.masked_fill(routing.experts == expert, 0)
    factor = routing.weights.sum(-1, keepdim=True) / weights.sum(-1, keepdim=True)
    return routing._replace(weights=weights * factor)


@right("07.8", "a new Routing")
def _(routing, expert):
    weights = torch.where(routing.experts == expert, torch.zeros_like(routing.weights), routing.weights)
    total, rest = (each.sum(dim=-1, keepdim=True) for each in (routing.weights, weights))
    return Routing(routing.logits, routing.experts, weights / rest * total)


@right("07.8", "row by row")
def _(routing, expert):
    weights = routing.weights.clone()
    for row, ids in zip(weights, routing.experts.tolist(), strict=True):
        if expert in ids:
            total = row.sum().clone()
            row[ids.index(expert)] = 0
            row *= total / row.sum()
    return Routing(routing.logits, routing.experts, weights)


# 07.9 predictions -----------------------------------------------------------------------------------------------------

RIGHT = {
    "1 token: experts run by all and mask": 128,
    "1 token: experts read by loop": 8,
    "512 tokens: experts copied by gather": 4096,
    "512 tokens: experts read by grouped, at most": 128,
    "512 tokens: matrix products started by loop, at most": 384,
    "512 tokens: matrix products started by grouped": 3,
    "operations of all and mask, times those of loop": 16,
}

wrong("07.9", "gather copies each expert once", "gather", "copies", "copied", "each token")(
    {**RIGHT, "512 tokens: experts copied by gather": 128}
)
wrong("07.9", "grouped reads for each assignment", "grouped", "read", "expert")(
    {**RIGHT, "512 tokens: experts read by grouped, at most": 4096}
)
wrong("07.9", "one product an expert", "three", "product", "matri")(
    {**RIGHT, "512 tokens: matrix products started by loop, at most": 128}
)
wrong("07.9", "grouped starts one product", "three", "product", "matri")(
    {**RIGHT, "512 tokens: matrix products started by grouped": 1}
)
wrong("07.9", "the loop visits all for one token", "loop", "read", "chosen", "1 token")(
    {**RIGHT, "1 token: experts read by loop": 128}
)
wrong("07.9", "all and mask runs the chosen", "all", "mask")({**RIGHT, "1 token: experts run by all and mask": 8})
ratio = "operations of all and mask, times those of loop"
wrong("07.9", "94 %", "operations", "times", "share")({**RIGHT, ratio: 0.94})
wrong("07.9", "a product for each assignment", "loop", "product", "expert")(
    {**RIGHT, "512 tokens: matrix products started by loop, at most": 3 * 4096}
)

right("07.9", "integers")(RIGHT)
right("07.9", "floats")({name: float(value) for name, value in RIGHT.items()})
right("07.9", "tensors")({name: torch.tensor(value) for name, value in RIGHT.items()})
