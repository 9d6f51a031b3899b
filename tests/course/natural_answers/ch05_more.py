"""More natural answers to 05.1 to 05.4: an expert, its scaling, fused, its cost."""

import numpy as np
import torch
from einops import einsum, rearrange
from torch import nn
from torch.nn import functional as F

from tests.course.natural_answers.collect import Collection

collection = Collection("05.1", "05.2", "05.3", "05.4")
wrong, right, ANSWERS = collection.wrong, collection.right, collection.answers

# 05.1 swiglu ----------------------------------------------------------------------------------------------------------


@wrong("05.1", "matrices reshaped until they fit", "transpose", "reshape", "(out, in)", "matri")
def _(x, gate, up, down):
    gate, up, down = (matrix.reshape(matrix.shape[::-1]) for matrix in (gate, up, down))
    return (F.silu(x @ gate) * (x @ up)) @ down


def _(x, gate, up, down):
    return x + F.linear(F.silu(F.linear(x, gate)) * F.linear(x, up), down)


@wrong("05.1", "gate and up multiplied first", "product", "matri", "before", "multipl", "one")
def _(x, gate, up, down):
    return F.linear(F.silu(F.linear(x, gate * up)), down)


@wrong("05.1", "tokens in two axes only", "axes", "axis", "shape", "...", "dimension", "leading")
def _(x, gate, up, down):
    opening = einsum(x, gate, "token hidden, ffn hidden -> token ffn")
    amount = einsum(x, up, "token hidden, ffn hidden -> token ffn")
    return einsum(F.silu(opening) * amount, down, "token ffn, hidden ffn -> token hidden")


def _(x, gate, up, down):
    x, gate, up, down = (each.float() for each in (x, gate, up, down))
    return F.linear(F.silu(F.linear(x, gate)) * F.linear(x, up), down)


def _(x, gate, up, down):
    return F.linear(F.linear(x, gate).softmax(dim=-1) * F.linear(x, up), down)


@wrong("05.1", "the mean of the neurons", "mean", "sum", "ffn", "divide", "number of neurons", "smaller", "times")
def _(x, gate, up, down):
    return F.linear(F.silu(F.linear(x, gate)) * F.linear(x, up), down) / len(gate)


@wrong("05.1", "each matrix on the result of the one before", "x", "order", "up", "shape")
def _(x, gate, up, down):
    return F.linear(F.silu(F.linear(F.linear(F.linear(x, up), down), gate)), down)


@wrong("05.1", "hard swish", "silu", "sigmoid", "swish")
def _(x, gate, up, down):
    return F.linear(F.hardswish(F.linear(x, gate)) * F.linear(x, up), down)


@wrong("05.1", "the sigmoid of the up product", "sigmoid", "up", "gate", "silu")
def _(x, gate, up, down):
    opening = F.linear(x, gate)
    return F.linear(opening * F.linear(x, up).sigmoid() * opening, down)


@right("05.1", "neuron by neuron")
def _(x, gate, up, down):
    result = torch.zeros_like(x, dtype=torch.float64)
    for reads, amounts, writes in zip(gate.double(), up.double(), down.double().T, strict=True):
        result += (F.silu(x.double() @ reads) * (x.double() @ amounts))[..., None] * writes
    return result.to(x.dtype)


@right("05.1", "modules")
def _(x, gate, up, down):
    layers = []
    for matrix in (gate, up, down):
        layer = nn.Linear(matrix.shape[1], matrix.shape[0], bias=False)
        layer.weight = nn.Parameter(matrix, requires_grad=False)
        layers.append(layer)
    opening, amount, back = layers
    return back(nn.SiLU()(opening(x)).mul(amount(x)))


@right("05.1", "one fused product")
def _(x, gate, up, down):
    opening, amount = (x @ torch.cat([gate, up]).mT).tensor_split(2, dim=-1)
    return torch.einsum("...f,hf->...h", opening / (1 + torch.exp(-opening)) * amount, down)


# 05.2 what does the output follow? ------------------------------------------------------------------------------------

