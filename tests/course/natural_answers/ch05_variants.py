"""Natural answers to 05.5, 05.6 and 05.7: all experts at once, gpt-oss's version, and the widest open neurons."""

import torch
from einops import einsum
from torch.nn import functional as F

from tests.course.natural_answers.collect import Collection

collection = Collection("05.5", "05.6", "05.7")
wrong, right, ANSWERS = collection.wrong, collection.right, collection.answers

# 05.5 all experts at once ---------------------------------------------------------------------------------------------

READ = "token hidden, expert ffn hidden -> token expert ffn"


@wrong("05.5", "the expert axis is missing at the end", "expert", "added")
def _(x, gate, up, down):
    inner = F.silu(einsum(x, gate, READ)) * einsum(x, up, READ)
    return einsum(inner, down, "token expert ffn, expert hidden ffn -> token hidden")


@wrong("05.5", "the expert comes first, as in bmm", "axes", "expert", "order")
def _(x, gate, up, down):
    read = "token hidden, expert ffn hidden -> expert token ffn"
    inner = F.silu(einsum(x, gate, read)) * einsum(x, up, read)
    return einsum(inner, down, "expert token ffn, expert hidden ffn -> expert token hidden")


@wrong("05.5", "gate and up in the wrong places", "swapped")
def _(x, gate, up, down):
    inner = einsum(x, gate, READ) * F.silu(einsum(x, up, READ))
    return einsum(inner, down, "token expert ffn, expert hidden ffn -> token expert hidden")


@wrong("05.5", "silu at the end of the first step", "silu", "product")
def _(x, gate, up, down):
    inner = F.silu(einsum(x, gate, READ) * einsum(x, up, READ))
    return einsum(inner, down, "token expert ffn, expert hidden ffn -> token expert hidden")


@wrong("05.5", "silu forgotten in the rewriting", "silu")
def _(x, gate, up, down):
    inner = einsum(x, gate, READ) * einsum(x, up, READ)
    return einsum(inner, down, "token expert ffn, expert hidden ffn -> token expert hidden")


@wrong("05.5", "mean over the experts", "expert", "shape", "axes", "axis")
def _(x, gate, up, down):
    inner = F.silu(einsum(x, gate, READ)) * einsum(x, up, READ)
    return einsum(inner, down, "token expert ffn, expert hidden ffn -> token expert hidden").mean(dim=1)


@wrong("05.5", "another name for the expert of down", "expert", "two names")
def _(x, gate, up, down):
    inner = F.silu(einsum(x, gate, READ)) * einsum(x, up, READ)
    return einsum(inner, down, "token expert ffn, e hidden ffn -> token expert hidden")


@wrong("05.5", "stopped before down", "down", "product")
def _(x, gate, up, down):
    return F.silu(einsum(x, gate, READ)) * einsum(x, up, READ)


@right("05.5", "short names")
def _(x, gate, up, down):
    a, b = (einsum(x, w, "t h, e f h -> e t f") for w in (gate, up))
    return einsum(F.silu(a) * b, down, "e t f, e h f -> t e h")


# 05.6 gpt-oss's version -----------------------------------------------------------------------------------------------


@wrong("05.6", "chunk instead of even and odd", "halves", "even")
def _(gate_up, alpha, limit):
    gate, up = gate_up.chunk(2, dim=-1)
    gate, up = gate.clamp(max=limit), up.clamp(-limit, limit)
    return gate * torch.sigmoid(alpha * gate) * (up + 1)


@wrong("05.6", "both clamped alike", "below")
def _(gate_up, alpha, limit):
    gate_up = gate_up.clamp(-limit, limit)
    gate, up = gate_up[..., ::2], gate_up[..., 1::2]
    return gate * torch.sigmoid(alpha * gate) * (up + 1)


@wrong("05.6", "both clamped from above only", "above", "both")
def _(gate_up, alpha, limit):
    gate_up = gate_up.clamp(max=limit)
    gate, up = gate_up[..., ::2], gate_up[..., 1::2]
    return gate * torch.sigmoid(alpha * gate) * (up + 1)


@wrong("05.6", "silu in place of the steeper one", "alpha")
def _(gate_up, alpha, limit):
    gate, up = gate_up[..., ::2].clamp(max=limit), gate_up[..., 1::2].clamp(-limit, limit)
    return F.silu(gate) * (up + 1)


@wrong("05.6", "silu of alpha times gate", "alpha", "times", "factor")
def _(gate_up, alpha, limit):
    gate, up = gate_up[..., ::2].clamp(max=limit), gate_up[..., 1::2].clamp(-limit, limit)
    return F.silu(alpha * gate) * (up + 1)


