"""Chapter 07, the experts: how many of them a batch hits (07.6), and what each engine reads (07.9)."""

import math
from itertools import product
from typing import Any

from minimoe.course.checker.exercise import Case, Exercise, Stage

# 07.6 hits -----------------------------------------------------------------------------------------------------------


def hits(experts: int, top_k: int, tokens: int) -> float:
    """The expected number, token by token: what is still missed shrinks by the same factor each time."""
    missed = float(experts)
    for _ in range(tokens):
        missed *= 1 - top_k / experts
    return experts - missed


def by_power(experts: int, top_k: int, tokens: int) -> float:
    return experts * (1 - (1 - top_k / experts) ** tokens)


def by_recursion(experts: int, top_k: int, tokens: int) -> float:
    """Each token hits its share of those that are not hit yet."""
    if tokens == 0:
        return 0.0
    before = by_recursion(experts, top_k, tokens - 1)
    return before + (experts - before) * top_k / experts


# 07.9 what each engine reads -----------------------------------------------------------------------------------------

# question -> (the correct prediction, the common wrong answer, the misconception behind it)
READING: dict[str, tuple[Any, Any, str]] = {
    "1 token: experts run by all and mask": (
        128,
        8,
        "the mask is applied after the experts have run: all 128 of them.",
    ),
    "1 token: experts read by loop": (
        8,
        128,
        "the loop passes over experts without rows, and doesn't read their weights.",
    ),
    "512 tokens: experts copied by gather": (
        4096,
        128,
        "gather makes a copy for each assignment, 512 x 8, however often the same expert is among them.",
    ),
    "512 tokens: experts read by grouped, at most": (
        128,
        4096,
        "a group reads its expert once for all of its rows, and there are 128 experts.",
    ),
    "512 tokens: matrix products started by loop, at most": (
        384,
        3,
        "the loop starts three products (gate, up, down) for each expert that is hit, up to 128 of them.",
    ),
    "512 tokens: matrix products started by grouped": (
        3,
        384,
        "a grouped product takes all groups at once: one for gate, one for up, one for down.",
    ),
    "operations of all and mask, times those of loop": (
        16,
        1,
        "all and mask does the work of 128 experts for each token, the loop that of 8.",
    ),
}


def predictions(wrong: tuple[bool, ...]) -> dict[str, Any]:
    """The right predictions, except for those questions where `wrong` is True."""
    return {question: answer[missed] for (question, answer), missed in zip(READING.items(), wrong, strict=True)}


def misread(wrong: tuple[bool, ...]) -> str:
    """The misunderstandings behind these wrong predictions, one sentence each."""
    return "\n  ".join(answer[2] for answer, missed in zip(READING.values(), wrong, strict=True) if missed)


WAYS_TO_MISS = [way for way in product((False, True), repeat=len(READING)) if any(way)]

