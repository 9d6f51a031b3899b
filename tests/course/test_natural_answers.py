"""Natural answers, collected before the mutants were read: right ones pass, wrong ones are refused and explained.

`pytest tests/course/test_natural_answers.py -s` prints the table and each wrong answer that is not explained.
"""

from importlib import import_module
from pkgutil import iter_modules

import pytest

from minimoe.course.checker.check import judge
from minimoe.course.checker.exercise import find_exercise
from tests.course import natural_answers

MODULES = [
    import_module(f"{natural_answers.__name__}.{module.name}") for module in iter_modules(natural_answers.__path__)
]


def all_answers():
    """The answers of all modules by exercise; several of them may have some to the same exercise."""
    merged = {}
    for module in MODULES:
        for id, natural in sorted(getattr(module, "ANSWERS", {}).items()):
            before = merged.get(id, natural_answers.Natural())
            for one, other in ((before.wrong, natural.wrong), (before.right, natural.right)):
                assert not set(one) & set(other), f"{id} has two answers called {set(one) & set(other)}"
            merged[id] = natural_answers.Natural({**before.wrong, **natural.wrong}, {**before.right, **natural.right})
    return merged


ANSWERS = all_answers()
# Wrong answers that pass, since the page does not promise what they break
ACCEPTED: dict[str, set[str]] = {}
LEAST_EXPLAINED = 0.9  # of all wrong answers
LEAST_EXPLAINED_FULLY = 0.8  # by more than the direction of the error
DIRECTIONS = ("is too small", "is too large", "says True too")
each = pytest.mark.parametrize("id", ANSWERS)


def how(verdict):
    """How a wrong answer is explained: "named", "part", "form" (type, shape, dtype, exception), "told", or None.

    "way": only in which direction it errs.
    """
    if verdict.misconception:
        return "named"
    if verdict.explanation:
        return "way" if only_a_direction(verdict.explanation) else "part"
    if verdict.mismatch is not None and verdict.mismatch.form:
        return "form"
    text = verdict.text.lower()
    return (
        "told"
        if any(sign in text for sign in ("too high", "too low", "think again", "in place", "unchanged"))
        else None
    )


def only_a_direction(explanation):
    """Whether an explanation names no part and no relation, only that the result is too small or too large."""
    sentences = explanation.rstrip(".").split(". ")
    return all(any(sign in sentence for sign in DIRECTIONS) for sentence in sentences)


class Verdicts(dict):
    """Exercise -> name -> what `check` says to a wrong answer, judged when it is first asked for."""

    def __missing__(self, id):
        self[id] = {name: judge(find_exercise(id), wrong.answer) for name, wrong in ANSWERS[id].wrong.items()}
        return self[id]


@pytest.fixture(scope="module")
def verdicts():
    return Verdicts()


@each
def test_right_answers_pass(id):
    for name, answer in ANSWERS[id].right.items():
        verdict = judge(find_exercise(id), answer)
        assert verdict.status == "ok", f"{name}:\n{verdict}"


@each
def test_wrong_answers_are_refused(id, verdicts):
    accepted = {name for name, verdict in verdicts[id].items() if verdict.status != "wrong"}
    assert accepted == ACCEPTED.get(id, set())


@each
def test_a_named_mistake_is_the_one_that_was_made(id, verdicts):
    for name, verdict in verdicts[id].items():
        about = ANSWERS[id].wrong[name].about
        if about and verdict.misconception:
            assert any(word in verdict.text.lower() for word in about), f"{name}:\n{verdict}"


def test_most_wrong_answers_are_explained(verdicts):
    kinds = ("named", "part", "form", "told", "way", None)
    print("\n" + "".join(f"{kind or 'open':>8s}" for kind in ("id", "tried", *kinds)))
    explained = fully = tried = 0
    for id in ANSWERS:
        judged = verdicts[id]
        counts = [sum(how(verdict) == kind for verdict in judged.values()) for kind in kinds]
        print("".join(f"{value:>8}" for value in (id, len(judged), *counts)))
        explained, fully = explained + sum(counts[:-1]), fully + sum(counts[:-2])
        tried += len(judged)
    print(
        f"explained: {explained} of {tried}, {explained / tried:.0%}; by more than the direction: {fully / tried:.0%}"
    )
    for id, judged in verdicts.items():
        for name, verdict in judged.items():
            if how(verdict) in (None, "way"):
                print(f"  {id} {name}: {verdict.mismatch.says if verdict.mismatch else verdict.status}")
    assert explained >= LEAST_EXPLAINED * tried
    assert fully >= LEAST_EXPLAINED_FULLY * tried
