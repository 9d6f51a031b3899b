"""Every registered exercise: known-wrong answers are refused by name, right ones in other styles pass.

`pytest tests/course/checker/test_mutants.py -s` prints the table of mutants and verdicts.
"""

from collections import Counter

import pytest

from minimoe.course.checker.check import judge
from minimoe.course.checker.exercise import all_exercises
from minimoe.course.checker.notebook_source import folder, read_master, stub
from minimoe.course.checker.progress import lines_of

EXERCISES = list(all_exercises().values())
CHAPTERS = sorted({exercise.chapter for exercise in EXERCISES})
each = pytest.mark.parametrize("exercise", EXERCISES, ids=lambda exercise: exercise.id)


@each
def test_each_mutant_is_refused_with_its_own_misconception(exercise):
    assert len(exercise.mutants) >= 4
    print(f"\n{exercise.id} {exercise.title}")
    for name, (mutant, misconception) in exercise.mutants.items():
        verdict = judge(exercise, mutant)
        print(f"  {name:40s} {verdict.status:6s} {verdict.mutant}")
        assert verdict.status == "wrong", f"{name} passes: add a case on which it fails"
        assert verdict.misconception == misconception, f"{name} is taken for {verdict.mutant}: they differ on no case"
        assert misconception in verdict.text
        assert "raised an error" not in verdict.text, f"{name} is refused by a crash, not for its idea"


@each
def test_right_answers_in_other_styles_pass(exercise):
    assert len(exercise.accepted) >= 2
    for style, answer in exercise.accepted.items():
        verdict = judge(exercise, answer)
        assert verdict.status == "ok", f"{style}:\n{verdict.text}"
        assert exercise.now_you_know in verdict.text


@each
def test_unattempted_answer_is_todo_with_the_first_hint(exercise):
    def untouched(*arguments): ...

    def to_do(*arguments):
        raise NotImplementedError

    def returns_a_gap(*arguments):
        return ...

    for answer in (..., None, (..., 1), untouched) + (
        (to_do, returns_a_gap) if exercise.cases and not exercise.prepare else ()
    ):
        verdict = judge(exercise, answer)
        assert verdict.status == "todo" and verdict.misconception is None
        assert exercise.hints[0] in verdict.text and "Traceback" not in verdict.text


@each
def test_texts_are_sentences_and_labels_are_valid(exercise):
    sentences = [*exercise.hints, exercise.now_you_know, *(says for _, says in exercise.mutants.values())]
    assert all(sentence.rstrip().endswith((".", "?", ")", "`")) for sentence in sentences), sentences
    assert 1 <= exercise.difficulty <= 5 and 1 <= exercise.minutes <= 60
    if exercise.teaches is not None:
        assert lines_of(exercise).startswith("minimoe/")


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_a_chapter_has_five_exercises_of_four_kinds(chapter):
    kinds = Counter(exercise.kind for exercise in EXERCISES if exercise.chapter == chapter)
    assert kinds.total() >= 5 and len(kinds) >= 4, kinds
    numbers = [exercise.id for exercise in EXERCISES if exercise.chapter == chapter]
    assert numbers == [f"{chapter:02d}.{n}" for n in range(1, len(numbers) + 1)]


def test_every_exercise_has_one_cell_in_its_master_and_a_place_for_the_answer():
    cells = [
        (cell.metadata["exercise"], int(path.name[:2]), cell)
        for path in folder().glob("*.py")
        for cell in read_master(path)
        if "exercise" in cell.metadata
    ]
    assert sorted(id for id, _, _ in cells) == sorted(exercise.id for exercise in EXERCISES)
    for id, chapter, cell in cells:
        assert int(id[:2]) == chapter and "..." in stub(cell.source), id
