"""RMSNorm: give every vector the same length, then let a learned weight stretch each direction."""

import torch
from torch import Tensor, nn


def at_least_float32(dtype: torch.dtype) -> torch.dtype:
    """The dtype in which statistics are taken: float32, or float64 for a float64 model."""
    return torch.promote_types(dtype, torch.float32)


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """Scale the last axis of `x` to a root mean square of one, then multiply by `weight`.

    x: (..., hidden), any float dtype. weight: (hidden). Returns x's shape and dtype.
    x / sqrt(mean(x^2) + eps), Zhang & Sennrich 2019. The statistics are float32; the weight is multiplied *after* the
    cast back, as the released models do it: the other order differs in the last bfloat16 bit, which is enough to flip
    experts.
    """
    wide = x.to(at_least_float32(x.dtype))
    wide = wide * torch.rsqrt(wide.pow(2).mean(dim=-1, keepdim=True) + eps)
    return weight * wide.to(x.dtype)


class RMSNorm(nn.Module):
    """`rms_norm` with its weight; one for every place in the model that normalises."""

    def __init__(self, size: int, eps: float):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return rms_norm(x, self.weight, self.eps)
