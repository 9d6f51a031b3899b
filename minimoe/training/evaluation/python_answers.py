"""Checks of model-written Python: whether it parses, whether it is new, and whether the stated result is correct."""

import ast
import re
from collections.abc import Sequence
from random import Random
from typing import Any

from minimoe.training.corpus.documents import draw
from minimoe.training.corpus.worlds import functions
from minimoe.training.evaluation.answering import code_in, final_part
from minimoe.training.evaluation.intervals import rate
from minimoe.training.evaluation.sandbox import only_function, results

CLAIM = re.compile(r"`(?P<name>\w+)\((?P<argument>[^`]*)\)` gives `(?P<result>[^`]*)`")


def parses(answer: str) -> bool:
    """Whether the answer contains a fenced block with exactly one function."""
    try:
        body = ast.parse(code_in(final_part(answer))).body
    except (SyntaxError, ValueError):
        return False
    return len(body) == 1 and isinstance(body[0], ast.FunctionDef)


def shape(source: str) -> str:
    """The source with its function, arguments and variables renamed in order of appearance.

    Functions with the same shape differ only in names. Raises SyntaxError.
    """
    tree = ast.parse(source)
    names: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            node.name = "f"
        elif isinstance(node, ast.arg):
            names.setdefault(node.arg, f"v{len(names)}")
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.setdefault(node.id, f"v{len(names)}")
    for node in ast.walk(tree):
        if isinstance(node, ast.arg):
            node.arg = names[node.arg]
        elif isinstance(node, ast.Name):
            node.id = names.get(node.id, node.id)
    return ast.unparse(tree)


def training_shapes(count: int = 50_000) -> set[str]:
    """The shapes of the first `count` functions of a fixed generator for the training split."""
    rng = Random("training shapes")
    return {shape(draw(functions.function, lambda f: f.key, rng, "train").source) for _ in range(count)}


def claim_is_true(answer: str) -> bool | None:
    """Whether the result stated in an answer equals what its function returns; None if no result is stated."""
    final = final_part(answer)
    claim, source = CLAIM.search(final), code_in(final)
    if claim is None:
        return None
    if claim["name"] != only_function(source):
        return False
    try:
        probe = ast.literal_eval(claim["argument"])
    except (ValueError, SyntaxError):
        return False
    return results(source, [probe]) == [claim["result"]]


def python_report(answers: Sequence[str], known_shapes: set[str]) -> dict[str, Any]:
    """Rates over answers to write_function: parses, shape not in `known_shapes`, stated result equals the executed one.

    "not_in_training" is relative to the answers that parse, the other rates to all answers.
    """
    written = [code_in(final_part(answer)) for answer in answers if parses(answer)]
    claims = [claim_is_true(answer) for answer in answers]
    return {
        "parse": rate(len(written), len(answers)),
        "not_in_training": rate(sum(shape(source) not in known_shapes for source in written), len(written)),
        "stated_result_right": rate(sum(bool(claim) for claim in claims), len(answers)),
    }
