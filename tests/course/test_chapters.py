"""The course map and the files of the house agree."""

import nbformat
import pytest

from minimoe.course.chapters import CHAPTERS, course_map, navigation
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


def test_navigation_links_written_chapters_and_marks_others():
    for chapter in CHAPTERS:
        text = navigation(chapter.number).text
        for neighbour in CHAPTERS[max(0, chapter.number - 1) : chapter.number + 2]:
            if neighbour is not chapter:
                assert (f"]({neighbour.file.name})" in text) == neighbour.written
                assert (f"**{neighbour.short}** *(to come)*" in text) != neighbour.written
        assert (f"](../{chapter.exercises})" in text) == (checkout() / chapter.exercises).exists()
    with pytest.raises(BadArgument, match="chapter is 15"):
        navigation(15)


@pytest.mark.parametrize("chapter", [c for c in CHAPTERS if c.written], ids=lambda chapter: chapter.name)
def test_a_lesson_ends_with_links_that_are_up_to_date(chapter):
    last = nbformat.read(checkout() / chapter.file, as_version=4).cells[-1].source
    for neighbour in CHAPTERS[max(0, chapter.number - 1) : chapter.number + 2]:
        if neighbour is not chapter:
            assert f"]({neighbour.file.name})" in last or (not neighbour.written and "(to come)" in last)


def test_exercises_belong_to_chapters():
    files = {file.name for file in (checkout() / "exercises").glob("*.ipynb")}
    assert files <= {chapter.exercises.name for chapter in CHAPTERS}
