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


def quantile_bias(scores: Tensor, bias: Tensor, top_k: int) -> Tensor:
    """Kimi K3's rule: compute the bias that would have balanced this batch, in place of a step towards it.

    scores: (token, expert) without the bias, bias: (expert) -> (expert). A token's cutoff is its (top_k + 1)-th largest
    score + bias, so expert j is chosen where its bias exceeds cutoff - score. The new bias is the value that exceeds
    this for a share of top_k / experts of the tokens, less the mean over the experts (the released form estimates the
    quantile from a histogram; NVIDIA/Megatron-LM pull request 6637).
    """
    cutoffs = (scores + bias).topk(top_k + 1, dim=-1).values[:, -1:]
    new = torch.quantile(cutoffs - scores, top_k / scores.shape[-1], dim=0)
    return new - new.mean()
