"""RMSNorm: scale every vector to the same length, then each channel by a learned weight."""

import torch
from torch import Tensor, nn


def at_least_float32(dtype: torch.dtype) -> torch.dtype:
    """The dtype of statistics: float32, or float64 for a float64 model."""
    return torch.promote_types(dtype, torch.float32)


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """Scale the last axis of `x` to a root mean square of one, then multiply by `weight`.

    x: (..., hidden), any float dtype. weight: (hidden). Returns x's shape and dtype.
    x / sqrt(mean(x^2) + eps), Zhang & Sennrich 2019. The statistics are float32; the weight is multiplied *after* the
    cast back, as in the released models: the other order differs in the last bfloat16 bit, which is enough to change
    the selected experts.
    """
    wide = x.to(at_least_float32(x.dtype))
    wide = wide * torch.rsqrt(wide.pow(2).mean(dim=-1, keepdim=True) + eps)
    return weight * wide.to(x.dtype)


class RMSNorm(nn.Module):
    """`rms_norm` as a module with its weight."""

    def __init__(self, size: int, eps: float):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return rms_norm(x, self.weight, self.eps)
