"""Formats of packed weights: the official FP8 and GPTQ-Int4, and int4 and int8 of our own. One file each.

`PackedLinear` and `PackedBank` need torch, so they are looked up when they are used; all else is pure arithmetic.
"""

from typing import TYPE_CHECKING, Any

from minimoe.quantisation.detect import format_of
from minimoe.quantisation.format import Component, Format, is_packed

if TYPE_CHECKING:
    from minimoe.quantisation.modules import PackedBank, PackedLinear

__all__ = ["Component", "Format", "PackedBank", "PackedLinear", "format_of", "is_packed"]


def __getattr__(name: str) -> Any:
    if name not in ("PackedBank", "PackedLinear"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from minimoe.quantisation import modules as packed

    return getattr(packed, name)
