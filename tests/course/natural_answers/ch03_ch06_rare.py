"""Natural answers to 03 and 06 for which no mutant was written: two mistakes at once, and rare ones."""

import math

import torch
from einops import einsum, rearrange
from torch.nn import functional as F

from minimoe.model.rope import apply_rope
from minimoe.model.router import Routing
from tests.course.natural_answers.ch03_stepping import dots, turn
from tests.course.natural_answers.collect import Collection

collection = Collection("03.1", "03.2", "03.4", "03.5", "03.6", "03.7", "06.1", "06.3", "06.4", "06.5", "06.6", "06.7")
wrong, right, ANSWERS = collection.wrong, collection.right, collection.answers

# 03.1 frequencies -----------------------------------------------------------------------------------------------------

wrong("03.1", "wavelengths, slowest first", "wavelength", "order", "revers")(
    lambda head_dim, theta: (2 * math.pi * theta ** (torch.arange(0, head_dim, 2).float() / head_dim)).flip(0)
)
wrong("03.1", "theta / 2 for head_dim / 2", "theta", "head_dim")(
    lambda head_dim, theta: (theta / 2) ** -(torch.arange(0, head_dim, 2).float() / head_dim)
)
wrong("03.1", "theta times the exponent", "theta", "power", "base")(
    lambda head_dim, theta: 1 / (1 + theta * torch.arange(0, head_dim, 2).float() / head_dim)
)
wrong("03.1", "cosine of the frequency", "cos", "frequenc", "radian")(
    lambda head_dim, theta: (theta ** -(torch.arange(0, head_dim, 2).float() / head_dim)).cos()
)
wrong("03.1", "float16", "dtype", "float16", "float32")(
    lambda head_dim, theta: (theta ** -(torch.arange(0, head_dim, 2).float() / head_dim)).half()
)

# 03.2 apply_rope ------------------------------------------------------------------------------------------------------


@wrong("03.2", "backwards, and neighbours", "neighbour", "other way", "sign")
def _(x, cos, sin):
    half = x.shape[-1] // 2
    c, s, even, odd = cos[:, :half], sin[:, :half], x[..., ::2], x[..., 1::2]
    return torch.stack((even * c + odd * s, odd * c - even * s), dim=-1).flatten(-2)


@wrong("03.2", "the second half's sine has no minus, the first half's cosine neither", "sign", "minus", "half")
def _(x, cos, sin):
    first, second = x.chunk(2, dim=-1)
    c, s = cos.chunk(2, dim=-1)[0], sin.chunk(2, dim=-1)[0]
    return torch.cat((first * c + second * s, second * c + first * s), dim=-1)


@wrong("03.2", "turned twice", "twice", "angle", "again")
def _(x, cos, sin):
    return apply_rope(apply_rope(x, cos, sin), cos, sin)


@wrong("03.2", "the first head alone", "head", "first")
def _(x, cos, sin):
    return torch.cat((apply_rope(x[:, :1], cos, sin), x[:, 1:]), dim=1)


@wrong("03.2", "positions reversed", "position", "order", "revers", "row")
def _(x, cos, sin):
    return apply_rope(x, cos.flip(0), sin.flip(0))


@wrong("03.2", "normalised afterwards", "length", "norm", "scale", "factor")
def _(x, cos, sin):
    return F.normalize(apply_rope(x, cos, sin), dim=-1)


# 03.4 step ------------------------------------------------------------------------------------------------------------


@wrong("03.4", "one back, scores scaled", "one", "position", "scale", "root")
def _(q, k, cached, frequencies):
    start = max(len(cached) - 1, 0)
    positions = torch.arange(start, start + len(q))
    keys = torch.cat((cached, turn(k, positions, frequencies)))
    return dots(turn(q, positions, frequencies), keys) * q.shape[-1] ** -0.5, keys


@wrong("03.4", "q and k exchanged", "q", "k", "exchanged", "swapped")
def _(q, k, cached, frequencies):
    positions = torch.arange(len(cached), len(cached) + len(q))
    keys = torch.cat((cached, turn(q, positions, frequencies)))
    return dots(turn(k, positions, frequencies), keys), keys


