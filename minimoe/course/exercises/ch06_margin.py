"""Chapter 06, the router: what changes a choice and what its weights, predicted (06.2) and searched for (06.7)."""

from collections.abc import Callable
from itertools import product
from typing import Any

import torch
from torch import Tensor

from minimoe.course.checker.exercise import Case, Exercise

# 06.2 predict: changes of margin, selection and weights --------------------------------------------------------------

# question -> (the correct prediction, the common wrong answer, the misconception behind it)
MARGINS: dict[str, tuple[Any, Any, str]] = {
    "doubled: the margin becomes": (
        0.06,
        0.03,
        "a margin is a difference of two logits, so doubling both doubles it.",
    ),
    "doubled: other experts": (
        False,
        True,
        "doubling keeps the order of the logits, and top-k sees nothing but the order.",
    ),
    "doubled: other weights": (
        True,
        False,
        "the softmax sees differences: twice as large, they make the first expert heavier and the last one lighter.",
    ),
    "plus 5: other weights": (
        False,
        True,
        "the softmax divides exp(5) out again: a shift of all logits changes no probability.",
    ),
    "rounded to bfloat16: two logits can swap their order": (
        False,
        True,
        "rounding never makes the larger of two numbers the smaller one. It makes ties, and a tie is broken by index, "
        "which means nothing.",
    ),
}


def predictions(wrong: tuple[bool, ...]) -> dict[str, Any]:
    """The right predictions, except for those questions where `wrong` is True."""
    return {question: answer[missed] for (question, answer), missed in zip(MARGINS.items(), wrong, strict=True)}


def misread(wrong: tuple[bool, ...]) -> str:
    """The misunderstandings behind these wrong predictions, one sentence each."""
    told = [answer[2] for answer, missed in zip(MARGINS.values(), wrong, strict=True) if missed]
    return "\n  ".join(told)


WAYS_TO_MISS = [way for way in product((False, True), repeat=len(MARGINS)) if any(way)]


# 06.7 find a counterexample -------------------------------------------------------------------------------------------


def both_orders(logits: Tensor) -> tuple[Tensor, Tensor]:
    """(softmax first, softmax last): the weights of the eight chosen of 128, largest first, neither renormalised."""
    return logits.double().softmax(dim=-1).topk(8).values, logits.double().topk(8).values.softmax(dim=-1)


def gap(logits: Tensor) -> float:
    """The largest difference between the weights of the two orders; eight of 128."""
    before, after = both_orders(logits)
    return float((after - before).abs().max())


def as_logits(answer: Any) -> Tensor | None:
    """128 logits, also as a list, an array or one row of a matrix; None for anything else."""
    try:
        logits = torch.as_tensor(answer, dtype=torch.float64)
    except (TypeError, ValueError, RuntimeError):
        return None
    return logits.flatten() if logits.dim() and logits.numel() == logits.shape[-1] == 128 else None


def as_gap(answer: Any) -> Callable[[], Any]:
    """Whether the two orders are far enough apart; None for anything else than the logits of one token."""
    logits = as_logits(answer)
    return lambda: NO_LOGITS if logits is None else gap(logits) > 0.5


NO_LOGITS = "no logits of one token"


def how_far(answer: Any) -> str | None:
    """How far apart the two orders are, if it is not enough, and what keeps them together."""
    logits = as_logits(answer)
    if logits is None:
        return "expected the logits of one token: 128 numbers, such as torch.zeros(128)"
    found = gap(logits)
    if found > 0.5:
        return None
    if not logits.isfinite().all():
        return "some of these logits are inf or nan; expected 128 finite numbers"
    wanted = f"the largest difference between the two orders is {found:.3f}; wanted: above 0.5"
    return f"{wanted}\n{what_keeps_them_together(logits)}"


def what_keeps_them_together(logits: Tensor) -> str:
    """Why the orders are close. The difference is the first's weight with the softmax last, times what the 120 hold."""
    before, after = both_orders(logits)
    first, second, rest = float(after[0]), float(after[1]), 1 - float(before.sum())
    if first <= 0.5 and second > first / 2:
        return (
            f"With the softmax last, the first gets only {first:.2f}, because others are nearly as high: they are too "
            "high. No weight can differ by more than that."
        )
    if rest <= 0.5 and second > 0.01:
        return (
            f"With the softmax first, the 120 that are not chosen get only {rest:.2f}: the eight are too high above "
            "them, so both orders give nearly the same."
        )
    both = f"The first gets {first:.2f} with the softmax last and {float(before[0]):.2f} with the softmax first:"
    return f"{both} it is too {'high above the 120 that are not chosen' if rest < first else 'low to stand out'}."


