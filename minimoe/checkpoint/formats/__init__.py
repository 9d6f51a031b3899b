"""Formats of packed weights: the official FP8 and GPTQ-Int4, and int4 and int8 of our own. One file each.

`PackedLinear` and `PackedBank` need torch, so they are looked up when they are used; all else is pure arithmetic.
"""

from typing import TYPE_CHECKING, Any

from minimoe.checkpoint.formats.base import Component, Format, is_packed
from minimoe.checkpoint.formats.choose import format_of

if TYPE_CHECKING:
    from minimoe.checkpoint.formats.packed import PackedBank, PackedLinear

__all__ = ["Component", "Format", "PackedBank", "PackedLinear", "format_of", "is_packed"]


def __getattr__(name: str) -> Any:
    if name not in ("PackedBank", "PackedLinear"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from minimoe.checkpoint.formats import packed

    return getattr(packed, name)
