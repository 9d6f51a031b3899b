"""check: grade an answer and, if it is wrong, report the failed property, the input and the likely misconception."""

import copy
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from types import NoneType
from typing import Any

import torch

from minimoe.course.checker import diff_table as pictures
from minimoe.course.checker.answer_diff import Mismatch, difference, kind
from minimoe.course.checker.exercise import FROM_ORACLE, Exercise, find_exercise
from minimoe.course.checker.misconceptions import recognise, sentence
from minimoe.course.checker.parts import Result, explain_parts
from minimoe.course.checker.predictions import explain_value, grade, still_open
from minimoe.course.checker.progress import record_check
from minimoe.course.checker.unchanged_code import is_given
from minimoe.course.checker.user_code import Raised, describe_call, is_unattempted, run, shows_a_gap


@dataclass(frozen=True)
class Verdict:
    """The result of `check`.

    status: "todo", "wrong" or "ok". misconception: the mistake behind a wrong answer, if it equals the mutant `mutant`.
    explanation: otherwise, which part is wrong and how it is related to the right one, if that can be said. table: the
    expected and the actual numbers as text, for a terminal; a notebook shows heat maps.
    """

    exercise: str
    status: str
    text: str
    misconception: str | None = None
    mutant: str | None = None
    mismatch: Mismatch | None = None
    explanation: str | None = None
    table: str = ""

    def __repr__(self) -> str:
        return f"<{self.exercise} {self.status}>"

    def __str__(self) -> str:
        return self.with_table()

    def with_table(self) -> str:
        """The text with the table of numbers before its last line."""
        if not self.table:
            return self.text
        *lines, last = self.text.split("\n")
        return "\n".join([*lines, self.table, last])

    def _ipython_display_(self) -> None:
        """Display nothing, because `check` has already printed the verdict."""

    def _repr_html_(self) -> str | None:
        """Heat maps of the expected and the actual tensor, if both have the same shape; otherwise None."""
        mismatch = self.mismatch
        if mismatch is None or mismatch.expected is None or mismatch.got is None or mismatch.wrong is None:
            return None
        return pictures.as_html(mismatch.expected, mismatch.got, mismatch.wrong)


@dataclass(frozen=True)
class Outcome:
    """The outcome of one case: the call, the expected and the actual result, and their first mismatch, if any."""

    says: str
    call: str
    expected: Any
    got: Any
    mismatch: Mismatch | None
    arguments: tuple[Any, ...] = ()
    tolerance: float | None = None


def check(id: str, answer: Any, record: bool = True) -> Verdict:
    """Grade `answer`, print the verdict and record it for `progress()`; a lesson that demonstrates does not record.

    An answer that is not started is "todo", with the first hint. A wrong one is reported with the failed property, the
    smallest failing input, and the misconception that gives the same results. Raises BadArgument for an unknown id.
    """
    exercise = find_exercise(id)
    verdict = judge(exercise, answer)
    if record:
        record_check(id, verdict.status)
    print(verdict.text if show(verdict) else verdict.with_table())
    return verdict


def judge(exercise: Exercise, answer: Any) -> Verdict:
    """The verdict on an answer, without printing or recording it."""
    if is_unattempted(answer):
        return todo(exercise, answer)
    outcomes = run_all(exercise, answer)
    if any(shows_a_gap(outcome.got) for outcome in outcomes):
        return todo(exercise)
    failed = [outcome for outcome in outcomes if outcome.mismatch is not None]
    pasted = exercise.given is not None and is_given(answer, exercise.given)
    if not failed and not pasted:
        text = f"{exercise.id}  ok    {exercise.title}\nNow you know: {exercise.now_you_know}"
        return Verdict(exercise.id, "ok", text)
    known: list[Outcome] = outcomes
    mutant = recognise(exercise, outcomes, lambda other: run_all(exercise, other, known))
    if pasted and (not failed or mutant is None):
        says = "that is the code from the page, unchanged. Write your own in its place."
        return wrong(exercise, Outcome("", "", None, None, Mismatch(says, False)), mutant)
    complaint = outcomes[-1] if exercise.also and outcomes[-1].mismatch and not callable(answer) else None
    first = complaint or next((outcome for outcome in failed if outcome.mismatch and outcome.mismatch.form), failed[0])
    explanation = None if mutant or not exercise.cases else explain(exercise, failed)
    return wrong(exercise, first, mutant, explanation)


def todo(exercise: Exercise, answer: Any = None) -> Verdict:
    """The verdict on an answer that is not started or not complete, with the first hint."""
    lines = [f"{exercise.id}  todo  {exercise.title} ({exercise.minutes} min)", *still_open(answer)]
    return Verdict(exercise.id, "todo", "\n".join([*lines, f"Hint 1: {exercise.hints[0]}"]))


def explain(exercise: Exercise, failed: Sequence[Outcome]) -> str | None:
    """Which parts of the results are right and what the others are; None if nothing can be said."""
    results = [
        Result(one.arguments, one.expected, one.got, one.tolerance)
        for one in failed
        if one.says and not isinstance(one.got, Raised)
    ]
    return explain_parts(exercise, results) if results else None


