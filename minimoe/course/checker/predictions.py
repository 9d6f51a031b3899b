"""Answers that are values: predictions and estimates, compared leniently, without giving the solution away."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from numbers import Real
from typing import Any

from minimoe.course.checker.answer_diff import kind
from minimoe.course.checker.exercise import Exercise

ROUNDED = 0.015  # relative: a measured share may be given as 0.5 or as 0.496


@dataclass(frozen=True)
class Graded:
    """How a value compares with the expected one: `wrong` names the questions that are wrong, in the page's order.

    complaint: what is wrong with the answer's form, if anything, such as an unknown question.
    """

    total: int
    wrong: tuple[str, ...]
    complaint: str | None = None

    @property
    def right(self) -> bool:
        return not self.wrong and self.complaint is None


def grade(expected: Any, answer: Any, factor: float = 1.0) -> Graded:
    """Compare an answer with the expected value: question by question for a dictionary, a tuple or a list."""
    if isinstance(expected, Mapping):
        if not isinstance(answer, Mapping):
            return Graded(
                len(expected), (), f"your answer is {kind(answer)}, expected a dict with the questions as keys"
            )
        unknown = [key for key in answer if key not in expected]
        missing = [key for key in expected if key not in answer]
        if unknown or missing:
            problem = f"{unknown[0]!r} is no question" if unknown else f"the question {missing[0]!r} is missing"
            return Graded(len(expected), (), f"{problem}; the questions are {', '.join(map(repr, expected))}")
        pairs = [(str(key), expected[key], answer[key]) for key in expected]
    elif isinstance(expected, (tuple, list)):
        if not isinstance(answer, (tuple, list)) or len(answer) != len(expected):
            return Graded(len(expected), (), f"your answer is {kind(answer)}, expected {len(expected)} values")
        pairs = [(f"value {number}", e, a) for number, (e, a) in enumerate(zip(expected, answer, strict=True), 1)]
    else:
        pairs = [("your answer", expected, answer)]
    for name, wanted, given in pairs:
        complaint = form_of(wanted, plain(given), name)
        if complaint:
            return Graded(len(pairs), (), complaint)
    wrong = tuple(name for name, wanted, given in pairs if not same(wanted, plain(given), factor))
    return Graded(len(pairs), wrong)


def plain(value: Any) -> Any:
    """A scalar of torch or NumPy as a Python value; anything else as it is."""
    if hasattr(value, "item") and getattr(value, "shape", None) in ((), (1,)):
        return value.item()
    return value


def form_of(expected: Any, given: Any, name: str) -> str | None:
    """What is wrong with the type of one value, or None. 1 and 0 stand for True and False."""
    if isinstance(expected, bool):
        if not (isinstance(given, bool) or (isinstance(given, (int, float)) and given in (0, 1))):
            return f"{name} is {kind(given)}, expected True or False"
    elif isinstance(expected, Real):
        if isinstance(given, bool) or not isinstance(given, (Real, Decimal)):
            return f"{name} is {kind(given)}, expected a number"
        if not math.isfinite(given):
            return f"{name} is {given}, expected a number that can be counted or measured"
    elif isinstance(expected, str) and not isinstance(given, str):
        return f"{name} is {kind(given)}, expected a text"
    return None


def same(expected: Any, given: Any, factor: float) -> bool:
    """Whether one value is right: a number up to `factor` or rounding, a text up to case and punctuation."""
    if isinstance(expected, bool):
        return bool(given) == expected
    if isinstance(expected, (int, float)):
        given = float(given) if isinstance(given, Decimal) else given
        if factor > 1:
            return given * expected > 0 and 1 / factor <= given / expected <= factor
        slack = ROUNDED if isinstance(expected, float) else 1e-6
        return bool(abs(given - expected) <= slack * abs(expected))
    if isinstance(expected, str):
        return letters(given) == letters(expected)
    if isinstance(expected, (Mapping, tuple, list)):
        return grade(expected, given, factor).right
    return bool(given == expected)


def letters(text: str) -> str:
    """A text in lower case, with one space between words and without punctuation."""
    return " ".join(re.findall(r"\w+", text.casefold()))


def still_open(answer: Any) -> list[str]:
    """One line that says how many questions are open, if an answer to several is begun but not complete."""
    values = list(answer.values()) if isinstance(answer, Mapping) else answer
    if not isinstance(values, (tuple, list)):
        return []
    count = sum(value is Ellipsis for value in values)
    if count in (0, len(values)):
        return []
    return [f"{count} of {len(values)} {'is' if count == 1 else 'are'} still open (...)."]


def explain_value(exercise: Exercise, expected: Any, answer: Any, graded: Graded) -> str:
    """What a reader is told about a wrong value: how much is right and what to think about again, not the solution."""
    if graded.complaint is not None:
        return graded.complaint
    if isinstance(expected, (Mapping, tuple, list)):
        lines = [f"{graded.total - len(graded.wrong)} of {graded.total} are right."]
        question = next((name for name in graded.wrong if name in exercise.reasons), graded.wrong[0])
        reason = exercise.reasons.get(question) or thought_of(exercise, expected, question)
        lines.append(f'Think again about "{question}"{": " + reason if reason else "."}')
        return "\n".join(lines)
    value = plain(answer)
    if isinstance(expected, (int, float)) and not isinstance(expected, bool):
        return off_by(float(expected), float(value))
    return "that is not it."


def thought_of(exercise: Exercise, expected: Any, question: str) -> str | None:
    """The sentence of the mutant that misses this question and no other, if there is one."""
    for mutant, says in exercise.mutants.values():
        if grade(expected, mutant, exercise.factor).wrong == (question,):
            return says
    return None


def off_by(expected: float, given: float) -> str:
    """In which direction, and by about what factor, a number misses."""
    if given * expected < 0:
        return f"your answer, {given:,.4g}, has the wrong sign."
    if expected == 0 or given == 0:
        return f"your answer, {given:,.4g}, is too {'high' if given > expected else 'low'}."
    ratio = given / expected
    side, times = ("high", ratio) if ratio > 1 else ("low", 1 / ratio)
    return f"your answer, {given:,.6g}, is too {side}, by a factor of {times:,.3g}."
