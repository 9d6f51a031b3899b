"""Natural answers to 04.1: attention written out."""

import torch
from einops import einsum, rearrange, repeat
from torch.nn import functional as F

from tests.course.natural_answers.collect import Collection

collection = Collection("04.1")
wrong, right, ANSWERS = collection.wrong, collection.right, collection.answers


def copies(x, q, order="(head group)"):
    """Key or value heads, one for each query head."""
    return repeat(x, f"batch head key head_dim -> batch {order} key head_dim", group=q.shape[1] // x.shape[1])


def every_score(q, k):
    """Each query against each key, not scaled."""
    return einsum(q, k, "batch head query head_dim, batch head key head_dim -> batch head query key")


def mixed(weights, v):
    """The values in the shares of the weights."""
    return einsum(weights.to(v.dtype), v, "batch head query key, batch head key head_dim -> batch head query head_dim")


def hidden_future(scores, mask):
    """-inf where the mask is False."""
    return scores if mask is None else scores.masked_fill(~mask, -torch.inf)


@wrong("04.1", "no root at all", "scale", "root", "scaled", "divided")
def _(q, k, v, mask):
    k, v = copies(k, q), copies(v, q)
    return mixed(hidden_future(every_score(q, k), mask).softmax(dim=-1, dtype=torch.float32), v)


@wrong("04.1", "divided by head_dim", "root", "head_dim", "scale")
def _(q, k, v, mask):
    k, v = copies(k, q), copies(v, q)
    scores = hidden_future(every_score(q, k) / q.shape[-1], mask)
    return mixed(scores.softmax(dim=-1, dtype=torch.float32), v)


@wrong("04.1", "multiplied by the root", "root", "divide", "multipl", "scale")
def _(q, k, v, mask):
    k, v = copies(k, q), copies(v, q)
    scores = hidden_future(every_score(q, k) * q.shape[-1] ** 0.5, mask)
    return mixed(scores.softmax(dim=-1, dtype=torch.float32), v)


@wrong("04.1", "the root of the width of all heads", "root", "head", "scale", "width", "hidden")
def _(q, k, v, mask):
    k, v = copies(k, q), copies(v, q)
    scores = hidden_future(every_score(q, k) / (q.shape[1] * q.shape[-1]) ** 0.5, mask)
    return mixed(scores.softmax(dim=-1, dtype=torch.float32), v)


@wrong("04.1", "the root of the number of keys", "root", "key", "scale", "head_dim")
def _(q, k, v, mask):
    k, v = copies(k, q), copies(v, q)
    scores = hidden_future(every_score(q, k) / k.shape[-2] ** 0.5, mask)
    return mixed(scores.softmax(dim=-1, dtype=torch.float32), v)


@wrong("04.1", "scaled after the softmax", "root", "scale", "softmax", "before")
def _(q, k, v, mask):
    k, v = copies(k, q), copies(v, q)
    weights = hidden_future(every_score(q, k), mask).softmax(dim=-1, dtype=torch.float32)
    return mixed(weights / q.shape[-1] ** 0.5, v)


@wrong("04.1", "mask the other way round", "invert", "mask", "true", "opposite", "hides")
def _(q, k, v, mask):
    k, v = copies(k, q), copies(v, q)
    scores = every_score(q, k) * q.shape[-1] ** -0.5
    if mask is not None:
        scores = scores.masked_fill(mask, -torch.inf)
    return mixed(scores.softmax(dim=-1, dtype=torch.float32), v)


@wrong("04.1", "mask after the softmax", "after", "softmax", "sum to 1", "mask")
def _(q, k, v, mask):
    k, v = copies(k, q), copies(v, q)
    weights = (every_score(q, k) * q.shape[-1] ** -0.5).softmax(dim=-1, dtype=torch.float32)
    return mixed(weights if mask is None else weights * mask, v)


@wrong("04.1", "masked scores are 0", "0", "zero", "-inf", "infinity", "mask")
def _(q, k, v, mask):
    k, v = copies(k, q), copies(v, q)
    scores = every_score(q, k) * q.shape[-1] ** -0.5
    if mask is not None:
        scores = scores * mask
    return mixed(scores.softmax(dim=-1, dtype=torch.float32), v)


@wrong("04.1", "mask added as 0 and 1", "mask", "add", "bool", "-inf")
def _(q, k, v, mask):
    k, v = copies(k, q), copies(v, q)
    scores = every_score(q, k) * q.shape[-1] ** -0.5
    if mask is not None:
        scores = scores + mask
    return mixed(scores.softmax(dim=-1, dtype=torch.float32), v)


@wrong("04.1", "mask not used", "mask", "future")
def _(q, k, v, mask):
    k, v = copies(k, q), copies(v, q)
    return mixed((every_score(q, k) * q.shape[-1] ** -0.5).softmax(dim=-1, dtype=torch.float32), v)


@wrong("04.1", "a triangle of one's own for the mask", "mask", "triangle", "causal", "given", "own")
def _(q, k, v, mask):
    k, v = copies(k, q), copies(v, q)
    scores = every_score(q, k) * q.shape[-1] ** -0.5
    scores = hidden_future(scores, torch.ones_like(scores[0, 0], dtype=torch.bool).tril())
    return mixed(scores.softmax(dim=-1, dtype=torch.float32), v)


@wrong("04.1", "the fused function with is_causal", "mask", "causal", "triangle", "given")
def _(q, k, v, mask):
    return F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)


