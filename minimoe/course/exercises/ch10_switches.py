"""Chapter 10, thinking: which checkpoint takes the switch (10.3)."""

from itertools import product

import torch

from minimoe.course.checker.exercise import Exercise

# question -> (the right prediction, the misconception behind the wrong one, the thought that leads to the right one)
SWITCHES: dict[str, tuple[bool, str, str]] = {
    "Qwen3-30B-A3B-FP8, enable_thinking=False": (
        True,
        "the 30B without a date in its name is of April 2025 like the 235B, and FP8 is another format of its weights.",
        "When was this checkpoint released, and does the format of its weights have to do with the template?",
    ),
    "Qwen3-30B-A3B-FP8, enable_thinking=True": (
        False,
        "thinking is April's default: its template asks only whether the switch is False.",
        "What does April's template write if the switch is not set at all?",
    ),
    'Qwen3-235B-A22B, enable_thinking="false", a str': (
        False,
        'the template compares with the value false. The text "false" is another value, so the model thinks.',
        "Is a text the same as a truth value, to a template that asks `is false`?",
    ),
    "Qwen3-235B-A22B, thinking=False": (
        False,
        "the variable is called enable_thinking. Another name is another variable, which nobody reads.",
        "Which names does this template read, and what happens to the others?",
    ),
    "Qwen3-235B-A22B-Thinking-2507-FP8, enable_thinking=False": (
        False,
        "the template of Thinking-2507 opens the thought in any case.",
        "How many prompts does this checkpoint's template know?",
    ),
    "Qwen3-30B-A3B-Instruct-2507, enable_thinking=True": (
        False,
        "the Instruct checkpoints of July 2025 never think, and their template has no switch.",
        "How many prompts does this checkpoint's template know?",
    ),
}


def predictions(wrong: tuple[bool, ...]) -> dict[str, bool]:
    """The right predictions, except for those questions where `wrong` is True."""
    return {question: answer[0] != missed for (question, answer), missed in zip(SWITCHES.items(), wrong, strict=True)}


# misunderstandings behind several wrong predictions together
TOGETHER = {
    (True, True, False, False, False, False): "April's models think by default, with weights in FP8 as well. So True "
    "changes nothing, and False does.",
    (True,) * 6: "every answer is the other way round. `True` stands for a prompt that changes.",
}


def misread(wrong: tuple[bool, ...]) -> str:
    """The misunderstandings behind these wrong predictions, one sentence each."""
    if wrong in TOGETHER:
        return TOGETHER[wrong]
    return "\n  ".join(answer[1] for answer, missed in zip(SWITCHES.values(), wrong, strict=True) if missed)


WAYS_TO_MISS = [way for way in product((False, True), repeat=len(SWITCHES)) if any(way)]

EXERCISES = (
    Exercise(
        id="10.3",
        title="Which checkpoint takes the switch?",
        kind="predict",
        minutes=6,
        difficulty=2,
        hints=(
            "A setting works if the template reads a variable of this name, and compares it with this value.",
            "Of which family is each checkpoint? Only one family's template asks for enable_thinking.",
            "April 2025 asks whether enable_thinking is the value false, and otherwise opens the reply as always. All "
            "other templates ask for nothing.",
        ),
        now_you_know="a template ignores what it does not read. Look at the prompt, not at the request.",
        expected=lambda: predictions((False,) * len(SWITCHES)),
        reasons={question: answer[2] for question, answer in SWITCHES.items()},
        mutants={
            "missed " + ", ".join(str(n) for n, missed in enumerate(way, 1) if missed): (predictions(way), misread(way))
            for way in WAYS_TO_MISS
        },
        accepted={
            "as tensors": {question: torch.tensor(answer[0]) for question, answer in SWITCHES.items()},
            "in another order": dict(reversed(predictions((False,) * len(SWITCHES)).items())),
        },
        teaches=None,
    ),
)
