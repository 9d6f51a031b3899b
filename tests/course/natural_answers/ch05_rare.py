"""Rare natural answers to 05.1 to 05.7: two mistakes at once, PyTorch misread."""

import torch
from einops import einsum, rearrange
from torch.nn import functional as F

from tests.course.natural_answers.collect import Collection

collection = Collection("05.1", "05.3", "05.4", "05.5", "05.6", "05.7")
wrong, right, ANSWERS = collection.wrong, collection.right, collection.answers

# 05.1 swiglu ----------------------------------------------------------------------------------------------------------


def bent(compute):
    return lambda x, gate, up, down: F.linear(compute(F.linear(x, gate), F.linear(x, up)), down)


wrong("05.1", "ReLU, and gate and up swapped", "relu", "swap")(bent(lambda gate, up: gate * F.relu(up)))
wrong("05.1", "a sigmoid, and gate and up swapped", "sigmoid", "swap", "up")(bent(lambda gate, up: gate * up.sigmoid()))
wrong("05.1", "SiLU of the sum", "sum", "add", "multipl", "product")(bent(lambda gate, up: F.silu(gate + up)))
wrong("05.1", "gate squared", "square", "silu", "sigmoid", "twice")(bent(lambda gate, up: gate * F.silu(gate) * up))
wrong("05.1", "1 - sigmoid", "sigmoid", "sign", "1")(bent(lambda gate, up: gate * (1 - gate.sigmoid()) * up))
wrong("05.1", "the difference", "subtract", "minus", "difference", "multipl", "product")(
    bent(lambda gate, up: F.silu(gate) - up)
)
wrong("05.1", "the negative", "sign")(bent(lambda gate, up: -F.silu(gate) * up))
wrong("05.1", "divided by up", "divide", "multipl", "product")(bent(lambda gate, up: F.silu(gate) / up))
wrong("05.1", "normalised first", "norm", "x ", "already", "layer")(
    lambda x, gate, up, down: bent(lambda a, b: F.silu(a) * b)(F.normalize(x, dim=-1), gate, up, down)
)

# 05.3 fused -----------------------------------------------------------------------------------------------------------

wrong("05.3", "ReLU, and the halves swapped", "relu", "swap")(
    lambda x, gate_up, down: F.linear(torch.mul(*halves(x, gate_up, lambda a, b: (a, F.relu(b)))), down)
)


def halves(x, gate_up, compute):
    return compute(*F.linear(x, gate_up).chunk(2, dim=-1))


wrong("05.3", "a sigmoid, and the halves swapped: glu", "sigmoid", "swap", "glu")(
    lambda x, gate_up, down: F.linear(F.glu(F.linear(x, gate_up)), down)
)
wrong("05.3", "the first half only", "second", "half", "amount")(
    lambda x, gate_up, down: F.linear(halves(x, gate_up, lambda a, b: F.silu(a)), down)
)
wrong("05.3", "the second half only", "first", "half", "gate")(
    lambda x, gate_up, down: F.linear(halves(x, gate_up, lambda a, b: b), down)
)
wrong("05.3", "even and odd, without SiLU", "even", "odd", "silu")(
    lambda x, gate_up, down: F.linear(F.linear(x, gate_up)[:, ::2] * F.linear(x, gate_up)[:, 1::2], down)
)
wrong("05.3", "all but the last product, cut in two", "down", "before", "half")(
    lambda x, gate_up, down: halves(x, gate_up, lambda a, b: F.silu(a) * b)
)

# 05.4 cost ------------------------------------------------------------------------------------------------------------

wrong("05.4", "multiplications of one expert", "addition", "multipl", "top_k", "expert")(
    lambda hidden, ffn, top_k, layers: (3 * hidden * ffn, 3 * hidden * ffn)
)
wrong("05.4", "two matrices, multiplications", "matri", "multipl", "addition", "three")(
    lambda hidden, ffn, top_k, layers: (2 * hidden * ffn, 2 * hidden * ffn * top_k * layers)
)
wrong("05.4", "one expert in all layers, bytes", "byte", "layer", "parameter")(
    lambda hidden, ffn, top_k, layers: (6 * hidden * ffn, 6 * hidden * ffn * layers)
)
wrong("05.4", "the parameters of all layers", "layer", "one expert", "parameter")(
    lambda hidden, ffn, top_k, layers: (3 * hidden * ffn * layers, 6 * hidden * ffn * top_k * layers)
)
wrong("05.4", "top_k squared", "top_k", "operations")(
    lambda hidden, ffn, top_k, layers: (3 * hidden * ffn, 6 * hidden * ffn * top_k**2 * layers)
)
wrong("05.4", "the router too", "router", "operations")(
    lambda hidden, ffn, top_k, layers: (3 * hidden * ffn, (6 * ffn + 2) * hidden * top_k * layers)
)

# 05.5 every_expert ----------------------------------------------------------------------------------------------------

READ = "token hidden, expert ffn hidden -> token expert ffn"
WRITE = "token expert ffn, expert hidden ffn -> token expert hidden"


def every(compute):
    return lambda x, gate, up, down: einsum(compute(einsum(x, gate, READ), einsum(x, up, READ)), down, WRITE)


