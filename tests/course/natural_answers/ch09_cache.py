"""Natural answers to 09.1, 09.2 and 09.9: append to the cache, one query, copies of rows."""

import torch
from einops import einsum, rearrange, reduce, repeat
from torch.nn import functional as F

from tests.course.natural_answers.collect import Collection

collection = Collection("09.1", "09.2", "09.9")
wrong, right, ANSWERS = collection.wrong, collection.right, collection.answers

# 09.1 append ----------------------------------------------------------------------------------------------------------


@wrong("09.1", "written at the front", "front", "start", "behind", "overwrit", "first", "length")
def _(keys, values, length, k, v):
    new = k.shape[2]
    keys[:, :, :new], values[:, :, :new] = k, v
    return keys[:, :, : length + new], values[:, :, : length + new]


@wrong("09.1", "joined, not stored", "into", "in place", "unchanged", "store", "written", "new tensor", "rectangle")
def _(keys, values, length, k, v):
    return torch.cat([keys[:, :, :length], k], dim=2), torch.cat([values[:, :, :length], v], dim=2)


@wrong("09.1", "joined to the whole rectangle", "capacity", "filled", "length", "whole", "rectangle")
def _(keys, values, length, k, v):
    return torch.cat([keys, k], dim=2), torch.cat([values, v], dim=2)


@wrong("09.1", "only the new ones returned", "all", "earlier", "before", "new", "so far")
def _(keys, values, length, k, v):
    stop = length + k.shape[2]
    keys[:, :, length:stop], values[:, :, length:stop] = k, v
    return k, v


@wrong("09.1", "the whole rectangle returned", "capacity", "filled", "whole", "memory", "rectangle", "free")
def _(keys, values, length, k, v):
    stop = length + k.shape[2]
    keys[:, :, length:stop], values[:, :, length:stop] = k, v
    return keys, values


@wrong("09.1", "one token at a time", "one", "several", "position", "prompt", "more than")
def _(keys, values, length, k, v):
    keys[:, :, length], values[:, :, length] = k[:, :, -1], v[:, :, -1]
    return keys[:, :, : length + 1], values[:, :, : length + 1]


@wrong("09.1", "from length to the end", "end", "stop", "place", "position", "shape", "size", "capacity", "room")
def _(keys, values, length, k, v):
    keys[:, :, length:], values[:, :, length:] = k, v
    return keys[:, :, : length + k.shape[2]], values[:, :, : length + k.shape[2]]


@wrong("09.1", "a place left free", "one", "gap", "hole", "free", "late", "behind")
def _(keys, values, length, k, v):
    start, stop = length + 1, length + 1 + k.shape[2]
    keys[:, :, start:stop] = k[:, :, : keys.shape[2] - start]
    values[:, :, start:stop] = v[:, :, : keys.shape[2] - start]
    return keys[:, :, : length + k.shape[2]], values[:, :, : length + k.shape[2]]


@wrong("09.1", "the last token overwritten", "one", "last", "overwrit", "early", "length")
def _(keys, values, length, k, v):
    start = max(length - 1, 0)
    keys[:, :, start : start + k.shape[2]], values[:, :, start : start + k.shape[2]] = k, v
    return keys[:, :, : length + k.shape[2]], values[:, :, : length + k.shape[2]]


@wrong("09.1", "k in both", "values", "v", "keys", "both")
def _(keys, values, length, k, v):
    stop = length + k.shape[2]
    keys[:, :, length:stop] = values[:, :, length:stop] = k
    return keys[:, :, :stop], values[:, :, :stop]


@wrong("09.1", "without the new ones", "new", "length", "stop", "without", "position", "shape")
def _(keys, values, length, k, v):
    stop = length + k.shape[2]
    keys[:, :, length:stop], values[:, :, length:stop] = k, v
    return keys[:, :, :length], values[:, :, :length]


