"""Rare natural answers to 04.1 to 04.7: two mistakes at once, PyTorch misread."""

import torch
from einops import einsum, rearrange, repeat
from torch.nn import functional as F

from tests.course.natural_answers.collect import Collection

collection = Collection("04.1", "04.2", "04.3", "04.5", "04.6", "04.7")
wrong, right, ANSWERS = collection.wrong, collection.right, collection.answers

# 04.1 attend ----------------------------------------------------------------------------------------------------------


def copies(x, q):
    return x.repeat_interleave(q.shape[1] // x.shape[1], dim=1)


@wrong("04.1", "the fused function with the mask inverted", "mask", "true", "wrong way")
def _(q, k, v, mask):
    return F.scaled_dot_product_attention(q, k, v, None if mask is None else ~mask, enable_gqa=True)


@wrong("04.1", "the fused function without a scale", "scale", "root")
def _(q, k, v, mask):
    return F.scaled_dot_product_attention(q, k, v, mask, scale=1.0, enable_gqa=True)


@wrong("04.1", "the fused function without groups", "error", "head", "shape", "size")
def _(q, k, v, mask):
    return F.scaled_dot_product_attention(q, k, v, mask)


@wrong("04.1", "the root of the number of key heads", "root", "head", "scale")
def _(q, k, v, mask):
    size = k.shape[1]
    k, v = copies(k, q), copies(v, q)
    scores = (q @ k.mT).float() / size**0.5
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf)
    return scores.softmax(dim=-1).to(q.dtype) @ v


@wrong("04.1", "no axis named for the softmax", "softmax", "head", "axis", "dim")
def _(q, k, v, mask):
    k, v = copies(k, q), copies(v, q)
    scores = (q @ k.mT).float() * q.shape[-1] ** -0.5
    if mask is not None:
        scores = scores.masked_fill(~mask, -1e9)
    return F.softmax(scores, dim=1).to(q.dtype) @ v


@wrong("04.1", "no scale, and the groups the other way", "scale", "group", "neighbour")
def _(q, k, v, mask):
    group = q.shape[1] // k.shape[1]
    scores = (q @ k.repeat(1, group, 1, 1).mT).float()
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf)
    return scores.softmax(dim=-1).to(q.dtype) @ v.repeat(1, group, 1, 1)


@wrong("04.1", "no scale, and the mask after the softmax", "scale", "mask", "softmax")
def _(q, k, v, mask):
    weights = (q @ copies(k, q).mT).float().softmax(dim=-1)
    weights = weights if mask is None else weights * mask
    return weights.to(q.dtype) @ copies(v, q)


@wrong("04.1", "no scale, no mask", "scale", "mask")
def _(q, k, v, mask):
    return (q @ copies(k, q).mT).float().softmax(dim=-1).to(q.dtype) @ copies(v, q)


@wrong("04.1", "weights turned round", "transpose", "weights", "axis", "quer", "error")
def _(q, k, v, mask):
    scores = (q @ copies(k, q).mT).float() * q.shape[-1] ** -0.5
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf)
    return scores.softmax(dim=-1).mT.to(q.dtype) @ copies(v, q)


@wrong("04.1", "a mean of the visible values", "score", "mean", "alike", "same", "even", "weight")
def _(q, k, v, mask):
    seen = torch.ones(q.shape[2], k.shape[2]) if mask is None else mask.float()
    weights = (seen / seen.sum(dim=-1, keepdim=True)).to(q.dtype)
    return einsum(weights, copies(v, q), "query key, batch head key head_dim -> batch head query head_dim")


@wrong("04.1", "the best key takes all", "softmax", "largest", "argmax", "best", "one")
def _(q, k, v, mask):
    scores = (q @ copies(k, q).mT).float()
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf)
    return F.one_hot(scores.argmax(dim=-1), k.shape[2]).to(q.dtype) @ copies(v, q)


@wrong("04.1", "a sigmoid for the softmax", "sigmoid", "softmax", "sum to 1")
def _(q, k, v, mask):
    scores = (q @ copies(k, q).mT).float() * q.shape[-1] ** -0.5
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf)
    return scores.sigmoid().to(q.dtype) @ copies(v, q)


@wrong("04.1", "exp, never divided by its sum", "softmax", "sum", "divide", "normal")
def _(q, k, v, mask):
    scores = (q @ copies(k, q).mT).float() * q.shape[-1] ** -0.5
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf)
    return scores.exp().to(q.dtype) @ copies(v, q)


# 04.2 chunk_mask ------------------------------------------------------------------------------------------------------

ones = torch.ones

