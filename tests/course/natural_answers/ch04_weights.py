"""Natural answers to 04.2 and 04.5: the mask of a later chunk, and weights that do not add up."""

import torch
from einops import einsum, rearrange

from tests.course.natural_answers.collect import Collection

collection = Collection("04.2", "04.5")
wrong, right, ANSWERS = collection.wrong, collection.right, collection.answers

# 04.2 chunk_mask ------------------------------------------------------------------------------------------------------


def lower(queries, keys, diagonal=0):
    return torch.ones(queries, keys, dtype=torch.bool).tril(diagonal)


wrong("04.2", "aligned to the first key", "first key", "last", "align", "chunk", "before")(
    lambda queries, keys: lower(queries, keys)
)
wrong("04.2", "without itself", "itself", "own", "diagonal")(
    lambda queries, keys: lower(queries, keys, keys - queries - 1)
)
wrong("04.2", "the next token too", "next", "future", "one too", "after")(
    lambda queries, keys: lower(queries, keys, keys - queries + 1)
)
wrong("04.2", "True where it is hidden", "invert", "true", "hid", "opposite")(
    lambda queries, keys: ~lower(queries, keys, keys - queries)
)
wrong("04.2", "the upper triangle", "upper", "future", "triangle", "after", "triu")(
    lambda queries, keys: torch.ones(queries, keys, dtype=torch.bool).triu(keys - queries)
)
wrong("04.2", "(key, query)", "shape", "quer", "transpose", "axis")(
    lambda queries, keys: lower(queries, keys, keys - queries).T
)
wrong("04.2", "a square of all keys", "shape", "queries", "rows", "square")(lambda queries, keys: lower(keys, keys))
wrong("04.2", "a square of the queries", "shape", "keys", "columns", "square")(
    lambda queries, keys: lower(queries, queries)
)
wrong("04.2", "ones and zeros", "bool", "dtype", "float")(
    lambda queries, keys: torch.ones(queries, keys).tril(keys - queries)
)
wrong("04.2", "0 and -inf, to be added", "bool", "dtype", "float")(
    lambda queries, keys: torch.zeros(queries, keys).masked_fill(~lower(queries, keys, keys - queries), -torch.inf)
)
wrong("04.2", "whole numbers", "bool", "dtype", "int")(
    lambda queries, keys: lower(queries, keys, keys - queries).long()
)
wrong("04.2", "everything", "future", "everything", "all", "triangle")(
    lambda queries, keys: torch.ones(queries, keys, dtype=torch.bool)
)
wrong("04.2", "only the chunk itself", "earlier", "before", "chunk", "all keys")(
    lambda queries, keys: lower(queries, keys, keys - queries) & (torch.arange(keys) >= keys - queries)
)
wrong("04.2", "only what comes before the chunk", "itself", "chunk", "own", "same", "before")(
    lambda queries, keys: (torch.arange(keys) < keys - queries).expand(queries, keys).clone()
)
wrong("04.2", "a window as long as the chunk", "window", "all before", "earlier", "first")(
    lambda queries, keys: lower(queries, keys, keys - queries) & ~lower(queries, keys, keys - 2 * queries)
)


@right("04.2", "rows of a square, counted from the end")  # of no use for a chunk without tokens
def _(queries, keys):
    return lower(keys, keys)[-queries:]


@wrong("04.2", "the first rows of a square", "first", "last", "align", "chunk", "before")
def _(queries, keys):
    return lower(keys, keys)[:queries]


@wrong("04.2", "query counted from the end of the keys", "revers", "order", "last", "first", "backward")
def _(queries, keys):
    query, key = torch.arange(queries), torch.arange(keys)
    return key[None] <= keys - 1 - query[:, None]


@wrong("04.2", "a shift by queries in place of keys - queries", "keys", "shift", "align", "before", "chunk", "first")
def _(queries, keys):
    query, key = torch.arange(queries), torch.arange(keys)
    return key[None] <= query[:, None] + queries


@wrong("04.2", "lists", "list", "tensor")
def _(queries, keys):
    return [[key <= keys - queries + query for key in range(keys)] for query in range(queries)]


