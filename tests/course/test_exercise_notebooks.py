"""Stubs and solutions are what the masters say, and what they print is what a reader should see."""

import re

import nbformat
import pytest
from build_exercises import STUB, build, differs, notebook_path

from minimoe.course.checker.notebook_source import folder, parse, solved, stub
from minimoe.errors import BadArgument

MASTERS = sorted(folder().glob("*.py"))
each = pytest.mark.parametrize("master", MASTERS, ids=lambda path: path.stem)
kinds = pytest.mark.parametrize("kind", ["stub", "solution"])


@each
@kinds
def test_building_again_changes_nothing(master, kind):
    assert not differs(master, kind), "run scripts/build_exercises.py, then scripts/execute_notebooks.py"
    assert build(master, kind) == build(master, kind)


@each
@kinds
def test_every_check_prints_todo_in_the_stub_and_ok_in_the_solution(master, kind):
    status = "todo" if kind == STUB else "ok"
    checked = 0
    for cell in nbformat.read(notebook_path(master, kind), as_version=4).cells:
        if cell.cell_type == "code":
            printed = "".join(output.get("text", "") for output in cell.outputs)
            for id in re.findall(r'minimoe\.check\("(\d\d\.\d+)"', cell.source):
                assert re.search(rf"^{re.escape(id)}  {status} ", printed, flags=re.MULTILINE), (id, printed)
                checked += 1
    assert checked


@each
def test_no_solution_is_left_in_the_stub(master):
    notebook = build(master, STUB)
    assert not any("SOLUTION" in cell.source for cell in notebook.cells)
    assert len({cell.id for cell in notebook.cells}) == len(notebook.cells)


def test_solution_region_is_replaced_in_the_stub_and_unmarked_in_the_solution():
    source = "def f(x):\n    y = 1\n    ### BEGIN SOLUTION\n    return x + y\n    ### END SOLUTION"
    assert stub(source) == "def f(x):\n    y = 1\n    ..."
    assert solved(source) == "def f(x):\n    y = 1\n    return x + y"
    assert stub("### BEGIN SOLUTION: a = ...\na = 3\n### END SOLUTION") == "a = ..."


@pytest.mark.parametrize(
    ("source", "fault"),
    [
        ("### BEGIN SOLUTION\n### BEGIN SOLUTION\n### END SOLUTION", "inside another"),
        ("### BEGIN SOLUTION\nx = 1", "not closed"),
        ("x = 1\n### END SOLUTION", "without"),
    ],
)
def test_unpaired_markers_are_rejected(source, fault):
    with pytest.raises(BadArgument, match=fault):
        stub(source, "cell")


def test_cells_of_a_master():
    text = '"""Not a cell."""\n\n# %% [markdown]\n# # Title\n#\n# text\n\n# %% tags="a b" exercise="06.1"\n\nx = 1\n'
    first, second = parse(text, "master")
    assert first.markdown and first.source == "# Title\n\ntext"
    assert second.metadata == {"tags": "a b", "exercise": "06.1"} and second.source == "x = 1" and second.line == 10


@pytest.mark.parametrize("text", ["# %% [raw]\n", "# %% tags=a\n", "# %% [markdown]\nno hash\n"])
def test_invalid_cell_is_reported_by_line(text):
    with pytest.raises(BadArgument, match=r"m\.py, line [12]"):
        parse(text, "m.py")