TRUTH = {
    "up doubled: the output doubles": True,
    "gate doubled: the output doubles": False,
    "x doubled: the output doubles": False,
    "up negated: the output changes its sign": True,
    "gate negated: the output changes its sign": False,
    "gate and up swapped: the same output": False,
    "neurons in another order, in all three matrices: the same output": True,
    "x is zero: the output is zero": True,
    "gate is zero: the output is zero": True,
}
UP, GATE, X, NEGATIVE_UP, NEGATIVE_GATE, SWAPPED, ORDER, NO_X, NO_GATE = TRUTH


def except_for(*questions):
    """The right answers, with these questions answered the other way."""
    return {question: said != (question in questions) for question, said in TRUTH.items()}


wrong("05.2", "SiLU is nearly linear", "think again", "silu")(except_for(GATE))
wrong("05.2", "everything doubles", "think again", "silu", "square")(except_for(GATE, X))
wrong("05.2", "x doubled doubles the output", "think again", "x")(except_for(X))
wrong("05.2", "SiLU is odd", "think again", "silu")(except_for(NEGATIVE_GATE))
wrong("05.2", "up bends too", "think again", "up")(except_for(UP, NEGATIVE_UP))
wrong("05.2", "a product commutes", "think again", "swap", "silu")(except_for(SWAPPED))
wrong("05.2", "neurons have places", "think again", "sum", "order")(except_for(ORDER))
wrong("05.2", "a gate of zero is half open", "think again", "zero", "half")(except_for(NO_GATE))
wrong("05.2", "zero is half open, also for x", "think again", "zero", "half")(except_for(NO_X, NO_GATE))
wrong("05.2", "gate and up exchanged in the mind", "think again", "gate", "up")(
    except_for(UP, GATE, NEGATIVE_UP, NEGATIVE_GATE)
)
wrong("05.2", "all True", "think again")(dict.fromkeys(TRUTH, True))
wrong("05.2", "all False", "think again")(dict.fromkeys(TRUTH, False))
wrong("05.2", "a list", "dict", "list")(list(TRUTH.values()))
wrong("05.2", "words", "true or false")({question: str(said) for question, said in TRUTH.items()})
wrong("05.2", "factors", "true or false")(TRUTH | {X: 4})

right("05.2", "bools")(TRUTH)
right("05.2", "1 and 0")({question: float(said) for question, said in TRUTH.items()})
right("05.2", "NumPy's bools")({question: np.array(said) for question, said in TRUTH.items()})
right("05.2", "tensors")({question: torch.tensor([said]) for question, said in TRUTH.items()})
right("05.2", "in another order")(dict(reversed(TRUTH.items())))
right("05.2", "measured")(dict(zip(TRUTH, (np.array(list(TRUTH.values())) > 0.5).tolist(), strict=True)))

# 05.3 fused -----------------------------------------------------------------------------------------------------------


@wrong("05.3", "as it was", "unchanged", "swap", "gate", "first")
def _(x, gate_up, down):
    first, second = rearrange(F.linear(x, gate_up), "token (two ffn) -> two token ffn", two=2)
    return F.linear(F.silu(second) * first, down)


def _(x, gate_up, down):
    first, second = rearrange(F.linear(x, gate_up), "token (ffn two) -> two token ffn", two=2)
    return F.linear(F.silu(first) * second, down)


def _(x, gate_up, down):
    products = F.linear(x, gate_up)
    return F.linear(F.silu(products[:, 1::2]) * products[:, ::2], down)


@wrong("05.3", "cut at hidden", "hidden", "ffn", "shape", "half", "cut", "size")
def _(x, gate_up, down):
    gate, up = gate_up[: down.shape[0]], gate_up[down.shape[0] :]
    return F.linear(F.silu(F.linear(x, gate)) * F.linear(x, up), down)


def _(x, gate_up, down):
    first, second = F.silu(F.linear(x, gate_up)).chunk(2, dim=-1)
    return F.linear(first * second, down)


@wrong("05.3", "the gate twice", "twice", "gate", "second", "up")
def _(x, gate_up, down):
    first, _second = F.linear(x, gate_up).chunk(2, dim=-1)
    return F.linear(F.silu(first) * first, down)


def _(x, gate_up, down):
    first, second = F.linear(x, gate_up).chunk(2)
    return F.linear(F.silu(first) * second, down)


@wrong("05.3", "the sum of both", "product", "sum", "multipl", "add")
def _(x, gate_up, down):
    first, second = F.linear(x, gate_up).chunk(2, dim=-1)
    return F.linear(F.silu(first) + second, down)


