"""Chapter 11, training: a bias that balances without a loss (11.9)."""

from collections.abc import Callable
from typing import Any

import torch
from einops import reduce
from torch import Tensor

from minimoe.course.checker.exercise import Case, Exercise, Stage
from minimoe.training.balancing import moved_bias


def by_loops(bias: Tensor, counts: Tensor, rate: float) -> Tensor:
    """Expert after expert: up if below the mean count, down if above; then the mean of all is taken off."""
    mean = sum(counts.tolist()) / len(counts)
    moved = [b + rate * ((c < mean) - (c > mean)) for b, c in zip(bias.tolist(), counts.tolist(), strict=True)]
    middle = sum(moved) / len(moved)
    return torch.tensor([b - middle for b in moved], dtype=bias.dtype)


def by_where(bias: Tensor, counts: Tensor, rate: float) -> Tensor:
    counts = counts.double()
    even = reduce(counts, "expert -> 1", "mean")
    step = torch.where(counts < even, rate, torch.where(counts > even, -rate, 0.0)).to(bias.dtype)
    moved = bias + step
    return moved - moved.mean()


def by_sign(bias: Tensor, counts: Tensor, rate: float) -> Tensor:
    sign = torch.sign(counts.sum() - counts * len(counts)).to(bias.dtype)
    return (bias - bias.mean()) + rate * (sign - sign.mean())


def stepped(step: Callable[[Tensor, Tensor], Tensor], centred: bool = True) -> Callable[..., Tensor]:
    """An answer with another step; it takes (counts as floats, their mean) and is multiplied by the rate."""

    def mistaken(bias: Tensor, counts: Tensor, rate: float) -> Tensor:
        moved = bias + rate * step(counts.to(bias.dtype), counts.to(bias.dtype).mean())
        return moved - moved.mean() if centred else moved

    return mistaken


def centred_before(bias: Tensor, counts: Tensor, rate: float) -> Tensor:
    return (bias - bias.mean()) + rate * (counts.float().mean() - counts).sign()


def multiplied(bias: Tensor, counts: Tensor, rate: float) -> Tensor:
    moved = bias * (1 + rate * (counts.float().mean() - counts).sign())
    return moved - moved.mean()


def shares_of_one(bias: Tensor, counts: Tensor, rate: float) -> Tensor:
    share = counts.to(bias.dtype) / counts.to(bias.dtype).sum()
    moved = bias + rate * (1 / len(counts) - share)
    return moved - moved.mean()


def without_rate(bias: Tensor, counts: Tensor, rate: float) -> Tensor:
    moved = bias + (counts.to(bias.dtype).mean() - counts).sign()
    return moved - moved.mean()


def only_the_step(bias: Tensor, counts: Tensor, rate: float) -> Tensor:
    step = rate * (counts.float().mean() - counts).sign()
    return step - step.mean()


def normalised(bias: Tensor, counts: Tensor, rate: float) -> Tensor:
    moved = bias + rate * (counts.float().mean() - counts).sign()
    return (moved - moved.mean()) / moved.std()


def random_state(experts: int, dtype: torch.dtype = torch.float32) -> Callable[[torch.Generator], tuple[Any, ...]]:
    """A bias whose mean is not zero, and counts of which one equals their mean."""

    def arguments(generator: torch.Generator) -> tuple[Tensor, Tensor, float]:
        counts = torch.randint(0, 50, (experts,), generator=generator)
        counts[0] = 0
        counts[1] = 3 * int(counts.sum())
        counts[2:3] = 0
        while int(counts.sum()) % experts:
            counts[1] += 1
        counts[2] = int(counts.sum()) // (experts - 1) if int(counts.sum()) % (experts - 1) == 0 else counts[2]
        bias = torch.randn(experts, generator=generator).to(dtype) * 0.1 + 0.05
        return bias, counts, 0.01

    return arguments


HAND = (torch.tensor([0.2, 0.0, -0.1, -0.1]), torch.tensor([9, 4, 4, 3]), 0.1)
WITH_MEAN = (torch.tensor([0.3, 0.1, 0.2, 0.0, 0.1]), torch.tensor([10, 6, 2, 1, 11]), 0.05)  # the mean is 6

