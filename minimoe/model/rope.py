"""Rotary position embedding: a position is an angle, and attention depends only on differences of angles.

The head_dim channels form head_dim / 2 pairs; channel j is paired with channel j + head_dim / 2 ("half-split"; other
code bases pair neighbours, and weights trained for one do not work with the other). Pair j is rotated by `position *
theta^(-2j / head_dim)` radians.
"""

import math

import torch
from einops import rearrange, repeat
from torch import Tensor

from minimoe.model.config import ModelConfig


def apply_rope(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate every pair of channels of `x` by its position's angle.

    x: (batch, head, position, head_dim). cos, sin: (position, head_dim), from `rotary_tables`. Returns x's shape and
    dtype.
    """
    first, second = rearrange(x, "batch head position (pair half) -> pair batch head position half", pair=2)
    quarter_turn = torch.cat((-second, first), dim=-1)
    return x * cos + quarter_turn * sin


def rotary_tables(
    config: ModelConfig, start: int, stop: int, dtype: torch.dtype, device: torch.device
) -> tuple[Tensor, Tensor]:
    """cos and sin for the positions start .. stop-1, each (position, head_dim) in `dtype`.

    Computed in float32 and cast once at the end: bfloat16 has no integers between 256 and 258, so angles must
    never be computed in it. Nothing is stored in the model, so casting it to another dtype cannot round a frequency.
    """
    return rotary_tables_at(config, torch.arange(start, stop, device=device), dtype)


def rotary_tables_at(config: ModelConfig, positions: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """`rotary_tables` for positions (position) that are a tensor, int64."""
    frequencies, scale = frequencies_and_scale(config, positions.device)
    angles = rearrange(positions.float(), "position -> position 1") * frequencies
    angles = repeat(angles, "position half -> position (pair half)", pair=2)
    return (angles.cos() * scale).to(dtype), (angles.sin() * scale).to(dtype)


def frequencies_and_scale(config: ModelConfig, device: torch.device | None = None) -> tuple[Tensor, float]:
    """Radians per position for each pair, (head_dim / 2) float32, and the factor on cos and sin (1 without YaRN)."""
    exponents = torch.arange(0, config.head_dim, 2, device=device, dtype=torch.float32) / config.head_dim
    periods = config.rope_theta**exponents  # positions per radian, from 1 up to almost rope_theta
    return (1.0 / periods, 1.0) if config.rope_scaling is None else yarn(config, periods)


def yarn(config: ModelConfig, periods: Tensor) -> tuple[Tensor, float]:
    """YaRN (Peng et al. 2023): slow pairs are stretched by `factor`, fast pairs kept, a linear ramp in between.

    A pair with more than beta_fast (32) turns within the original context is unchanged; one with fewer than beta_slow
    (1) turns has its positions compressed into the trained range. Attention logits grow by (0.1 ln factor + 1)^2.
    """
    settings = config.rope_scaling or {}
    factor = settings["factor"]
    original = settings.get("original_max_position_embeddings") or config.max_position_embeddings
    half = config.head_dim // 2

    def pair_with_turns(turns: float) -> float:
        return half * math.log(original / (turns * 2 * math.pi)) / math.log(config.rope_theta)

    low, high = pair_with_turns(settings.get("beta_fast") or 32), pair_with_turns(settings.get("beta_slow") or 1)
    if settings.get("truncate", True):
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, config.head_dim - 1)
    ramp = (torch.arange(half, device=periods.device, dtype=torch.float32) - low) / ((high - low) or 0.001)
    kept = 1 - ramp.clamp(0, 1)
    frequencies = 1.0 / (factor * periods) * (1 - kept) + 1.0 / periods * kept
    scale = settings.get("attention_factor") or (0.1 * math.log(factor) + 1.0 if factor > 1 else 1.0)
    return frequencies, float(scale)
