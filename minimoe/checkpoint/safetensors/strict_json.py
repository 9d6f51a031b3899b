"""A strict JSON parser for headers and indexes; every failure is a ValueError.

Python's own parser keeps the last of two equal keys, accepts NaN, and raises RecursionError for deep nesting. Here
duplicate keys are an error (they would make a tensor ambiguous), as are the others.
"""

import json
from typing import Any

from minimoe.errors import shown


def parse_object(data: bytes) -> dict[str, Any]:
    """UTF-8 bytes -> dict. Raises ValueError, with a short reason, for anything but one standard JSON object."""
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
    """The dict of these pairs. Raises ValueError for a duplicate key."""
    result = dict(pairs)
    if len(result) < len(pairs):
        seen: set[str] = set()
        duplicate = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"the key {shown(duplicate)} appears twice")
    return result


def refuse_constant(name: str) -> None:
    """Raise ValueError for NaN and Infinity, which are JavaScript, not JSON."""
    raise ValueError(f"{name} is not JSON")
