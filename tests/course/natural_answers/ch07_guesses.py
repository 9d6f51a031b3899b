"""Natural answers to 07.6 to 07.9: experts that are hit, a mask, an ablation, and what the engines read."""

import math
from fractions import Fraction

import numpy as np
import torch
from einops import einsum, rearrange, reduce

from minimoe.model.router import Routing, route
from tests.course.natural_answers.collect import Collection

collection = Collection("07.6", "07.7", "07.8", "07.9")
wrong, right, ANSWERS = collection.wrong, collection.right, collection.answers

# 07.6 how many experts are hit? ---------------------------------------------------------------------------------------

wrong(
    "07.6", "no expert is chosen twice", "twice", "another", "share", "same expert", "different", "more than", "overlap"
)(lambda experts, top_k, tokens: min(experts, top_k * tokens))
wrong("07.6", "all choices counted", "twice", "share", "same expert", "different", "more than", "overlap")(
    lambda experts, top_k, tokens: top_k * tokens
)
wrong("07.6", "each choice a die of its own", "different", "own", "slots", "one token", "twice", "independent")(
    lambda experts, top_k, tokens: experts * (1 - (1 - 1 / experts) ** (top_k * tokens))
)
wrong("07.6", "hit by all tokens", "miss", "all", "any", "chance")(
    lambda experts, top_k, tokens: experts * (1 - (top_k / experts) ** tokens)
)
wrong("07.6", "the experts that are missed", "miss", "not hit", "hit", "1 -", "rest")(
    lambda experts, top_k, tokens: experts * (1 - top_k / experts) ** tokens
)
wrong("07.6", "a share, no number", "share", "chance", "number", "times", "experts")(
    lambda experts, top_k, tokens: 1 - (1 - top_k / experts) ** tokens
)
wrong("07.6", "in percent", "percent", "share", "number", "experts", "100")(
    lambda experts, top_k, tokens: 100 * (1 - (1 - top_k / experts) ** tokens)
)
wrong("07.6", "rounded to a whole number", "round", "whole", "integer", "average")(
    lambda experts, top_k, tokens: round(experts * (1 - (1 - top_k / experts) ** tokens))
)
wrong("07.6", "one expert for each token", "top_k", "one expert", "several", "each token")(
    lambda experts, top_k, tokens: experts * (1 - (1 - 1 / experts) ** tokens)
)
wrong("07.6", "Poisson", "exp", "approx", "different", "own", "near")(
    lambda experts, top_k, tokens: experts * (1 - math.exp(-top_k * tokens / experts))
)
wrong(
    "07.6", "the first token left out", "one token", "tokens - 1", "one fewer", "exponent", "power", "first", "too few"
)(lambda experts, top_k, tokens: experts * (1 - (1 - top_k / experts) ** (tokens - 1)))
wrong(
    "07.6", "the first token counted twice", "one token", "tokens", "exponent", "first", "twice", "one more", "too many"
)(lambda experts, top_k, tokens: top_k + (experts - top_k) * (1 - (1 - top_k / experts) ** tokens))
wrong("07.6", "top_k and experts exchanged in the fraction", "fraction", "chance", "top_k / experts", "experts")(
    lambda experts, top_k, tokens: experts * (1 - (1 - experts / top_k) ** tokens)
)

right("07.6", "one line")(lambda experts, top_k, tokens: experts * (1 - (1 - top_k / experts) ** tokens))
right("07.6", "by all sets of experts")(
    lambda experts, top_k, tokens: (
        experts - experts * (math.comb(experts - 1, top_k) / math.comb(experts, top_k)) ** tokens
    )
)
right("07.6", "fractions")(
    lambda experts, top_k, tokens: float(experts * (1 - Fraction(experts - top_k, experts) ** tokens))
)
right("07.6", "NumPy")(
    lambda experts, top_k, tokens: experts - experts * np.power(1 - np.float64(top_k) / experts, tokens)
)


@right("07.6", "token after token")
def _(experts, top_k, tokens):
    hit = 0.0
    for _ in range(tokens):
        hit += top_k * (experts - hit) / experts
    return hit