@wrong("04.1", "no mask given: an error", "none", "mask")
def _(q, k, v, mask):
    k, v = copies(k, q), copies(v, q)
    scores = (every_score(q, k) * q.shape[-1] ** -0.5).masked_fill(~mask, -torch.inf)
    return mixed(scores.softmax(dim=-1, dtype=torch.float32), v)


@wrong("04.1", "softmax over the queries", "softmax", "quer", "keys", "axis")
def _(q, k, v, mask):
    k, v = copies(k, q), copies(v, q)
    scores = hidden_future(every_score(q, k) * q.shape[-1] ** -0.5, mask)
    return mixed(scores.softmax(dim=-2, dtype=torch.float32), v)


@wrong("04.1", "softmax over the heads", "softmax", "head", "keys", "axis", "nan")
def _(q, k, v, mask):
    k, v = copies(k, q), copies(v, q)
    scores = hidden_future(every_score(q, k) * q.shape[-1] ** -0.5, mask)
    return mixed(scores.softmax(dim=1, dtype=torch.float32), v)


@right("04.1", "softmax of bfloat16, which PyTorch computes in float32")
def _(q, k, v, mask):
    k, v = copies(k, q), copies(v, q)
    return mixed(hidden_future(every_score(q, k) * q.shape[-1] ** -0.5, mask).softmax(dim=-1), v)


@wrong("04.1", "the result stays in float32", "dtype", "float32", "bfloat16")
def _(q, k, v, mask):
    k, v = copies(k, q), copies(v, q)
    scores = hidden_future(every_score(q, k) * q.shape[-1] ** -0.5, mask)
    return mixed(scores.softmax(dim=-1, dtype=torch.float32), v.float())


@wrong("04.1", "copied the other way", "group", "neighbour", "share", "order", "head")
def _(q, k, v, mask):
    k, v = copies(k, q, "(group head)"), copies(v, q, "(group head)")
    scores = hidden_future(every_score(q, k) * q.shape[-1] ** -0.5, mask)
    return mixed(scores.softmax(dim=-1, dtype=torch.float32), v)


