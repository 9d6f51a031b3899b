"""The official GPTQ-Int4 format: eight weights in a 32-bit number, scale and zero point for every 128 inputs.

    qweight  (ins / 8, outs)            I32   inputs 8r .. 8r+7 of an output, lowest four bits first
    qzeros   (groups, outs / 8)         I32   zero points of outputs 8c .. 8c+7; the first version stores them minus one
    scales   (groups, outs)             F16 or BF16
    g_idx    (ins)                      I32   the group of each input: k // 128, other values are refused

W[out, k] = (weight - (zero + 1)) * scale, in float32. Layout: AutoGPTQ / GPTQModel, checkpoint_format "gptq". In
"gptq_v2" the zero point is stored unchanged: (weight - zero) * scale. In a symmetric packing (sym) all zero points are
8, the middle, which distinguishes the versions: the first stores 7 and the second 8.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from einops import rearrange

from minimoe.quantisation.format import BLOCK, Component, Format, check_axis, pad, units, working_dtype

if TYPE_CHECKING:
    import torch
    from torch import Tensor

NIBBLES = 8  # in a 32-bit number
VERSIONS = {1: "gptq", 2: "gptq_v2"}  # checkpoint_format in config.json
MIDDLE = {1: 7, 2: 8}  # the stored form of the zero point 8


class GptqInt4(Format):
    """The official GPTQ-Int4 format, read-only."""

    name = "gptq-int4"

    def __init__(self, version: int = 1, symmetric: bool = False):
        """version: 1 or 2, see VERSIONS. symmetric: whether all zero points must be 8."""
        self.version, self.symmetric = version, symmetric

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
        zeros = rearrange(zeros[:outs] + (2 - self.version), "out group -> group 1 out")
        grouped = rearrange(pad(numbers, BLOCK, 1), "(group member) out -> group member out", member=BLOCK)
        weight = grouped.sub_(zeros).mul_(rearrange(scales, "group out -> group 1 out"))
        weight = rearrange(weight.to(dtype), "group member out -> out (group member)")
        return weight[:, :ins].contiguous()

    def check(self, suffix: str, part: Tensor, start: int = 0) -> str | None:
        if suffix == "qzeros" and self.symmetric:
            return self.check_zeros(part)
        if suffix != "g_idx" or part.tolist() == [k // BLOCK for k in range(start, start + len(part))]:
            return None
        return (
            "the group of input k is not k // 128: the inputs were reordered (desc_act), which minimoe does not "
            "implement. Download again, or use the FP8 checkpoint of the same name."
        )

    def check_zeros(self, words: Tensor) -> str | None:
        """The error in the zero points of a symmetric packing, or None. The last word of a row may be partly filled."""
        middle, lowest = MIDDLE[self.version], words & 15
        if bool((lowest == middle).all()) and bool((words[:, :-1] == word_of(middle)).all()):
            return None
        other = 3 - self.version
        if bool((lowest == MIDDLE[other]).all()):
            return (
                f"all zero points are stored as {MIDDLE[other]}, as in checkpoint_format {VERSIONS[other]!r}, but "
                f"config.json says {VERSIONS[self.version]!r}. Every weight would be off by one step. Correct "
                "checkpoint_format in its quantization_config."
            )
        whole = words[:, :-1]
        stored = {n for nibble in range(NIBBLES) for n in (whole >> 4 * nibble & 15).unique().tolist()}
        return (
            f"config.json says sym true, which stores {middle} for every zero point; found "
            f"{sorted(stored | set(lowest.unique().tolist()))}. Correct sym in its quantization_config, or download "
            "again."
        )

    def cut(self, suffix: str, axis: str, start: int, stop: int) -> tuple[int, int, int] | None:
        dim = 1 - check_axis(axis)  # stored (ins, outs)
        packed = units(self.name, axis, start, stop, NIBBLES)
        if axis == "rows":
            return {"g_idx": None, "qzeros": (dim, *packed)}.get(suffix, (dim, start, stop))
        groups = units(self.name, axis, start, stop, BLOCK)
        return {"g_idx": (0, start, stop), "qweight": (dim, *packed)}.get(suffix, (dim, *groups))


def word_of(nibble: int) -> int:
    """The signed 32-bit number whose eight nibbles are all `nibble`."""
    word = 0x11111111 * nibble
    return word - 2**32 if word >= 2**31 else word


def nibbles(packed: Tensor, dtype: torch.dtype) -> Tensor:
    """32-bit numbers (row, column) -> the four-bit numbers in them (8 row, column), the lowest bits first."""
    rows, columns = packed.shape
    numbers = packed.new_empty(rows, NIBBLES, columns, dtype=dtype)
    for nibble in range(NIBBLES):
        numbers[:, nibble] = packed >> 4 * nibble & 15
    return rearrange(numbers, "row nibble column -> (row nibble) column")