@right("07.6", "a geometric sum")
def _(experts, top_k, tokens):
    return sum(top_k * (1 - top_k / experts) ** token for token in range(tokens))


# 07.7 a dispatch mask -------------------------------------------------------------------------------------------------


@wrong("07.7", "not summed over the tokens", "token", "shape", "sum", "axes", "axis")
def _(mask, x):
    return einsum(mask, x, "token expert row, token hidden -> token expert row hidden")


@wrong("07.7", "rows before experts", "shape", "order", "expert", "axes", "exchang", "swap")
def _(mask, x):
    return einsum(mask, x, "token expert row, token hidden -> row expert hidden")


@wrong("07.7", "hidden before rows", "shape", "order", "hidden", "axes", "exchang", "swap")
def _(mask, x):
    return einsum(mask, x, "token expert row, token hidden -> expert hidden row")


@wrong("07.7", "left flat", "shape", "expert", "axes", "flat", "axis")
def _(mask, x):
    return rearrange(mask, "token expert row -> (expert row) token") @ x


@wrong("07.7", "reshaped without a permutation", "reshape", "token", "order", "axes", "first", "mask")
def _(mask, x):
    token, expert, row = mask.shape
    return (mask.reshape(expert * row, token) @ x).reshape(expert, row, -1)


@wrong(
    "07.7", "expert and row exchanged in the parentheses", "expert", "row", "order", "exchang", "parenthes", "inside"
)
def _(mask, x):
    flat = rearrange(mask, "token expert row -> (row expert) token")
    return rearrange(flat @ x, "(expert row) hidden -> expert row hidden", expert=mask.shape[1])


@wrong("07.7", "the mean of the tokens", "mean", "divid", "sum", "number of tokens")
def _(mask, x):
    return reduce(einsum(mask, x, "t e r, t h -> t e r h"), "t e r h -> e r h", "mean")


@wrong("07.7", "empty rows get the first token", "empty", "zero", "no token", "row")
def _(mask, x):
    return x[mask.argmax(dim=0)]


@wrong("07.7", "the rows of an expert added up", "row", "shape", "axes", "axis")
def _(mask, x):
    return einsum(mask, x, "token expert row, token hidden -> expert hidden")


@wrong("07.7", "summed over the rows, tokens kept", "token", "row", "shape", "axes", "axis")
def _(mask, x):
    return einsum(mask, x, "token expert row, token hidden -> expert token hidden")


@wrong("07.7", "the largest, in place of the sum", "sum", "largest", "max", "negative", "zero")
def _(mask, x):
    products = rearrange(mask, "token expert row -> token expert row 1") * rearrange(
        x, "token hidden -> token 1 1 hidden"
    )
    return reduce(products, "token expert row hidden -> expert row hidden", "max")


@wrong("07.7", "only the rows that are used", "shape", "empty", "row", "zero")
def _(mask, x):
    return x[rearrange(mask, "token expert row -> (expert row) token").nonzero()[:, 1]]


@right("07.7", "a single einsum")
def _(mask, x):
    return einsum(mask, x, "token expert row, token hidden -> expert row hidden")


@right("07.7", "two rearranges around a product")
def _(mask, x):
    flat = rearrange(mask, "token expert row -> (expert row) token") @ x
    return rearrange(flat, "(expert row) hidden -> expert row hidden", expert=mask.shape[1])


@right("07.7", "x first, other names")
def _(mask, x):
    return einsum(x, mask, "t d, t e c -> e c d")


@right("07.7", "a product for each expert")
def _(mask, x):
    return torch.stack([rearrange(mine, "token row -> row token") @ x for mine in mask.unbind(dim=1)])


@right("07.7", "multiply, then reduce")
def _(mask, x):
    products = rearrange(mask, "token expert row -> token expert row 1") * rearrange(
        x, "token hidden -> token 1 1 hidden"
    )
    return reduce(products, "token expert row hidden -> expert row hidden", "sum")


# 07.8 without the busiest expert --------------------------------------------------------------------------------------


def kept(routing, expert):
    """The weights with zero where the expert was chosen."""
    return routing.weights.masked_fill(routing.experts == expert, 0)