def one_stands_out(height: float, others: int = 0) -> Tensor:
    """Logits that are zero except for the first, and for `others` more that are as high."""
    logits = torch.zeros(128)
    logits[: 1 + others] = height
    return logits


EXERCISES = (
    Exercise(
        id="06.2",
        title="Predict, then run: the margin",
        kind="predict",
        minutes=8,
        difficulty=2,
        hints=(
            "Write the softmax of two logits a and b as a function of a - b. What do top-k and softmax not see?",
            "Doubled: 2a - 2b. Plus 5: (a + 5) - (b + 5). For bfloat16, draw a number line with a mark every 1/64 and "
            "move two points to their nearest marks.",
            "top-k sees the order only, softmax the differences only; doubling keeps the order and doubles the "
            "differences, adding a constant keeps both. Rounding keeps the order too, but may make two numbers one.",
        ),
        now_you_know="choices follow the order of the logits, weights their differences, and rounding makes ties.",
        expected=lambda: predictions((False,) * len(MARGINS)),
        reasons={
            "doubled: the margin becomes": "The margin is a difference of two logits. What is 2a - 2b?",
            "doubled: other experts": "Does doubling change which of two logits is larger?",
            "doubled: other weights": "The softmax of two logits depends on their difference. Has it changed?",
            "plus 5: other weights": "What is (a + 5) - (b + 5)?",
            "rounded to bfloat16: two logits can swap their order": "Both move to the nearest mark on a line. Can the "
            "left one end up right of the other?",
        },
        mutants={
            "missed " + ", ".join(str(n) for n, missed in enumerate(way, 1) if missed): (predictions(way), misread(way))
            for way in WAYS_TO_MISS
        },
        accepted={
            "as numbers of torch": {
                question: torch.tensor(answer[0]) if type(answer[0]) is float else answer[0]
                for question, answer in MARGINS.items()
            },
            "in another order": dict(reversed(predictions((False,) * len(MARGINS)).items())),
        },
        teaches=None,
    ),
    Exercise(
        id="06.7",
        title="Find the counterexample: two orders that differ",
        kind="predict",
        minutes=10,
        difficulty=4,
        hints=(
            "Softmax last gives weights that sum to one. Softmax first gives what is left of one after 120 others have "
            "taken theirs. Who should take as much as possible, and from whom?",
            "Let one logit be a and all others 0. Softmax first: exp(a) / (exp(a) + 127). Softmax last: "
            "exp(a) / (exp(a) + 7). Plot both against a.",
            "With a = 0 both are small, with a = 20 both are nearly 1. In between, around half of log(7 · 127), "
            "they are furthest apart: logits = torch.zeros(128); logits[0] = 3.4.",
        ),
        now_you_know="the two orders agree because of the division at the end, and only because of it.",
        prepare=as_gap,
        also=how_far,
        cases=(Case("some weight differs by more than 0.5 between the two orders", (), True),),
        mutants={
            "all alike": (
                torch.zeros(128),
                "the highest logits are alike: with the softmax last, eight experts get an eighth each; with it first, "
                "about 1/128. That is too close.",
            ),
            "one far above": (
                one_stands_out(30.0),
                "one logit is so far above the others that both orders give it nearly everything. Come down.",
            ),
            "eight alike above": (
                one_stands_out(3.4, others=7),
                "the eight share the whole evenly, so that none of them can differ by more than an eighth.",
            ),
            "four numbers": (
                torch.tensor([3.4, 0.0, 0.0, 0.0]),
                "these are not the logits of one token: one row, with one number for each of 128 experts.",
            ),
            "not a number": (
                torch.full((128,), torch.nan),
                "inf and nan are no scores. What a softmax makes of them is no counterexample.",
            ),
        },
        accepted={
            "one at 3.4": one_stands_out(3.4),
            "in float64": one_stands_out(3.0).double(),
            "shifted": one_stands_out(3.5) - 100,
            "one row": one_stands_out(3.4)[None],
            "a list": one_stands_out(3.4).tolist(),
            "an array": one_stands_out(3.4).numpy(),
        },
    ),
)
