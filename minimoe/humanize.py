"""Human-readable sizes and durations. 1 GB = 10**9 bytes, 1 GiB = 2**30."""

import re
from collections.abc import Iterable
from fractions import Fraction

from minimoe.errors import BadArgument

UNITS = {"B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
UNITS |= {"KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}
SIZE = re.compile(r"\s*([0-9]{1,30}(?:\.[0-9]{1,30})?)\s*([A-Za-z]*)\s*")


def units(size: int) -> str:
    """123142036480 -> "123.14 GB"."""
    for name in ("GB", "MB", "kB"):
        if abs(size) >= UNITS[name]:
            return f"{size / UNITS[name]:,.2f} {name}"
    return f"{size} B"


def listed(names: Iterable[str], word: str = "and") -> str:
    """a, b and c; "" for no name."""
    *most, last = [*names] or [""]
    return f"{', '.join(most)} {word} {last}" if most else last


def duration(seconds: float) -> str:
    """0.83 -> "0.8 s", 94.1 -> "94 s", 470.2 -> "7.8 min", 37615.0 -> "10.4 h"."""
    for unit, length in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"


def parse_bytes(text: str, argument: str = "size") -> int:
    """ "80GB" -> 80000000000, "24564MiB" -> 25757220864. Raises BadArgument, which names `argument`."""
    match = SIZE.fullmatch(text)
    unit = next((name for name in UNITS if match and name.lower() == match[2].lower()), None)
    size = int(Fraction(match[1]) * UNITS[unit]) if match and unit else 0
    if size < 1:
        shown = repr(text) if len(text) <= 60 else f"{text[:40]!r} and {len(text) - 40:,} characters more"
        raise BadArgument(f"{argument} is {shown}, expected a size with its unit, such as 80GB, 512MB or 24564MiB.")
    return size
