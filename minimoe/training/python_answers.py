"""What there is to say of Python that a model wrote: does it parse, is it new, is what it claims true?"""

import ast
import re
from collections.abc import Sequence
from random import Random
from typing import Any

from minimoe.training.answers import code_in, final_part
from minimoe.training.corpus import draw
from minimoe.training.sandbox import only_function, results
from minimoe.training.statistics import rate
from minimoe.training.worlds import functions

CLAIM = re.compile(r"`(?P<name>\w+)\((?P<argument>[^`]*)\)` gives `(?P<result>[^`]*)`")


def parses(answer: str) -> bool:
    """Whether the answer holds a fenced block with exactly one function."""
    try:
        body = ast.parse(code_in(final_part(answer))).body
    except (SyntaxError, ValueError):
        return False
    return len(body) == 1 and isinstance(body[0], ast.FunctionDef)


def shape(source: str) -> str:
    """The source with its function, arguments and variables renamed in the order of appearance.

    Two functions of one shape differ in names alone. Raises SyntaxError.
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
    """The shapes of the first `count` functions that a generator of the training split draws."""
    rng = Random("training shapes")
    return {shape(draw(functions.function, lambda f: f.key, rng, "train").source) for _ in range(count)}


def claim_is_true(answer: str) -> bool | None:
    """Whether the result that an answer states is what its function returns; None if nothing is stated."""
    said = final_part(answer)
    claim, source = CLAIM.search(said), code_in(said)
    if claim is None:
        return None
    if claim["name"] != only_function(source):
        return False
    try:
        probe = ast.literal_eval(claim["argument"])
    except (ValueError, SyntaxError):
        return False
    return results(source, [probe]) == [claim["result"]]


def python_report(answers: Sequence[str], seen: set[str]) -> dict[str, Any]:
    """Rates over the answers to write_function: parse, shape not among `seen`, stated result right when executed."""
    written = [code_in(final_part(answer)) for answer in answers if parses(answer)]
    claims = [claim_is_true(answer) for answer in answers]
    return {
        "parse": rate(len(written), len(answers)),
        "not_in_training": rate(sum(shape(source) not in seen for source in written), len(written)),
        "stated_result_right": rate(sum(bool(claim) for claim in claims), len(answers)),
    }
