"""Recognise the code that an exercise prints, handed in unchanged."""

import ast
import inspect
import textwrap
from types import CodeType
from typing import Any


def is_given(answer: Any, given: Any) -> bool:
    """Whether `answer` is the function `given`, or the same code under another name."""
    if answer is given:
        return True
    one, other = (getattr(function, "__code__", None) for function in (answer, given))
    if not isinstance(one, CodeType) or not isinstance(other, CodeType):
        return False
    if fingerprint(one) == fingerprint(other):
        return True
    trees = [body_of(function) for function in (answer, given)]
    return trees[0] is not None and trees[0] == trees[1]


def fingerprint(code: CodeType) -> tuple[Any, ...]:
    """What a function does, without its name, its lines and its docstring.

    The first constant of a function is its docstring or None; a lambda has neither.
    """
    constants = [fingerprint(value) if isinstance(value, CodeType) else value for value in code.co_consts]
    if code.co_name != "<lambda>" and constants and (constants[0] is None or isinstance(constants[0], str)):
        constants = constants[1:]
    kept = [constant for constant in constants if not is_qualified_name(constant)]
    return code.co_code, code.co_names, code.co_varnames, code.co_freevars, repr(kept)


def is_qualified_name(constant: Any) -> bool:
    """Whether a constant is the name of an inner function, such as `mine.<locals>.<lambda>`."""
    return isinstance(constant, str) and "<locals>" in constant


def body_of(function: Any) -> str | None:
    """The body of a function as a normalised syntax tree, or None if its source is not at hand."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    except (OSError, TypeError, SyntaxError):
        return None
    found = next((node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)), None)
    if found is None:
        return None
    statements = found.body[1:] if ast.get_docstring(found) is not None else found.body
    return "\n".join(ast.dump(statement) for statement in statements)
