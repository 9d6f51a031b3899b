"""The router: one small matrix that selects the experts of each token.

Four verbs: score, normalise, choose, renormalise. No bias, no noise, no capacity limit, no dropped tokens.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from minimoe.model.config import ModelConfig
from minimoe.model.norm import at_least_float32


class Routing(NamedTuple):
    """The router's selection for each token."""

    logits: Tensor  # (token, expert) scores in the model's dtype
    experts: Tensor  # (token, slot) int64, in descending order of weight
    weights: Tensor  # (token, slot) in the model's dtype


def route(logits: Tensor, top_k: int, renormalise: bool) -> Routing:
    """Select `top_k` experts for each token, with their weights.

    logits: (token, expert). Softmax over all experts in float32 (in bfloat16 many experts would tie), then the
    `top_k` largest; with `renormalise` (config key `norm_topk_prob`) their weights are scaled to sum to one. Cast to
    the logits' dtype at the end.
    """
    probabilities = logits.softmax(dim=-1, dtype=at_least_float32(logits.dtype))
    weights, experts = probabilities.topk(top_k, dim=-1)
    if renormalise:
        weights = weights / weights.sum(dim=-1, keepdim=True)
    return Routing(logits, experts, weights.to(logits.dtype))


class Router(nn.Module):
    """`mlp.gate` in the checkpoint's names (not to be confused with gate_proj inside each expert)."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(config.num_experts, config.hidden_size))
        self.top_k = config.num_experts_per_tok
        self.renormalise = config.norm_topk_prob

    def forward(self, hidden: Tensor) -> Routing:
        """hidden: (token, hidden)."""
        return route(F.linear(hidden, self.weight), self.top_k, self.renormalise)
