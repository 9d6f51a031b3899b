"""Natural answers to 04.4, 04.6 and 04.7: who shares, the bytes of a cache, heads switched off."""

from math import prod

import numpy as np
import torch
from einops import einsum, rearrange

from tests.course.natural_answers.collect import Collection

collection = Collection("04.4", "04.6", "04.7")
wrong, right, ANSWERS = collection.wrong, collection.right, collection.answers

# 04.4 who shares? -----------------------------------------------------------------------------------------------------

TRUTH = {
    "heads 0 and 15 read the same keys": True,
    "heads 15 and 16 read the same keys": False,
    "heads 1 and 17 read the same keys": False,
    "heads that read the same keys look at the same tokens": False,
    "twice as many query heads: the cache doubles": False,
    "twice as many key/value heads: the cache doubles": True,
    "o_proj is square": False,
}
FIRST, EDGE, APART, LOOK, QUERIES, KEYS, SQUARE = TRUTH


def except_for(*questions):
    """The right answers, with these questions answered the other way."""
    return {question: said != (question in questions) for question, said in TRUTH.items()}


wrong("04.4", "groups of four heads", "think again", "16", "neighbour")(except_for(FIRST))
wrong("04.4", "sixteen counted to 16", "think again", "16", "group")(except_for(EDGE))
wrong("04.4", "every sixteenth head", "think again", "neighbour", "group")(except_for(FIRST, APART))
wrong("04.4", "same keys, same look", "think again", "quer")(except_for(LOOK))
wrong("04.4", "queries are cached too", "think again", "quer")(except_for(QUERIES))
wrong("04.4", "only query heads count", "think again", "quer", "key")(except_for(QUERIES, KEYS))
wrong("04.4", "the cache is one head's", "think again", "key")(except_for(KEYS))
wrong("04.4", "o_proj square, as in older models", "think again", "head_dim")(except_for(SQUARE))
wrong("04.4", "all True", "think again")(dict.fromkeys(TRUTH, True))
wrong("04.4", "all False", "think again")(dict.fromkeys(TRUTH, False))
wrong("04.4", "all the other way", "think again")(except_for(*TRUTH))
wrong("04.4", "a list", "dict", "list")(list(TRUTH.values()))
wrong("04.4", "words", "true or false")({question: "yes" if said else "no" for question, said in TRUTH.items()})
wrong("04.4", "a question left out", "missing", "question")(
    {question: said for question, said in TRUTH.items() if question != EDGE}
)
wrong("04.4", "numbers of heads", "true or false")(TRUTH | {FIRST: 16})

right("04.4", "bools")(TRUTH)
right("04.4", "1 and 0")({question: int(said) for question, said in TRUTH.items()})
right("04.4", "NumPy's bools")({question: np.bool_(said) for question, said in TRUTH.items()})
right("04.4", "tensors")({question: torch.tensor(said) for question, said in TRUTH.items()})
right("04.4", "computed")(
    {
        FIRST: 0 // 16 == 15 // 16,
        EDGE: 15 // 16 == 16 // 16,
        APART: 1 // 16 == 17 // 16,
        LOOK: False,
        QUERIES: False,
        KEYS: True,
        SQUARE: 64 * 128 == 4096,
    }
)
right("04.4", "in another order")(dict(reversed(TRUTH.items())))

# 04.6 cache_bytes -----------------------------------------------------------------------------------------------------


def product(*names, times=1):
    """An answer that multiplies these arguments."""

    def answer(layers, heads, kv_heads, head_dim, tokens, bytes_each):
        given = {"layers": layers, "heads": heads, "kv_heads": kv_heads, "head_dim": head_dim}
        given |= {"tokens": tokens, "bytes_each": bytes_each}
        return times * prod(given[name] for name in names)

    return answer


ALL = ("layers", "kv_heads", "head_dim", "tokens", "bytes_each")