EXERCISES = (
    Exercise(
        id="07.6",
        title="Estimate, then measure: how many experts are hit?",
        kind="estimate",
        minutes=10,
        difficulty=3,
        hints=(
            "Look at one expert. With which chance does one token miss it? And all tokens?",
            "One token chooses top_k different ones of `experts`, so its chance to miss a given one is 1 - top_k / "
            "experts. Tokens are independent here.",
            "The chance to be missed by all is (1 - top_k / experts) ** tokens. The expected number that is hit is "
            "experts times (1 - that).",
        ),
        now_you_know="a batch soon hits nearly all experts; what shrinks is what each token pays for them.",
        oracle=hits,
        cases=(
            Case("one token of 8 of 128, by hand", (128, 8, 1), 8.0),
            Case("two tokens, 1 of 2 experts, by hand", (2, 1, 2), 1.5),
            Case("64 tokens, 8 of 128", (128, 8, 64)),
            Case("5 tokens, 2 of 8", (8, 2, 5)),
            Case("every token chooses all", (6, 6, 3)),
            Case("no tokens", (16, 4, 0)),
            Case("more experts, fewer slots", (512, 10, 40)),
        ),
        stages=(
            Stage("", lambda experts, top_k, tokens: (1 - top_k / experts) ** tokens, "is the chance to be missed"),
            Stage("", lambda experts, top_k, tokens: top_k / experts, "is the chance to be hit by one token"),
        ),
        mutants={
            "all different": (
                lambda experts, top_k, tokens: float(min(experts, top_k * tokens)),
                "tokens are counted as if none chose what another has chosen. Some do, by chance.",
            ),
            "never at a limit": (
                lambda experts, top_k, tokens: float(top_k * tokens),
                "these are the assignments. Two of them may go to the same expert.",
            ),
            "one draw at a time": (
                lambda experts, top_k, tokens: experts * (1 - (1 - 1 / experts) ** (top_k * tokens)),
                "the slots of a token are drawn as if they could be the same expert. They are always different.",
            ),
            "those that are missed": (
                lambda experts, top_k, tokens: experts * (1 - top_k / experts) ** tokens,
                "these are the experts that are missed. Subtract them from all.",
            ),
            "a share": (
                lambda experts, top_k, tokens: hits(experts, top_k, tokens) / experts,
                "this is the share of the experts. Multiply it by their number.",
            ),
            "hit by all": (
                lambda experts, top_k, tokens: experts * (top_k / experts) ** tokens,
                "these are the experts that every token hits. One token is enough.",
            ),
            "not hit by all": (
                lambda experts, top_k, tokens: experts * (1 - (top_k / experts) ** tokens),
                "top_k / experts is the chance that one token hits it. To the power of tokens it is the chance that "
                "all of them do. You need the chance that none does.",
            ),
            "one token": (
                lambda experts, top_k, tokens: float(top_k),
                "these are the experts of one token. `tokens` of them choose.",
            ),
            "one slot": (
                lambda experts, top_k, tokens: experts * (1 - (1 - 1 / experts) ** tokens),
                "each token is counted with one expert. It chooses top_k of them.",
            ),
            "slots for experts": (
                lambda experts, top_k, tokens: top_k * (1 - (1 - top_k / experts) ** tokens),
                "the chance to be hit is multiplied by top_k. Each of all `experts` has that chance.",
            ),
            "hit exactly once": (
                lambda experts, top_k, tokens: top_k * tokens * (1 - top_k / experts) ** max(tokens - 1, 0),
                "these are the experts that exactly one token hits. Those with several count, too.",
            ),
            "by the exponential": (
                lambda experts, top_k, tokens: experts * (1 - math.exp(-top_k * tokens / experts)),
                "that is the limit for many experts and small shares. Here take the exact power.",
            ),
            "without brackets": (
                lambda experts, top_k, tokens: experts * (1 - (1 - top_k / experts**tokens)),
                "the power stands at `experts` alone. It belongs to the whole chance to be missed: put it in brackets.",
            ),
            "one token less": (
                lambda experts, top_k, tokens: experts * (1 - (1 - top_k / experts) ** (tokens - 1)),
                "one token too few is counted.",
            ),
            "one token more": (
                lambda experts, top_k, tokens: hits(experts, top_k, tokens + 1),
                "one token too many is counted: the first one stands in front and is in the power, too.",
            ),
            "tokens and top_k exchanged": (
                lambda experts, top_k, tokens: experts * (1 - (1 - tokens / experts) ** top_k),
                "tokens and top_k have changed places: the exponent is the number of tokens, and each has the chance "
                "top_k / experts.",
            ),
            "all experts": (
                lambda experts, top_k, tokens: float(experts),
                "these are all experts of the layer. A few tokens miss most of them.",
            ),
            "in percent": (
                lambda experts, top_k, tokens: 100 * hits(experts, top_k, tokens) / experts,
                "this is the share of the experts in percent. Multiply the share by their number.",
            ),
            "the fraction upside down": (
                lambda experts, top_k, tokens: experts * (1 - (1 - experts / top_k) ** tokens),
                "experts / top_k is no chance: it is larger than 1. The fraction is upside down.",
            ),
        },
        accepted={"the formula": by_power, "token by token": by_recursion, "loops": hits},
    ),
    Exercise(
        id="07.9",
        title="Predict: which engine reads how much?",
        kind="predict",
        minutes=10,
        difficulty=2,
        hints=(
            "For each engine, ask for one expert: is it read if no token wants it? And how often, if ten tokens do?",
            "8 of 128 experts for each token, three matrices in an expert. 512 tokens have 512 x 8 assignments.",
            "Mask: all 128. Loop: only experts with rows, three products each. Gather: a copy for each assignment. "
            "Grouped: each expert once, in three products altogether.",
        ),
        now_you_know="the engines do the same operations, and differ in what they read, copy and start.",
        expected=lambda: predictions((False,) * len(READING)),
        reasons={
            "1 token: experts run by all and mask": "When is the mask applied: before the experts run, or after?",
            "1 token: experts read by loop": "What does the loop do for an expert without rows? (Count experts, not "
            "matrices.)",
            "512 tokens: experts copied by gather": "How many assignments are there, and does gather notice that two "
            "of them want the same expert?",
            "512 tokens: experts read by grouped, at most": "How many experts are there?",
            "512 tokens: matrix products started by loop, at most": "How many products does the loop start for one "
            "expert, and how many experts can be hit?",
            "512 tokens: matrix products started by grouped": "How often does the code of `grouped` call "
            "grouped_linear?",
            "operations of all and mask, times those of loop": "How many experts does a token get from each? Divide "
            "the mask's number by the loop's.",
        },
        mutants={
            "missed " + ", ".join(str(n) for n, missed in enumerate(way, 1) if missed): (predictions(way), misread(way))
            for way in WAYS_TO_MISS
        },
        accepted={
            "as floats": {question: float(answer[0]) for question, answer in READING.items()},
            "in another order": dict(reversed(predictions((False,) * len(READING)).items())),
        },
    ),
)