@wrong("03.4", "positions of a reversed text", "position", "order", "revers")
def _(q, k, cached, frequencies):
    positions = torch.arange(len(cached), len(cached) + len(q)).flip(0)
    keys = torch.cat((cached, turn(k, positions, frequencies)))
    return dots(turn(q, positions, frequencies), keys), keys


@wrong("03.4", "frequencies halved", "frequenc", "half", "angle", "position")
def _(q, k, cached, frequencies):
    positions = torch.arange(len(cached), len(cached) + len(q)) / 2
    keys = torch.cat((cached, turn(k, positions, frequencies)))
    return dots(turn(q, positions, frequencies), keys), keys


@wrong("03.4", "the last query alone", "shape", "query", "row", "last")
def _(q, k, cached, frequencies):
    positions = torch.arange(len(cached), len(cached) + len(q))
    keys = torch.cat((cached, turn(k, positions, frequencies)))
    return dots(turn(q, positions, frequencies)[-1:], keys), keys


# 03.5 reach -----------------------------------------------------------------------------------------------------------

wrong("03.5", "log2 of the context", "log", "count", "pairs", "number")(
    lambda head_dim, theta, context: (math.tau * theta ** (1 - 2 / head_dim), int(math.log2(context)))
)
wrong("03.5", "context of the slowest, in radians", "radian", "2 pi", "turn")(
    lambda head_dim, theta, context: (theta ** (1 - 2 / head_dim), head_dim // 2)
)
wrong("03.5", "all pairs", "all", "every", "count", "pairs")(
    lambda head_dim, theta, context: (math.tau * theta ** (1 - 2 / head_dim), head_dim // 2)
)

# 03.6 to_half_split ---------------------------------------------------------------------------------------------------

wrong("03.6", "back, and across the heads", "head", "back", "direction")(
    lambda weight, head_dim: rearrange(weight, "(pair half) hidden -> (half pair) hidden", pair=2)
)
wrong("03.6", "heads reversed", "head", "order", "revers")(
    lambda weight, head_dim: torch.cat([torch.cat((rows[::2], rows[1::2])) for rows in weight.split(head_dim)[::-1]])
)
wrong("03.6", "rows sorted by size", "order", "sort", "row")(lambda weight, head_dim: weight.sort(dim=0).values)

# 03.7 turn_only -------------------------------------------------------------------------------------------------------

wrong("03.7", "the others turned back", "other", "back", "sign", "not chosen")(
    lambda x, cos, sin, chosen: torch.where(chosen.tile(2), apply_rope(x, cos, sin), apply_rope(x, cos, -sin))
)
wrong("03.7", "mask reversed in the second half", "half", "second", "order", "mask", "pair")(
    lambda x, cos, sin, chosen: torch.where(torch.cat((chosen, chosen.flip(0))), apply_rope(x, cos, sin), x)
)
wrong("03.7", "all but the first chosen pair", "first", "chosen", "pair")(
    lambda x, cos, sin, chosen: torch.where((chosen & (chosen.cumsum(0) > 1)).tile(2), apply_rope(x, cos, sin), x)
)

# 06.1 route -----------------------------------------------------------------------------------------------------------


@wrong("06.1", "softmax over tokens, sorted by number", "token", "number", "order", "sorted")
def _(logits, top_k, renormalise):
    weights, experts = logits.softmax(0, dtype=torch.float32).topk(top_k)
    experts, order = experts.sort(dim=-1)
    weights = weights.gather(-1, order)
    return Routing(
        logits, experts, (weights / weights.sum(-1, keepdim=True) if renormalise else weights).to(logits.dtype)
    )


@wrong("06.1", "absolute scores chosen", "absolute", "sign", "negative", "size")
def _(logits, top_k, renormalise):
    experts = logits.abs().topk(top_k).indices
    weights = logits.softmax(-1, dtype=torch.float32).gather(-1, experts)
    return Routing(
        logits, experts, (weights / weights.sum(-1, keepdim=True) if renormalise else weights).to(logits.dtype)
    )


@wrong("06.1", "weights multiplied by top_k", "top_k", "factor", "sum")
def _(logits, top_k, renormalise):
    weights, experts = logits.softmax(-1, dtype=torch.float32).topk(top_k)
    weights = weights / weights.mean(-1, keepdim=True) if renormalise else weights
    return Routing(logits, experts, weights.to(logits.dtype))


@wrong("06.1", "experts counted from 1", "from 1", "from 0", "number", "one")
def _(logits, top_k, renormalise):
    weights, experts = logits.softmax(-1, dtype=torch.float32).topk(top_k)
    weights = weights / weights.sum(-1, keepdim=True) if renormalise else weights
    return Routing(logits, experts + 1, weights.to(logits.dtype))


# 06.3 workload --------------------------------------------------------------------------------------------------------

wrong("06.3", "squared weights", "square", "twice", "weight")(
    lambda experts, weights, num_experts: torch.einsum(
        "bpse,bps,bps->be", F.one_hot(experts, num_experts).to(weights), weights, weights
    )
)
wrong("06.3", "experts reversed", "order", "revers", "expert")(
    lambda experts, weights, num_experts: einsum(
        F.one_hot(experts, num_experts).to(weights), weights, "b p s e, b p s -> b e"
    ).flip(-1)
)
wrong("06.3", "one expert more", "shape", "num_experts", "expert")(
    lambda experts, weights, num_experts: einsum(
        F.one_hot(experts, num_experts + 1).to(weights), weights, "b p s e, b p s -> b e"
    )
)

# 06.4 pick ------------------------------------------------------------------------------------------------------------

wrong("06.4", "by absolute value", "absolute", "negative", "sign", "lowest")(
    lambda logits, top_k: logits.abs().topk(top_k).indices
)
wrong("06.4", "ranks in place of experts", "rank", "number", "place")(
    lambda logits, top_k: logits.argsort(dim=-1, descending=True).argsort(dim=-1)[:, :top_k]
)
wrong("06.4", "one expert too many", "shape", "slot")(
    lambda logits, top_k: logits.argsort(dim=-1, descending=True)[:, : top_k + 1]
)

# 06.5 operations ------------------------------------------------------------------------------------------------------

wrong("06.5", "all experts, multiplications alone", "all", "addition", "multiplication")(
    lambda c: (c.hidden_size * c.num_experts, 3 * c.num_experts * c.hidden_size * c.moe_intermediate_size)
)
wrong("06.5", "two matrices, one expert", "two", "one", "matri", "expert")(
    lambda c: (2 * c.hidden_size * c.num_experts, 4 * c.hidden_size * c.moe_intermediate_size)
)
wrong("06.5", "head_dim for hidden_size", "head_dim", "hidden")(
    lambda c: (2 * c.head_dim * c.num_experts, 6 * c.num_experts_per_tok * c.head_dim * c.moe_intermediate_size)
)

# 06.6 route_without_first ---------------------------------------------------------------------------------------------


@wrong("06.6", "ninth in front, never divided", "order", "slot", "divid", "renormalise")
def _(logits, top_k, renormalise):
    weights, experts = logits.softmax(-1, dtype=torch.float32).topk(top_k + 1)
    return Routing(logits, experts[:, 1:].roll(1, -1), weights[:, 1:].roll(1, -1).to(logits.dtype))


@wrong("06.6", "every second rank", "rank", "second")
def _(logits, top_k, renormalise):
    weights, experts = logits.softmax(-1, dtype=torch.float32).sort(dim=-1, descending=True)
    weights, experts = weights[:, 1::2][:, :top_k], experts[:, 1::2][:, :top_k]
    return Routing(
        logits, experts, (weights / weights.sum(-1, keepdim=True) if renormalise else weights).to(logits.dtype)
    )


@wrong("06.6", "even weights", "even", "same", "weight", "1 / top_k")
def _(logits, top_k, renormalise):
    experts = logits.topk(top_k + 1).indices[:, 1:]
    return Routing(logits, experts, torch.full(experts.shape, 1 / top_k, dtype=logits.dtype))


# 06.7 counterexample --------------------------------------------------------------------------------------------------

wrong("06.7", "three ahead", "high", "0.5")(torch.cat((torch.full((3,), 4.0), torch.zeros(125))))
wrong("06.7", "half of them ahead", "high", "0.5")(torch.cat((torch.full((64,), 3.0), torch.zeros(64))))
wrong("06.7", "logarithms of 1 to 128", "high", "low", "0.5")(torch.arange(1.0, 129).log())
wrong("06.7", "a dict", "token", "128", "logits")({"logits": 3.4})
