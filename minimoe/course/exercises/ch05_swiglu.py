"""Chapter 05, SwiGLU: the function itself, and predictions about what its output follows (05.1 and 05.2)."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from einops import einsum, rearrange
from torch import Tensor
from torch.nn import functional as F

from minimoe.course.checker.exercise import Arguments, Case, Exercise, Stage
from minimoe.model.experts import swiglu

Function = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]

# 05.1 swiglu ----------------------------------------------------------------------------------------------------------


def swiglu_by_loops(x: Tensor, gate: Tensor, up: Tensor, down: Tensor) -> Tensor:
    """One token and one neuron after another, in double precision."""
    rows, result = x.reshape(-1, x.shape[-1]), []
    for row in rows.double():
        total = torch.zeros(len(down), dtype=torch.float64)
        for neuron in range(len(gate)):
            opening, amount = (float(row @ matrix[neuron].double()) for matrix in (gate, up))
            total += opening / (1 + math.exp(-opening)) * amount * down[:, neuron].double()
        result.append(total)
    stacked = torch.stack(result) if result else torch.zeros(0, len(down), dtype=torch.float64)
    return stacked.reshape(x.shape).to(x.dtype)


def draw_expert(*shape: int, ffn: int, dtype: torch.dtype = torch.float32, strided: bool = False) -> Arguments:
    """Random x of a shape (..., hidden), and an expert whose gates are open and closed."""

    def arguments(generator: torch.Generator) -> tuple[Tensor, ...]:
        hidden = shape[-1]
        x = torch.randn(*shape, generator=generator)
        gate, up = torch.randn(2, hidden, ffn, generator=generator) * 1.5 * hidden**-0.5
        down = torch.randn(ffn, hidden, generator=generator) * ffn**-0.5
        turned = [rearrange(matrix, "into out -> out into") for matrix in (gate, up, down)]
        return tuple((part if strided else part.contiguous()).to(dtype) for part in (x, *turned))

    return arguments


def bend(compute: Callable[[Tensor, Tensor], Tensor]) -> Function:
    """swiglu with another function of (gate x, up x) in the middle."""
    return lambda x, gate, up, down: F.linear(compute(F.linear(x, gate), F.linear(x, up)), down)


# Functions of (gate x, up x) in the place of SiLU(gate x) * up x; the exercises of this chapter share them
BENDS: Mapping[str, tuple[Callable[[Tensor, Tensor], Tensor], str]] = {
    "sigmoid": (
        lambda gate, up: torch.sigmoid(gate) * up,
        "the switch is a sigmoid. SiLU(z) is z times its sigmoid.",
    ),
    "relu": (lambda gate, up: F.relu(gate) * up, "the switch is ReLU. Qwen3 uses SiLU, F.silu."),
    "gelu": (lambda gate, up: F.gelu(gate) * up, "the switch is GELU. Qwen3 uses SiLU, F.silu."),
    "quick gelu": (
        lambda gate, up: gate * torch.sigmoid(1.702 * gate) * up,
        "the sigmoid is steeper by 1.702. That is gpt-oss's switch; SiLU(z) is z times the sigmoid of z.",
    ),
    "hard swish": (
        lambda gate, up: F.hardswish(gate) * up,
        "the switch is the hard swish, made of straight lines. Qwen3 uses SiLU, F.silu.",
    ),
    "softplus": (
        lambda gate, up: F.softplus(gate) * up,
        "the switch is softplus. Qwen3 uses SiLU, F.silu.",
    ),
    "leaky relu": (
        lambda gate, up: F.leaky_relu(gate) * up,
        "the switch is a leaky ReLU. Qwen3 uses SiLU, F.silu.",
    ),
    "elu": (lambda gate, up: F.elu(gate) * up, "the switch is ELU. Qwen3 uses SiLU, F.silu."),
    "mish": (lambda gate, up: F.mish(gate) * up, "the switch is Mish. Qwen3 uses SiLU, F.silu."),
    "SiLU twice": (
        lambda gate, up: F.silu(F.silu(gate)) * up,
        "SiLU is applied to gate x twice.",
    ),
    "sigmoid of SiLU": (
        lambda gate, up: F.silu(gate).sigmoid() * up,
        "SiLU already contains a sigmoid: it is z times its sigmoid. Here a second one follows.",
    ),
    "sigmoid of up": (
        lambda gate, up: gate * up.sigmoid(),
        "the sigmoid is taken of up x, and the amount is gate x. The switch is gate x times its own sigmoid.",
    ),
    "sigmoid of up, gate twice": (
        lambda gate, up: gate * up.sigmoid() * gate,
        "the sigmoid is taken of up x, and gate x is in it twice. The switch is gate x times its own sigmoid; "
        "up x is the amount.",
    ),
    "tanh": (lambda gate, up: torch.tanh(gate) * up, "the switch is tanh. Qwen3 uses SiLU, F.silu."),
    "softmax": (
        lambda gate, up: gate.softmax(dim=-1) * up,
        "the gates go through a softmax, so that neurons compete. Each neuron has a switch of its own.",
    ),
    "other sign": (
        lambda gate, up: gate / (1 + torch.exp(gate)) * up,
        "the exponent has the wrong sign: sigmoid(z) is 1 / (1 + exp(-z)).",
    ),
    "no bend": (
        lambda gate, up: gate * up,
        "SiLU is missing: this is gate x times up x.",
    ),
    "after the product": (
        lambda gate, up: F.silu(gate * up),
        "SiLU is applied to the product. It belongs to gate x alone, before the multiplication.",
    ),
    "on both": (
        lambda gate, up: F.silu(gate) * F.silu(up),
        "SiLU is applied to both. up x stays as it is, with its sign.",
    ),
    "added": (
        lambda gate, up: F.silu(gate) + up,
        "the two are added. They are multiplied, which is what makes one of them a switch.",
    ),
    "averaged": (
        lambda gate, up: (F.silu(gate) + up) / 2,
        "the two are averaged. They are multiplied, which is what makes one of them a switch.",
    ),
    "no up": (
        lambda gate, up: F.silu(gate),
        "up is not used: this is the network of two matrices that came before SwiGLU.",
    ),
    "no gate": (lambda gate, up: up, "gate is not used: without it nothing is bent."),
    "bent up": (lambda gate, up: F.silu(up), "gate is not used, and SiLU is applied to up x."),
    "half of it": (
        lambda gate, up: F.silu(gate) * up / 2,
        "the result is half of what it should be.",
    ),
    "SiLU of the sum": (
        lambda gate, up: F.silu(gate + up),
        "SiLU is applied to the sum of both. It belongs to gate x alone, and the two are multiplied.",
    ),
    "subtracted": (
        lambda gate, up: F.silu(gate) - up,
        "up is subtracted. The two are multiplied, which is what makes one of them a switch.",
    ),
    "divided": (
        lambda gate, up: F.silu(gate) / up,
        "SiLU(gate x) is divided by up x. The two are multiplied.",
    ),
    "gate squared": (
        lambda gate, up: gate * F.silu(gate) * up,
        "SiLU already contains its factor z: it is z times its sigmoid. Here gate x is multiplied once more.",
    ),
    "other sign of all": (
        lambda gate, up: -F.silu(gate) * up,
        "the result has the wrong sign.",
    ),
    "gate and nothing else": (
        lambda gate, up: gate,
        "neither SiLU nor up is used: this is two matrices in a row.",
    ),
    "absolute": (
        lambda gate, up: F.silu(gate).abs() * up,
        "the sign of SiLU is lost. It is slightly negative below zero.",
    ),
    "softmax over the tokens": (
        lambda gate, up: gate.softmax(dim=0) * up,
        "the gates go through a softmax over the first axis. Each neuron has a switch of its own: SiLU.",
    ),
}


def swapped(name: str) -> Callable[[Tensor, Tensor], Tensor]:
    """One of BENDS that is given up x as gate x, and gate x as up x."""
    return lambda gate, up: BENDS[name][0](up, gate)


def activation_on_x(x: Tensor, gate: Tensor, up: Tensor, down: Tensor) -> Tensor:
    return F.linear(F.linear(F.silu(x), gate) * F.linear(x, up), down)


def activation_at_the_end(x: Tensor, gate: Tensor, up: Tensor, down: Tensor) -> Tensor:
    return F.silu(F.linear(F.linear(x, gate) * F.linear(x, up), down))


def with_the_token(x: Tensor, gate: Tensor, up: Tensor, down: Tensor) -> Tensor:
    return x + swiglu(x, gate, up, down)


def reshaped(x: Tensor, gate: Tensor, up: Tensor, down: Tensor) -> Tensor:
    """The matrices are given the shape (into, out) by reshape, which mixes their rows."""
    gate, up, down = (matrix.reshape(matrix.shape[::-1]) for matrix in (gate, up, down))
    return (F.silu(x @ gate) * (x @ up)) @ down


def matrices_multiplied(x: Tensor, gate: Tensor, up: Tensor, down: Tensor) -> Tensor:
    return F.linear(F.silu(F.linear(x, gate * up)), down)


def mean_of_the_neurons(x: Tensor, gate: Tensor, up: Tensor, down: Tensor) -> Tensor:
    return swiglu(x, gate, up, down) / len(gate)


def one_after_another(x: Tensor, gate: Tensor, up: Tensor, down: Tensor) -> Tensor:
    """gate reads what up and down have made of x."""
    return F.linear(F.silu(F.linear(F.linear(F.linear(x, up), down), gate)), down)


def gate_then_up(x: Tensor, gate: Tensor, up: Tensor, down: Tensor) -> Tensor:
    """up reads what gate and down have made of x."""
    return F.linear(F.linear(F.linear(F.silu(F.linear(x, gate)), down), up), down)


def down_before_the_product(x: Tensor, gate: Tensor, up: Tensor, down: Tensor) -> Tensor:
    return F.linear(F.silu(F.linear(x, gate)), down) * F.linear(F.linear(x, up), down)


def always_float32(x: Tensor, gate: Tensor, up: Tensor, down: Tensor) -> Tensor:
    return swiglu(x.float(), gate.float(), up.float(), down.float())


def computed_in_float32(x: Tensor, gate: Tensor, up: Tensor, down: Tensor) -> Tensor:
    return always_float32(x, gate, up, down).to(x.dtype)


def in_place(x: Tensor, gate: Tensor, up: Tensor, down: Tensor) -> Tensor:
    opening = F.linear(x, gate)
    return F.linear(opening.sigmoid_().mul_(opening).mul_(F.linear(x, up)), down)


def up_twice(x: Tensor, gate: Tensor, up: Tensor, down: Tensor) -> Tensor:
    return swiglu(x, up, up, down)


def gate_twice(x: Tensor, gate: Tensor, up: Tensor, down: Tensor) -> Tensor:
    return swiglu(x, gate, gate, down)


def by_einsum(x: Tensor, gate: Tensor, up: Tensor, down: Tensor) -> Tensor:
    opening, amount = (einsum(x, matrix, "... hidden, ffn hidden -> ... ffn") for matrix in (gate, up))
    return einsum(opening * opening.sigmoid() * amount, down, "... ffn, hidden ffn -> ... hidden")


def by_matrix_products(x: Tensor, gate: Tensor, up: Tensor, down: Tensor) -> Tensor:
    opening = x @ gate.T
    return ((opening / (1 + torch.exp(-opening))) * (x @ up.T)) @ down.T


def in_float64(x: Tensor, gate: Tensor, up: Tensor, down: Tensor) -> Tensor:
    return swiglu(x.double(), gate.double(), up.double(), down.double()).to(x.dtype)


def as_a_sum_of_neurons(x: Tensor, gate: Tensor, up: Tensor, down: Tensor) -> Tensor:
    total = torch.zeros_like(x)
    for reads, amount, writes in zip(gate, up, down.T, strict=True):
        total = total + (F.silu(x @ reads) * (x @ amount))[..., None] * writes
    return total


def loses_digits(answer: Any) -> str | None:
    """A complaint if the answer is right in float32 only, although x is float64."""
    arguments = draw_expert(4, 5, ffn=7, dtype=torch.float64)(torch.Generator().manual_seed(0))
    error = float((answer(*arguments) - swiglu_by_loops(*arguments)).abs().max())
    lost = 1e-12 < error < 1e-4  # a larger error is another mistake
    return "x is float64, but the result has the precision of float32" if lost else None


OPEN_AND_CLOSED = (
    torch.tensor([[1.0, 2.0]]),
    torch.tensor([[20.0, 0.0], [-20.0, 0.0]]),
    torch.tensor([[0.0, 3.0], [5.0, 0.0]]),
    torch.tensor([[1.0, 4.0], [2.0, 4.0]]),
)
# 05.2 predictions -----------------------------------------------------------------------------------------------------

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

REASONS = {
    "up doubled: the output doubles": "Write the function down. Where does up occur, and is anything bent after it?",
    "gate doubled: the output doubles": "SiLU(2z) is close to 2 SiLU(z) only where the switch is wide open. What about "
    "z near zero?",
    "x doubled: the output doubles": "x occurs twice: once in the amount, once in the switch.",
    "up negated: the output changes its sign": "Which sign does each of the two factors have before and after?",
    "gate negated: the output changes its sign": "What does SiLU make of 5, and what of -5?",
    "gate and up swapped: the same output": "Take a token with gate -5 and up 5. What passes before, and what after?",
    "neurons in another order, in all three matrices: the same output": "The output is a sum over the neurons.",
    "x is zero: the output is zero": "There are no biases. What is the product of a zero amount and anything?",
    "gate is zero: the output is zero": "What is SiLU(0)?",
}


def with_other(number: int) -> dict[str, bool]:
    """The truth, with the answer to one question reversed."""
    question = list(TRUTH)[number]
    return TRUTH | {question: not TRUTH[question]}


EXERCISES = (
    Exercise(
        id="05.1",
        title="One expert",
        kind="fill in",
        minutes=8,
        difficulty=1,
        hints=(
            "Three products with a matrix, and one bend. Which of the three products does SiLU belong to?",
            "F.linear(x, matrix) takes a matrix (out, into) and works for any axes before the last one. gate and up "
            "lead from hidden to ffn, down leads back.",
            "F.linear(F.silu(F.linear(x, gate)) * F.linear(x, up), down).",
        ),
        now_you_know="this one line, with other numbers each time, is 96.6 % of the 235B.",
        teaches=swiglu,
        oracle=swiglu_by_loops,
        also=loses_digits,
        cases=(
            Case(
                "one open neuron, 20 × 6 into column (1, 2), and one closed: (120, 240)",
                OPEN_AND_CLOSED,
                torch.tensor([[120.0, 240.0]]),
            ),
            Case("random tokens", draw_expert(4, 5, ffn=7)),
            Case("as many neurons as channels", draw_expert(3, 6, ffn=6)),
            Case("a batch of texts: two axes before hidden", draw_expert(2, 3, 8, ffn=4)),
            Case("one token without an axis for it", draw_expert(6, ffn=9)),
            Case("no token at all", draw_expert(0, 5, ffn=3)),
            Case("one neuron", draw_expert(4, 6, ffn=1)),
            Case("matrices that are not contiguous in memory", draw_expert(3, 7, ffn=5, strided=True)),
            Case("bfloat16 in, bfloat16 out", draw_expert(4, 8, ffn=6, dtype=torch.bfloat16), tolerance=0.03),
        ),
        stages=(
            Stage("", lambda x, gate, up, down: F.linear(x, gate), "is gate x, before SiLU"),
            Stage("", lambda x, gate, up, down: F.silu(F.linear(x, gate)), "is SiLU(gate x), before it meets up x"),
            Stage("", lambda x, gate, up, down: F.linear(x, up), "is up x"),
            Stage(
                "", lambda x, gate, up, down: F.silu(F.linear(x, gate)) * F.linear(x, up), "is the product before down"
            ),
        ),
        mutants={
            "swapped": (
                lambda x, gate, up, down: swiglu(x, up, gate, down),
                "gate and up are swapped: SiLU belongs to the product with gate.",
            ),
            **{name: (bend(compute), says) for name, (compute, says) in BENDS.items()},
            **{
                f"{name}, swapped": (
                    bend(swapped(name)),
                    f"two things: gate and up are swapped; and {BENDS[name][1]}",
                )
                for name in ("relu", "gelu", "quick gelu", "tanh", "hard swish")
            },
            "up for gate": (up_twice, "up is used in both places. The switch is computed from gate."),
            "gate for up": (gate_twice, "gate is used in both places. The amount is computed from up."),
            "bend on x": (
                activation_on_x,
                "SiLU is applied to x, before the matrix. It belongs to gate x.",
            ),
            "bend at the end": (
                activation_at_the_end,
                "SiLU is applied to the result. It belongs to gate x, before the multiplication.",
            ),
            "reshaped": (
                reshaped,
                "the matrices were reshaped to fit, which mixes their rows. They are (out, in): F.linear takes them as "
                "they are, and with @ they have to be transposed.",
            ),
            "matrices multiplied": (
                matrices_multiplied,
                "gate and up were multiplied with each other, number by number. Each makes its own product with x.",
            ),
            "one after another": (
                one_after_another,
                "gate is applied to the result of up and down. gate and up both read x itself.",
            ),
            "gate, then up": (
                gate_then_up,
                "up is applied to the result of gate and down. gate and up both read x itself.",
            ),
            "down before the product": (
                down_before_the_product,
                "down is applied to both parts before they are multiplied. Multiply neuron by neuron first, then comes "
                "down.",
            ),
            "mean of the neurons": (
                mean_of_the_neurons,
                "the result is divided by the number of neurons. It is their sum, not their mean.",
            ),
            "with the token": (
                with_the_token,
                "x was added. The layer does that; the expert returns what is to be added.",
            ),
            "opened twice": (
                in_place,
                "the gate was overwritten before it was used: this is sigmoid squared times up.",
            ),
            "left in float32": (always_float32, "the result is float32 although x isn't. Keep the model's dtype."),
            "computed in float32": (
                computed_in_float32,
                "the result is computed in float32 although x is float64, so half of its digits are lost.",
            ),
        },
        accepted={
            "einsum": by_einsum,
            "matrix products and exp": by_matrix_products,
            "in float64": in_float64,
            "a sum of neurons": as_a_sum_of_neurons,
        },
    ),
    Exercise(
        id="05.2",
        title="What does the output follow?",
        kind="predict",
        minutes=8,
        difficulty=2,
        hints=(
            "Take one neuron: SiLU(gate · x) times (up · x) times its column of down. What happens to each factor?",
            "Everything except SiLU is a product or a sum. SiLU(0) is 0, SiLU of a large number is that number, SiLU "
            "of a large negative number is 0.",
            "Linear in up and in down, not in gate and not in x; a sum over neurons; zero times anything is zero.",
        ),
        now_you_know="the output follows up in proportion, gate only as a switch, and x nearly as a square.",
        expected=TRUTH,
        reasons=REASONS,
        mutants={
            "up is bent": (
                with_other(0),
                "up x is multiplied and summed, nothing else. Twice the amount, twice the output.",
            ),
            "gate is an amount": (
                with_other(1),
                "gate goes through SiLU. A closed switch stays closed when its gate is doubled.",
            ),
            "x is an amount": (
                with_other(2),
                "x is in both factors: for an open neuron, twice the input is four times the output.",
            ),
            "the sign is lost": (with_other(3), "the amount changes its sign, and the switch doesn't look at it."),
            "the switch is odd": (
                with_other(4),
                "SiLU(5) is about 5 and SiLU(-5) about 0, so negated gates open what was closed.",
            ),
            "two equal factors": (
                with_other(5),
                "SiLU(gate) × up and SiLU(up) × gate are different wherever the two have different signs.",
            ),
            "order counts": (
                with_other(6),
                "a neuron takes its rows and its column along, and a sum has no order.",
            ),
            "a bias": (with_other(7), "there is no bias: zero times any matrix is zero, and SiLU(0) is 0."),
            "open at zero": (
                with_other(8),
                "SiLU(0) is 0, not one half: it is 0 times its sigmoid.",
            ),
        },
        accepted={
            "in another order": dict(reversed(list(TRUTH.items()))),
            "as it stands": dict(TRUTH),
        },
    ),
)
