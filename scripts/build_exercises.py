"""Build the stub and solution notebooks from the masters of the exercises.

    python scripts/build_exercises.py            build all
    python scripts/build_exercises.py --check    write nothing; exit 1 if a notebook differs from its master

The outputs of a notebook are kept if no cell has changed; otherwise run scripts/execute_notebooks.py afterwards.
"""

import argparse
import sys
from pathlib import Path

import nbformat
from execute_notebooks import METADATA, metadata, text_of
from nbformat import NotebookNode

from minimoe.course.checker.notebook_source import Cell, folder, read_master, solved, stub

STUB, SOLUTION = "stub", "solution"


def notebook_path(master: Path, kind: str) -> Path:
    """exercises/NN_name.ipynb for a stub, exercises/solutions/NN_name.ipynb for a solution."""
    exercises = master.parent.parent
    return (exercises if kind == STUB else exercises / "solutions") / f"{master.stem}.ipynb"


def build(master: Path, kind: str) -> NotebookNode:
    """One notebook, without outputs. Cell ids count from 0, as scripts/execute_notebooks.py numbers them."""
    cells = []
    for number, cell in enumerate(read_master(master)):
        make = nbformat.v4.new_markdown_cell if cell.markdown else nbformat.v4.new_code_cell
        cells.append(
            make(
                source_of(cell, kind, f"{master.name}, line {cell.line}"),
                id=f"{master.stem[:2]}-{number:02d}",
                metadata=metadata(cell.metadata.get("tags", "").split()),
            )
        )
    return nbformat.v4.new_notebook(cells=cells, metadata=METADATA)


def source_of(cell: Cell, kind: str, where: str) -> str:
    """The source of a cell in this kind of notebook, without trailing blank lines, which only format the master."""
    if cell.markdown:
        return cell.source
    return (stub if kind == STUB else solved)(cell.source, where).rstrip("\n")


def with_outputs_of(fresh: NotebookNode, stored: NotebookNode) -> NotebookNode:
    """`fresh`, with the stored outputs if no cell has changed: one changed cell may change all later outputs."""
    if [cell.source for cell in fresh.cells] == [cell.source for cell in stored.cells]:
        for cell, old in zip(fresh.cells, stored.cells, strict=True):
            if cell.cell_type == "code" and old.cell_type == "code":
                cell.outputs, cell.execution_count = old.outputs, old.execution_count
    return fresh


def differs(master: Path, kind: str) -> bool:
    """Whether the stored notebook differs from its master, apart from outputs."""
    path = notebook_path(master, kind)
    if not path.exists():
        return True
    stored = nbformat.read(path, as_version=4)
    return with_outputs_of(build(master, kind), stored) != stored


def main(check: bool) -> int:
    """Write the stale notebooks, or with `check` only list them; returns the exit code."""
    stale = [(m, kind) for m in sorted(folder().glob("*.py")) for kind in (STUB, SOLUTION) if differs(m, kind)]
    for master, kind in stale:
        path = notebook_path(master, kind)
        print(f"{path.name} ({kind}) {'differs from its master' if check else 'written'}")
        if not check:
            path.parent.mkdir(exist_ok=True)
            path.write_text(text_of(build(master, kind)), encoding="utf-8")
    return 1 if check and stale else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="list stale notebooks, write nothing")
    sys.exit(main(parser.parse_args().check))