wrong("04.6", "keys only", "value", "two", "half", "keys and")(product(*ALL))
wrong("04.6", "all query heads", "kv_heads", "query", "head")(
    product("layers", "heads", "head_dim", "tokens", "bytes_each", times=2)
)
wrong("04.6", "keys only, of all query heads", "kv_heads", "query", "head", "value")(
    product("layers", "heads", "head_dim", "tokens", "bytes_each")
)
wrong("04.6", "one layer", "layer")(product(*ALL[1:], times=2))
wrong("04.6", "numbers, not bytes", "byte")(product(*ALL[:-1], times=2))
wrong("04.6", "one token", "token")(product("layers", "kv_heads", "head_dim", "bytes_each", times=2))
wrong("04.6", "without head_dim", "head_dim")(product("layers", "kv_heads", "tokens", "bytes_each", times=2))
wrong("04.6", "one head", "head")(product("layers", "head_dim", "tokens", "bytes_each", times=2))
wrong("04.6", "bits", "bit", "8", "times")(product(*ALL, times=16))
wrong("04.6", "queries too, of their own heads", "quer")(
    lambda layers, heads, kv_heads, head_dim, tokens, bytes_each: (
        layers * (heads + 2 * kv_heads) * head_dim * tokens * bytes_each
    )
)
wrong("04.6", "three tensors", "three", "quer", "two", "1.5")(product(*ALL, times=3))
wrong("04.6", "values for all query heads", "value", "head", "quer")(
    lambda layers, heads, kv_heads, head_dim, tokens, bytes_each: (
        layers * (heads + kv_heads) * head_dim * tokens * bytes_each
    )
)
wrong("04.6", "heads in a group", "group", "head", "kv_heads")(
    lambda layers, heads, kv_heads, head_dim, tokens, bytes_each: (
        2 * layers * (heads // kv_heads) * head_dim * tokens * bytes_each
    )
)
wrong("04.6", "the square of scores", "square", "score", "token")(
    lambda layers, heads, kv_heads, head_dim, tokens, bytes_each: layers * heads * tokens**2 * bytes_each
)
wrong("04.6", "in GB", "gb", "bytes", "1e9", "billion", "giga", "unit", "int")(
    lambda *sizes: product(*ALL, times=2)(*sizes) / 1e9
)
wrong("04.6", "in GiB", "gb", "bytes", "2**30", "gib", "giga", "unit", "int")(
    lambda *sizes: product(*ALL, times=2)(*sizes) // 2**30
)
wrong("04.6", "in MB", "mb", "bytes", "1e6", "million", "unit", "int")(
    lambda *sizes: round(product(*ALL, times=2)(*sizes) / 1e6)
)
wrong("04.6", "the last token needs no key", "token", "last")(
    lambda layers, heads, kv_heads, head_dim, tokens, bytes_each: (
        2 * layers * kv_heads * head_dim * (tokens - 1) * bytes_each
    )
)
wrong("04.6", "formatted", "text", "str", "int")(lambda *sizes: f"{product(*ALL, times=2)(*sizes):,}")
wrong("04.6", "keys and values, each with two halves", "twice", "two", "double", "2")(product(*ALL, times=4))
wrong("04.6", "divided among the query heads", "head", "divide", "group")(
    lambda layers, heads, kv_heads, head_dim, tokens, bytes_each: (
        2 * layers * kv_heads * head_dim * tokens * bytes_each // heads
    )
)

right("04.6", "a product")(product(*ALL, times=2))
right("04.6", "keys plus values")(lambda *sizes: product(*ALL)(*sizes) + product(*ALL)(*sizes))
right("04.6", "NumPy")(
    lambda layers, heads, kv_heads, head_dim, tokens, bytes_each: np.prod(
        np.array([2, layers, kv_heads, head_dim, tokens, bytes_each], dtype=np.int64)
    )
)


@right("04.6", "from two tensors")
def _(layers, heads, kv_heads, head_dim, tokens, bytes_each):
    with torch.device("meta"):
        keys, values = torch.empty(2, layers, kv_heads, tokens, head_dim)
    return (keys.numel() + values.numel()) * bytes_each


@right("04.6", "layer by layer")
def _(layers, heads, kv_heads, head_dim, tokens, bytes_each):
    total = 0
    for _layer in range(layers):
        for _part in ("key", "value"):
            total += tokens * kv_heads * head_dim * bytes_each
    return total


@right("04.6", "bytes of a token first")
def _(layers, heads, kv_heads, head_dim, tokens, bytes_each):
    group = heads // kv_heads
    per_token = 2 * (heads // group) * head_dim * bytes_each * layers
    return int(per_token * tokens)


# 04.7 switch_off ------------------------------------------------------------------------------------------------------


def beside(off):
    return rearrange(off, "head -> head 1 1")


wrong("04.7", "the others are switched off", "invert", "other", "true", "opposite", "false")(
    lambda context, off: context * beside(off)
)
wrong("04.7", "masked in place", "in place", "new", "clone", "copy")(
    lambda context, off: context.masked_fill_(beside(off), 0)
)
wrong("04.7", "heads taken away", "shape", "zero", "remov", "taken")(lambda context, off: context[:, ~off])
wrong("04.7", "without new axes", "head", "shape", "axis", "broadcast", "size")(lambda context, off: context * ~off)
wrong("04.7", "one new axis", "head", "quer", "axis", "broadcast", "size")(lambda context, off: context * ~off[:, None])
wrong("04.7", "the rest made larger, as in dropout", "larger", "scale", "dropout", "other", "rest")(
    lambda context, off: context.masked_fill(beside(off), 0) * len(off) / (~off).sum().clamp(min=1)
)
wrong("04.7", "all off if one is", "all", "each", "any", "own")(lambda context, off: context * (~off).all())
wrong("04.7", "-inf, as in a mask", "zero", "0", "-inf")(
    lambda context, off: context.masked_fill(beside(off), -torch.inf)
)
wrong("04.7", "1 - a bool", "bool", "subtract", "error")(lambda context, off: context * (1 - beside(off)))
wrong("04.7", "float32 from bfloat16", "dtype", "float32", "bfloat16")(
    lambda context, off: context * (1 - beside(off).float())
)
wrong("04.7", "head and query exchanged in the result", "shape", "order", "axis")(
    lambda context, off: rearrange(context.masked_fill(beside(off), 0), "b head query d -> b query head d")
)
wrong("04.7", "nothing", "same", "unchanged", "nothing", "off", "zero")(lambda context, off: context.clone())


@wrong("04.7", "written into the context", "in place", "new", "clone", "copy")
def _(context, off):
    context[:, off] = 0
    return context


@wrong("04.7", "a view taken for a copy", "in place", "new", "clone", "copy")
def _(context, off):
    result = context[:]
    for head in range(len(off)):
        if off[head]:
            result[:, head].zero_()
    return result


@wrong("04.7", "bools taken for numbers of heads", "index", "bool", "number", "head 0", "heads 0", "mask")
def _(context, off):
    result = context.clone()
    result[:, off.int()] = 0
    return result


@wrong("04.7", "the first heads, as many as are off", "number", "first", "count", "which", "many")
def _(context, off):
    result = context.clone()
    result[:, : int(off.sum())] = 0
    return result


@wrong("04.7", "only one of them", "first", "only", "one", "all", "every")
def _(context, off):
    result = context.clone()
    result[:, int(off.int().argmax())] = 0
    return result


@wrong("04.7", "only the first text", "batch", "first")
def _(context, off):
    result = context.clone()
    result[0, off] = 0
    return result


@wrong("04.7", "only the last query", "quer", "last", "position")
def _(context, off):
    result = context.clone()
    result[:, off, -1] = 0
    return result


@wrong("04.7", "the mean of the head in place of zero", "mean", "zero", "0")
def _(context, off):
    return torch.where(beside(off), context.mean(dim=2, keepdim=True), context)


right("04.7", "masked_fill")(lambda context, off: context.masked_fill(off[:, None, None], 0.0))
right("04.7", "multiplied by what stays")(lambda context, off: context * (~off).view(1, -1, 1, 1))
right("04.7", "where, with zeros")(lambda context, off: torch.where(beside(off), torch.zeros_like(context), context))
right("04.7", "einsum")(
    lambda context, off: einsum(context, (~off).to(context.dtype), "batch head q d, head -> batch head q d")
)
right("04.7", "stacked heads")(
    lambda context, off: torch.stack(
        [torch.zeros_like(one) if gone else one for one, gone in zip(context.unbind(1), off.tolist(), strict=True)], 1
    )
)


@right("04.7", "a clone, and an index")
def _(context, off):
    result = context.clone()
    result[:, off] = 0
    return result


@right("04.7", "what stays, put into zeros")
def _(context, off):
    result = torch.zeros_like(context)
    stays = torch.nonzero(~off).flatten()
    result[:, stays] = context[:, stays]
    return result
