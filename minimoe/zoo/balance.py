"""Balance without a loss: a selection bias that grows for the experts with too little work (arXiv:2408.15664)."""

import torch
from einops import rearrange
from torch import Tensor


def load_of(experts: Tensor, number: int) -> Tensor:
    """How often each of `number` experts was chosen. experts: (token, slot) int64 -> (expert) int64."""
    return rearrange(experts, "token slot -> (token slot)").bincount(minlength=number)


def update_bias(bias: Tensor, load: Tensor, rate: float = 1e-3) -> Tensor:
    """The bias after one training step: up by `rate` for an expert below the mean load, down for one above it.

    bias: (expert), load: (expert) -> (expert). DeepSeek V3 used the rate 1e-3. No gradient is involved.
    """
    load = load.to(bias.dtype)
    return bias + rate * torch.sign(load.mean() - load)