@wrong("09.1", "stored in a copy", "copy", "in place", "into", "unchanged", "store", "rectangle")
def _(keys, values, length, k, v):
    keys, values, stop = keys.clone(), values.clone(), length + k.shape[2]
    keys[:, :, length:stop], values[:, :, length:stop] = k, v
    return keys[:, :, :stop], values[:, :, :stop]


@wrong("09.1", "at the end of the rectangle", "end", "last", "capacity", "length", "behind", "filled")
def _(keys, values, length, k, v):
    keys[:, :, -k.shape[2] :], values[:, :, -k.shape[2] :] = k, v
    return keys[:, :, : length + k.shape[2]], values[:, :, : length + k.shape[2]]


@wrong("09.1", "only the keys returned", "two", "values", "pair", "tuple", "both")
def _(keys, values, length, k, v):
    stop = length + k.shape[2]
    keys[:, :, length:stop], values[:, :, length:stop] = k, v
    return keys[:, :, :stop]


@wrong("09.1", "along the heads", "axis", "head", "position", "shape", "size")
def _(keys, values, length, k, v):
    keys[:, length : length + k.shape[1]], values[:, length : length + k.shape[1]] = k, v
    return keys[:, : length + k.shape[1]], values[:, : length + k.shape[1]]


@right("09.1", "narrow and copy_")
def _(keys, values, length, k, v):
    new = k.shape[2]
    keys.narrow(2, length, new).copy_(k)
    values.narrow(2, length, new).copy_(v)
    return keys.narrow(2, 0, length + new), values.narrow(2, 0, length + new)


@right("09.1", "index_copy_")
def _(keys, values, length, k, v):
    places = torch.arange(length, length + k.size(-2))
    keys.index_copy_(2, places, k)
    values.index_copy_(2, places, v)
    return keys[..., : length + len(places), :], values[..., : length + len(places), :]


@right("09.1", "token by token")
def _(keys, values, length, k, v):
    for step in range(k.shape[2]):
        keys[:, :, length + step] = k[:, :, step]
        values[:, :, length + step] = v[:, :, step]
    stop = length + k.shape[2]
    return keys[:, :, :stop], values[:, :, :stop]


@right("09.1", "joined and written back")
def _(keys, values, length, k, v):
    results = []
    for stored, new in ((keys, k), (values, v)):
        joined = torch.cat([stored[:, :, :length], new], dim=2)
        stored[:, :, : joined.shape[2]] = joined
        results.append(joined)
    return tuple(results)


@right("09.1", "a list of two")
def _(keys, values, length, k, v):
    stop = length + k.shape[-2]
    keys[..., length:stop, :], values[..., length:stop, :] = k, v
    return [keys[..., :stop, :].clone(), values[..., :stop, :].clone()]


# 09.2 attend_one ------------------------------------------------------------------------------------------------------


def scores_of(q, keys):
    return einsum(q, keys, "head head_dim, head key head_dim -> head key") / q.shape[-1] ** 0.5


def mixed(weights, values):
    return einsum(weights, values, "head key, head key head_dim -> head head_dim")


@wrong("09.2", "no mask", "all", "capacity", "behind", "length", "mask", "filled", "memory")
def _(q, keys, values, length):
    return mixed(scores_of(q, keys).softmax(dim=-1), values)


@wrong("09.2", "without the newest", "newest", "last", "own", "one", "itself")
def _(q, keys, values, length):
    filled = max(length - 1, 1)
    return mixed(scores_of(q, keys[:, :filled]).softmax(dim=-1), values[:, :filled])


@wrong("09.2", "one place more", "one", "behind", "more", "length", "memory", "filled")
def _(q, keys, values, length):
    return mixed(scores_of(q, keys[:, : length + 1]).softmax(dim=-1), values[:, : length + 1])