right("04.2", "tril with a shifted diagonal")(lambda queries, keys: lower(queries, keys, diagonal=keys - queries))
right("04.2", "triu, inverted")(
    lambda queries, keys: torch.triu(torch.ones(queries, keys), diagonal=keys - queries + 1) == 0
)
right("04.2", "the last rows of a square")(lambda queries, keys: lower(keys, keys)[keys - queries :])


@right("04.2", "row by row")
def _(queries, keys):
    mask = torch.zeros(queries, keys, dtype=torch.bool)
    for query in range(queries):
        mask[query, : keys - queries + query + 1] = True
    return mask


@right("04.2", "positions compared")
def _(queries, keys):
    query = rearrange(torch.arange(keys - queries, keys), "query -> query 1")
    return query >= rearrange(torch.arange(keys), "key -> 1 key")


@right("04.2", "everything before, and a triangle")
def _(queries, keys):
    before = torch.ones(queries, keys - queries, dtype=torch.bool)
    return torch.cat((before, torch.ones(queries, queries).tril().bool()), dim=1)


@right("04.2", "NumPy")
def _(queries, keys):
    import numpy as np

    return torch.from_numpy(np.tri(queries, keys, keys - queries, dtype=bool))


# 04.5 attention_weights -----------------------------------------------------------------------------------------------


def every_score(q, k):
    return einsum(q, k, "head query head_dim, head key head_dim -> head query key")


@wrong("04.5", "as it was", "unchanged", "root", "mask")
def _(q, k, mask):
    return (every_score(q, k) * (q.shape[0] * q.shape[-1]) ** -0.5).softmax(dim=-1) * mask


@wrong("04.5", "only the root repaired", "mask", "after", "sum to 1", "softmax")
def _(q, k, mask):
    return (every_score(q, k) * q.shape[-1] ** -0.5).softmax(dim=-1) * mask


@wrong("04.5", "only the mask repaired", "root", "scale", "number of heads", "heads")
def _(q, k, mask):
    scores = every_score(q, k) * (q.shape[0] * q.shape[-1]) ** -0.5
    return scores.masked_fill(~mask, -torch.inf).softmax(dim=-1)


@wrong("04.5", "mask inverted", "mask", "invert", "true")
def _(q, k, mask):
    return (every_score(q, k) * q.shape[-1] ** -0.5).masked_fill(mask, -torch.inf).softmax(dim=-1)


@wrong("04.5", "mask multiplied into the scores", "0", "zero", "mask", "-inf")
def _(q, k, mask):
    return (every_score(q, k) * q.shape[-1] ** -0.5 * mask).softmax(dim=-1)


@wrong("04.5", "a small negative number", "mask", "-inf", "small", "0", "large")
def _(q, k, mask):
    return (every_score(q, k) * q.shape[-1] ** -0.5).masked_fill(~mask, -1.0).softmax(dim=-1)


@wrong("04.5", "head_dim without a root", "root", "head_dim", "scale")
def _(q, k, mask):
    return (every_score(q, k) / q.shape[-1]).masked_fill(~mask, -torch.inf).softmax(dim=-1)


@wrong("04.5", "no scale any more", "root", "scale")
def _(q, k, mask):
    return every_score(q, k).masked_fill(~mask, -torch.inf).softmax(dim=-1)


@wrong("04.5", "the root of the number of heads", "root", "heads", "head_dim", "scale")
def _(q, k, mask):
    return (every_score(q, k) * q.shape[0] ** -0.5).masked_fill(~mask, -torch.inf).softmax(dim=-1)


@wrong("04.5", "the root of the number of queries", "root", "quer", "head_dim", "scale")
def _(q, k, mask):
    return (every_score(q, k) * q.shape[1] ** -0.5).masked_fill(~mask, -torch.inf).softmax(dim=-1)


@wrong("04.5", "softmax over the heads", "softmax", "head", "key", "nan", "axis")
def _(q, k, mask):
    return (every_score(q, k) * q.shape[-1] ** -0.5).masked_fill(~mask, -torch.inf).softmax(dim=0)


@wrong("04.5", "softmax over the queries", "softmax", "quer", "key", "axis")
def _(q, k, mask):
    return (every_score(q, k) * q.shape[-1] ** -0.5).masked_fill(~mask, -torch.inf).softmax(dim=1)


