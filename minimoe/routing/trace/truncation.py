"""Find where a truncated safetensors file ends, from the offsets in its header."""

import json
from math import prod
from pathlib import Path

LONGEST_HEADER = 100_000_000  # bytes; the format's own limit


def where_cut(file: Path) -> str | None:
    """A message that locates the end of a truncated file by layer and token; None if the file is damaged otherwise.

    Layers are given as rows of the file, since their absolute numbers may be missing.
    """
    size = file.stat().st_size
    try:
        with file.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            if length > LONGEST_HEADER:
                return None
            header = json.loads(stream.read(length))
        spans = {
            name: (entry["shape"], *entry["data_offsets"]) for name, entry in header.items() if name != "__metadata__"
        }
        full_size = 8 + length + max(end for _, _, end in spans.values())
        if size >= full_size:
            return None
        cut = size - 8 - length
        name, (shape, begin, end) = next(item for item in spans.items() if item[1][1] <= cut < item[1][2])
        number = (cut - begin) * prod(shape) // (end - begin)
        layer = number // prod(shape[1:]) if len(shape) > 1 or name == "layers" else 0
        token = number // prod(shape[2:]) % shape[1] if len(shape) > 1 else 0 if name == "layers" else number
    except (ValueError, KeyError, TypeError, AttributeError, StopIteration, ZeroDivisionError, RecursionError):
        return None
    return f"it ends after {size:,} of {full_size:,} bytes, within {name}, layer row {layer}, token {token}"