@wrong("09.2", "no scaling", "scale", "root", "divide", "head_dim")
def _(q, keys, values, length):
    scores = einsum(q, keys[:, :length], "head head_dim, head key head_dim -> head key")
    return mixed(scores.softmax(dim=-1), values[:, :length])


@wrong("09.2", "divided by head_dim", "root", "scale", "head_dim", "divide")
def _(q, keys, values, length):
    scores = einsum(q, keys[:, :length], "head head_dim, head key head_dim -> head key") / q.shape[-1]
    return mixed(scores.softmax(dim=-1), values[:, :length])


@wrong("09.2", "divided by the root of the keys", "root", "scale", "head_dim", "divide", "keys")
def _(q, keys, values, length):
    scores = einsum(q, keys[:, :length], "head head_dim, head key head_dim -> head key") / length**0.5
    return mixed(scores.softmax(dim=-1), values[:, :length])


@wrong("09.2", "zeros for a mask", "zero", "inf", "weight", "mask", "softmax", "behind")
def _(q, keys, values, length):
    scores = scores_of(q, keys)
    scores[:, length:] = 0
    return mixed(scores.softmax(dim=-1), values)


@wrong("09.2", "cut after the softmax", "softmax", "before", "after", "sum", "one", "behind")
def _(q, keys, values, length):
    weights = scores_of(q, keys).softmax(dim=-1)
    return mixed(weights[:, :length], values[:, :length])


@wrong("09.2", "softmax over the heads", "head", "axis", "softmax", "keys")
def _(q, keys, values, length):
    return mixed(scores_of(q, keys[:, :length]).softmax(dim=0), values[:, :length])


@wrong("09.2", "a mixture of the keys", "values", "keys")
def _(q, keys, values, length):
    return mixed(scores_of(q, keys[:, :length]).softmax(dim=-1), keys[:, :length])


@wrong("09.2", "a causal triangle", "triangle", "first", "causal", "row", "query", "beginning", "last")
def _(q, keys, values, length):
    return rearrange(
        F.scaled_dot_product_attention(rearrange(q, "head dim -> head 1 dim"), keys, values, is_causal=True),
        "head 1 dim -> head dim",
    )


@wrong("09.2", "masked scores, but all values", "values", "nan", "times", "memory", "0", "behind")
def _(q, keys, values, length):
    scores = scores_of(q, keys)
    scores[:, length:] = -torch.inf
    return mixed(scores.softmax(dim=-1), values)


@wrong("09.2", "the last places", "first", "last", "end", "behind", "places")
def _(q, keys, values, length):
    return mixed(scores_of(q, keys[:, -length:]).softmax(dim=-1), values[:, -length:])


@wrong("09.2", "no softmax", "softmax", "sum", "one", "weight")
def _(q, keys, values, length):
    return mixed(scores_of(q, keys[:, :length]), values[:, :length])


@wrong("09.2", "the newest value alone", "last", "newest", "all", "mixture", "one")
def _(q, keys, values, length):
    return values[:, length - 1]


@right("09.2", "scaled_dot_product_attention")
def _(q, keys, values, length):
    return F.scaled_dot_product_attention(q[:, None], keys[:, :length], values[:, :length])[:, 0]


@right("09.2", "head by head")
def _(q, keys, values, length):
    heads = []
    for query, key, value in zip(q, keys, values, strict=True):
        weights = torch.softmax(key[:length] @ query / len(query) ** 0.5, dim=0)
        heads.append(weights @ value[:length])
    return torch.stack(heads)


@right("09.2", "the query scaled, exponentials by hand")
def _(q, keys, values, length):
    keys, values = keys[:, :length].double(), values[:, :length].double()
    scores = torch.einsum("hd,hkd->hk", q.double() * q.shape[1] ** -0.5, keys)
    heights = (scores - scores.amax(1, keepdim=True)).exp()
    return (torch.einsum("hk,hkd->hd", heights, values) / heights.sum(1, keepdim=True)).to(q.dtype)


