"""Run the cells of a lesson in this process, with another model in the place of `data/mini`."""

import ast
import contextlib
import io
import linecache
import re
from pathlib import Path
from typing import Any

import nbformat
import torch

MODEL_LINE = re.compile(r'^MODEL = "data/mini"', re.MULTILINE)
DISPLAYS = ("_repr_mimebundle_", "_repr_html_", "_repr_markdown_")


def sources(lesson: Path, model: Path) -> list[tuple[str, set[str]]]:
    """(source, tags) of the code cells, with the path of `model` in the lesson's one line MODEL = "data/mini"."""
    cells = [cell for cell in nbformat.read(lesson, as_version=4).cells if cell.cell_type == "code"]
    count = sum(len(MODEL_LINE.findall(cell.source)) for cell in cells)
    assert count == 1, f'{lesson.name} has {count} lines MODEL = "data/mini", expected one'
    line = f"MODEL = {str(model)!r}"
    return [(MODEL_LINE.sub(lambda _: line, cell.source), set(cell.metadata.get("tags", []))) for cell in cells]


def run_lesson(lesson: Path, model: Path) -> dict[str, Any]:
    """Run all cells but those tagged `mini-only`, and show their results as Jupyter would. Returns the names they made.

    An exception is raised with the lesson and the cell in a note, unless the cell has the tag `raises-exception`.
    """
    names: dict[str, Any] = {"__name__": "__main__"}
    with torch.set_grad_enabled(torch.is_grad_enabled()), contextlib.redirect_stdout(io.StringIO()):
        for number, (source, tags) in enumerate(sources(lesson, model), 1):
            if "mini-only" in tags:
                continue
            try:
                run_cell(source, f"<cell {number} of {lesson.name}>", names)
            except Exception as error:
                if "raises-exception" not in tags:
                    error.add_note(f"in code cell {number} of {lesson.name}, which starts {source[:80]!r}")
                    raise
    return names


def run_cell(source: str, name: str, names: dict[str, Any]) -> None:
    """Run a cell, and draw the value of its last line."""
    linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)  # for inspect.getsource
    tree = ast.parse(source, name)
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, name, "exec"), names)
    if isinstance(last, ast.Expr):
        draw(eval(compile(ast.Expression(last.value), name, "eval"), names))


def draw(value: Any) -> None:
    """Compute every form in which Jupyter shows a value."""
    repr(value)
    for display in DISPLAYS:
        if not isinstance(value, type) and callable(form := getattr(value, display, None)):
            form()
