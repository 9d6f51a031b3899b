"""The official GPTQ-Int4 checkpoints: eight weights in a 32-bit number, scale and zero point for every 128 inputs.

    qweight  (ins / 8, outs)            I32   inputs 8r .. 8r+7 of an output, lowest four bits first
    qzeros   (groups, outs / 8)         I32   zero points of outputs 8c .. 8c+7, stored less one
    scales   (groups, outs)             F16 or BF16
    g_idx    (ins)                      I32   the group of each input: k // 128, anything else is refused

W[out, k] = (weight - (zero + 1)) * scale, in float32. Layout: AutoGPTQ / GPTQModel, checkpoint_format "gptq".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from einops import rearrange

from minimoe.checkpoint.formats.base import BLOCK, Component, Format, check_axis, pad, units, working_dtype

if TYPE_CHECKING:
    import torch
    from torch import Tensor

NIBBLES = 8  # in a 32-bit number


class GptqInt4(Format):
    """Read only."""

    name = "gptq-int4"

    def components(self, outs: int, ins: int) -> dict[str, Component]:
        groups = -(-ins // BLOCK)
        return {
            "qweight": Component("I32", (-(-ins // NIBBLES), outs)),
            "qzeros": Component("I32", (groups, -(-outs // NIBBLES))),
            "scales": Component("F16", (groups, outs), also=("BF16",)),
            "g_idx": Component("I32", (ins,)),
        }

    def unpack(self, parts: Mapping[str, Tensor], dtype: torch.dtype) -> Tensor:
        ins, outs = len(parts["g_idx"]), parts["scales"].shape[1]
        scales = parts["scales"].to(working_dtype(parts["scales"], dtype))
        numbers = nibbles(parts["qweight"], scales.dtype)[:ins]
        zeros = nibbles(rearrange(parts["qzeros"], "group column -> column group"), scales.dtype)
        zeros = rearrange(zeros[:outs] + 1, "out group -> group 1 out")
        grouped = rearrange(pad(numbers, BLOCK, 1), "(group member) out -> group member out", member=BLOCK)
        weight = grouped.sub_(zeros).mul_(rearrange(scales, "group out -> group 1 out"))
        weight = rearrange(weight.to(dtype), "group member out -> out (group member)")
        return weight[:, :ins].contiguous()

    def check(self, suffix: str, part: Tensor, start: int = 0) -> str | None:
        if suffix != "g_idx" or part.tolist() == [k // BLOCK for k in range(start, start + len(part))]:
            return None
        return (
            "the group of input k is not k // 128: the inputs were reordered (desc_act), which minimoe does not "
            "implement. Download again, or take the FP8 checkpoint of the same name."
        )

    def cut(self, suffix: str, axis: str, start: int, stop: int) -> tuple[int, int, int] | None:
        dim = 1 - check_axis(axis)  # stored (ins, outs)
        packed = units(self.name, axis, start, stop, NIBBLES)
        if axis == "rows":
            return {"g_idx": None, "qzeros": (dim, *packed)}.get(suffix, (dim, start, stop))
        groups = units(self.name, axis, start, stop, BLOCK)
        return {"g_idx": (0, start, stop), "qweight": (dim, *packed)}.get(suffix, (dim, *groups))


def nibbles(packed: Tensor, dtype: torch.dtype) -> Tensor:
    """32-bit numbers (row, column) -> the four-bit numbers in them (8 row, column), the lowest bits first."""
    rows, columns = packed.shape
    numbers = packed.new_empty(rows, NIBBLES, columns, dtype=dtype)
    for nibble in range(NIBBLES):
        numbers[:, nibble] = packed >> 4 * nibble & 15
    return rearrange(numbers, "row nibble column -> (row nibble) column")