@wrong("04.1", "keys copied one way, values the other", "value", "group", "neighbour", "share", "order")
def _(q, k, v, mask):
    k, v = copies(k, q), v.repeat(1, q.shape[1] // v.shape[1], 1, 1)
    scores = hidden_future(every_score(q, k) * q.shape[-1] ** -0.5, mask)
    return mixed(scores.softmax(dim=-1, dtype=torch.float32), v)


@wrong("04.1", "the first key head for all", "first", "one", "group", "share", "head")
def _(q, k, v, mask):
    scores = einsum(q, k[:, 0], "batch head query head_dim, batch key head_dim -> batch head query key")
    weights = hidden_future(scores * q.shape[-1] ** -0.5, mask).softmax(dim=-1, dtype=torch.float32)
    pattern = "batch head query key, batch key head_dim -> batch head query head_dim"
    return einsum(weights.to(v.dtype), v[:, 0], pattern)


@wrong("04.1", "as many key heads as query heads expected", "head", "shape", "repeat", "share", "copy")
def _(q, k, v, mask):
    scores = hidden_future(q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5, mask)
    return scores.softmax(dim=-1, dtype=torch.float32).to(q.dtype) @ v


@wrong("04.1", "heads merged at the end", "shape", "head", "merge")
def _(q, k, v, mask):
    k, v = copies(k, q), copies(v, q)
    scores = hidden_future(every_score(q, k) * q.shape[-1] ** -0.5, mask)
    found = mixed(scores.softmax(dim=-1, dtype=torch.float32), v)
    return rearrange(found, "batch head query head_dim -> batch query (head head_dim)")


@wrong("04.1", "the weights, not what they find", "weights", "values", "shape")
def _(q, k, v, mask):
    scores = hidden_future(every_score(q, copies(k, q)) * q.shape[-1] ** -0.5, mask)
    return scores.softmax(dim=-1, dtype=torch.float32).to(q.dtype)


@wrong("04.1", "scores mixed without a softmax", "softmax", "scores", "sum to 1", "weights")
def _(q, k, v, mask):
    k, v = copies(k, q), copies(v, q)
    scores = every_score(q, k) * q.shape[-1] ** -0.5
    return mixed(scores if mask is None else scores * mask, v)


@wrong("04.1", "keys mixed in place of values", "value", "keys", "v ")
def _(q, k, v, mask):
    k = copies(k, q)
    scores = hidden_future(every_score(q, k) * q.shape[-1] ** -0.5, mask)
    return mixed(scores.softmax(dim=-1, dtype=torch.float32), k)


@wrong("04.1", "q scaled in place", "in place", "argument", "copy")
def _(q, k, v, mask):
    q *= q.shape[-1] ** -0.5
    k, v = copies(k, q), copies(v, q)
    return mixed(hidden_future(every_score(q, k), mask).softmax(dim=-1, dtype=torch.float32), v)


@right("04.1", "the fused function")
def _(q, k, v, mask):
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=True)


@right("04.1", "repeat_interleave and matmul")
def _(q, k, v, mask):
    group = q.size(1) // k.size(1)
    k, v = k.repeat_interleave(group, dim=1), v.repeat_interleave(group, dim=1)
    scores = torch.matmul(q, k.transpose(-1, -2)) / q.size(-1) ** 0.5
    if mask is not None:
        scores = scores.masked_fill(mask.logical_not(), float("-inf"))
    return torch.matmul(torch.softmax(scores.float(), dim=-1).to(v.dtype), v)


@right("04.1", "head by head")
def _(q, k, v, mask):
    group, found = q.shape[1] // k.shape[1], torch.empty_like(q)
    for head in range(q.shape[1]):
        keys, values = k[:, head // group], v[:, head // group]
        scores = (q[:, head].float() @ keys.float().mT) * q.shape[-1] ** -0.5
        if mask is not None:
            scores[:, ~mask] = -torch.inf
        found[:, head] = (scores.softmax(-1) @ values.float()).to(q.dtype)
    return found


@right("04.1", "exp by hand, in double")
def _(q, k, v, mask):
    k, v = copies(k, q).double(), copies(v, q).double()
    scores = every_score(q.double(), k) / q.shape[-1] ** 0.5
    if mask is not None:
        scores = torch.where(mask, scores, -torch.inf)
    shares = (scores - scores.amax(dim=-1, keepdim=True)).exp()
    shares = shares / shares.sum(dim=-1, keepdim=True)
    return mixed(shares, v).to(q.dtype)


@right("04.1", "an added mask of a large negative number")
def _(q, k, v, mask):
    group = torch.arange(q.shape[1]) // (q.shape[1] // k.shape[1])
    scores = torch.einsum("bhqd,bhkd->bhqk", q, k[:, group]).float() / q.shape[-1] ** 0.5
    if mask is not None:
        scores = scores + torch.zeros_like(mask, dtype=torch.float32).masked_fill(~mask, -1e9)
    return torch.einsum("bhqk,bhkd->bhqd", scores.softmax(dim=-1).to(q.dtype), v[:, group])


@right("04.1", "scaled queries, groups as an axis")
def _(q, k, v, mask):
    q = rearrange(q * q.shape[-1] ** -0.5, "b (head group) query d -> b head group query d", head=k.shape[1])
    scores = hidden_future(einsum(q, k, "b head group query d, b head key d -> b head group query key"), mask)
    weights = scores.softmax(dim=-1, dtype=torch.float32).to(q.dtype)
    found = einsum(weights, v, "b head group query key, b head key d -> b head group query d")
    return rearrange(found, "b head group query d -> b (head group) query d")
