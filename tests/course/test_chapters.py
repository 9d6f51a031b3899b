"""The course map and the files of the house agree."""

from minimoe.course.chapters import CHAPTERS, course_map
from minimoe.paths import checkout


def test_every_notebook_is_a_chapter_and_every_number_is_used_once():
    files = {file.name for file in (checkout() / "notebooks").glob("*.ipynb")}
    assert files <= {chapter.file.name for chapter in CHAPTERS}
    assert [chapter.number for chapter in CHAPTERS] == list(range(len(CHAPTERS)))


def test_a_written_chapter_takes_apart_files_that_exist():
    for chapter in CHAPTERS:
        if chapter.written:
            for file in chapter.teaches:
                assert (checkout() / "minimoe" / file).exists(), f"chapter {chapter.number} teaches minimoe/{file}"


def test_the_map_marks_what_is_to_come():
    rows = course_map()._repr_markdown_().splitlines()[2:]
    assert len(rows) == len(CHAPTERS)
    for chapter, row in zip(CHAPTERS, rows, strict=True):
        assert ("to come" in row) == (not chapter.written) and (f"({chapter.file.name})" in row) == chapter.written
