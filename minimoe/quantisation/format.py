"""The interface of a packed format: the tensors that represent one matrix on disk, and their conversion.

A format packs the matrices of the linear layers: attention projections and experts (or the dense feed-forward). The
router, the norms, the embedding and lm_head stay in 16 bits in every format: they are small, and rounding the router
changes the selected experts.

Neither this file nor the formats import torch at run time, so that the planner gets names, shapes and bytes quickly.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from minimoe.errors import BadArgument

if TYPE_CHECKING:
    import torch
    from torch import Tensor

BLOCK = 128  # inputs that share a scale in every format; in fp8 also 128 outputs
PACKED = re.compile(
    r"(model\.)?layers\.[0-9]{1,6}"
    r"\.(self_attn\.[qkvo]_proj|mlp\.(experts\.([0-9]{1,6}\.)?)?(gate|up|gate_up|down)_proj)(\.\w+)?"
)


@dataclass(frozen=True)
class Component:
    """One of the tensors that represent a matrix on disk.

    code: its dtype in a safetensors header; None: the dtype of config.json. also: other accepted dtypes.
    """

    code: str | None
    shape: tuple[int, ...]
    also: tuple[str, ...] = ()


class Format:
    """A way to store a matrix (outs, ins), the weight of a linear layer. The base, "plain", stores it unchanged."""

    name = "plain"

    def components(self, outs: int, ins: int) -> dict[str, Component]:
        """Components by suffix (the part after the module's name and a dot). Raises UnsupportedModel for a shape that
        the format does not support.
        """
        return {"weight": Component(None, (outs, ins))}

    def unpack(self, parts: Mapping[str, Tensor], dtype: torch.dtype) -> Tensor:
        """The components of one matrix, by suffix -> the matrix (outs, ins), contiguous. The product of number and
        scale is computed as in float32 and rounded once to `dtype`. Runs at every use, so validation is in `check`.
        """
        return parts["weight"].to(dtype)

    def pack(self, weight: Tensor) -> dict[str, Tensor]:
        """A matrix (outs, ins) -> its components. Raises BadArgument for read-only formats."""
        raise BadArgument(f"format {self.name!r} is read-only. Formats to pack into: int4, int8.")

    def check(self, suffix: str, part: Tensor, start: int = 0) -> str | None:
        """The error in the values of one component, as a sentence, or None. Called once when weights are read. `start`:
        the first column (input) of a slice of the matrix.
        """
        return None

    def cut(self, suffix: str, axis: str, start: int, stop: int) -> tuple[int, int, int] | None:
        """Rows (outputs) or columns (inputs) start:stop of the matrix -> (dim, start, stop) of this component; None if
        every slice needs all of it.

        Raises BadArgument for a slice that begins inside a block or a group. A slice that ends inside one gets the
        scale of that block, which also holds for a part of it.
        """
        return (check_axis(axis), start, stop)


def working_dtype(scale: Tensor, dtype: torch.dtype) -> torch.dtype:
    """The dtype in which number * scale equals the float32 product rounded once to `dtype`, bit for bit.

    PyTorch multiplies two bfloat16 values in float32 and rounds the product, so for a result in the dtype of the scale
    that dtype suffices, at half the memory. The packed numbers have few bits and are exact in every dtype.
    """
    return dtype if dtype == scale.dtype else scale.float().dtype


def pad(matrix: Tensor, high: int, wide: int) -> Tensor:
    """Pad with zeros below and to the right to whole blocks of high x wide; the matrix itself if it needs none."""
    rows, columns = matrix.shape
    if rows % high == 0 and columns % wide == 0:
        return matrix
    padded = matrix.new_zeros(-(-rows // high) * high, -(-columns // wide) * wide)
    padded[:rows, :columns] = matrix
    return padded


def check_axis(axis: str) -> int:
    """ "rows" -> 0, "columns" -> 1."""
    if axis not in ("rows", "columns"):
        raise BadArgument(f"axis is {axis!r}, expected rows or columns.")
    return 0 if axis == "rows" else 1


def units(name: str, axis: str, start: int, stop: int, unit: int) -> tuple[int, int]:
    """start:stop in whole units (blocks, groups, packed numbers). Raises BadArgument if it begins inside a unit."""
    if start % unit:
        raise BadArgument(
            f"{axis} {start}:{stop} begin inside one of the blocks of {unit} that {name} packs together. Cut at a "
            f"multiple of {unit}, or divide the model among fewer devices."
        )
    return start // unit, -(-stop // unit)


def is_packed(name: str) -> bool:
    """Whether formats pack the linear layer `name`, with or without `model.` and a suffix: attention projections,
    experts, dense feed-forward; never router, norms, embedding or lm_head.
    """
    return PACKED.fullmatch(name) is not None
