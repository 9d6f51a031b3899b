"""What a format of packed weights is: which tensors take the place of one matrix on disk, and how they become it again.

A format packs the matrices of the linear layers: attention projections and experts (or the dense feed-forward). The
router, the norms, the embedding and lm_head stay in 16 bits in every format here: they are small, and a router that
rounds differently selects other experts.

Nothing here or in the formats imports torch, so that the planner can ask for names, shapes and bytes at once.
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
    """One of the tensors that stand for a matrix on disk.

    code: its dtype in a safetensors header; None means the dtype of config.json. also: other dtypes that are as good.
    """

    code: str | None
    shape: tuple[int, ...]
    also: tuple[str, ...] = ()


class Format:
    """One way to store a matrix (outs, ins), a linear layer's weight. This one, "plain", stores it as it is."""

    name = "plain"

    def components(self, outs: int, ins: int) -> dict[str, Component]:
        """Suffix (what follows the module's name and a dot) -> component. Raises UnsupportedModel for a shape that
        this format cannot hold.
        """
        return {"weight": Component(None, (outs, ins))}

    def unpack(self, parts: Mapping[str, Tensor], dtype: torch.dtype) -> Tensor:
        """The components of one matrix, by suffix -> the matrix (outs, ins), contiguous. The product of number and
        scale is that of float32, rounded once to `dtype`. Done at every use, so nothing is checked here: see `check`.
        """
        return parts["weight"].to(dtype)

    def pack(self, weight: Tensor) -> dict[str, Tensor]:
        """A matrix (outs, ins) -> its components. Raises BadArgument in formats that are only read."""
        raise BadArgument(f"format {self.name!r} is only read here. Formats to pack into: int4, int8.")

    def check(self, suffix: str, part: Tensor, start: int = 0) -> str | None:
        """What is wrong with the values of one component, or None. Whoever reads weights asks this of each; `start` is
        the first column (input) of a piece of the matrix.
        """
        return None

    def cut(self, suffix: str, axis: str, start: int, stop: int) -> tuple[int, int, int] | None:
        """Rows (outputs) or columns (inputs) start:stop of the matrix -> (dim, start, stop) of this component; None if
        every piece needs all of it.

        A piece that begins inside a block or a group is refused with BadArgument. One that ends inside is given the
        whole scale of its last, part filled block, which is right for it.
        """
        return (check_axis(axis), start, stop)


def working_dtype(scale: Tensor, dtype: torch.dtype) -> torch.dtype:
    """In which dtype number * scale gives the same bits as in float32, rounded once to `dtype`.

    PyTorch multiplies two bfloat16 in float32 and rounds the product, so where the result is to have the dtype of the
    scale, that is enough, and half the memory. The packed numbers have few bits, so every dtype holds them exactly.
    """
    return dtype if dtype == scale.dtype else scale.float().dtype


def pad(matrix: Tensor, high: int, wide: int) -> Tensor:
    """Zeros below and to the right, up to whole blocks of high x wide; the matrix itself if it has whole ones."""
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
    """start:stop counted in whole units (blocks, groups, packed numbers); BadArgument if it begins inside of one."""
    if start % unit:
        raise BadArgument(
            f"{axis} {start}:{stop} begin inside one of the blocks of {unit} that {name} packs together. Cut at a "
            f"multiple of {unit}, or divide the model among fewer devices."
        )
    return start // unit, -(-stop // unit)


def is_packed(name: str) -> bool:
    """Whether formats pack the linear layer of this name, with or without `model.` and a suffix: attention projections,
    experts, dense feed-forward; never router, norms, embedding or lm_head.
    """
    return PACKED.fullmatch(name) is not None
