"""The official FP8 checkpoints: one byte a weight, and one scale for each block of 128 x 128.

    weight            (outs, ins)                            F8_E4M3
    weight_scale_inv  (ceil(outs / 128), ceil(ins / 128))    BF16

The name says "inverse", yet it is what the byte is multiplied with: W = weight * weight_scale_inv, in float32. Layout
of the Qwen3-...-FP8 repositories (quant_method "fp8", as DeepSeek-V3 introduced it).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from einops import repeat

from minimoe.checkpoint.formats.base import BLOCK, Component, Format, check_axis, units

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class Fp8(Format):
    """Read only."""

    name = "fp8"

    def components(self, outs: int, ins: int) -> dict[str, Component]:
        blocks = (-(-outs // BLOCK), -(-ins // BLOCK))
        return {
            "weight": Component("F8_E4M3", (outs, ins)),
            "weight_scale_inv": Component("BF16", blocks, also=("F32",)),
        }

    def unpack(self, parts: Mapping[str, Tensor], dtype: torch.dtype) -> Tensor:
        weight = parts["weight"].float()
        outs, ins = weight.shape
        scale = repeat(parts["weight_scale_inv"].float(), "row column -> (row high) column", high=BLOCK)[:outs]
        scale = repeat(scale, "out column -> out (column wide)", wide=BLOCK)[:, :ins]
        return weight.mul_(scale).to(dtype)

    def cut(self, suffix: str, axis: str, start: int, stop: int) -> tuple[int, int, int] | None:
        blocks = units(self.name, axis, start, stop, BLOCK)
        return (check_axis(axis), *((start, stop) if suffix == "weight" else blocks))
