"""Sparsemixer, the router of Phi-3.5-MoE: two rounds of argmax, each with a softmax of its own (arXiv:2409.12136)."""

import torch
from torch import Tensor

from minimoe.model.router import Routing


def sparsemixer(logits: Tensor, epsilon: float = 0.01) -> Routing:
    """The two best experts, each weighed against those that come close to it in its round.

    logits: (token, expert). In each round the best remaining expert is chosen. Its weight is a softmax over the experts
    whose logit is within the relative distance 2·epsilon of it. Most often that is the expert alone, with the weight 1,
    so the two weights need not sum to one. This is what the class does in inference; training draws instead.
    """
    remaining, slots = logits, []
    for _ in range(2):
        best, expert = remaining.max(dim=-1, keepdim=True)
        distance = (best - logits) / logits.abs().clamp(min=best)
        contenders = remaining.masked_fill(distance > 2 * epsilon, float("-inf"))
        slots.append((contenders.softmax(dim=-1).gather(-1, expert), expert))
        remaining = remaining.scatter(-1, expert, float("-inf"))
    weights, experts = (torch.cat(parts, dim=-1) for parts in zip(*slots, strict=True))
    return Routing(logits, experts, weights)