wrong("04.2", "diagonal with the wrong sign", "sign", "keys - queries", "first", "before", "queries")(
    lambda queries, keys: ones(queries, keys).tril(queries - keys).bool()
)
wrong("04.2", "the triangle in front", "front", "first", "chunk", "before", "last", "other")(
    lambda queries, keys: torch.cat(
        (ones(queries, queries).tril().bool(), ones(queries, keys - queries, dtype=torch.bool)), dim=1
    )
)
wrong("04.2", "positions that begin behind the keys", "future", "everything", "every key", "position")(
    lambda queries, keys: torch.arange(keys, keys + queries)[:, None] >= torch.arange(keys)
)
wrong("04.2", "the last query only, for all", "future", "everything", "every key", "own", "same")(
    lambda queries, keys: (torch.arange(keys) <= keys - 1).expand(queries, keys)
)
wrong("04.2", "the first query only, for all", "same", "row", "own", "each", "first")(
    lambda queries, keys: (torch.arange(keys) <= keys - queries).expand(queries, keys)
)
wrong("04.2", "axes for batch and head", "axes", "shape")(
    lambda queries, keys: ones(1, 1, queries, keys).tril(keys - queries).bool()
)
wrong("04.2", "NumPy's array", "ndarray", "tensor")(
    lambda queries, keys: ones(queries, keys).tril(keys - queries).bool().numpy()
)
wrong("04.2", "itself alone", "itself", "diagonal", "before", "only")(
    lambda queries, keys: torch.arange(keys - queries, keys)[:, None] == torch.arange(keys)
)
wrong("04.2", "all others", "itself", "own", "future", "diagonal")(
    lambda queries, keys: torch.arange(keys - queries, keys)[:, None] != torch.arange(keys)
)

# 04.3 attend_in_groups ------------------------------------------------------------------------------------------------

SCORES = "batch head group query head_dim, batch head key head_dim -> batch head group query key"
MIX = "batch head group query key, batch head key head_dim -> batch head group query head_dim"


def in_groups(q, k):
    return rearrange(q, "batch (head group) query head_dim -> batch head group query head_dim", head=k.shape[1])


def together(found):
    return rearrange(found, "batch head group query head_dim -> batch (head group) query head_dim")


@wrong("04.3", "no scale, no mask", "scale", "mask")
def _(q, k, v, mask):
    return together(einsum(einsum(in_groups(q, k), k, SCORES).softmax(dim=-1), v, MIX))


@wrong("04.3", "groups in the scores, the first of them in the mix", "group", "first", "one")
def _(q, k, v, mask):
    scores = einsum(in_groups(q, k), k, SCORES) * q.shape[-1] ** -0.5
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf)
    first = repeat(scores[:, :, 0].softmax(-1) @ v, "b head q d -> b head group q d", group=scores.shape[2])
    return together(first)


@wrong("04.3", "the keys split into groups, not the queries", "key", "query", "group", "error", "shape")
def _(q, k, v, mask):
    k = rearrange(k, "batch (head group) key head_dim -> batch head group key head_dim", head=q.shape[1])
    scores = einsum(q, k, "batch head query head_dim, batch head group key head_dim -> batch head group query key")
    return einsum(scores.softmax(-1), v, "b head group query key, b head key d -> b head query d")


@wrong("04.3", "the queries summed in the mix", "group", "sum", "query")
def _(q, k, v, mask):
    scores = einsum(in_groups(q, k), k, SCORES) * q.shape[-1] ** -0.5
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf)
    pattern = "b head group query key, b head key d -> b head query d"
    mixed = einsum(scores.softmax(-1), v, pattern)
    return repeat(mixed, "b head query d -> b (head group) query d", group=scores.shape[2])


@wrong("04.3", "the scores without a softmax", "softmax", "weights")
def _(q, k, v, mask):
    scores = einsum(in_groups(q, k), k, SCORES) * q.shape[-1] ** -0.5
    return together(einsum(scores if mask is None else scores * mask, v, MIX))


# 04.5 attention_weights -----------------------------------------------------------------------------------------------


def every_score(q, k):
    return einsum(q, k, "head query head_dim, head key head_dim -> head query key")


@wrong("04.5", "divided by the sum of everything", "sum", "row", "all")
def _(q, k, mask):
    weights = (every_score(q, k) * q.shape[-1] ** -0.5).softmax(dim=-1) * mask
    return weights / weights.sum()


@wrong("04.5", "divided by the largest", "largest", "sum", "row", "max")
def _(q, k, mask):
    weights = (every_score(q, k) * q.shape[-1] ** -0.5).softmax(dim=-1) * mask
    return weights / weights.amax(dim=-1, keepdim=True)


