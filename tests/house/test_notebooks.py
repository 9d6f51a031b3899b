"""Committed lessons and exercises are fully executed and stay small: nbval never compares a cell that was not run."""

import base64
import json
import re

import execute_notebooks
import nbformat
import pytest

from tests.house.repository import ROOT

LESSONS = sorted(path for folder in ("notebooks", "exercises") for path in (ROOT / folder).rglob("[!.]*.ipynb"))
MOST_LINES, MOST_IGNORED = 25, 0.30
MOST_BYTES, MOST_BYTES_OF_A_PICTURE = 700_000, 60_000
IGNORED = re.compile(r"nbval-(?:ignore-output|skip)|NBVAL_(?:IGNORE_OUTPUT|SKIP)")
MACHINE_PATH = re.compile(r"(?<![\w.~*/-])/(?:work|root|tmp|home/[a-z]\w*|Users/[A-Za-z]\w*)/|[A-Z]:\\\\Users")

pytestmark = pytest.mark.parametrize("lesson", LESSONS, ids=lambda path: str(path.relative_to(ROOT)))


def code_cells(lesson):
    """The code cells that hold code."""
    cells = nbformat.read(lesson, as_version=4).cells
    return [cell for cell in cells if cell.cell_type == "code" and cell.source.strip()]


def is_ignored(cell):
    """Is this cell's output left out of the comparison?"""
    return bool(IGNORED.search(" ".join(cell.metadata.get("tags", [])) + cell.source))


def test_is_a_valid_notebook(lesson):
    nbformat.validate(nbformat.read(lesson, as_version=4))


def test_opens_without_asking_for_a_kernel(lesson):
    assert nbformat.read(lesson, as_version=4).metadata["kernelspec"]["name"] == "python3"


def test_every_cell_was_executed_in_order(lesson):
    counts = [cell.execution_count for cell in code_cells(lesson)]
    assert counts == list(range(1, len(counts) + 1)), "execute the lesson again, from the top"


def test_no_cell_failed_unless_that_is_the_point(lesson):
    for cell in code_cells(lesson):
        if "raises-exception" not in cell.metadata.get("tags", []):
            assert not [output for output in cell.outputs if output.output_type == "error"], cell.source


def test_no_widget_state_is_stored(lesson):
    assert "widgets" not in nbformat.read(lesson, as_version=4).metadata


def test_is_small(lesson):
    """Every execution adds to the history that users clone."""
    size = lesson.stat().st_size
    assert size <= MOST_BYTES, f"{size:,} bytes: fewer points in its figures, or a smaller picture"


def test_stored_pictures_are_small(lesson):
    for cell in code_cells(lesson):
        for output in cell.outputs:
            picture = base64.b64decode(output.get("data", {}).get("image/png", ""))
            assert len(picture) <= MOST_BYTES_OF_A_PICTURE, f"{len(picture):,} bytes in the cell {cell.source[:60]!r}"


def test_the_stored_form_has_the_same_content(lesson):
    """Figures are stored with many numbers in a line; nbformat, and so JupyterLab, reads the same notebook."""
    notebook = nbformat.read(lesson, as_version=4)
    text = execute_notebooks.text_of(notebook)
    assert nbformat.reads(text, as_version=4) == notebook
    assert execute_notebooks.text_of(nbformat.reads(text, as_version=4)) == text
    assert len(text) <= len(nbformat.writes(notebook)) + 1


def test_cells_are_short(lesson):
    for cell in code_cells(lesson):
        lines = [line for line in cell.source.splitlines() if line.strip() and not line.strip().startswith("#")]
        assert len(lines) <= MOST_LINES, f"{len(lines)} lines of code in the cell that starts {lines[0]!r}"


def test_few_outputs_are_ignored_and_each_is_followed_by_an_assertion(lesson):
    cells = code_cells(lesson)
    ignored = [index for index, cell in enumerate(cells) if is_ignored(cell)]
    assert len(ignored) <= MOST_IGNORED * len(cells), f"{len(ignored)} of {len(cells)} code cells are ignored"
    for index in ignored:
        following = cells[index + 1].source if index + 1 < len(cells) else ""
        assert "assert" in following or "expect(" in following, cells[index].source


def test_names_no_machine_path(lesson):
    """In what the reader sees: sources and text outputs, not the pixels of a picture."""
    for cell in nbformat.read(lesson, as_version=4).cells:
        outputs = [dict(output) for output in cell.get("outputs", [])]
        for output in outputs:
            output["data"] = {kind: value for kind, value in output.get("data", {}).items() if "image/" not in kind}
        hit = MACHINE_PATH.search(cell.source) or MACHINE_PATH.search(json.dumps(outputs))
        assert hit is None, hit
