"""Recognise the misconception behind a wrong answer: a mutant with the same results, or two of them together."""

from collections.abc import Callable, Sequence
from itertools import combinations
from typing import Any

from torch import Tensor

from minimoe.course.checker.answer_diff import TOLERANCE, difference
from minimoe.course.checker.exercise import Exercise
from minimoe.course.checker.parts import WHOLE, parts_of, take
from minimoe.course.checker.user_code import Raised

MOST_PAIRED = 40  # mutants of one exercise that are tried in pairs


def agree(a: Any, b: Any, tolerance: float | None = None) -> bool:
    """Whether two results are equal, also if only the precision of their numbers differs; or two like exceptions."""
    if isinstance(a, Raised) or isinstance(b, Raised):
        return bool(a == b)
    if isinstance(a, Tensor) and isinstance(b, Tensor) and a.dtype != b.dtype:
        if not (a.is_floating_point() and b.is_floating_point()) or a.shape != b.shape:
            return False
        slack = max(TOLERANCE.get(a.dtype, 1e-5), TOLERANCE.get(b.dtype, 1e-5), tolerance or 0.0)
        return difference(b, a.to(b.dtype), slack) is None
    try:
        return difference(b, a, tolerance) is None
    except Exception:  # objects that cannot be compared count as different
        return False


def recognise(exercise: Exercise, outcomes: Sequence[Any], run_mutant: Callable[[Any], Sequence[Any]]) -> str | None:
    """The name of the mutant with the same results as the answer in every case, or "one + another", or None.

    outcomes: of the answer. run_mutant: gives the outcomes of a mutant on the same cases.
    """
    candidates = {}
    for name, (mutant, _) in exercise.mutants.items():
        others = run_mutant(mutant)
        if len(others) != len(outcomes):
            continue
        if all(alike(mine, other) for mine, other in zip(outcomes, others, strict=True)):
            return name
        candidates[name] = others
    return pair_of(exercise, outcomes, candidates)


def alike(mine: Any, other: Any) -> bool:
    """Whether two outcomes of one case are the same: both right, or both wrong in the same way."""
    return (mine.mismatch is None) == (other.mismatch is None) and agree(mine.got, other.got, mine.tolerance)


def pair_of(exercise: Exercise, outcomes: Sequence[Any], candidates: dict[str, Sequence[Any]]) -> str | None:
    """Two mutants that explain the answer part by part: each part of each case is as in one of both.

    Only for results with parts, since for others nearly any pair could be put together case by case.
    """
    calls = [number for number, outcome in enumerate(outcomes) if outcome.says]
    if not calls or len(candidates) > MOST_PAIRED:
        return None
    extracts = parts_of(exercise, outcomes[calls[0]].expected)
    if WHOLE in extracts or len(extracts) < 2:
        return None
    cells = [(number, name) for number in calls for name in extracts]

    def part(outcome: Any, name: str) -> Any:
        return take(extracts[name], outcome.got, outcome.expected)

    wrong = {
        (number, name)
        for number, name in cells
        if not agree(
            part(outcomes[number], name), extracts[name](outcomes[number].expected), outcomes[number].tolerance
        )
    }
    explained = {
        name: {
            (number, piece)
            for number, piece in cells
            if agree(part(outcomes[number], piece), part(others[number], piece), outcomes[number].tolerance)
        }
        for name, others in candidates.items()
    }
    for one, other in combinations(candidates, 2):
        both = explained[one] | explained[other]
        own = [{cell[1] for cell in explained[name] & wrong} for name in (one, other)]
        if wrong <= both and own[0] - own[1] and own[1] - own[0]:
            return f"{one} + {other}"
    return None


def sentence(exercise: Exercise, name: str | None) -> str | None:
    """The misconception of a recognised mutant, or both of a pair."""
    if name is None:
        return None
    if name in exercise.mutants:
        return exercise.mutants[name][1]
    return "\n  Also: ".join(exercise.mutants[one][1] for one in name.split(" + "))
