"""minimoe's own formats: an integer of 4 or 8 bits per weight, and one scale for every 128 inputs of an output.

    weight_int8   (outs, ins)       I8    -127 .. 127
    weight_int4   (outs, ins / 2)   U8    -7 .. 7 plus 8, two in a byte, the even input in the lower half
    weight_scale  (outs, groups)    BF16  largest magnitude of the group / 127 or / 7

W = number * scale, in float32. "Symmetric": zero stays zero, and no zero point is stored. 4.125 and 8.125 bits
per weight. The tensor names include the format, so that packed numbers are not mistaken for weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import einops
from einops import rearrange, reduce

from minimoe.errors import BadArgument, UnsupportedModel
from minimoe.quantisation.format import BLOCK, Component, Format, check_axis, pad, units, working_dtype

if TYPE_CHECKING:
    import torch
    from torch import Tensor

ROWS = 128  # packed together
OFFSET = 8  # makes four-bit numbers non-negative
METHOD = "minimoe"  # quant_method in config.json


class GroupwiseInt(Format):
    """int4 or int8, symmetric, in groups of 128 inputs."""

    def __init__(self, bits: int):
        self.bits = bits
        self.name = f"int{bits}"
        self.numbers = f"weight_int{bits}"
        self.largest = 2 ** (bits - 1) - 1

    def settings(self) -> dict[str, object]:
        """The quantization_config of this format."""
        return {"quant_method": METHOD, "bits": self.bits, "group_size": BLOCK}

    def components(self, outs: int, ins: int) -> dict[str, Component]:
        if self.bits == 4 and ins % 2:
            raise UnsupportedModel(f"int4 packs two inputs in a byte, but a matrix has {ins} inputs. Choose int8.")
        stored = Component("U8", (outs, ins // 2)) if self.bits == 4 else Component("I8", (outs, ins))
        return {self.numbers: stored, "weight_scale": Component("BF16", (outs, -(-ins // BLOCK)))}

    def pack(self, weight: Tensor) -> dict[str, Tensor]:
        """Round each group to multiples of its scale, with an error of at most half a step. Raises BadArgument for
        NaN and infinity.
        """
        self.components(*weight.shape)
        parts = [self.pack_rows(rows) for rows in weight.split(ROWS)]
        return {suffix: einops.pack([part[suffix] for part in parts], "* column")[0] for suffix in parts[0]}

    def pack_rows(self, weight: Tensor) -> dict[str, Tensor]:
        """`pack` for some of the rows, as the intermediate results take several times their memory."""
        grouped = rearrange(pad(weight.float(), 1, BLOCK), "out (group member) -> out group member", member=BLOCK)
        scale = (reduce(grouped.abs(), "out group member -> out group", "max") / self.largest).bfloat16()
        if not bool(scale.isfinite().all()):
            raise BadArgument("weight holds NaN or infinity, expected finite values.")
        step = scale.float().masked_fill(scale == 0, 1)  # a group of zeros
        numbers = (grouped / rearrange(step, "out group -> out group 1")).round_().clamp_(-self.largest, self.largest)
        numbers = rearrange(numbers, "out group member -> out (group member)")[:, : weight.shape[1]]
        return {self.numbers: self.join(numbers), "weight_scale": scale}

    def join(self, numbers: Tensor) -> Tensor:
        """Integers (outs, ins) as floats -> the stored tensor."""
        if self.bits == 8:
            return numbers.char()
        even, odd = rearrange((numbers + OFFSET).byte(), "out (pair two) -> two out pair", two=2)
        return even | odd << 4

    def unpack(self, parts: Mapping[str, Tensor], dtype: torch.dtype) -> Tensor:
        stored, scale = parts[self.numbers], parts["weight_scale"]
        scale = scale.to(working_dtype(scale, dtype))
        numbers = self.split(stored, scale.dtype)
        grouped = rearrange(pad(numbers, 1, BLOCK), "out (group member) -> out group member", member=BLOCK)
        weight = grouped.mul_(rearrange(scale, "out group -> out group 1"))  # in place: `numbers` is a copy
        weight = rearrange(weight, "out group member -> out (group member)")[:, : numbers.shape[1]]
        return weight.to(dtype).contiguous()

    def multiplies(self, parts: Mapping[str, Tensor]) -> bool:
        """Whether `multiply` takes these components: their rows are whole groups."""
        stored, groups = parts[self.numbers].shape[-1], parts["weight_scale"].shape[-1]
        return stored * (2 if self.bits == 4 else 1) == groups * BLOCK

    def multiply(self, parts: Mapping[str, Tensor], rows: Tensor) -> Tensor:
        """Products of packed matrices and one row each, without unpacking: for torch.compile, which makes one pass over
        the stored bytes of it. Slow if it is not compiled.

        parts: components of the matrices with a leading axis "expert". rows: (expert, ins), ins a multiple of 128.
        Returns (expert, outs) in the dtype of `rows`; the weights are not rounded to it, and sums are in float32.
        """
        pattern = "expert out (group pair) -> expert out group pair"
        stored = rearrange(parts[self.numbers], pattern, group=parts["weight_scale"].shape[2])
        inputs = rearrange(rows.float(), "expert (group member) -> expert 1 group member", member=BLOCK)
        if self.bits == 8:
            products = stored * inputs
        else:
            even, odd = rearrange(inputs, "expert 1 group (pair two) -> two expert 1 group pair", two=2)
            products = ((stored & 15).float() - OFFSET) * even + ((stored >> 4).float() - OFFSET) * odd
        scales = rearrange(parts["weight_scale"].float(), "expert out group -> expert out group 1")
        return reduce(products * scales, "expert out group pair -> expert out", "sum").to(rows.dtype)

    def split(self, stored: Tensor, dtype: torch.dtype) -> Tensor:
        """The inverse of `join`: integers (outs, ins) in `dtype`."""
        if self.bits == 8:
            return stored.to(dtype)
        outs, pairs = stored.shape
        numbers = stored.new_empty(outs, 2 * pairs, dtype=dtype)
        halves = rearrange(numbers, "out (pair two) -> two out pair", two=2)  # a view of numbers
        halves[0], halves[1] = stored & 15, stored >> 4
        return numbers.sub_(OFFSET)

    def cut(self, suffix: str, axis: str, start: int, stop: int) -> tuple[int, int, int] | None:
        dim = check_axis(axis)
        if axis == "rows":
            return (dim, start, stop)
        groups, halves = units(self.name, axis, start, stop, BLOCK), units(self.name, axis, start, stop, 2)
        if suffix == "weight_scale":
            return (dim, *groups)
        return (dim, *halves) if self.bits == 4 else (dim, start, stop)


INT4, INT8 = GroupwiseInt(4), GroupwiseInt(8)
