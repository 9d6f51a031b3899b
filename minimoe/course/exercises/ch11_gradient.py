"""Chapter 11, training: what reaches a router through top-k, predicted (11.5)."""

from itertools import product
from typing import Any

from minimoe.course.checker.exercise import Exercise

DIVIDED = "two chosen, divided: scores that the next-token loss moves"
UNDIVIDED = "two chosen, not divided: scores that it moves"
SUM = "two chosen, divided: the gradients of all scores add up to"
ONE = "one chosen, divided: scores that it moves"
BALANCE = "the balancing loss: scores that it moves"
COPIES = "two chosen, divided, all outputs the same: scores that the next-token loss moves"

# question -> (the correct prediction, the common wrong answer, the misconception behind it)
QUESTIONS: dict[str, tuple[Any, Any, str]] = {
    DIVIDED: (
        2,
        16,
        "after the division the weights contain the chosen scores only, so only these have a gradient.",
    ),
    UNDIVIDED: (
        16,
        2,
        "without the division a weight is a softmax over all, and its denominator contains every score.",
    ),
    SUM: (
        0,
        1,
        "the weights add up to one whatever the scores are, so what one score gains the other loses.",
    ),
    ONE: (
        0,
        1,
        "a single weight that is divided by itself is 1, whatever the score is.",
    ),
    BALANCE: (
        16,
        2,
        "P is the mean of a softmax over all experts: it contains every score, chosen or not.",
    ),
    COPIES: (
        0,
        2,
        "equal experts give equal outputs, and a mixture of equal outputs does not depend on the weights.",
    ),
}


def predictions(wrong: tuple[bool, ...]) -> dict[str, Any]:
    """The right predictions, except for those questions where `wrong` is True."""
    return {question: answer[missed] for (question, answer), missed in zip(QUESTIONS.items(), wrong, strict=True)}


def misread(wrong: tuple[bool, ...]) -> str:
    """The misunderstandings behind these wrong predictions, one sentence each."""
    told = [answer[2] for answer, missed in zip(QUESTIONS.values(), wrong, strict=True) if missed]
    return "\n  ".join(told)


WAYS_TO_MISS = [way for way in product((False, True), repeat=len(QUESTIONS)) if any(way)]

EXERCISES = (
    Exercise(
        id="11.5",
        title="Predict: what gets through top-k",
        kind="predict",
        minutes=10,
        difficulty=3,
        hints=(
            "Write down the weight of a chosen expert as a formula, with and without the division. Which scores does "
            "it contain?",
            "Divided: exp(a) / (exp(a) + exp(b)). Not divided: exp(a) / (the sum over all 16). One chosen and divided: "
            "exp(a) / exp(a).",
            "A score has a gradient if the output depends on it: on the chosen ones only after a division, on all "
            "without; on none if the weight is always 1, or if all outputs are alike.",
        ),
        now_you_know="a router learns through the weights of those it chose, and through the balancing loss.",
        expected=lambda: predictions((False,) * len(QUESTIONS)),
        reasons={
            DIVIDED: "Write the weight of the first as a fraction. Which scores are in it after the division?",
            UNDIVIDED: "What is the denominator of a softmax made of?",
            SUM: "Add the same small number to all scores. Do the weights change?",
            ONE: "What is a number divided by itself, and how does that change with the score?",
            BALANCE: "Which of f and P has a gradient, and how many scores does a softmax contain?",
            COPIES: "Mix two equal outputs in any proportion. What comes out?",
        },
        mutants={
            "missed " + ", ".join(str(n) for n, missed in enumerate(way, 1) if missed): (predictions(way), misread(way))
            for way in WAYS_TO_MISS
        },
        accepted={
            "as floats": {question: float(answer[0]) for question, answer in QUESTIONS.items()},
            "in another order": dict(reversed(predictions((False,) * len(QUESTIONS)).items())),
        },
    ),
)
