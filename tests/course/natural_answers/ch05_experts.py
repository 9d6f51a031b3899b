"""Natural answers to 05.1, 05.3 and 05.4: one expert, a fused matrix, and what an expert costs."""

import torch
from torch.nn import functional as F

from tests.course.natural_answers.collect import Collection

collection = Collection("05.1", "05.3", "05.4")
wrong, right, ANSWERS = collection.wrong, collection.right, collection.answers

# 05.1 one expert ------------------------------------------------------------------------------------------------------


@wrong("05.1", "silu around everything inside", "product", "alone", "gate")
def _(x, gate, up, down):
    return F.silu(x @ gate.T * (x @ up.T)) @ down.T


@wrong("05.1", "swish of the up branch", "swapped", "up", "gate")
def _(x, gate, up, down):
    g, u = x @ gate.T, x @ up.T
    return (g * F.silu(u)) @ down.T


@wrong("05.1", "sigmoid gate as in the first GLU", "sigmoid")
def _(x, gate, up, down):
    return F.linear(F.sigmoid(x @ gate.T) * (x @ up.T), down)


@wrong("05.1", "stopped before down", "down", "product")
def _(x, gate, up, down):
    return F.silu(x @ gate.T) * (x @ up.T)


@wrong("05.1", "plus the residual", "x was added", "added", "layer")
def _(x, gate, up, down):
    return x + F.linear(F.silu(F.linear(x, gate)) * F.linear(x, up), down)


@wrong("05.1", "softmax for the gate", "softmax")
def _(x, gate, up, down):
    return F.linear(torch.softmax(F.linear(x, gate), -1) * F.linear(x, up), down)


@wrong("05.1", "gate and up averaged", "added", "multiplied")
def _(x, gate, up, down):
    return F.linear((F.silu(F.linear(x, gate)) + F.linear(x, up)) / 2, down)


@wrong("05.1", "matrices not transposed", "shape", "out, into", "matrix", "size", "multiplied")
def _(x, gate, up, down):
    return (F.silu(x @ gate) * (x @ up)) @ down


@wrong("05.1", "tokens flattened and left so", "shape")
def _(x, gate, up, down):
    flat = x.reshape(-1, x.shape[-1])
    return F.linear(F.silu(F.linear(flat, gate)) * F.linear(flat, up), down)


@wrong("05.1", "cast to float32 for accuracy", "float32", "dtype")
def _(x, gate, up, down):
    x, gate, up, down = x.float(), gate.float(), up.float(), down.float()
    return F.linear(F.silu(F.linear(x, gate)) * F.linear(x, up), down)


@wrong("05.1", "gelu", "gelu")
def _(x, gate, up, down):
    return F.linear(F.gelu(F.linear(x, gate)) * F.linear(x, up), down)


@wrong("05.1", "nothing is returned", "none", "return", "nothing")
def _(x, gate, up, down):
    inner = F.silu(F.linear(x, gate)) * F.linear(x, up)
    F.linear(inner, down)


@wrong("05.1", "gate clamped at zero first", "relu")
def _(x, gate, up, down):
    return F.linear(F.linear(x, gate).clamp(min=0) * F.linear(x, up), down)


@right("05.1", "modules of torch")
def _(x, gate, up, down):
    return torch.nn.SiLU()(x @ gate.mT) * (x @ up.mT) @ down.mT


@right("05.1", "glu with the halves exchanged")
def _(x, gate, up, down):
    g = F.linear(x, gate)
    return F.linear(F.glu(torch.cat((g * F.linear(x, up), g), dim=-1), dim=-1), down)


# 05.3 a fused matrix --------------------------------------------------------------------------------------------------


@wrong("05.3", "even rows and odd rows", "even", "odd", "halves")
def _(x, gate_up, down):
    gate, up = gate_up[0::2], gate_up[1::2]
    return F.linear(F.silu(F.linear(x, gate)) * F.linear(x, up), down)


@wrong("05.3", "odd rows and even rows", "even", "odd", "halves")
def _(x, gate_up, down):
    up, gate = gate_up[0::2], gate_up[1::2]
    return F.linear(F.silu(F.linear(x, gate)) * F.linear(x, up), down)


