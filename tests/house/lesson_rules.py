"""The conventions of a lesson that its cells show: one model, folded checks, numbers instead of True and False."""

import ast
import re
from collections.abc import Iterator

from nbformat import NotebookNode

MODEL_LINE = re.compile(r"^MODEL = ", re.MULTILINE)
MINI = "data/mini"
MOST_BOOKKEEPING = 0.25  # of all cells
BOOKKEEPING = {"check", "setup"}  # tags
ANSWERS_YES_OR_NO = {"equal", "array_equal", "allclose", "all", "any", "isinstance", "bool"}


def code(cells: list[NotebookNode]) -> list[NotebookNode]:
    """The code cells."""
    return [cell for cell in cells if cell.cell_type == "code"]


def tags(cell: NotebookNode) -> set[str]:
    """The tags of a cell."""
    return set(cell.metadata.get("tags", []))


def one_model(cells: list[NotebookNode]) -> Iterator[str]:
    """`MODEL = ...` stands once, in the first code cell, and the mini is named nowhere else in the code."""
    counts = [len(MODEL_LINE.findall(cell.source)) for cell in code(cells)]
    if counts[:1] != [1] or sum(counts) != 1:
        yield f"lines MODEL = ... in each code cell: {counts}; expected one, in the first"
    mentions = [cell for cell in code(cells) for line in cell.source.splitlines() if names_the_mini(line)]
    yield from (f"{MINI} is named beside MODEL in {start(cell)}" for cell in mentions)


def names_the_mini(line: str) -> bool:
    """Whether a line of code other than MODEL = ... names the mini's folder; a comment does not count."""
    return MINI in line.partition("#")[0] and not MODEL_LINE.match(line)


def folded_checks(cells: list[NotebookNode]) -> Iterator[str]:
    """A cell with the tag `check` is folded in JupyterLab, and its first line says what is checked."""
    for cell in code(cells):
        hidden = cell.metadata.get("jupyter", {}).get("source_hidden", False)
        if "check" in tags(cell) and not hidden:
            yield f"not folded, execute the notebook with scripts/execute_notebooks.py: {start(cell)}"
        if "check" in tags(cell) and not cell.source.startswith("# "):
            yield f"begins without a comment: {start(cell)}"
        if hidden and not tags(cell) & BOOKKEEPING:
            yield f"folded, but neither check nor setup: {start(cell)}"


def no_asserts(cells: list[NotebookNode]) -> Iterator[str]:
    """No `assert` and no `expect` outside of the cells with the tag `check`."""
    for cell in code(cells):
        if "check" not in tags(cell):
            for node in ast.walk(ast.parse(cell.source)):
                is_expect = isinstance(node, ast.Call) and called(node) == "expect"
                if isinstance(node, ast.Assert) or is_expect:
                    yield f"belongs into a cell tagged check: {ast.unparse(node)[:100]}"


def no_booleans(cells: list[NotebookNode]) -> Iterator[str]:
    """A finding is shown as a number or a sentence, never as True or False."""
    for cell in code(cells):
        tree = ast.parse(cell.source)
        last = tree.body[-1] if tree.body else None
        shown = [last.value] if isinstance(last, ast.Expr) else []
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and called(node) == "print":
                shown += [part for argument in node.args for part in parts(argument)]
        yield from (f"shows True or False: {ast.unparse(value)[:100]}" for value in shown if is_boolean(value))


def little_bookkeeping(cells: list[NotebookNode]) -> Iterator[str]:
    """At most one cell in four is tagged `check` or `setup`."""
    count = sum(bool(tags(cell) & BOOKKEEPING) for cell in code(cells))
    if count > MOST_BOOKKEEPING * len(cells):
        yield f"{count} of {len(cells)} cells are tagged check or setup, expected at most one in four"


RULES = (one_model, folded_checks, no_asserts, no_booleans, little_bookkeeping)


def start(cell: NotebookNode) -> str:
    """The beginning of a cell, for a message."""
    return repr(cell.source[:70])


def called(node: ast.Call) -> str:
    """The last name of what is called: `allclose` for `torch.allclose(...)`."""
    return ast.unparse(node.func).rpartition(".")[2]


def parts(argument: ast.expr) -> list[ast.expr]:
    """The values that a printed argument shows: itself, or what stands in the braces of an f-string."""
    if not isinstance(argument, ast.JoinedStr):
        return [argument]
    return [value.value for value in argument.values if isinstance(value, ast.FormattedValue)]


def is_boolean(value: ast.expr) -> bool:
    """Whether an expression is True or False by its form."""
    if isinstance(value, ast.BoolOp):
        return any(map(is_boolean, value.values))
    is_not = isinstance(value, ast.UnaryOp) and isinstance(value.op, ast.Not)
    is_answer = isinstance(value, ast.Call) and called(value) in ANSWERS_YES_OR_NO
    return isinstance(value, ast.Compare) or is_not or is_answer