@wrong("05.6", "the one is forgotten", "1 is missing", "up + 1")
def _(gate_up, alpha, limit):
    gate, up = gate_up[..., ::2].clamp(max=limit), gate_up[..., 1::2].clamp(-limit, limit)
    return gate * torch.sigmoid(alpha * gate) * up


@wrong("05.6", "odd columns as gates", "swapped", "even")
def _(gate_up, alpha, limit):
    up, gate = gate_up[..., ::2].clamp(-limit, limit), gate_up[..., 1::2].clamp(max=limit)
    return gate * torch.sigmoid(alpha * gate) * (up + 1)


@wrong("05.6", "clamped afterwards", "product", "before")
def _(gate_up, alpha, limit):
    gate, up = gate_up[..., ::2], gate_up[..., 1::2]
    return (gate * torch.sigmoid(alpha * gate) * (up + 1)).clamp(-limit, limit)


@wrong("05.6", "the one is added to the whole", "1")
def _(gate_up, alpha, limit):
    gate, up = gate_up[..., ::2].clamp(max=limit), gate_up[..., 1::2].clamp(-limit, limit)
    return gate * torch.sigmoid(alpha * gate) * up + 1


@wrong("05.6", "the sigmoid sees the gate without its limit", "limit")
def _(gate_up, alpha, limit):
    gate, up = gate_up[..., ::2], gate_up[..., 1::2].clamp(-limit, limit)
    return gate * torch.sigmoid(alpha * gate).clamp(max=limit) * (up + 1)


@right("05.6", "in one line")
def _(gate_up, alpha, limit):
    g = gate_up[:, ::2].clamp(max=limit)
    return g * (alpha * g).sigmoid() * (1 + gate_up[:, 1::2].clamp(min=-limit, max=limit))


# 05.7 the widest open neurons -----------------------------------------------------------------------------------------


@wrong("05.7", "ranked by the size of the product", "product")
def _(gate, up, count):
    out = F.silu(gate) * up
    mask = torch.zeros_like(out).scatter(-1, out.abs().topk(count).indices, 1.0)
    return out * mask


@wrong("05.7", "ranked by the size of the gate", "sign", "size of the gate")
def _(gate, up, count):
    out = F.silu(gate) * up
    return out * torch.zeros_like(out).scatter(-1, gate.abs().topk(count).indices, 1.0)


@wrong("05.7", "the widest ones are silenced", "removed", "stay")
def _(gate, up, count):
    out = F.silu(gate) * up
    return out.scatter(-1, gate.topk(count).indices, 0.0)


@wrong("05.7", "ranked over the tokens", "token")
def _(gate, up, count):
    count = min(count, len(gate))
    out = F.silu(gate) * up
    return out * torch.zeros_like(out).scatter(0, gate.topk(count, dim=0).indices, 1.0)


@wrong("05.7", "only the kept values are returned", "shape")
def _(gate, up, count):
    chosen = gate.topk(count, dim=-1).indices
    return (F.silu(gate) * up).gather(-1, chosen)


@wrong("05.7", "the mask is returned", "mask")
def _(gate, up, count):
    return torch.zeros_like(gate).scatter(-1, gate.topk(count).indices, 1.0)


@wrong("05.7", "the gates are kept, the amounts forgotten", "up")
def _(gate, up, count):
    out = torch.zeros_like(gate)
    return out.scatter(-1, gate.topk(count).indices, F.silu(gate.topk(count).values))


@wrong("05.7", "without silu", "silu")
def _(gate, up, count):
    return gate * up * torch.zeros_like(gate).scatter(-1, gate.topk(count).indices, 1.0)


@wrong("05.7", "up is silenced, but gate is not bent", "silu")
def _(gate, up, count):
    mask = torch.zeros_like(gate).scatter(-1, gate.topk(count).indices, 1.0)
    return gate * (up * mask)


@wrong("05.7", "the first neurons of the axis", "first")
def _(gate, up, count):
    out = F.silu(gate) * up
    out[:, count:] = 0
    return out


@wrong("05.7", "threshold that leaves one out", "few", "too", "one", "kept")
def _(gate, up, count):
    out = F.silu(gate) * up
    if count == 0:
        return torch.zeros_like(out)
    least = gate.topk(count).values[:, -1:]
    return out * (gate > least)


@right("05.7", "a comparison with the smallest that stays")
def _(gate, up, count):
    out = F.silu(gate) * up
    return out * (gate >= gate.topk(count).values[:, -1:]) if count else out * 0


@right("05.7", "sorted, with a loop over tokens")
def _(gate, up, count):
    out = torch.zeros_like(gate)
    for token in range(len(gate)):
        for neuron in gate[token].argsort(descending=True)[:count]:
            out[token, neuron] = F.silu(gate[token, neuron]) * up[token, neuron]
    return out
