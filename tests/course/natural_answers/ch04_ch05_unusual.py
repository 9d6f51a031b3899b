"""Natural answers to 04 and 05 with one mistake each, seldom the obvious one."""

import torch
from einops import einsum, rearrange, reduce, repeat
from torch.nn import functional as F

from tests.course.natural_answers.collect import Collection

collection = Collection(
    "04.1", "04.2", "04.3", "04.5", "04.6", "04.7", "04.8", "05.1", "05.3", "05.4", "05.5", "05.6", "05.7"
)
wrong, right, ANSWERS = collection.wrong, collection.right, collection.answers


def copies(x, q):
    return x.repeat_interleave(q.shape[1] // x.shape[1], dim=1)


def weights_of(q, k, mask):
    scores = (q @ copies(k, q).mT).float() * q.shape[-1] ** -0.5
    return (scores if mask is None else scores.masked_fill(~mask, -torch.inf)).softmax(dim=-1).to(q.dtype)


@wrong("04.1", "the first token is hidden too", "mask", "first", "error", "key")
def _(q, k, v, mask):
    mask = None if mask is None else mask.roll(1, dims=1)
    return weights_of(q, k, mask) @ copies(v, q)


@wrong("04.1", "v scaled as well", "scale", "times", "value")
def _(q, k, v, mask):
    return weights_of(q, k, mask) @ copies(v, q) * q.shape[-1] ** -0.5


@wrong("04.1", "the query added, as in a residual", "query", "residual", "added", "plus")
def _(q, k, v, mask):
    return q + weights_of(q, k, mask) @ copies(v, q)


@wrong("04.1", "cosines for scores", "cosine", "scale", "norm", "length", "score")
def _(q, k, v, mask):
    scores = F.normalize(q.float(), dim=-1) @ F.normalize(copies(k, q).float(), dim=-1).mT
    scores = scores if mask is None else scores.masked_fill(~mask, -torch.inf)
    return scores.softmax(dim=-1).to(q.dtype) @ copies(v, q)


@wrong("04.1", "a small number hides", "-inf", "hidden", "mask", "weight")
def _(q, k, v, mask):
    scores = (q @ copies(k, q).mT).float() * q.shape[-1] ** -0.5
    scores = scores if mask is None else scores - 5.0 * (~mask)
    return scores.softmax(dim=-1).to(q.dtype) @ copies(v, q)


@wrong("04.2", "a square cut on the left", "shape", "square", "column", "key")
def _(queries, keys):
    return torch.ones(keys, keys, dtype=torch.bool).tril()[:, :queries]


@wrong("04.2", "one row too early", "itself", "own", "diagonal", "one", "earlier")
def _(queries, keys):
    return torch.ones(keys + 1, keys, dtype=torch.bool).tril(-1)[keys - queries : keys]


@wrong("04.2", "the chunk sees all of itself", "later", "future", "chunk", "every key")
def _(queries, keys):
    mask = torch.ones(queries, keys, dtype=torch.bool)
    mask[:, keys - queries :] = True
    return mask


@wrong("04.2", "the first token of the text is left out", "before", "first", "true", "column")
def _(queries, keys):
    mask = torch.ones(queries, keys, dtype=torch.bool).tril(keys - queries)
    mask[:, 0] = False
    return mask


@wrong("04.3", "one softmax over group and key", "softmax", "group", "key")
def _(q, k, v, mask):
    q = rearrange(q, "b (head group) query d -> b head group query d", head=k.shape[1])
    scores = einsum(q, k, "b head group query d, b head key d -> b head query group key") * q.shape[-1] ** -0.5
    if mask is not None:
        scores = scores.masked_fill(~rearrange(mask, "query key -> query 1 key"), -torch.inf)
    weights = rearrange(scores, "b head query group key -> b head query (group key)").softmax(dim=-1)
    weights = rearrange(weights, "b head query (group key) -> b head group query key", group=q.shape[2])
    found = einsum(weights, v, "b head group query key, b head key d -> b head group query d")
    return rearrange(found, "b head group query d -> b (head group) query d")


@wrong("04.3", "heads and queries reshaped together", "order", "reshape", "head", "place", "values")
def _(q, k, v, mask):
    found = weights_of(q, k, mask) @ copies(v, q)
    return found.transpose(1, 2).reshape(found.shape)


@wrong("04.3", "key head modulo group", "group", "head", "neighbour", "error", "share")
def _(q, k, v, mask):
    heads = [head % k.shape[1] for head in range(q.shape[1])]
    parts = [weights_of(q[:, [n]], k[:, [head]], mask) @ v[:, [head]] for n, head in enumerate(heads)]
    return torch.cat(parts, dim=1)


@wrong("04.5", "scaled after the mask, in float16", "precision", "digits", "float", "dtype")
def _(q, k, mask):
    scores = einsum(q.half(), k.half(), "h q d, h k d -> h q k").float() * q.shape[-1] ** -0.5
    return scores.masked_fill(~mask, -torch.inf).softmax(dim=-1)


@wrong("04.5", "the weights rounded", "round", "digits", "precision")
def _(q, k, mask):
    scores = einsum(q, k, "h q d, h k d -> h q k") * q.shape[-1] ** -0.5
    return scores.masked_fill(~mask, -torch.inf).softmax(dim=-1).round(decimals=2)


@wrong("04.5", "the mask added to the scores", "mask", "add", "hidden", "weight")
def _(q, k, mask):
    return (einsum(q, k, "h q d, h k d -> h q k") * q.shape[-1] ** -0.5 + mask).softmax(dim=-1)


@wrong("04.5", "the mask subtracted after", "mask", "hidden", "sum", "weight")
def _(q, k, mask):
    return (einsum(q, k, "h q d, h k d -> h q k") * q.shape[-1] ** -0.5).softmax(dim=-1) - (~mask).float()


@wrong("04.5", "the heads averaged", "head", "mean", "average", "shape")
def _(q, k, mask):
    scores = (einsum(q, k, "h q d, h k d -> h q k") * q.shape[-1] ** -0.5).masked_fill(~mask, -torch.inf)
    mean = reduce(scores.softmax(dim=-1), "head q k -> q k", "mean")
    return repeat(mean, "q k -> head q k", head=len(q))


@wrong("04.6", "a half of tokens squared", "token", "square", "pair")
def _(layers, heads, kv_heads, head_dim, tokens, bytes_each):
    return 2 * layers * kv_heads * head_dim * tokens * (tokens + 1) // 2 * bytes_each


@wrong("04.6", "one layer less", "layer", "one")
def _(layers, heads, kv_heads, head_dim, tokens, bytes_each):
    return 2 * (layers - 1) * kv_heads * head_dim * tokens * bytes_each


@wrong("04.6", "the hidden size for head_dim", "head", "quer", "hidden", "head_dim")
def _(layers, heads, kv_heads, head_dim, tokens, bytes_each):
    return 2 * layers * kv_heads * (heads * head_dim) * tokens * bytes_each


@wrong("04.6", "added in place of multiplied", "add", "sum", "multipl", "product")
def _(layers, heads, kv_heads, head_dim, tokens, bytes_each):
    return 2 * layers * (kv_heads + head_dim) * tokens * bytes_each


@wrong("04.7", "shifted by one", "one", "next", "neighbour", "wrong head", "which")
def _(context, off):
    return context.masked_fill(off.roll(1)[:, None, None], 0)


@wrong("04.7", "reversed", "revers", "order", "end")
def _(context, off):
    return context.masked_fill(off.flip(0)[:, None, None], 0)


@wrong("04.7", "a tiny number in place of zero", "zero", "0")
def _(context, off):
    return context.masked_fill(off[:, None, None], 1e-3)


@wrong("04.7", "softly, by a factor", "0.1", "zero", "times", "factor", "1/10")
def _(context, off):
    return torch.where(off[:, None, None], context * 0.1, context)


@wrong("04.8", "groups of two expected", "group", "two", "shape", "error", "size")
def _(x, kv_heads, head_dim):
    return rearrange(x, "b p (head group d) -> b head group p d", group=2, head=kv_heads)


@wrong("04.8", "transposed before the split", "position", "reshape", "order", "mix", "place")
def _(x, kv_heads, head_dim):
    return x.transpose(1, 2).reshape(x.shape[0], kv_heads, -1, x.shape[1], head_dim)


@wrong("04.8", "each head's channels reversed", "revers", "order")
def _(x, kv_heads, head_dim):
    return rearrange(x, "b p (head group d) -> b head group p d", head=kv_heads, d=head_dim).flip(-1)


@wrong("05.1", "silu before the matrix up", "silu", "up", "both", "x ")
def _(x, gate, up, down):
    return F.linear(F.silu(F.linear(x, gate)) * F.linear(F.silu(x), up), down)


@wrong("05.1", "a root for the width", "root", "scale", "times", "divided")
def _(x, gate, up, down):
    return F.linear(F.silu(F.linear(x, gate)) * F.linear(x, up), down) * x.shape[-1] ** -0.5


@wrong("05.1", "temperature 2", "silu", "sigmoid", "switch", "steeper", "flatter")
def _(x, gate, up, down):
    opening = F.linear(x, gate)
    return F.linear(opening * torch.sigmoid(opening / 2) * F.linear(x, up), down)


@wrong("05.3", "the second half reversed", "revers", "order", "half")
def _(x, gate_up, down):
    first, second = F.linear(x, gate_up).chunk(2, dim=-1)
    return F.linear(F.silu(first) * second.flip(-1), down)


@wrong("05.3", "down cut as well", "down", "shape", "half", "error", "even", "odd")
def _(x, gate_up, down):
    first, second = F.linear(x, gate_up).chunk(2, dim=-1)
    return F.linear(F.silu(first) * second, down[:, : down.shape[1] // 2])


@wrong("05.4", "a fourth matrix", "matri", "three", "four")
def _(hidden, ffn, top_k, layers):
    return 4 * hidden * ffn, 8 * hidden * ffn * top_k * layers


@wrong("05.4", "two operations twice", "two", "twice", "2 times", "double")
def _(hidden, ffn, top_k, layers):
    return 3 * hidden * ffn, 12 * hidden * ffn * top_k * layers


@wrong("05.5", "the next expert's down", "down", "order", "expert", "next", "own")
def _(x, gate, up, down):
    one = F.silu(einsum(x, gate, "t h, e f h -> t e f")) * einsum(x, up, "t h, e f h -> t e f")
    return einsum(one, down.roll(1, 0), "t e f, e h f -> t e h")


@wrong("05.5", "experts in reversed order", "revers", "order")
def _(x, gate, up, down):
    one = F.silu(einsum(x, gate, "t h, e f h -> t e f")) * einsum(x, up, "t h, e f h -> t e f")
    return einsum(one, down, "t e f, e h f -> t e h").flip(1)


@wrong("05.6", "clamped to 0 and the limit", "0", "zero", "below", "negative", "limit")
def _(gate_up, alpha, limit):
    gate, up = gate_up[:, ::2].clamp(0, limit), gate_up[:, 1::2].clamp(-limit, limit)
    return gate * torch.sigmoid(alpha * gate) * (up + 1)


@wrong("05.6", "tanh as a soft limit", "limit", "clamp", "tanh")
def _(gate_up, alpha, limit):
    gate, up = gate_up[:, ::2].clamp(max=limit), limit * torch.tanh(gate_up[:, 1::2] / limit)
    return gate * torch.sigmoid(alpha * gate) * (up + 1)


@wrong("05.6", "too large ones set to zero", "limit", "zero", "clamp", "removed")
def _(gate_up, alpha, limit):
    gate, up = gate_up[:, ::2].clamp(max=limit), gate_up[:, 1::2]
    up = up.masked_fill(up.abs() > limit, 0)
    return gate * torch.sigmoid(alpha * gate) * (up + 1)


@wrong("05.7", "softmax of the gates that stay", "softmax", "weight", "silu", "sum")
def _(gate, up, count):
    chosen = torch.zeros_like(gate).scatter(-1, gate.topk(count, dim=-1).indices, 1.0)
    return gate.masked_fill(chosen == 0, -torch.inf).softmax(dim=-1) * up


@wrong("05.7", "what does not stay keeps up", "up", "others", "zero", "silenced")
def _(gate, up, count):
    chosen = torch.zeros_like(gate).scatter(-1, gate.topk(count, dim=-1).indices, 1.0)
    return torch.where(chosen > 0, F.silu(gate) * up, up)