@wrong("05.3", "silu on the whole product, then cut", "both")
def _(x, gate_up, down):
    gate, up = F.silu(F.linear(x, gate_up)).chunk(2, dim=-1)
    return F.linear(gate * up, down)


@wrong("05.3", "the chunks exchanged", "swapped")
def _(x, gate_up, down):
    up, gate = F.linear(x, gate_up).chunk(2, dim=-1)
    return F.linear(F.silu(gate) * up, down)


@wrong("05.3", "cut along the tokens", "shape", "token", "axis", "error")
def _(x, gate_up, down):
    gate, up = F.linear(x, gate_up).chunk(2, dim=0)
    return F.linear(F.silu(gate) * up, down)


@wrong("05.3", "both halves of the same product are gates", "first half", "both")
def _(x, gate_up, down):
    gate = F.linear(x, gate_up).chunk(2, dim=-1)[0]
    return F.linear(F.silu(gate) * gate, down)


@wrong("05.3", "the switch is gone, so that the order no longer matters", "silu")
def _(x, gate_up, down):
    a, b = F.linear(x, gate_up).chunk(2, dim=-1)
    return F.linear(a * b, down)


@wrong("05.3", "glu of torch, which has a sigmoid", "sigmoid")
def _(x, gate_up, down):
    gate, up = F.linear(x, gate_up).chunk(2, dim=-1)
    return F.linear(F.glu(torch.cat((up, gate), dim=-1), dim=-1), down)


@right("05.3", "split by size")
def _(x, gate_up, down):
    gate, up = torch.split(gate_up, down.shape[1])
    return (F.silu(x @ gate.T) * (x @ up.T)) @ down.T


@right("05.3", "view")
def _(x, gate_up, down):
    products = F.linear(x, gate_up).view(len(x), 2, down.shape[1])
    return F.linear(F.silu(products[:, 0]) * products[:, 1], down)


# 05.4 what an expert costs --------------------------------------------------------------------------------------------


@wrong("05.4", "two matrices, as in a plain network", "two matrices", "three")
def _(hidden, ffn, top_k, layers):
    p = 2 * hidden * ffn
    return p, 2 * p * top_k * layers


@wrong("05.4", "multiplications only", "multiplication", "two operations")
def _(hidden, ffn, top_k, layers):
    p = 3 * hidden * ffn
    return p, p * top_k * layers


@wrong("05.4", "layers forgotten", "layer")
def _(hidden, ffn, top_k, layers):
    p = 3 * hidden * ffn
    return p, 2 * p * top_k


@wrong("05.4", "top_k forgotten", "top_k", "each layer")
def _(hidden, ffn, top_k, layers):
    p = 3 * hidden * ffn
    return p, 2 * p * layers


@wrong("05.4", "all active parameters instead of one expert's", "one expert", "meets")
def _(hidden, ffn, top_k, layers):
    p = 3 * hidden * ffn * top_k * layers
    return p, 2 * p


@wrong("05.4", "biases", "bias")
def _(hidden, ffn, top_k, layers):
    p = 3 * hidden * ffn + 2 * ffn + hidden
    return p, 2 * (3 * hidden * ffn) * top_k * layers


@wrong("05.4", "only the number of parameters", "two", "tuple", "both", "int")
def _(hidden, ffn, top_k, layers):
    return 3 * hidden * ffn


@wrong("05.4", "in billions", "too small", "scaled", "times", "factor")
def _(hidden, ffn, top_k, layers):
    p = 3 * hidden * ffn
    return p / 1e9, 2 * p * top_k * layers / 1e9


@wrong("05.4", "in millions", "too small", "times", "factor")
def _(hidden, ffn, top_k, layers):
    p = 3 * hidden * ffn
    return p / 1e6, 2 * p * top_k * layers / 1e6


@right("05.4", "added up")
def _(hidden, ffn, top_k, layers):
    gate = up = ffn * hidden
    down = hidden * ffn
    total = gate + up + down
    return total, sum(2 * total for _ in range(top_k * layers))