@wrong("07.8", "zero, and nothing scaled", "scale", "sum", "factor", "others")
def _(routing, expert):
    return routing._replace(weights=kept(routing, expert))


@wrong("07.8", "scaled to a sum of one", "as before", "same sum", "one", "1", "sum")
def _(routing, expert):
    weights = kept(routing, expert)
    return routing._replace(weights=weights / weights.sum(dim=-1, keepdim=True))


@wrong("07.8", "one factor for the whole batch", "each token", "token", "batch", "all tokens")
def _(routing, expert):
    weights = kept(routing, expert)
    return routing._replace(weights=weights * (routing.weights.sum() / weights.sum()))


@wrong("07.8", "shared out in equal parts", "scale", "factor", "add", "equal", "common", "proportion")
def _(routing, expert):
    gone = routing.experts == expert
    lost = (routing.weights * gone).sum(dim=-1, keepdim=True)
    others = (~gone).sum(dim=-1, keepdim=True)
    return routing._replace(weights=torch.where(gone, 0, routing.weights + lost / others))


@wrong("07.8", "everything to the best of the rest", "scale", "factor", "common", "all", "others")
def _(routing, expert):
    weights = kept(routing, expert)
    lost = routing.weights.sum(dim=-1) - weights.sum(dim=-1)
    best = weights.argmax(dim=-1, keepdim=True)
    return routing._replace(weights=weights.scatter_add(-1, best, lost[:, None]))


@wrong("07.8", "the slot with the number of the expert", "slot", "number", "index", "expert", "column")
def _(routing, expert):
    weights = routing.weights.clone()
    weights[:, expert] = 0
    return routing._replace(weights=weights * routing.weights.sum(-1, keepdim=True) / weights.sum(-1, keepdim=True))


@wrong("07.8", "written into the routing", "place", "change", "copy")
def _(routing, expert):
    before = routing.weights.sum(dim=-1, keepdim=True)
    routing.weights[routing.experts == expert] = 0
    routing.weights.mul_(before / routing.weights.sum(dim=-1, keepdim=True))
    return routing


@wrong(
    "07.8", "routed once more, without it", "experts", "route", "same expert", "choice", "ninth", "other expert", "new"
)
def _(routing, expert):
    logits = routing.logits.clone()
    logits[:, expert] = -torch.inf
    return route(logits, routing.experts.shape[1], renormalise=True)


@wrong("07.8", "the factor upside down", "factor", "sum", "divid", "scale", "inver", "upside")
def _(routing, expert):
    weights = kept(routing, expert)
    return routing._replace(weights=weights * weights.sum(-1, keepdim=True) / routing.weights.sum(-1, keepdim=True))


@wrong("07.8", "the others taken out", "other", "only", "expert", "zero", "invert", "opposite")
def _(routing, expert):
    weights = routing.weights * (routing.experts == expert)
    total = weights.sum(dim=-1, keepdim=True).clamp(min=1e-9)
    return routing._replace(weights=weights * routing.weights.sum(dim=-1, keepdim=True) / total)


@wrong("07.8", "the whole token taken out", "other", "token", "scale", "all", "zero")
def _(routing, expert):
    has = (routing.experts == expert).any(dim=-1, keepdim=True)
    return routing._replace(weights=routing.weights.masked_fill(has, 0))


@wrong("07.8", "softmax over the rest", "softmax", "scale", "factor", "sum")
def _(routing, expert):
    rest = routing.weights.masked_fill(routing.experts == expert, -torch.inf).softmax(dim=-1)
    return routing._replace(weights=rest * routing.weights.sum(dim=-1, keepdim=True))


@right("07.8", "three steps")
def _(routing, expert):
    before = routing.weights.sum(dim=-1, keepdim=True)
    weights = torch.where(routing.experts == expert, 0, routing.weights)
    return routing._replace(weights=weights * (before / weights.sum(dim=-1, keepdim=True)))


@right("07.8", "a mask, and a routing of its own")
def _(routing, expert):
    weights = routing.weights * (routing.experts != expert)
    scaled = weights / weights.sum(dim=-1, keepdim=True) * reduce(routing.weights, "token slot -> token 1", "sum")
    return Routing(routing.logits, routing.experts, scaled)