EXERCISES = (
    Exercise(
        id="11.9",
        title="Balance without a loss",
        kind="fill in",
        minutes=10,
        difficulty=2,
        hints=(
            "Only the direction counts: too few tokens, up; too many, down. By how much is the same for all.",
            "The mean count is a number; torch.sign of (mean - counts) is (expert,) and 0 where they are equal.",
            "moved = bias + rate · sign(mean - counts), counts as floats; return moved - moved.mean().",
        ),
        now_you_know="a bias that only the choice sees balances the load, and leaves weights and gradients alone.",
        oracle=by_loops,
        cases=(
            Case("four experts, mean 5, by hand", HAND, torch.tensor([0.05, 0.05, -0.05, -0.05])),
            Case("five experts, one of them exactly at the mean of 6", WITH_MEAN),
            Case("a mean between two counts", (torch.tensor([0.1, 0.0, -0.1]), torch.tensor([2, 2, 3]), 0.1)),
            Case("random counts", random_state(6)),
            Case("random counts, in float64", random_state(9, torch.float64), tolerance=1e-6),
        ),
        stages=(
            Stage("", lambda b, c, r: (c.float().mean() - c).sign().to(b.dtype), "is the direction of the step"),
            Stage("", lambda b, c, r: r * (c.float().mean() - c).sign().to(b.dtype), "is the step; add the old bias"),
        ),
        mutants={
            "the wrong way": (
                stepped(lambda counts, mean: (counts - mean).sign()),
                "the busy experts are raised and the idle ones lowered: the load becomes less even.",
            ),
            "by how much": (
                stepped(lambda counts, mean: mean - counts),
                "the step grows with the difference. Here its size is `rate` for all, only its sign depends on the "
                "counts.",
            ),
            "relative": (
                stepped(lambda counts, mean: (mean - counts) / mean),
                "the step is proportional to the relative error. Its size is `rate` for all: take the sign.",
            ),
            "shares": (
                shares_of_one,
                "the step is the difference of two shares. Its size is `rate` for all: take the sign.",
            ),
            "against zero": (
                stepped(lambda counts, mean: -counts.sign()),
                "every expert with a token is lowered. Compare each count with the mean.",
            ),
            "the whole part of the mean": (
                stepped(lambda counts, mean: (mean.floor() - counts).sign()),
                "the counts are compared with the whole part of their mean, which may lie between two numbers.",
            ),
            "without the rate": (
                without_rate,
                "the step has size 1. It is multiplied by `rate`.",
            ),
            "a softmax": (
                lambda bias, counts, rate: (bias + rate * (counts.float().mean() - counts).sign()).softmax(dim=-1),
                "a softmax makes the biases positive and sum to one. Their mean is to be zero: subtract it.",
            ),
            "not centred": (
                stepped(lambda counts, mean: (mean - counts).sign(), centred=False),
                "the mean of the new bias is not zero. A constant on all experts changes no choice, but it drifts: "
                "take it off.",
            ),
            "centred before": (
                centred_before,
                "the old bias was centred, and then the step was added: the new mean is not zero.",
            ),
            "the mean goes up": (
                stepped(lambda counts, mean: torch.where(counts <= mean, 1.0, -1.0).to(counts.dtype)),
                "an expert with exactly the mean count is raised. It stays where it is.",
            ),
            "the mean goes down": (
                stepped(lambda counts, mean: torch.where(counts < mean, 1.0, -1.0).to(counts.dtype)),
                "an expert with exactly the mean count is lowered. It stays where it is.",
            ),
            "only up": (
                stepped(lambda counts, mean: (counts < mean).to(counts.dtype)),
                "idle experts are raised, but busy ones are not lowered.",
            ),
            "only down": (
                stepped(lambda counts, mean: -(counts > mean).to(counts.dtype)),
                "busy experts are lowered, but idle ones are not raised.",
            ),
            "against the median": (
                stepped(lambda counts, mean: (counts.median() - counts).sign()),
                "the counts are compared with their median. Compare with their mean, which is an even load.",
            ),
            "against the largest": (
                stepped(lambda counts, mean: (counts.amax() - counts).sign()),
                "the counts are compared with the largest. Compare with their mean.",
            ),
            "multiplied": (
                multiplied,
                "the bias is multiplied by 1 ± rate. The step is added, so that a bias of zero can move, too.",
            ),
            "only the step": (only_the_step, "the old bias is lost: the step is added to it."),
            "normalised": (normalised, "it is divided by the standard deviation; only the mean is taken off."),
        },
        accepted={"where": by_where, "sign": by_sign},
        teaches=moved_bias,
    ),
)
