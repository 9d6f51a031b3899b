"""Run the reader's code: detect answers that are not started, and explain exceptions."""

import dis
import linecache
import traceback
from collections.abc import Callable
from types import FunctionType
from typing import Any

from torch import Tensor

from minimoe.course.checker.answer_diff import kind
from minimoe.course.checker.exception_meanings import meaning_of


class Raised:
    """An exception of the reader's code as a result; two are equal if the exceptions have the same type."""

    def __init__(self, error: Exception, function: Any):
        self.error = error
        self.says = explain(error, function)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Raised) and type(other.error) is type(self.error)

    __hash__ = None  # type: ignore[assignment]


def is_unattempted(answer: Any) -> bool:
    """Whether an answer is `...`, None, a container with `...`, or a function whose body is only `...` or `pass`."""
    if answer is None or answer is Ellipsis:
        return True
    if isinstance(answer, (tuple, list, dict)):
        return has_gap(answer)
    if isinstance(answer, FunctionType):
        steps = [step for step in dis.get_instructions(answer) if step.opname not in ("RESUME", "NOP")]
        names = [step.opname for step in steps]
        empty = names in (["LOAD_CONST", "RETURN_VALUE"], ["RETURN_CONST"])
        return empty and steps[0].argval in (None, Ellipsis)
    return False


def shows_a_gap(outcome: Any) -> bool:
    """Whether a result contains `...`, or is an exception caused by `...` or a NotImplementedError."""
    if isinstance(outcome, Raised):
        says = str(outcome.error)  # an einsum whose pattern lacks an axis speaks of an ellipsis too
        return isinstance(outcome.error, NotImplementedError) or ("ellipsis" in says and "einsum()" not in says)
    return has_gap(outcome)


def has_gap(value: Any) -> bool:
    """Whether a value is `...` or contains it, at any depth."""
    if isinstance(value, dict):
        value = list(value.values())
    return value is Ellipsis or (isinstance(value, (tuple, list)) and any(has_gap(part) for part in value))


def run(function: Callable[..., Any], arguments: tuple[Any, ...], written: Any = None) -> Any:
    """The return value of the function, or the exception as Raised. `written`: the reader's code, if not `function`."""
    try:
        return function(*arguments)
    except Exception as error:
        return Raised(error, function if written is None else written)


def explain(error: Exception, function: Any) -> str:
    """The line of the reader's code, the error, and its usual meaning, without frames of the library."""
    code = getattr(function, "__code__", None)
    own = [frame for frame in traceback.extract_tb(error.__traceback__) if code and frame.filename == code.co_filename]
    lines = []
    if own:
        source = own[-1].line or linecache.getline(own[-1].filename, own[-1].lineno or 0).strip()
        lines.append(f"line {own[-1].lineno}: {source}")
    lines.append(f"{type(error).__name__}: {shorten(str(error))}")
    meaning = meaning_of(error)
    return "\n".join([*lines, *([f"That is: {meaning}."] if meaning else [])])


def describe_call(function: Any, arguments: tuple[Any, ...]) -> str:
    """The arguments by name, with tensors as shape and dtype, such as `logits (2, 4) float32, top_k=2`."""
    code = getattr(function, "__code__", None)
    names = code.co_varnames[: code.co_argcount] if code else ()
    pieces = []
    for index, value in enumerate(arguments):
        name = names[index] if index < len(names) else f"argument {index + 1}"
        if isinstance(value, Tensor):
            pieces.append(f"{name} {tuple(value.shape)} {str(value.dtype).removeprefix('torch.')}")
        else:
            pieces.append(f"{name}={value!r}" if isinstance(value, (int, float, str)) else f"{name} {kind(value)[:60]}")
    return ", ".join(pieces)


def shorten(text: str, most: int = 400) -> str:
    """`text` cut to `most` characters, because error messages can contain whole tensors."""
    return text if len(text) <= most else text[:most] + " ..."