@right("07.8", "only the tokens that chose it")
def _(routing, expert):
    weights = routing.weights.clone()
    for token in (routing.experts == expert).any(dim=-1).nonzero().flatten().tolist():
        before = weights[token].sum()
        weights[token, routing.experts[token] == expert] = 0
        weights[token] *= before / weights[token].sum()
    return routing._replace(weights=weights)


@right("07.8", "in float64, and back")
def _(routing, expert):
    exact = routing.weights.double()
    weights = exact.masked_fill(routing.experts == expert, 0)
    weights = weights * exact.sum(dim=-1, keepdim=True) / weights.sum(dim=-1, keepdim=True)
    return routing._replace(weights=weights.to(routing.weights.dtype))


@right("07.8", "the share of the expert taken off")
def _(routing, expert):
    gone = routing.experts == expert
    share = (routing.weights * gone).sum(-1, keepdim=True) / routing.weights.sum(-1, keepdim=True)
    return Routing(routing.logits, routing.experts, (routing.weights / (1 - share)).masked_fill(gone, 0))


# 07.9 which engine reads how much? ------------------------------------------------------------------------------------

TRUTH = {
    "1 token: experts run by all and mask": 128,
    "1 token: experts read by loop": 8,
    "512 tokens: experts copied by gather": 4096,
    "512 tokens: experts read by grouped, at most": 128,
    "512 tokens: matrix products started by loop, at most": 384,
    "512 tokens: matrix products started by grouped": 3,
    "operations of all and mask, times those of loop": 16,
}
MASK, LOOP, GATHER, READ, LOOPS, GROUPS, TIMES = TRUTH

wrong("07.9", "the mask saves work", "all", "mask", "128", "every", "zero")(TRUTH | {MASK: 8})
wrong("07.9", "the loop visits every expert", "token", "loop", "chosen", "8", "no token", "empty")(TRUTH | {LOOP: 128})
wrong("07.9", "three matrices counted as experts", "expert", "matri", "three", "3", "count")(TRUTH | {LOOP: 24})
wrong("07.9", "gather copies one expert for a token", "gather", "copy", "copies", "slot", "8", "eight", "top_k")(
    TRUTH | {GATHER: 512}
)
wrong("07.9", "gather's matrices", "gather", "expert", "matri", "three", "3")(TRUTH | {GATHER: 12288})
wrong("07.9", "grouped reads one for each row", "grouped", "once", "group", "128", "more than", "exist", "row")(
    TRUTH | {READ: 4096}
)
wrong("07.9", "one product for each expert", "three", "3", "matri", "gate")(TRUTH | {LOOPS: 128})
wrong("07.9", "three products for each row", "expert", "row", "once", "group", "128", "together")(
    TRUTH | {LOOPS: 12288}
)
wrong("07.9", "grouped starts one", "three", "3", "matri", "gate")(TRUTH | {GROUPS: 1})
wrong("07.9", "grouped starts three for each expert", "grouped", "all", "one call", "once", "three", "together", "3")(
    TRUTH | {GROUPS: 384}
)
wrong("07.9", "all experts against one", "8", "16", "128", "chosen", "times")(TRUTH | {TIMES: 128})
wrong("07.9", "the other way round", "times", "mask", "more", "16", "turn", "divid", "invert")(TRUTH | {TIMES: 1 / 16})
wrong("07.9", "the share that is wasted", "times", "16", "share", "percent", "%", "94")(TRUTH | {TIMES: 94})
wrong("07.9", "words", "number", "str", "text")({question: str(value) for question, value in TRUTH.items()})
wrong("07.9", "a list", "dict", "list")(list(TRUTH.values()))

right("07.9", "computed")(
    {
        MASK: 128,
        LOOP: 128 // 16,
        GATHER: 512 * 8,
        READ: min(128, 512 * 8),
        LOOPS: 3 * 128,
        GROUPS: len(("gate", "up", "down")),
        TIMES: 128 / 8,
    }
)
right("07.9", "tensors of one number")({question: torch.tensor(value) for question, value in TRUTH.items()})
right("07.9", "NumPy's numbers, in another order")(
    {question: np.int64(value) for question, value in reversed(TRUTH.items())}
)
