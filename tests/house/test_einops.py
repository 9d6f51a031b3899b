"""Einops patterns of the library, lessons and exercises: whole names from one list, no axis that vanishes by a slip.

In an einsum, an axis that stands in one operand only and not in the output is summed over. That is legal, and what a
misspelt name does, silently. Whoever means it says so in SUMMED.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest

from tests.house.repository import ROOT, files, name

CALLS = {"rearrange", "reduce", "repeat", "einsum", "pack", "unpack"}
HOUSE = {
    "batch", "position", "token", "hidden", "head", "group", "head_dim", "expert", "slot", "ffn", "vocab", "layer",
}  # fmt: skip
# Names beside the house's own: an axis seen from another side, or one that only a single file knows.
ALSO = {
    "query", "key",  # positions, as the two sides of attention see them
    "pair", "half",  # rope.py: the two channels that turn together
    "choice", "assignment",  # experts.py: token and slot as one axis
    "into", "out",  # the two sides of a matrix that may be any of gate, up, down
    "draw", "passage",
    "document",  # the text that a token of a trace comes from
    "other",  # the second expert of a pair
    "kept",  # prune.py: the experts that stay
    "rank", "row", "copy",  # chapter 14: a device's part of a matrix, and the copies of a head
    "column", "high", "wide", "member", "nibble", "two",  # formats: blocks, groups and packed numbers of a matrix
    "reader", "claim", "given", "true",  # chapter 15: guesses and verdicts
    "record", "domain",  # chapter 11: the entries of a recorded run, and the kinds of text in its batches
    "picture", "down", "right",  # chapter 01: pictures, and where they stand in a mosaic
    "part", "case",  # chapter 17: partial results of attention, and the three rotations of a query
    "hiden",  # chapter 01: misspelt, to show what happens
}  # fmt: skip
MISSPELT = "token hidden, vocab hiden -> token vocab"  # in chapter 01, to show what happens
SUMMED = {(MISSPELT, "hidden"), (MISSPELT, "hiden")}  # (pattern, axis) that is meant to be summed alone
ON_PURPOSE = ROOT / "minimoe" / "course" / "exercises"  # known-wrong answers, misspelt axes among them


def sources() -> Iterator[tuple[str, str]]:
    """(where, Python source) of the library, the masters and every code cell of lessons and exercises."""
    for path in files():
        if path.is_relative_to(ON_PURPOSE):
            continue
        if path.suffix == ".py" and path.relative_to(ROOT).parts[0] in ("minimoe", "exercises"):
            yield name(path), path.read_text(encoding="utf-8")
        elif path.suffix == ".ipynb":
            yield from cells(path)


def cells(path: Path) -> Iterator[tuple[str, str]]:
    """The code cells of a notebook; lines for IPython alone are left out."""
    for number, cell in enumerate(nbformat.read(path, as_version=4).cells):
        if cell.cell_type == "code":
            yield f"{name(path)}, cell {number}", re.sub(r"^[%!].*$", "pass", cell.source, flags=re.MULTILINE)


def patterns(source: str) -> Iterator[tuple[str, str]]:
    """(function, literal pattern) of each einops call."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call):
            called = getattr(node.func, "id", getattr(node.func, "attr", ""))
            if called in CALLS:
                for value in [*node.args, *(keyword.value for keyword in node.keywords if keyword.arg == "pattern")]:
                    if isinstance(value, ast.Constant) and isinstance(value.value, str) and " " in value.value:
                        yield called, value.value


def axes(part: str) -> set[str]:
    """The names in one side or operand of a pattern."""
    return {axis for axis in re.findall(r"[\w.]+", part) if not axis.isdigit() and axis != "..."}


def summed_alone(pattern: str) -> set[str]:
    """Axes of an einsum that stand in exactly one operand and not in the output."""
    inputs, _, output = pattern.partition("->")
    operands = [axes(operand) for operand in inputs.split(",")]
    everywhere = [axis for operand in operands for axis in operand]
    return {axis for axis in everywhere if everywhere.count(axis) == 1} - axes(output)


def test_no_axis_of_an_einsum_vanishes_by_a_slip():
    found = {
        (where, pattern, axis)
        for where, source in sources()
        for called, pattern in patterns(source)
        if called == "einsum"
        for axis in summed_alone(pattern)
        if (pattern, axis) not in SUMMED
    }
    assert not found, "a misspelt axis? If it is meant to be summed, list it in SUMMED"


def test_axes_have_whole_names():
    found = {
        (where, pattern, axis)
        for where, source in sources()
        for _, pattern in patterns(source)
        for axis in axes(pattern) - HOUSE - ALSO
    }
    assert not found, f"use the house's names {sorted(HOUSE)}, or list a new one in ALSO"


def test_no_name_is_listed_for_nothing():
    used = {axis for _, source in sources() for _, pattern in patterns(source) for axis in axes(pattern)}
    assert used >= ALSO


def test_torch_einsum_with_its_one_letter_axes_is_not_used():
    hits = [where for where, source in sources() if re.search(r"\btorch\.einsum\b", source)]
    assert not hits


@pytest.mark.parametrize(
    ("pattern", "alone"),
    [
        ("batch head query head_dim, batch head key head_dim -> batch head query key", set()),
        ("batch head query head_dim, batch head key haed_dim -> batch head query key", {"head_dim", "haed_dim"}),
        ("token expert, expert hidden -> token", {"hidden"}),
        ("batch (head group) ... , head -> batch ...", {"group"}),
    ],
)
def test_a_misspelt_axis_is_found(pattern: str, alone: set[str]):
    assert summed_alone(pattern) == alone


def test_patterns_are_found_wherever_they_stand():
    source = "x = einops.einsum(a, b, 'token hidden, hidden -> token')\ny = rearrange(x, pattern='token -> token 1')"
    assert list(patterns(source)) == [
        ("einsum", "token hidden, hidden -> token"), ("rearrange", "token -> token 1"),
    ]  # fmt: skip