@wrong("05.3", "columns of the matrix halved", "row", "column", "shape", "hidden", "half")
def _(x, gate_up, down):
    gate, up = rearrange(gate_up, "ffn (two hidden) -> two ffn hidden", two=2)
    return F.linear(F.silu(F.linear(x, gate)) * F.linear(x, up), down)


@wrong("05.3", "SiLU of the product", "product", "switch", "silu")
def _(x, gate_up, down):
    first, second = F.linear(x, gate_up).chunk(2, dim=-1)
    return F.linear(F.silu(first * second), down)


@wrong("05.3", "down before the product", "down", "product", "before", "each", "both")
def _(x, gate_up, down):
    first, second = F.linear(x, gate_up).chunk(2, dim=-1)
    return F.linear(F.silu(first), down) * F.linear(second, down)


@right("05.3", "the matrix cut")
def _(x, gate_up, down):
    gate, up = gate_up.split(gate_up.shape[0] // 2)
    return F.linear(F.silu(x @ gate.T) * (x @ up.T), down)


@right("05.3", "einsum over the two")
def _(x, gate_up, down):
    both = rearrange(gate_up, "(two ffn) hidden -> two ffn hidden", two=2)
    opening, amount = einsum(x, both, "token hidden, two ffn hidden -> two token ffn")
    return einsum(F.silu(opening), amount, down, "token ffn, token ffn, hidden ffn -> token hidden")


@right("05.3", "sizes from down")
def _(x, gate_up, down):
    products, ffn = F.linear(x, gate_up), down.shape[-1]
    return (F.silu(products[..., :ffn]) * products[..., ffn:]) @ down.T


# 05.4 cost ------------------------------------------------------------------------------------------------------------

wrong("05.4", "no biases, but counted", "bias", "parameter", "matri", "3")(
    lambda hidden, ffn, top_k, layers: (
        3 * hidden * ffn + 2 * ffn + hidden,
        2 * (3 * hidden * ffn + 2 * ffn + hidden) * top_k * layers,
    )
)
wrong("05.4", "fused gate and up counted once", "matri", "three", "gate", "up", "two")(
    lambda hidden, ffn, top_k, layers: (2 * hidden * ffn, 2 * 2 * hidden * ffn * top_k * layers)
)
wrong("05.4", "one expert's operations", "top_k", "expert", "layer")(
    lambda hidden, ffn, top_k, layers: (3 * hidden * ffn, 2 * 3 * hidden * ffn)
)
wrong("05.4", "operations before parameters", "order", "first", "swap", "exchange")(
    lambda hidden, ffn, top_k, layers: (2 * 3 * hidden * ffn * top_k * layers, 3 * hidden * ffn)
)
wrong("05.4", "sizes added", "times", "product", "multipl", "add", "matri", "sum")(
    lambda hidden, ffn, top_k, layers: (3 * (hidden + ffn), 2 * 3 * (hidden + ffn) * top_k * layers)
)
wrong("05.4", "bytes in bfloat16", "byte", "two", "twice", "double", "number")(
    lambda hidden, ffn, top_k, layers: (2 * 3 * hidden * ffn, 2 * 3 * hidden * ffn * top_k * layers)
)
wrong("05.4", "forward and backward", "three", "backward", "times", "training", "two")(
    lambda hidden, ffn, top_k, layers: (3 * hidden * ffn, 6 * 3 * hidden * ffn * top_k * layers)
)

right("05.4", "a list")(lambda hidden, ffn, top_k, layers: [3 * hidden * ffn, 2 * 3 * hidden * ffn * top_k * layers])


@right("05.4", "counted on tensors without storage")
def _(hidden, ffn, top_k, layers):
    shapes = ((ffn, hidden), (ffn, hidden), (hidden, ffn))
    parameters = sum(torch.empty(shape, device="meta").numel() for shape in shapes)
    return parameters, layers * top_k * 2 * parameters


@right("05.4", "neuron by neuron")
def _(hidden, ffn, top_k, layers):
    neuron = hidden + hidden + hidden
    return ffn * neuron, layers * top_k * ffn * (2 * hidden + 2 * hidden + 2 * hidden)
