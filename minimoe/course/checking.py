"""check: is this answer right, and if not, which property failed, on which input, and which misconception is it?"""

import copy
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from minimoe.course import pictures
from minimoe.course.difference import Mismatch, difference, kind
from minimoe.course.exercise import FROM_ORACLE, Exercise, find_exercise
from minimoe.course.learner import Raised, describe_call, is_unattempted, run, shows_a_gap
from minimoe.course.progress import record_check


@dataclass(frozen=True)
class Verdict:
    """What `check` found. status: "todo", "wrong" or "ok". misconception: the mistake it looks like, if known."""

    exercise: str
    status: str
    text: str
    misconception: str | None = None
    mutant: str | None = None
    mismatch: Mismatch | None = None

    def __repr__(self) -> str:
        return f"<{self.exercise} {self.status}>"

    def __str__(self) -> str:
        return self.text

    def _ipython_display_(self) -> None:
        """Nothing: `check` has printed it already."""

    def _repr_html_(self) -> str | None:
        """Two heat maps, expected and got, if the answer and the expectation are tensors of one shape."""
        found = self.mismatch
        if found is None or found.expected is None or found.got is None or found.wrong is None:
            return None
        return pictures.as_html(found.expected, found.got, found.wrong)


@dataclass(frozen=True)
class Outcome:
    """One case, run: what was expected, what came out, and whether the arguments were left alone."""

    says: str
    call: str
    expected: Any
    got: Any
    mismatch: Mismatch | None


def check(id: str, answer: Any) -> Verdict:
    """Print whether `answer` solves the exercise, and remember it; see `progress()`.

    Not begun: "todo" and the first hint. Wrong: the property that failed, the smallest input on which it fails, and the
    misconception that gives the same results. Raises BadArgument for an unknown id.
    """
    exercise = find_exercise(id)
    verdict = judge(exercise, answer)
    record_check(id, verdict.status)
    print(verdict.text)
    show(verdict)
    return verdict


def judge(exercise: Exercise, answer: Any) -> Verdict:
    """The verdict alone: nothing is printed or remembered."""
    if is_unattempted(answer):
        return todo(exercise)
    outcomes = run_all(exercise, answer)
    if any(shows_a_gap(outcome.got) for outcome in outcomes):
        return todo(exercise)
    failed = [outcome for outcome in outcomes if outcome.mismatch is not None]
    if not failed:
        text = f"{exercise.id}  ok    {exercise.title}\nNow you know: {exercise.now_you_know}"
        return Verdict(exercise.id, "ok", text)
    first = next((outcome for outcome in failed if outcome.mismatch and outcome.mismatch.form), failed[0])
    return wrong(exercise, first, recognise(exercise, outcomes))


def todo(exercise: Exercise) -> Verdict:
    """Not begun: the first hint."""
    text = f"{exercise.id}  todo  {exercise.title} ({exercise.minutes} min)\nHint 1: {exercise.hints[0]}"
    return Verdict(exercise.id, "todo", text)


def wrong(exercise: Exercise, outcome: Outcome, mutant: str | None) -> Verdict:
    """The failed property, the call, expected and got, the misconception."""
    found = outcome.mismatch
    assert found is not None
    lines = [f"{exercise.id}  wrong {exercise.title}"]
    lines += [f"What failed: {outcome.says}"] if outcome.says else []
    lines += [f"Called with: {outcome.call}"] if outcome.call else []
    lines += [found.says]
    if found.expected is not None and found.got is not None and found.wrong is not None:
        lines.append(pictures.as_text(found.expected, found.got, found.wrong))
    misconception = exercise.mutants[mutant][1] if mutant else None
    lines += [f"It looks like this: {misconception}"] if misconception else []
    lines.append(f'More help: minimoe.hint("{exercise.id}")')
    return Verdict(exercise.id, "wrong", "\n".join(lines), misconception, mutant, found)


