"""Formats of packed weights, one file each: the official FP8 and GPTQ-Int4, and minimoe's own int4 and int8.

`PackedLinear` and `PackedBank` need torch, so they are imported on first use; everything else is pure arithmetic.
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
    from minimoe.quantisation import modules

    return getattr(modules, name)
