"""The course map and the files of the house agree."""

import re

import nbformat
import pytest

from minimoe.course import chapters
from minimoe.course.chapters import CHAPTERS, WAYS, Chapter, course_map, hours, navigation, spans, ways_through
from minimoe.course.checker.exercise import all_exercises
from minimoe.errors import BadArgument
from minimoe.paths import checkout


def test_every_notebook_is_a_chapter_and_every_number_is_used_once():
    files = {file.name for file in (checkout() / "notebooks").glob("*.ipynb")}
    assert files <= {chapter.file.name for chapter in CHAPTERS}
    assert [chapter.number for chapter in CHAPTERS] == list(range(len(CHAPTERS)))


def test_files_of_written_chapters_exist():
    for chapter in CHAPTERS:
        if chapter.written:
            for file in chapter.teaches:
                assert (checkout() / "minimoe" / file).exists(), f"chapter {chapter.number} teaches minimoe/{file}"


def test_course_map_marks_unwritten_chapters():
    rows = course_map()._repr_markdown_().splitlines()[2:]
    assert len(rows) == len(CHAPTERS)
    for chapter, row in zip(CHAPTERS, rows, strict=True):
        assert ("to come" in row) == (not chapter.written) and (f"({chapter.file.name})" in row) == chapter.written


def test_a_chapter_builds_on_earlier_ones():
    for chapter in CHAPTERS:
        assert all(needed < chapter.number for needed in chapter.needs)


def nearest(number, step):
    """The next chapter in one direction that is written, or None."""
    numbers = range(number + step, len(CHAPTERS) if step > 0 else -1, step)
    return next((CHAPTERS[n] for n in numbers if CHAPTERS[n].written), None)


def test_navigation_links_the_nearest_chapters_that_are_written():
    for chapter in CHAPTERS:
        text = navigation(chapter.number).text
        for word, other in (("Previous", nearest(chapter.number, -1)), ("Next", nearest(chapter.number, 1))):
            assert (f"{word}: [{other.short}]({other.file.name})" in text) if other else f"{word}: [" not in text
        assert (f"](../{chapter.exercises})" in text) == (checkout() / chapter.exercises).exists()
    with pytest.raises(BadArgument, match=f"chapter is {len(CHAPTERS)}"):
        navigation(len(CHAPTERS))


@pytest.fixture
def five(monkeypatch):
    """A course of five chapters, of which 1, 2 and 4 are not written."""

    class Draft(Chapter):
        written = property(lambda self: self.number in (0, 3))

    made = tuple(Draft(n, f"c{n}", f"Title {n}: more", 30, (), (1,) if n == 3 else (), f"topic {n}") for n in range(5))
    monkeypatch.setattr(chapters, "CHAPTERS", made)


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "Next: [03 · Title 3](03_c3.ipynb), if you know topic 1 *(01 and 02 are to come)*"),
        (1, "Previous: [00 · Title 0](00_c0.ipynb) · "
            "Next: [03 · Title 3](03_c3.ipynb), if you know topic 1 *(02 is to come)*"),
        (3, "Previous: [00 · Title 0](00_c0.ipynb) · Next: **04 · Title 4** *(to come)* · "
            "Back to the map: [00 · Title 0](00_c0.ipynb)"),
        (4, "Previous: [03 · Title 3](03_c3.ipynb) · Back to the map: [00 · Title 0](00_c0.ipynb)"),
    ],
)  # fmt: skip
def test_navigation_names_what_it_passes_over(five, number, text):
    assert navigation(number).text == text


def test_needed_knowledge_has_a_name():
    assert all(CHAPTERS[needed].knowledge for chapter in CHAPTERS for needed in chapter.needs)


@pytest.mark.parametrize("chapter", [c for c in CHAPTERS if c.written], ids=lambda chapter: chapter.name)
def test_a_lesson_ends_with_links_that_are_up_to_date(chapter):
    last = nbformat.read(checkout() / chapter.file, as_version=4).cells[-1].source
    assert last.rstrip().endswith(navigation(chapter.number).text)


@pytest.mark.parametrize("chapter", [c for c in CHAPTERS if c.written], ids=lambda chapter: chapter.name)
def test_minutes_are_the_same_wherever_they_are_announced(chapter):
    """The lesson announces those of the map; it and its exercises the sum of the exercises, to about five minutes."""
    lesson = nbformat.read(checkout() / chapter.file, as_version=4).cells
    assert lesson[0].source.replace("Fifteen", "15").split("\n\n")[1].startswith(f"**{chapter.minutes} minutes")
    if (checkout() / chapter.exercises).exists():
        first = nbformat.read(checkout() / chapter.exercises, as_version=4).cells[0].source
        total = sum(each.minutes for each in all_exercises().values() if each.chapter == chapter.number)
        for text in (first, "\n".join(cell.source for cell in lesson)):
            announced = re.findall(r"About (\d+) minutes for all", text)
            assert len(announced) == 1 and abs(int(announced[0]) - total) <= 3, f"{announced}, the sum is {total}"


def test_the_ways_are_as_long_as_their_names_say():
    minutes = {way.name: way.minutes for way in WAYS}
    assert list(minutes) == ["Two hours", "A weekend", "All of it"]
    assert 105 <= minutes["Two hours"] <= 135 and 6 * 60 <= minutes["A weekend"] <= 10 * 60
    assert minutes["All of it"] == sum(chapter.minutes for chapter in CHAPTERS)
    for way in WAYS:
        assert way.minutes_written == sum(CHAPTERS[n].minutes for n in way.chapters if CHAPTERS[n].written)
        assert list(way.chapters) == sorted(set(way.chapters))


def test_the_table_of_ways_links_what_is_written():
    rows = ways_through()._repr_markdown_().splitlines()[2:]
    for way, row in zip(WAYS, rows, strict=True):
        for n in way.chapters:
            assert f"{n:02d}" in row and (f"({CHAPTERS[n].file.name})" in row) == CHAPTERS[n].written
        assert hours(way.minutes) in row and ("written so far" in row) == (way.minutes_written < way.minutes)
    assert "chapters 00-09, 12" in repr(ways_through())


def test_durations_and_spans():
    assert [hours(m) for m in (30, 44, 60, 135, 450, 735)] == ["30 min", "45 min", "1 h", "2 ¼ h", "7 ½ h", "12 ¼ h"]
    assert spans((0, 1, 2, 5, 7, 8)) == "00-02, 05, 07-08"


def test_exercises_belong_to_chapters():
    files = {file.name for file in (checkout() / "exercises").glob("*.ipynb")}
    assert files <= {chapter.exercises.name for chapter in CHAPTERS}