@wrong("04.5", "renormalised over the queries", "sum", "quer", "column", "axis", "key")
def _(q, k, mask):
    weights = (every_score(q, k) * q.shape[-1] ** -0.5).softmax(dim=-1) * mask
    return weights / weights.sum(dim=1, keepdim=True)


@wrong("04.5", "divided by the number of visible keys", "sum", "number", "count", "renormal", "divide", "mean")
def _(q, k, mask):
    weights = (every_score(q, k) * q.shape[-1] ** -0.5).softmax(dim=-1) * mask
    return weights / mask.sum(dim=-1, keepdim=True)


@wrong("04.5", "a second softmax, with the mask", "twice", "second", "softmax")
def _(q, k, mask):
    weights = (every_score(q, k) * q.shape[-1] ** -0.5).softmax(dim=-1)
    return weights.masked_fill(~mask, -torch.inf).softmax(dim=-1)


@wrong("04.5", "renormalised by softmax, after zeros", "twice", "second", "softmax", "zero", "mask")
def _(q, k, mask):
    weights = (every_score(q, k) * q.shape[-1] ** -0.5).softmax(dim=-1)
    return (weights * mask).softmax(dim=-1)


@wrong("04.5", "renormalised, the root as it was", "root", "scale", "heads")
def _(q, k, mask):
    weights = (every_score(q, k) * (q.shape[0] * q.shape[-1]) ** -0.5).softmax(dim=-1) * mask
    return weights / weights.sum(dim=-1, keepdim=True)


@wrong("04.5", "a triangle in place of the mask", "mask", "triangle", "given", "own", "causal")
def _(q, k, mask):
    scores = every_score(q, k) * q.shape[-1] ** -0.5
    return scores.masked_fill(torch.ones_like(scores).triu(1).bool(), -torch.inf).softmax(dim=-1)


@wrong("04.5", "mask inverted in place", "in place", "argument", "mask")
def _(q, k, mask):
    return (every_score(q, k) * q.shape[-1] ** -0.5).masked_fill(mask.logical_not_(), -torch.inf).softmax(dim=-1)


@wrong("04.5", "keys before queries", "transpose", "axis", "order", "quer", "shape")
def _(q, k, mask):
    weights = (every_score(q, k) * q.shape[-1] ** -0.5).masked_fill(~mask, -torch.inf).softmax(dim=-1)
    return weights.mT


@right("04.5", "masked_fill before the softmax")
def _(q, k, mask):
    scores = every_score(q, k) / q.shape[-1] ** 0.5
    return torch.softmax(scores.masked_fill(mask == 0, float("-inf")), dim=-1)


@right("04.5", "renormalised after the mask")
def _(q, k, mask):
    weights = (every_score(q, k) * q.shape[-1] ** -0.5).softmax(dim=-1) * mask
    return weights / weights.sum(dim=-1, keepdim=True)


@right("04.5", "exp of the visible scores")
def _(q, k, mask):
    shares = (q @ k.mT / q.shape[-1] ** 0.5).exp() * mask
    return shares / shares.sum(dim=-1, keepdim=True)


@right("04.5", "where")
def _(q, k, mask):
    return torch.where(mask, q @ k.transpose(1, 2) * q.shape[2] ** -0.5, -torch.inf).softmax(2)


@right("04.5", "one head and one query at a time")
def _(q, k, mask):
    weights = torch.zeros(*q.shape[:2], k.shape[1], dtype=q.dtype)
    for head in range(len(q)):
        for query in range(q.shape[1]):
            visible = mask[query].nonzero().flatten()
            scores = k[head, visible] @ q[head, query] / q.shape[-1] ** 0.5
            weights[head, query, visible] = scores.softmax(dim=0)
    return weights


@right("04.5", "an added mask, scaled queries")
def _(q, k, mask):
    added = torch.zeros(mask.shape, dtype=q.dtype).masked_fill(mask.logical_not(), -torch.inf)
    return torch.softmax(torch.bmm(q * q.shape[-1] ** -0.5, k.transpose(-1, -2)) + added, dim=-1)
