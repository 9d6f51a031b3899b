"""Chapter 05, SwiGLU: gate and up in one matrix, and gpt-oss's version (05.3 and 05.6)."""

import math
from collections.abc import Callable, Mapping
from itertools import combinations
from typing import Any

import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional as F

from minimoe.course.checker.exercise import Arguments, Case, Exercise, Stage
from minimoe.course.exercises.ch05_swiglu import BENDS, swapped

# 05.3 a fused matrix --------------------------------------------------------------------------------------------------


def fused_by_loops(x: Tensor, gate_up: Tensor, down: Tensor) -> Tensor:
    """Row after row: neuron n has the gate row n and the up row n + ffn."""
    ffn, result = len(gate_up) // 2, torch.zeros(len(x), len(down), dtype=torch.float64)
    for token, row in enumerate(x.double()):
        for neuron in range(ffn):
            opening, amount = (float(row @ gate_up[place].double()) for place in (neuron, neuron + ffn))
            result[token] += opening / (1 + math.exp(-opening)) * amount * down[:, neuron].double()
    return result.to(x.dtype)


def draw_fused(tokens: int, hidden: int, ffn: int, dtype: torch.dtype = torch.float32) -> Arguments:
    def arguments(generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        x = torch.randn(tokens, hidden, generator=generator)
        gate_up = torch.randn(2 * ffn, hidden, generator=generator) * 1.5 * hidden**-0.5
        down = torch.randn(hidden, ffn, generator=generator) * ffn**-0.5
        return x.to(dtype), gate_up.to(dtype), down.to(dtype)

    return arguments


def as_given(x: Tensor, gate_up: Tensor, down: Tensor) -> Tensor:
    """The function on the page, with its bug."""
    first, second = rearrange(F.linear(x, gate_up), "token (two ffn) -> two token ffn", two=2)
    return F.linear(F.silu(second) * first, down)


def cut(pattern: str, compute: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """The function with another way to cut the fused product, and another function of the two parts."""

    def answer(x: Tensor, gate_up: Tensor, down: Tensor) -> Tensor:
        first, second = rearrange(F.linear(x, gate_up), pattern, two=2)
        return F.linear(compute(first, second), down)

    return answer


HALVES, EVEN_AND_ODD = "token (two ffn) -> two token ffn", "token (ffn two) -> two token ffn"


def reversed_columns(x: Tensor, gate_up: Tensor, down: Tensor) -> Tensor:
    gate, up = F.linear(x, gate_up).chunk(2, dim=-1)
    return F.linear((F.silu(gate) * up).flip(-1), down)


def down_before_the_product(x: Tensor, gate_up: Tensor, down: Tensor) -> Tensor:
    gate, up = F.linear(x, gate_up).chunk(2, dim=-1)
    return F.linear(F.silu(gate), down) * F.linear(up, down)


def by_chunk(x: Tensor, gate_up: Tensor, down: Tensor) -> Tensor:
    gate, up = F.linear(x, gate_up).chunk(2, dim=-1)
    return F.linear(F.silu(gate) * up, down)


def cut_first(x: Tensor, gate_up: Tensor, down: Tensor) -> Tensor:
    """The matrix is cut, not its product."""
    gate, up = gate_up[: len(gate_up) // 2], gate_up[len(gate_up) // 2 :]
    return F.linear(F.silu(F.linear(x, gate)) * F.linear(x, up), down)


def in_float64(x: Tensor, gate_up: Tensor, down: Tensor) -> Tensor:
    return by_chunk(x.double(), gate_up.double(), down.double()).to(x.dtype)


# 05.6 gpt-oss's version -----------------------------------------------------------------------------------------------


def clamped_by_loops(gate_up: Tensor, alpha: float, limit: float) -> Tensor:
    """One number after another. gate_up: (token, 2 * ffn), gate in the even columns."""
    tokens, columns = gate_up.shape
    result = torch.zeros(tokens, columns // 2, dtype=torch.float64)
    for token in range(tokens):
        for neuron in range(columns // 2):
            gate = min(float(gate_up[token, 2 * neuron]), limit)
            up = max(-limit, min(float(gate_up[token, 2 * neuron + 1]), limit))
            result[token, neuron] = gate / (1 + math.exp(-alpha * gate)) * (up + 1)
    return result.to(gate_up.dtype)


def draw_gate_up(tokens: int, ffn: int, alpha: float = 1.702, limit: float = 7.0, size: float = 6.0) -> Arguments:
    def arguments(generator: torch.Generator) -> tuple[Tensor, float, float]:
        return size * torch.randn(tokens, 2 * ffn, generator=generator), alpha, limit

    return arguments


Parts = Callable[[Tensor, Tensor, float, float], Tensor]


def even_and_odd(compute: Parts) -> Callable[[Tensor, float, float], Tensor]:
    """A version of the function, given what it does with gate, up, alpha and limit."""
    return lambda gate_up, alpha, limit: compute(gate_up[:, 0::2], gate_up[:, 1::2], alpha, limit)


def gpt_oss(gate: Tensor, up: Tensor, alpha: float, limit: float) -> Tensor:
    gate, up = gate.clamp(max=limit), up.clamp(-limit, limit)
    return gate * torch.sigmoid(alpha * gate) * (up + 1)


def from_halves(gate_up: Tensor, alpha: float, limit: float) -> Tensor:
    gate, up = gate_up.chunk(2, dim=-1)
    return gpt_oss(gate, up, alpha, limit)


def gate_limited_on_both_sides(gate: Tensor, up: Tensor, alpha: float, limit: float) -> Tensor:
    return gpt_oss(gate.clamp(-limit, limit), up, alpha, limit)


def up_limited_from_above(gate: Tensor, up: Tensor, alpha: float, limit: float) -> Tensor:
    gate, up = gate.clamp(max=limit), up.clamp(max=limit)
    return gate * torch.sigmoid(alpha * gate) * (up + 1)


def one_before_the_limit(gate: Tensor, up: Tensor, alpha: float, limit: float) -> Tensor:
    gate, up = gate.clamp(max=limit), (up + 1).clamp(-limit, limit)
    return gate * torch.sigmoid(alpha * gate) * up


def product_limited(gate: Tensor, up: Tensor, alpha: float, limit: float) -> Tensor:
    return (gate * torch.sigmoid(alpha * gate) * (up + 1)).clamp(-limit, limit)


def switch_limited(gate: Tensor, up: Tensor, alpha: float, limit: float) -> Tensor:
    return (gate * torch.sigmoid(alpha * gate)).clamp(max=limit) * (up.clamp(-limit, limit) + 1)


def only_gate_limited(gate: Tensor, up: Tensor, alpha: float, limit: float) -> Tensor:
    gate = gate.clamp(max=limit)
    return gate * torch.sigmoid(alpha * gate) * (up + 1)


def only_up_limited(gate: Tensor, up: Tensor, alpha: float, limit: float) -> Tensor:
    return gate * torch.sigmoid(alpha * gate) * (up.clamp(-limit, limit) + 1)


def one_on_gate(gate: Tensor, up: Tensor, alpha: float, limit: float) -> Tensor:
    gate, up = gate.clamp(max=limit), up.clamp(-limit, limit)
    return (gate * torch.sigmoid(alpha * gate) + 1) * up


def without_one(gate: Tensor, up: Tensor, alpha: float, limit: float) -> Tensor:
    gate, up = gate.clamp(max=limit), up.clamp(-limit, limit)
    return gate * torch.sigmoid(alpha * gate) * up


def without_alpha(gate: Tensor, up: Tensor, alpha: float, limit: float) -> Tensor:
    return gpt_oss(gate, up, 1.0, limit)


def alpha_outside(gate: Tensor, up: Tensor, alpha: float, limit: float) -> Tensor:
    return alpha * gpt_oss(gate, up, 1.0, limit)


def bent_with_alpha(gate: Tensor, up: Tensor, alpha: float, limit: float) -> Tensor:
    return F.silu(alpha * gate.clamp(max=limit)) * (up.clamp(-limit, limit) + 1)


def one_in_the_switch(gate: Tensor, up: Tensor, alpha: float, limit: float) -> Tensor:
    """(gate + 1) times the sigmoid of the gate."""
    gate, up = gate.clamp(max=limit), up.clamp(-limit, limit)
    return (gate + 1) * torch.sigmoid(alpha * gate) * up


def one_on_gate_itself(gate: Tensor, up: Tensor, alpha: float, limit: float) -> Tensor:
    """1 is added to the gate, and its sigmoid sees that."""
    gate, up = gate.clamp(max=limit) + 1, up.clamp(-limit, limit)
    return gate * torch.sigmoid(alpha * gate) * up


def limits_exchanged(gate: Tensor, up: Tensor, alpha: float, limit: float) -> Tensor:
    gate, up = gate.clamp(-limit, limit), up.clamp(max=limit)
    return gate * torch.sigmoid(alpha * gate) * (up + 1)


def sigmoid_limited(gate: Tensor, up: Tensor, alpha: float, limit: float) -> Tensor:
    """The limit of the gate is seen by the sigmoid only."""
    return gate * torch.sigmoid(alpha * gate.clamp(max=limit)) * (up.clamp(-limit, limit) + 1)


def limited_from_below(gate: Tensor, up: Tensor, alpha: float, limit: float) -> Tensor:
    gate, up = gate.clamp(min=-limit), up.clamp(-limit, limit)
    return gate * torch.sigmoid(alpha * gate) * (up + 1)


def at_least_the_limit(gate: Tensor, up: Tensor, alpha: float, limit: float) -> Tensor:
    """clamp(limit) is clamp(min=limit)."""
    gate, up = gate.clamp(limit), up.clamp(-limit, limit)
    return gate * torch.sigmoid(alpha * gate) * (up + 1)


def typed_in(gate: Tensor, up: Tensor, alpha: float, limit: float) -> Tensor:
    return gpt_oss(gate, up, 1.702, 7.0)


def one_on_all(gate: Tensor, up: Tensor, alpha: float, limit: float) -> Tensor:
    return without_one(gate, up, alpha, limit) + 1


def sigmoid_alone(gate: Tensor, up: Tensor, alpha: float, limit: float) -> Tensor:
    return torch.sigmoid(alpha * gate.clamp(max=limit)) * (up.clamp(-limit, limit) + 1)


Steps = dict[str, Any]
# Steps of the function done differently, of which answers often have two: for each option its values and what they are
STEPS: Mapping[str, tuple[tuple[Any, str], ...]] = {
    "order": (
        ("halves", "the columns are cut into halves, not into even and odd ones"),
        ("swapped", "gate and up are swapped: the even columns are the gates"),
    ),
    "limits": (
        ("none", "limit is not used"),
        ("gate", "up has no limit"),
        ("up", "gate has no limit"),
        ("both sides", "the gate is limited from below, too"),
        ("above", "up is limited from above only"),
    ),
    "one": ((None, "1 is missing at up"), ("all", "1 is added to the product, not to up")),
    "switch": (
        (lambda gate, alpha: F.silu(gate), "alpha is not used"),
        (lambda gate, alpha: F.silu(alpha * gate), "alpha multiplies the gate in both places, not only in the sigmoid"),
        (lambda gate, alpha: torch.sigmoid(alpha * gate), "the switch is a sigmoid alone, without gate in front of it"),
        (lambda gate, alpha: gate * torch.sigmoid(1.702 * gate), "alpha is always 1.702, whatever the argument is"),
        (
            lambda gate, alpha: F.gelu(gate),
            "the switch is GELU, which gate × sigmoid(alpha × gate) only comes close to",
        ),
        (lambda gate, alpha: F.relu(gate), "the switch is ReLU"),
    ),
}


def with_steps(gate_up: Tensor, alpha: float, limit: float, steps: Steps) -> Tensor:
    """gpt-oss's function with some of its steps done differently, as in STEPS."""
    gate, up = gate_up[:, 0::2], gate_up[:, 1::2]
    if "order" in steps:
        gate, up = gate_up.chunk(2, dim=-1) if steps["order"] == "halves" else (up, gate)
    limits = steps.get("limits", "right")
    if limits not in ("none", "up"):
        gate = gate.clamp(-limit if limits == "both sides" else None, limit)
    if limits not in ("none", "gate"):
        up = up.clamp(None if limits == "above" else -limit, limit)
    switch = steps["switch"](gate, alpha) if "switch" in steps else gate * torch.sigmoid(alpha * gate)
    one = steps.get("one", "up")
    return switch * (up + 1) if one == "up" else switch * up + (one == "all")


def two_mistakes() -> dict[str, tuple[Any, str]]:
    """Mutants in which two of these steps are done differently."""

    def both(steps: Steps) -> Callable[..., Tensor]:
        return lambda gate_up, alpha, limit: with_steps(gate_up, alpha, limit, steps)

    return {
        f"{says}; {also}": (both({first: one, second: other}), f"two things: {says}; and {also}.")
        for first, second in combinations(STEPS, 2)
        for one, says in STEPS[first]
        for other, also in STEPS[second]
    }


def by_rearrange(gate_up: Tensor, alpha: float, limit: float) -> Tensor:
    gate, up = rearrange(gate_up, "token (ffn two) -> two token ffn", two=2)
    return gpt_oss(gate, up, alpha, limit)


def by_minimum(gate_up: Tensor, alpha: float, limit: float) -> Tensor:
    """torch.minimum for clamp, SiLU for the switch: z sigmoid(a z) = SiLU(a z) / a."""
    top = torch.tensor(limit, dtype=gate_up.dtype)
    gate, up = torch.minimum(gate_up[:, ::2], top), torch.maximum(torch.minimum(gate_up[:, 1::2], top), -top)
    return F.silu(alpha * gate) / alpha * (1 + up)


EXERCISES = (
    Exercise(
        id="05.3",
        title="A fused matrix",
        kind="bug hunt",
        minutes=12,
        difficulty=3,
        hints=(
            "Which neurons differ in the printed lines, and which don't? The lesson has a picture that explains it.",
            "gate_up is (2 * ffn, hidden): all gate rows, then all up rows. So the product with x holds all openings, "
            "then all amounts.",
            'gate, up = rearrange(F.linear(x, gate_up), "token (two ffn) -> two token ffn", two=2); return '
            "F.linear(F.silu(gate) * up, down).",
        ),
        now_you_know="a test with equal gate and up rows can't see a swap; neurons with parallel rows hardly can.",
        oracle=fused_by_loops,
        given=as_given,
        cases=(
            Case(
                "one neuron, wide open: 20 × -3 into column (1, 2)",
                (torch.tensor([[1.0, 0.5]]), torch.tensor([[20.0, 0.0], [-3.0, 0.0]]), torch.tensor([[1.0], [2.0]])),
                torch.tensor([[-60.0, -120.0]]),
            ),
            Case("random tokens, four neurons", draw_fused(3, 5, 4)),
            Case("random tokens, seven neurons", draw_fused(4, 6, 7)),
            Case("one token", draw_fused(1, 8, 6)),
            Case("no token at all", draw_fused(0, 4, 3)),
            Case("bfloat16 in, bfloat16 out", draw_fused(3, 8, 4, torch.bfloat16), tolerance=0.03),
        ),
        stages=(
            Stage("", lambda x, gate_up, down: F.linear(x, gate_up), "is gate_up x, not yet cut"),
            Stage(
                "",
                lambda x, gate_up, down: cut(HALVES, lambda first, second: F.silu(first) * second)(
                    x, gate_up, torch.eye(len(gate_up) // 2, dtype=x.dtype)
                ),
                "is the product before down",
            ),
        ),
        mutants={
            "as given": (
                cut(HALVES, lambda first, second: first * F.silu(second)),
                "gate and up are swapped: the first half of the rows is gate, and SiLU belongs to it.",
            ),
            "even and odd": (
                cut(EVEN_AND_ODD, lambda first, second: F.silu(first) * second),
                "the matrix is cut into even and odd rows, as in gpt-oss. Here the gate rows come first, then the up "
                "rows: (two ffn).",
            ),
            "even and odd, swapped": (
                cut(EVEN_AND_ODD, lambda first, second: first * F.silu(second)),
                "the matrix is cut into even and odd rows, and gate and up are swapped as well.",
            ),
            "on both": (
                cut(HALVES, lambda first, second: F.silu(first) * F.silu(second)),
                "SiLU is applied to both halves. The amounts stay as they are, with their sign.",
            ),
            "after the product": (
                cut(HALVES, lambda first, second: F.silu(first * second)),
                "SiLU is applied to the product. That treats both halves alike, but only gate is a switch.",
            ),
            "down before the product": (
                down_before_the_product,
                "down is applied to both halves before they are multiplied. Multiply neuron by neuron first, then "
                "comes down.",
            ),
            "gate alone": (
                cut(HALVES, lambda first, second: F.silu(first)),
                "the second half is not used. It holds the amounts, by which the switch is multiplied.",
            ),
            **{
                name: (cut(HALVES, BENDS[name][0]), BENDS[name][1])
                for name in BENDS.keys()
                - {"on both", "after the product", "no bend", "no up", "softmax over the tokens"}
            },
            **{
                f"{name}, swapped": (
                    cut(HALVES, swapped(name)),
                    f"two things: gate and up are still swapped; and {BENDS[name][1]}",
                )
                for name in ("relu", "gelu", "quick gelu", "tanh")
            },
            **{
                f"{name}, even and odd": (
                    cut(EVEN_AND_ODD, BENDS[name][0]),
                    f"two things: the matrix is cut into even and odd rows in place of halves; and {BENDS[name][1]}",
                )
                for name in ("sigmoid", "relu", "gelu", "no bend", "after the product", "on both", "no up", "no gate")
            },
            "no bend": (
                cut(HALVES, lambda first, second: first * second),
                "SiLU is missing. Then the order of the halves doesn't matter, but the function is another one.",
            ),
            "gate for both": (
                cut(HALVES, lambda first, second: F.silu(first) * first),
                "the first half is used in both places. The amounts are in the second half.",
            ),
            "up for both": (
                cut(HALVES, lambda first, second: F.silu(second) * second),
                "the second half is used in both places. The openings are in the first half.",
            ),
            "reversed": (reversed_columns, "the neurons are in reversed order when they meet down."),
        },
        accepted={"chunk": by_chunk, "the matrix is cut": cut_first, "in float64": in_float64},
    ),
    Exercise(
        id="05.6",
        title="gpt-oss's version",
        kind="fill in",
        minutes=10,
        difficulty=3,
        hints=(
            "Three steps: take the columns apart, limit both, multiply. In which of the steps is the 1 added?",
            "gate_up[:, 0::2] are the gates, gate_up[:, 1::2] the amounts, (token, ffn) each. The gate has a limit "
            "above, the amount on both sides.",
            "gate = gate.clamp(max=limit); up = up.clamp(-limit, limit); return gate * torch.sigmoid(alpha * gate) * "
            "(up + 1).",
        ),
        now_you_know="two families can have matrices of the same names and shapes, and another function between them.",
        oracle=clamped_by_loops,
        cases=(
            Case(
                "gate 20 and up 20, limit 7: 7 × 8",
                (torch.tensor([[20.0, 20.0]]), 1.702, 7.0),
                torch.tensor([[56.0]]),
                tolerance=1e-4,
            ),
            Case(
                "two neurons with alpha 1: gate 50, up 0 passes 50; gate 50, up -1 nothing",
                (torch.tensor([[50.0, 0.0, 50.0, -1.0]]), 1.0, 100.0),
                torch.tensor([[50.0, 0.0]]),
            ),
            Case("random, many beyond the limit", draw_gate_up(4, 5)),
            Case("random, another limit and another alpha", draw_gate_up(3, 7, alpha=0.5, limit=3.0)),
            Case("random, none beyond the limit", draw_gate_up(5, 4, limit=60.0, size=2.0)),
            Case("random, near zero", draw_gate_up(2, 6, size=0.5)),
            Case("no token at all", draw_gate_up(0, 3)),
            Case("one neuron", draw_gate_up(4, 1)),
        ),
        mutants={
            "halves": (
                from_halves,
                "the columns are cut into halves. In gpt-oss even columns are gates and odd ones amounts.",
            ),
            "swapped": (
                even_and_odd(lambda gate, up, alpha, limit: gpt_oss(up, gate, alpha, limit)),
                "gate and up are swapped: the even columns are the gates.",
            ),
            "gate limited on both sides": (
                even_and_odd(gate_limited_on_both_sides),
                "the gate is limited from below, too. A strongly closed gate should stay closed: only above.",
            ),
            "up limited from above": (
                even_and_odd(up_limited_from_above),
                "up is limited from above only. It has both signs, so it needs both limits.",
            ),
            "one before the limit": (
                even_and_odd(one_before_the_limit),
                "1 is added before the limit. It comes after, so that up + 1 reaches limit + 1.",
            ),
            "product limited": (
                even_and_odd(product_limited),
                "the product is limited. The limits apply to gate and up, before they are multiplied.",
            ),
            "switch limited": (
                even_and_odd(switch_limited),
                "gate × sigmoid is limited. The limit applies to gate itself, so the sigmoid sees it as well.",
            ),
            "gate limited alone": (even_and_odd(only_gate_limited), "up has no limit."),
            "up limited alone": (even_and_odd(only_up_limited), "gate has no limit."),
            "no limits": (
                even_and_odd(lambda gate, up, alpha, limit: gate * torch.sigmoid(alpha * gate) * (up + 1)),
                "limit is not used.",
            ),
            "one on gate": (even_and_odd(one_on_gate), "1 is added to the switch. It belongs to up."),
            "without one": (
                even_and_odd(without_one),
                "1 is missing: gpt-oss multiplies with up + 1, so that an amount of 0 lets the gate itself pass.",
            ),
            "without alpha": (
                even_and_odd(without_alpha),
                "alpha is not used: this is SiLU. Here the sigmoid is steeper.",
            ),
            "SiLU of alpha gate": (
                even_and_odd(bent_with_alpha),
                "alpha multiplies the gate in both places, as in SiLU(alpha × gate). It belongs inside of the sigmoid "
                "alone.",
            ),
            "one in the switch": (
                even_and_odd(one_in_the_switch),
                "1 is added to gate. It belongs to up: gate × sigmoid(alpha × gate) × (up + 1).",
            ),
            "one on gate itself": (
                even_and_odd(one_on_gate_itself),
                "1 is added to gate, in front of the sigmoid too. It belongs to up.",
            ),
            "limits exchanged": (
                even_and_odd(limits_exchanged),
                "the limits are exchanged: gate is limited from above, up on both sides.",
            ),
            "sigmoid limited": (
                even_and_odd(sigmoid_limited),
                "the limited gate is in the sigmoid only. The gate in front of it is limited as well.",
            ),
            "limited from below": (
                even_and_odd(limited_from_below),
                "gate is limited from below. The limit is above: a strongly closed gate stays closed.",
            ),
            "at least the limit": (
                even_and_odd(at_least_the_limit),
                "the gate is at least `limit`, not at most: clamp(limit) sets the lower end. Write clamp(max=limit).",
            ),
            "alpha typed in": (
                even_and_odd(lambda gate, up, alpha, limit: gpt_oss(gate, up, 1.702, limit)),
                "alpha is always 1.702. Use the argument.",
            ),
            "limit typed in": (
                even_and_odd(lambda gate, up, alpha, limit: gpt_oss(gate, up, alpha, 7.0)),
                "the limit is always 7. Use the argument.",
            ),
            "typed in": (
                even_and_odd(typed_in),
                "alpha is always 1.702 and the limit always 7, as in gpt-oss. Use the arguments alpha and limit.",
            ),
            "one minus": (
                even_and_odd(
                    lambda gate, up, alpha, limit: (
                        gate.clamp(max=limit)
                        * torch.sigmoid(alpha * gate.clamp(max=limit))
                        * (up.clamp(-limit, limit) - 1)
                    )
                ),
                "1 is subtracted from up. It is added.",
            ),
            "alpha divides": (
                even_and_odd(lambda gate, up, alpha, limit: gpt_oss(gate, up, 1 / alpha, limit)),
                "the gate is divided by alpha in the sigmoid. It is multiplied, which makes the sigmoid steeper.",
            ),
            "never closed": (
                even_and_odd(lambda gate, up, alpha, limit: gpt_oss(gate.clamp(min=0), up, alpha, limit)),
                "negative gates are set to 0. The gate has no limit below: it passes a little of negative numbers.",
            ),
            "beyond the limit removed": (
                even_and_odd(
                    lambda gate, up, alpha, limit: gpt_oss(gate, up.masked_fill(up.abs() > limit, 0), alpha, limit)
                ),
                "amounts beyond the limit are set to 0. They are set to the limit: clamp.",
            ),
            "gelu": (
                even_and_odd(
                    lambda gate, up, alpha, limit: F.gelu(gate.clamp(max=limit)) * (up.clamp(-limit, limit) + 1)
                ),
                "the switch is GELU. gate × sigmoid(alpha × gate) comes close to it for one alpha, and isn't the same.",
            ),
            **two_mistakes(),
            "sigmoid of the other sign": (
                even_and_odd(lambda gate, up, alpha, limit: gpt_oss(gate, up, -alpha, limit)),
                "the sigmoid has the wrong sign: sigmoid(z) is 1 / (1 + exp(-z)).",
            ),
            "one on all": (even_and_odd(one_on_all), "1 is added to the product. It belongs to up, in parentheses."),
            "alpha outside": (
                even_and_odd(alpha_outside),
                "alpha multiplies the result. It belongs inside of the sigmoid.",
            ),
            "sigmoid alone": (
                even_and_odd(sigmoid_alone),
                "the switch is a sigmoid. It is gate times its sigmoid.",
            ),
        },
        accepted={
            "slices": even_and_odd(gpt_oss),
            "rearrange": by_rearrange,
            "minimum, and SiLU divided by alpha": by_minimum,
        },
    ),
)