@right("09.2", "a mask for scores and values")
def _(q, keys, values, length):
    filled = torch.arange(keys.shape[1]) < length
    scores = scores_of(q, keys).masked_fill(~filled, -torch.inf)
    return mixed(scores.softmax(dim=-1), torch.where(filled[:, None], values, 0.0))


@right("09.2", "batched products")
def _(q, keys, values, length):
    keys, values = keys[:, :length], values[:, :length]
    weights = torch.bmm(q.unsqueeze(1), keys.mT).div(q.shape[-1] ** 0.5).softmax(-1)
    return (weights @ values).squeeze(1)


# 09.9 worlds ----------------------------------------------------------------------------------------------------------

AXES = "head position head_dim"


@wrong("09.9", "copies before the batch", "neighbour", "order", "copies", "first", "batch")
def _(keys, copies):
    return repeat(keys, f"batch {AXES} -> (copies batch) {AXES}", copies=copies)


@wrong("09.9", "repeat of torch", "neighbour", "order", "copies", "batch")
def _(keys, copies):
    return keys.repeat(copies, 1, 1, 1)


@wrong("09.9", "copies of the heads", "head", "axis", "batch", "shape")
def _(keys, copies):
    return repeat(keys, "batch head position head_dim -> batch (head copies) position head_dim", copies=copies)


@wrong("09.9", "five axes", "axes", "axis", "shape", "one", "dimension", "bracket", "parenthes")
def _(keys, copies):
    return repeat(keys, f"batch {AXES} -> batch copies {AXES}", copies=copies)


@wrong("09.9", "copies of the positions", "position", "axis", "batch", "shape")
def _(keys, copies):
    return repeat(keys, "batch head position head_dim -> batch head (position copies) head_dim", copies=copies)


@wrong("09.9", "rearranged, not repeated", "repeat", "rearrange", "copies", "axis", "pattern")
def _(keys, copies):
    return rearrange(keys, f"batch {AXES} -> (batch copies) {AXES}", copies=copies)


@wrong("09.9", "repeat_interleave without an axis", "axis", "shape", "dim", "axes")
def _(keys, copies):
    return keys.repeat_interleave(copies)


@wrong("09.9", "ten copies always", "copies", "ten", "shape", "batch")
def _(keys, copies):
    return repeat(keys, f"batch {AXES} -> (batch copies) {AXES}", copies=10)


@wrong("09.9", "no copies", "copies", "shape", "batch")
def _(keys, copies):
    return keys


@wrong("09.9", "the batch repeated over and over", "neighbour", "order", "copies", "batch")
def _(keys, copies):
    return torch.cat([keys] * copies)


@wrong("09.9", "only the first text", "first", "text", "batch", "shape", "rows")
def _(keys, copies):
    return repeat(keys[0], f"{AXES} -> copies {AXES}", copies=copies)


@wrong("09.9", "one copy more", "copies", "one", "shape", "batch")
def _(keys, copies):
    return repeat(keys, f"batch {AXES} -> (batch copies) {AXES}", copies=copies + 1)


@right("09.9", "short names")
def _(keys, copies):
    return repeat(keys, "b h p d -> (b c) h p d", c=copies)


@right("09.9", "with an ellipsis")
def _(keys, copies):
    return repeat(keys, "batch ... -> (batch copies) ...", copies=copies)


@right("09.9", "in two steps")
def _(keys, copies):
    spread = repeat(keys, f"batch {AXES} -> copies batch {AXES}", copies=copies)
    return rearrange(spread, f"copies batch {AXES} -> (batch copies) {AXES}")


@right("09.9", "repeat_interleave")
def _(keys, copies):
    return keys.repeat_interleave(copies, dim=0)


@right("09.9", "rows picked by number")
def _(keys, copies):
    return keys[reduce(repeat(torch.arange(len(keys)), "row -> row copies", copies=copies), "a b -> (a b)", "max")]
