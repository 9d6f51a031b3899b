"""JSON as a checkpoint's header and index need it: strict, and never an exception of another kind than ValueError.

Python's own reader takes the last of two equal keys, accepts NaN, and gives up on deep nesting with a RecursionError.
Here two equal keys are an error (which of the two tensors would be meant?), and so are the rest.
"""

import json
from typing import Any

from minimoe.errors import shown


def parse_object(data: bytes) -> dict[str, Any]:
    """UTF-8 bytes -> dict. Raises ValueError, with a short reason, for anything that is not one plain JSON object."""
    try:
        value = json.loads(data.decode("utf-8"), object_pairs_hook=no_duplicates, parse_constant=refuse_constant)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"byte {error.start} is not UTF-8") from None
    if not isinstance(value, dict):
        raise ValueError(f"it holds a {type(value).__name__}, not an object")
    return value


def no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The object, if no key appears twice."""
    result = dict(pairs)
    if len(result) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"the key {shown(twice)} appears twice")
    return result


def refuse_constant(name: str) -> None:
    """NaN and Infinity are JavaScript, not JSON."""
    raise ValueError(f"{name} is not JSON")
