"""The definition of an exercise, and the lookup of the course's exercises."""

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
FROM_ORACLE: Any = object()  # the expected result of a Case is computed by the exercise's oracle

Arguments = Callable[[torch.Generator], tuple[Any, ...]]


@dataclass(frozen=True)
class Case:
    """One call of the reader's function, with the expected result.

    says: the tested property, shown after "What failed: ". arguments: a tuple, or a function that draws it from a
    seeded generator. expected: a result computed by hand; by default that of the exercise's oracle. tolerance: absolute
    and relative; by default according to the dtype; 0 requires bitwise equality.
    """

    says: str
    arguments: tuple[Any, ...] | Arguments
    expected: Any = FROM_ORACLE
    tolerance: float | None = None


@dataclass(frozen=True)
class Stage:
    """A result that an answer reaches if it stops early, skips a step or does one step differently.

    part: the name of the part of the result (one of `Exercise.parts`), "" for the whole result. value: takes the
    arguments of the case and returns what that part then is. says: what the part then contains, as the end of a
    sentence that begins with its name: "are those before renormalising".
    """

    part: str
    value: Callable[..., Any]
    says: str


@dataclass(frozen=True)
class Exercise:
    """An exercise: its texts, its expected results, and the wrong answers that are recognised.

    If the answer is a function, give `cases`, smallest first (by hand, random, edge cases), and an `oracle`, a slow and
    plain implementation. If it is a value, give `expected`, or a function without arguments that returns it, and
    `factor` for the permitted error of an estimate. `prepare` converts an answer of another kind, such as an einops
    pattern, into a function; `also` checks the raw answer after all cases and returns a complaint or None.

    mutants: name -> (wrong answer, the misconception as a sentence). accepted: right answers in other styles, which the
    tests verify. teaches: the function or class of the library that the reader has implemented with the exercise.

    parts: name -> the function that takes this part out of a result; the verdict says which parts are right. stages: in
    the order of computation; the first one that a wrong part equals is named. reasons: for predictions, question -> the
    thought that leads to the right answer, without the answer. given: the code printed on the page that is to be
    rewritten or repaired; handing it in unchanged is no answer. formerly: earlier ids, so that progress is kept.
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
    parts: Mapping[str, Callable[[Any], Any]] = field(default_factory=dict)
    stages: tuple[Stage, ...] = ()
    reasons: Mapping[str, str] = field(default_factory=dict)
    given: Callable[..., Any] | None = None
    formerly: tuple[str, ...] = ()

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
    """All exercises by id, in order: the EXERCISES of the files in minimoe/course/exercises/.

    Raises BadArgument for a duplicate id.
    """
    by_id: dict[str, Exercise] = {}
    for module in sorted(iter_modules(exercises.__path__), key=lambda module: module.name):
        for exercise in import_module(f"{exercises.__name__}.{module.name}").EXERCISES:
            if exercise.id in by_id:
                raise BadArgument(f"two exercises have the id {exercise.id}, expected unique ids. Rename one of them.")
            by_id[exercise.id] = exercise
    return dict(sorted(by_id.items(), key=lambda item: [int(part) for part in item[0].split(".")]))


def find_exercise(id: str) -> Exercise:
    """The exercise with this id. Raises BadArgument, listing the existing ids, for an unknown one."""
    known = all_exercises()
    if id not in known:
        raise BadArgument(f"exercise {id!r} does not exist. There are: {', '.join(known) or 'none yet'}.")
    return known[id]