@wrong("04.5", "-inf after the softmax", "-inf", "before", "after", "softmax")
def _(q, k, mask):
    return (every_score(q, k) * q.shape[-1] ** -0.5).softmax(dim=-1).masked_fill(~mask, -torch.inf)


@wrong("04.5", "a logarithm more", "log")
def _(q, k, mask):
    return (every_score(q, k) * q.shape[-1] ** -0.5).masked_fill(~mask, -torch.inf).log_softmax(dim=-1)


@wrong("04.5", "no scale, and the mask after the softmax", "scale", "mask")
def _(q, k, mask):
    return every_score(q, k).softmax(dim=-1) * mask


@wrong("04.5", "head_dim without a root, and the mask after the softmax", "root", "mask")
def _(q, k, mask):
    return (every_score(q, k) / q.shape[-1]).softmax(dim=-1) * mask


@wrong("04.5", "the root twice", "root", "scale", "twice")
def _(q, k, mask):
    return (every_score(q, k) * q.shape[-1] ** -0.25).masked_fill(~mask, -torch.inf).softmax(dim=-1)


@wrong("04.5", "one softmax over all heads and keys", "softmax", "head", "row")
def _(q, k, mask):
    scores = (every_score(q, k) * q.shape[-1] ** -0.5).masked_fill(~mask, -torch.inf)
    flat = rearrange(scores, "head query key -> query (head key)").softmax(dim=-1)
    return rearrange(flat, "query (head key) -> head query key", head=len(q))


# 04.6 cache_bytes -----------------------------------------------------------------------------------------------------

wrong("04.6", "keys only, of one layer", "value", "layer")(
    lambda layers, heads, kv_heads, head_dim, tokens, bytes_each: kv_heads * head_dim * tokens * bytes_each
)
wrong("04.6", "keys only, and numbers", "value", "byte")(
    lambda layers, heads, kv_heads, head_dim, tokens, bytes_each: layers * kv_heads * head_dim * tokens
)
wrong("04.6", "query heads, and numbers", "head", "byte", "number")(
    lambda layers, heads, kv_heads, head_dim, tokens, bytes_each: 2 * layers * heads * head_dim * tokens
)
wrong("04.6", "query heads, of one layer", "head", "layer")(
    lambda layers, heads, kv_heads, head_dim, tokens, bytes_each: 2 * heads * head_dim * tokens * bytes_each
)
wrong("04.6", "one layer, and numbers", "layer", "byte")(
    lambda layers, heads, kv_heads, head_dim, tokens, bytes_each: 2 * kv_heads * head_dim * tokens
)
wrong("04.6", "both kinds of heads", "head", "quer")(
    lambda layers, heads, kv_heads, head_dim, tokens, bytes_each: (
        2 * layers * (heads + kv_heads) * head_dim * tokens * bytes_each
    )
)
wrong("04.6", "heads times key heads", "head", "quer")(
    lambda layers, heads, kv_heads, head_dim, tokens, bytes_each: (
        2 * layers * heads * kv_heads * head_dim * tokens * bytes_each
    )
)
wrong("04.6", "saved by the group once more", "group", "head", "divide", "already")(
    lambda layers, heads, kv_heads, head_dim, tokens, bytes_each: (
        2 * layers * kv_heads * head_dim * tokens * bytes_each * kv_heads // heads
    )
)

# 04.7 switch_off ------------------------------------------------------------------------------------------------------


@wrong("04.7", "the copy changed, the original returned", "no head", "copy", "return", "same", "off")
def _(context, off):
    context.clone()[:, off] = 0
    return context


@wrong("04.7", "indexed in the batch", "error", "head", "batch", "axis", "index")
def _(context, off):
    result = context.clone()
    result[off] = 0
    return result


@wrong("04.7", "everything but the shape is gone", "all", "everywhere", "zero")
def _(context, off):
    return torch.zeros_like(context)


@wrong("04.7", "the mean of the other heads", "mean", "other", "zero")
def _(context, off):
    result, stays = context.clone(), context[:, ~off]
    result[:, off] = stays.mean(dim=1, keepdim=True) if stays.shape[1] else 0
    return result


@wrong("04.7", "halved", "half", "zero", "times")
def _(context, off):
    return torch.where(rearrange(off, "head -> head 1 1"), context / 2, context)


@wrong("04.7", "turned off by order, not by mask", "order", "which", "number", "many", "last")
def _(context, off):
    result, count = context.clone(), int(off.sum())
    result[:, len(off) - count :] = 0
    return result


@wrong("04.7", "the first channel of each head", "channel", "every", "all", "only", "first", "head_dim")
def _(context, off):
    result = context.clone()
    result[:, off, :, 0] = 0
    return result
