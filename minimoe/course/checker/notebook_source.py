"""The masters of the exercises: one py:percent file per chapter, the source of stubs, solutions and `solution()`.

A cell begins with `# %%` (code) or `# %% [markdown]` (its lines begin with `# `), followed by metadata as key="value":
tags="nbval-ignore-output", and exercise="06.1" for the cell of the reader's answer. In a code cell

    ### BEGIN SOLUTION
    lines that the stub does not have
    ### END SOLUTION

becomes `...` in the stub, with the indentation of the first marker; `### BEGIN SOLUTION: limit = ...` gives another
replacement.
"""

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from minimoe.course.source import Source
from minimoe.errors import BadArgument, NotFound
from minimoe.paths import checkout

BEGIN, END = "### BEGIN SOLUTION", "### END SOLUTION"
CELL = re.compile(r"# %%(?P<markdown> \[markdown\])?(?P<metadata>(?: \w+=\"[^\"]*\")*)\s*")


@dataclass(frozen=True)
class Cell:
    """A cell of a master. `line` is the first line of its source in the file."""

    markdown: bool
    metadata: dict[str, str]
    source: str
    line: int


def folder() -> Path:
    """The folder of the masters."""
    return checkout() / "exercises" / "masters"


def read_master(path: Path) -> list[Cell]:
    """The cells of a master. Raises BadArgument, naming the line, for an invalid cell."""
    return parse(path.read_text(encoding="utf-8"), path.name)


def parse(text: str, name: str) -> list[Cell]:
    """The cells of a py:percent text; text above the first cell is ignored."""
    lines = text.splitlines()
    starts = [number for number, line in enumerate(lines) if line.startswith("# %%")]
    cells = []
    for start, stop in zip(starts, [*starts[1:], len(lines)], strict=True):
        head = CELL.fullmatch(lines[start])
        if head is None:
            raise BadArgument(f'{name}, line {start + 1}: {lines[start]!r} is no cell; expected # %% key="value".')
        body = lines[start + 1 : stop]
        if head["markdown"]:
            invalid = next((n for n, line in enumerate(body) if line and not line.startswith("#")), None)
            if invalid is not None:
                raise BadArgument(
                    f"{name}, line {start + 2 + invalid}: {body[invalid]!r} is in a markdown cell, where every line "
                    "begins with '# '."
                )
            body = [line.removeprefix("#").removeprefix(" ") for line in body]
        metadata = dict(re.findall(r'(\w+)="([^"]*)"', head["metadata"]))
        source = "\n".join(body)
        blank = len(source) - len(source.lstrip("\n"))
        cells.append(Cell(bool(head["markdown"]), metadata, source.strip("\n"), start + 2 + blank))
    return cells


def stub(source: str, where: str = "cell") -> str:
    """The source of a cell as the reader gets it, with each solution region replaced."""
    return split(source, where)[0]


def solved(source: str, where: str = "cell") -> str:
    """The source of a cell with its solution, without the markers."""
    return split(source, where)[1]


def split(source: str, where: str) -> tuple[str, str]:
    """The stub and the solution of a cell. Raises BadArgument for nested, unclosed or unmatched markers."""
    stub_lines: list[str] = []
    solution_lines: list[str] = []
    inside = False
    for line in source.splitlines():
        mark = line.strip()
        if mark.startswith(BEGIN):
            if inside:
                raise BadArgument(f"{where}: {BEGIN} inside another one; close it first with {END}.")
            inside = True
            indent = line[: len(line) - len(line.lstrip())]
            stub_lines.append(indent + (mark.removeprefix(BEGIN).removeprefix(":").strip() or "..."))
        elif mark == END:
            if not inside:
                raise BadArgument(f"{where}: {END} without {BEGIN}.")
            inside = False
        else:
            solution_lines.append(line)
            if not inside:
                stub_lines.append(line)
    if inside:
        raise BadArgument(f"{where}: {BEGIN} is not closed; end it with {END}.")
    return "\n".join(stub_lines), "\n".join(solution_lines)


@cache
def solutions() -> dict[str, Source]:
    """The solutions of all masters by exercise id."""
    by_id: dict[str, Source] = {}
    for path in sorted(folder().glob("*.py")):
        for cell in read_master(path):
            if "exercise" in cell.metadata:
                text = solved(cell.source, path.name)
                by_id[cell.metadata["exercise"]] = Source(text, f"exercises/masters/{path.name}", cell.line)
    return by_id


def solution_of(id: str) -> Source:
    """The solution of one exercise. Raises NotFound if there is no master, as in an installation without a checkout."""
    if id not in solutions():
        raise NotFound(f"the solution of {id} is not in {folder()}; it comes with a checkout of minimoe.")
    return solutions()[id]