def wrong(exercise: Exercise, outcome: Outcome, mutant: str | None, explanation: str | None = None) -> Verdict:
    """The verdict on a wrong answer: failed property, call, expected and actual result, misconception."""
    mismatch = outcome.mismatch
    assert mismatch is not None
    lines = [f"{exercise.id}  wrong {exercise.title}"]
    lines += [f"What failed: {outcome.says}"] if outcome.says else []
    lines += [f"Called with: {outcome.call}"] if outcome.call else []
    lines += [mismatch.says]
    misconception = sentence(exercise, mutant)
    lines += [f"It looks like this: {misconception}"] if misconception else []
    lines += [f"What can be seen: {explanation}"] if explanation else []
    lines.append(f'More help: minimoe.hint("{exercise.id}")')
    table = ""
    if mismatch.expected is not None and mismatch.got is not None and mismatch.wrong is not None:
        table = pictures.as_text(mismatch.expected, mismatch.got, mismatch.wrong)
    return Verdict(exercise.id, "wrong", "\n".join(lines), misconception, mutant, mismatch, explanation, table)


def run_all(exercise: Exercise, answer: Any, known: Sequence[Outcome] = ()) -> list[Outcome]:
    """The outcomes of all cases of a function, or of the single case of a value, and of the extra check `also`.

    known: the outcomes of another answer, from which the expected results are reused.
    """
    if exercise.cases:
        outcomes = run_cases(exercise, answer, known if len(known) >= len(exercise.cases) else ())
    else:
        if known:
            expected = known[0].expected
        else:
            expected = exercise.expected() if callable(exercise.expected) else exercise.expected
        outcomes = [Outcome("", "", expected, answer, value_mismatch(exercise, expected, answer))]
    if exercise.also is not None:
        complaint = run(exercise.also, (answer,), answer)
        if isinstance(complaint, Raised):
            complaint = f"your answer is {kind(answer)}, which is not what the exercise asks for"
        mismatch = None if complaint is None else Mismatch(complaint, False)
        outcomes.append(Outcome("", "", None, complaint, mismatch))
    return outcomes


def value_mismatch(exercise: Exercise, expected: Any, answer: Any) -> Mismatch | None:
    """What is wrong with a value, in words that leave the reader to find the right one; None if it is right."""
    if isinstance(expected, torch.Tensor):
        return difference(expected, answer, name="your answer")
    graded = grade(expected, answer, exercise.factor)
    if graded.right:
        return None
    return Mismatch(explain_value(exercise, expected, answer, graded), graded.complaint is not None)


def run_cases(exercise: Exercise, answer: Any, known: Sequence[Outcome] = ()) -> list[Outcome]:
    """Call the answer once per case. Random arguments are seeded, and torch's global generator is preserved."""
    if not callable(answer) and exercise.prepare is None:
        not_a_function = Mismatch(f"your answer is {type(answer).__name__}, expected a function", True)
        return [Outcome("", "", None, answer, not_a_function)]
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
                torch.default_generator.manual_seed(seed)
                expected = exercise.oracle(*copy.deepcopy(arguments))
            torch.default_generator.manual_seed(seed)  # torch.manual_seed visits every device, 2 ms a call
            passed = copy.deepcopy(arguments)
            got = run(function, passed, answer)
            mismatch = mismatch_of(got, expected, case, arguments, passed)
            outcomes.append(Outcome(case.says, call, expected, got, mismatch, arguments, case.tolerance))
    return outcomes


def mismatch_of(
    got: Any, expected: Any, case: Any, arguments: tuple[Any, ...], passed: tuple[Any, ...]
) -> Mismatch | None:
    """The mismatch of one call: it raised, its result differs, or it modified an argument.

    arguments: the original arguments; passed: the copies that the function was called with.
    """
    if isinstance(got, Raised):
        return Mismatch(f"Your code raised an error.\n{got.says}", True)
    if got is None and expected is not None:
        return Mismatch("your function returns nothing (None); is a `return` missing?", True)
    mismatch = difference(expected, got, case.tolerance)
    if mismatch is None and any(changed(a, b) for a, b in zip(arguments, passed, strict=True)):
        return Mismatch("the result is right, but the call changed its argument in place; work on a copy", False)
    return mismatch


def changed(before: Any, after: Any) -> bool:
    """Whether a call changed an argument in place: a tensor, a tuple with one, or a list or dictionary of texts or
    numbers.
    """
    if isinstance(before, torch.Tensor):
        return difference(before, after, 0.0) is not None
    if isinstance(before, tuple):
        return any(changed(one, other) for one, other in zip(before, after, strict=True))
    values = before if isinstance(before, list) else before.values() if isinstance(before, dict) else None
    plain = values is not None and all(isinstance(value, (str, bytes, int, float, NoneType)) for value in values)
    return plain and before != after


def show(verdict: Verdict) -> bool:
    """In a notebook, display the heat maps. Returns whether they are shown."""
    html = verdict._repr_html_()
    try:
        from IPython import get_ipython
        from IPython.display import HTML, display
    except ImportError:
        return False
    if not html or getattr(get_ipython(), "kernel", None) is None:
        return False
    display(HTML(html))
    return True
