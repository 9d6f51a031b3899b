"""The official FP8 format: one byte per weight, and one scale for each block of 128 x 128.

    weight            (outs, ins)                            F8_E4M3
    weight_scale_inv  (ceil(outs / 128), ceil(ins / 128))    BF16

Despite "inv" in its name, the scale is a factor: W = weight * weight_scale_inv, in float32. Layout
of the Qwen3-...-FP8 repositories (quant_method "fp8", as DeepSeek-V3 introduced it).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from einops import rearrange

from minimoe.quantisation.format import BLOCK, Component, Format, check_axis, pad, units, working_dtype

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class Fp8(Format):
    """The official FP8 format, read-only."""

    name = "fp8"

    def components(self, outs: int, ins: int) -> dict[str, Component]:
        blocks = (-(-outs // BLOCK), -(-ins // BLOCK))
        return {
            "weight": Component("F8_E4M3", (outs, ins)),
            "weight_scale_inv": Component("BF16", blocks, also=("F32",)),
        }

    def unpack(self, parts: Mapping[str, Tensor], dtype: torch.dtype) -> Tensor:
        stored, scale = parts["weight"], parts["weight_scale_inv"]
        outs, ins = stored.shape
        scale = scale.to(working_dtype(scale, dtype))
        blocks = rearrange(
            pad(stored.to(scale.dtype), BLOCK, BLOCK),
            "(row high) (column wide) -> row high column wide", high=BLOCK, wide=BLOCK,
        )  # fmt: skip
        weight = blocks.mul_(rearrange(scale, "row column -> row 1 column 1"))
        weight = rearrange(weight, "row high column wide -> (row high) (column wide)")
        return weight[:outs, :ins].to(dtype).contiguous()

    def cut(self, suffix: str, axis: str, start: int, stop: int) -> tuple[int, int, int] | None:
        blocks = units(self.name, axis, start, stop, BLOCK)
        return (check_axis(axis), *((start, stop) if suffix == "weight" else blocks))
