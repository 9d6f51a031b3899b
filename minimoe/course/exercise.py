"""What an exercise is, and where the exercises of the course are found."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from pkgutil import iter_modules
from typing import Any

import torch

from minimoe.course import exercises
from minimoe.errors import BadArgument

KINDS = ("fill in", "predict", "einops", "bug hunt", "estimate", "ablate")
FROM_ORACLE: Any = object()  # a Case without an answer of its own asks the exercise's oracle

Arguments = Callable[[torch.Generator], tuple[Any, ...]]


@dataclass(frozen=True)
class Case:
    """One call of the reader's function, and what must come out.

    says: the property, as it follows "what failed: ". arguments: the tuple, or a function that draws it from a seeded
    generator. expected: computed by hand; left out, the exercise's oracle says. tolerance: absolute and relative; left
    out, it follows from the dtype; 0 asks for equality to the bit.
    """

    says: str
    arguments: tuple[Any, ...] | Arguments
    expected: Any = FROM_ORACLE
    tolerance: float | None = None


@dataclass(frozen=True)
class Exercise:
    """One exercise: what is asked, what is right, and which wrong answers are recognised.

    If the answer is a function, give `cases`, smallest first (by hand, random, edges), and an `oracle`: slow and plain.
    If it is a value, give `expected`, or a function without arguments that returns it, and `factor` where an estimate
    may be off. `prepare` turns an answer of another kind, such as an einops pattern, into that function; `also` sees
    the raw answer after all cases and returns a sentence if something else is missing.

    mutants: name -> (wrong answer, the misconception as a sentence). accepted: right answers in other styles; the tests
    prove that they pass. teaches: the function or class of the library that the reader has now written.
    """

    id: str
    title: str
    kind: str
    minutes: int
    difficulty: int
    hints: tuple[str, str, str]
    now_you_know: str
    mutants: Mapping[str, tuple[Any, str]]
    accepted: Mapping[str, Any] = field(default_factory=dict)
    cases: tuple[Case, ...] = ()
    oracle: Callable[..., Any] | None = None
    expected: Any = None
    factor: float = 1.0
    prepare: Callable[[Any], Callable[..., Any]] | None = None
    also: Callable[[Any], str | None] | None = None
    teaches: Any = None

    def __post_init__(self) -> None:
        if not re.fullmatch(r"\d\d\.\d+", self.id):
            raise BadArgument(f'id is {self.id!r}, expected chapter and number, such as "06.1".')
        if self.kind not in KINDS:
            raise BadArgument(f"exercise {self.id}: kind is {self.kind!r}, expected one of {', '.join(KINDS)}.")
        if len(self.hints) != 3:
            raise BadArgument(
                f"exercise {self.id}: {len(self.hints)} hints, expected three, from a nudge to the steps."
            )
        if bool(self.cases) == (self.expected is not None):
            raise BadArgument(f"exercise {self.id}: give cases for a function or expected for a value, not both.")
        if self.oracle is None and any(case.expected is FROM_ORACLE for case in self.cases):
            raise BadArgument(f"exercise {self.id}: a case without expected needs an oracle.")

    @property
    def chapter(self) -> int:
        return int(self.id[:2])


@cache
def all_exercises() -> dict[str, Exercise]:
    """Every exercise by its id: what the files in minimoe/course/exercises/ list as EXERCISES."""
    found: dict[str, Exercise] = {}
    for module in sorted(iter_modules(exercises.__path__), key=lambda module: module.name):
        for exercise in import_module(f"{exercises.__name__}.{module.name}").EXERCISES:
            if exercise.id in found:
                raise BadArgument(f"two exercises have the id {exercise.id}; each needs its own.")
            found[exercise.id] = exercise
    return dict(sorted(found.items(), key=lambda item: [int(part) for part in item[0].split(".")]))


def find_exercise(id: str) -> Exercise:
    """The exercise with this id; BadArgument lists those that exist."""
    known = all_exercises()
    if id not in known:
        raise BadArgument(f"exercise {id!r} does not exist. There are: {', '.join(known) or 'none yet'}.")
    return known[id]