wrong("05.5", "a sigmoid", "sigmoid", "silu")(every(lambda gate, up: gate.sigmoid() * up))
wrong("05.5", "ReLU", "relu", "silu")(every(lambda gate, up: F.relu(gate) * up))
wrong("05.5", "up alone", "gate", "up")(every(lambda gate, up: up))
wrong("05.5", "gate alone", "gate", "up")(every(lambda gate, up: F.silu(gate)))
wrong("05.5", "swapped, without SiLU on any", "silu")(every(lambda gate, up: up * gate))
wrong("05.5", "swapped, with the experts in front", "swap", "gate", "order", "shape", "axis")(
    lambda x, gate, up, down: rearrange(every(lambda a, b: a * F.silu(b))(x, gate, up, down), "t e h -> e t h")
)
wrong("05.5", "a softmax over the experts", "softmax", "router", "weight", "silu")(
    every(lambda gate, up: gate.softmax(dim=1) * up)
)
wrong("05.5", "SiLU behind down", "silu", "before", "after", "end")(
    lambda x, gate, up, down: F.silu(every(lambda a, b: a * b)(x, gate, up, down))
)

# 05.6 gpt_oss ---------------------------------------------------------------------------------------------------------


def columns(gate_up):
    return gate_up[:, ::2], gate_up[:, 1::2]


@wrong("05.6", "SwiGLU with limits", "alpha", "1", "one")
def _(gate_up, alpha, limit):
    gate, up = columns(gate_up)
    return F.silu(gate.clamp(max=limit)) * up.clamp(-limit, limit)


@wrong("05.6", "halves, without the one", "half", "halves", "even", "1")
def _(gate_up, alpha, limit):
    gate, up = gate_up.chunk(2, dim=-1)
    gate, up = gate.clamp(max=limit), up.clamp(-limit, limit)
    return gate * torch.sigmoid(alpha * gate) * up


@wrong("05.6", "no limit, no one", "limit", "1", "one")
def _(gate_up, alpha, limit):
    gate, up = columns(gate_up)
    return gate * torch.sigmoid(alpha * gate) * up


@wrong("05.6", "both on both sides, no alpha", "limit", "alpha", "both", "side")
def _(gate_up, alpha, limit):
    gate, up = (each.clamp(-limit, limit) for each in columns(gate_up))
    return F.silu(gate) * (up + 1)


@wrong("05.6", "swapped columns, without the one", "swap", "even", "1")
def _(gate_up, alpha, limit):
    up, gate = columns(gate_up)
    gate, up = gate.clamp(max=limit), up.clamp(-limit, limit)
    return gate * torch.sigmoid(alpha * gate) * up


@wrong("05.6", "no gate in front of the sigmoid, no one", "sigmoid", "gate", "1")
def _(gate_up, alpha, limit):
    gate, up = columns(gate_up)
    return torch.sigmoid(alpha * gate.clamp(max=limit)) * up.clamp(-limit, limit)


@wrong("05.6", "GELU", "gelu", "sigmoid", "alpha")
def _(gate_up, alpha, limit):
    gate, up = columns(gate_up)
    return F.gelu(gate.clamp(max=limit)) * (up.clamp(-limit, limit) + 1)


@wrong("05.6", "all limited on both sides at once", "both", "side", "gate", "below")
def _(gate_up, alpha, limit):
    gate, up = columns(gate_up.clamp(-limit, limit))
    return gate * torch.sigmoid(alpha * gate) * (up + 1)


@wrong("05.6", "+ 1 without parentheses", "parenthes", "product", "1")
def _(gate_up, alpha, limit):
    gate, up = columns(gate_up)
    gate, up = gate.clamp(max=limit), up.clamp(-limit, limit)
    return gate * torch.sigmoid(alpha * gate) * up + 1


# 05.7 keep_open -------------------------------------------------------------------------------------------------------


def kept(scores, count, largest=True):
    return torch.zeros_like(scores).scatter(-1, scores.topk(count, dim=-1, largest=largest).indices, 1.0)


@wrong("05.7", "the gates that stay, without a bend", "silu", "up", "gate")
def _(gate, up, count):
    return gate * kept(gate, count)


@wrong("05.7", "ranked by the size of the gate, without SiLU", "size", "silu", "sign")
def _(gate, up, count):
    return gate * up * kept(gate.abs(), count)


@wrong("05.7", "the closed ones removed, as many", "removed", "closed", "count", "others", "smallest")
def _(gate, up, count):
    return F.silu(gate) * up * (1 - kept(gate, count, largest=False))


@wrong("05.7", "numbers of neurons taken for their values", "index", "indices", "number", "value", "position")
def _(gate, up, count):
    return F.silu(gate) * up * torch.zeros_like(gate).scatter(-1, gate.topk(count).indices, gate.topk(count).values)


@wrong("05.7", "the mask on up, before and after", "silu", "gate", "mask")
def _(gate, up, count):
    return F.silu(gate) * kept(up, count) * up


@wrong("05.7", "the last ones after sorting", "sort", "order", "place", "position", "index")
def _(gate, up, count):
    order = gate.argsort(dim=-1)
    return F.silu(gate) * up * (order >= gate.shape[-1] - count)


@wrong("05.7", "sorted values", "sort", "order", "place", "other places")
def _(gate, up, count):
    values = (F.silu(gate) * up).gather(-1, gate.argsort(dim=-1, descending=True))
    return values * (torch.arange(gate.shape[-1]) < count)


@wrong("05.7", "the mean of those that stay", "mean", "divide", "count", "times")
def _(gate, up, count):
    return F.silu(gate) * up * kept(gate, count) / max(count, 1)