def run_all(exercise: Exercise, answer: Any, known: Sequence[Outcome] = ()) -> list[Outcome]:
    """Every case of a function, or the one of a value; then what the exercise also asks for.

    known: the outcomes of another answer, so that what is expected need not be worked out again.
    """
    if exercise.cases:
        outcomes = run_cases(exercise, answer, known if len(known) >= len(exercise.cases) else ())
    else:
        asked = exercise.expected
        expected = known[0].expected if known else asked() if callable(asked) else asked
        found = difference(expected, answer, factor=exercise.factor, name="your answer")
        outcomes = [Outcome("", "", expected, answer, found)]
    if exercise.also is not None:
        complaint = run(exercise.also, (answer,), answer)
        if isinstance(complaint, Raised):
            complaint = f"your answer is {kind(answer)}, which is not what the exercise asks for"
        mismatch = None if complaint is None else Mismatch(complaint, False)
        outcomes.append(Outcome("", "", None, complaint, mismatch))
    return outcomes


def run_cases(exercise: Exercise, answer: Any, known: Sequence[Outcome] = ()) -> list[Outcome]:
    """Call the answer once for each case. Draws are seeded, torch's own generator is left as it was."""
    if not callable(answer) and exercise.prepare is None:
        found = Mismatch(f"your answer is {type(answer).__name__}, expected a function", True)
        return [Outcome("", "", None, answer, found)]
    outcomes = []
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        function = run(exercise.prepare, (answer,), answer) if exercise.prepare else answer
        if isinstance(function, Raised):
            return [Outcome("", "", None, function, Mismatch(function.says, True))]
        for number, case in enumerate(exercise.cases):
            seed = zlib.crc32(f"{exercise.id} {number}".encode())
            arguments = case.arguments
            if callable(arguments):
                arguments = arguments(torch.Generator().manual_seed(seed))
            call = describe_call(exercise.oracle or function, arguments)
            expected = case.expected
            if known:
                expected = known[number].expected
            elif expected is FROM_ORACLE:
                assert exercise.oracle is not None
                torch.manual_seed(seed)
                expected = exercise.oracle(*copy.deepcopy(arguments))
            torch.manual_seed(seed)
            given = copy.deepcopy(arguments)
            got = run(function, given, answer)
            outcomes.append(Outcome(case.says, call, expected, got, found_in(got, expected, case, arguments, given)))
    return outcomes


def found_in(got: Any, expected: Any, case: Any, arguments: tuple[Any, ...], given: tuple[Any, ...]) -> Mismatch | None:
    """What is wrong with one outcome: it raised, it differs, or the call changed its own arguments."""
    if isinstance(got, Raised):
        return Mismatch(f"Your code raised an error.\n{got.says}", True)
    found = difference(expected, got, case.tolerance)
    plain = [value for value in arguments if isinstance(value, torch.Tensor)]
    after = [value for value in given if isinstance(value, torch.Tensor)]
    if found is None and any(difference(a, b, 0.0) for a, b in zip(plain, after, strict=True)):
        return Mismatch("the result is right, but the call changed its argument in place; work on a copy", False)
    return found


def recognise(exercise: Exercise, outcomes: list[Outcome]) -> str | None:
    """The mutant whose results are those of the answer on every case, or None."""
    for name, (mutant, _) in exercise.mutants.items():
        theirs = run_all(exercise, mutant, outcomes)
        if len(theirs) == len(outcomes) and all(
            agree(a.got, b.got) and (a.mismatch is None) == (b.mismatch is None)
            for a, b in zip(outcomes, theirs, strict=True)
        ):
            return name
    return None


def agree(a: Any, b: Any) -> bool:
    """Are two outcomes the same?"""
    if isinstance(a, Raised) or isinstance(b, Raised):
        return bool(a == b)
    try:
        return difference(a, b) is None
    except Exception:  # two objects that cannot be compared are not the same
        return False


def show(verdict: Verdict) -> None:
    """In a notebook, the heat maps below the text."""
    html = verdict._repr_html_()
    try:
        from IPython import get_ipython
        from IPython.display import HTML, display
    except ImportError:
        return
    if html and getattr(get_ipython(), "kernel", None) is not None:
        display(HTML(html))
