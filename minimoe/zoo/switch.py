"""The Switch Transformer's router: one expert a token, and a limit to the tokens of an expert (arXiv:2101.03961)."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F


class SwitchRouting(NamedTuple):
    """One expert for each token, and whether it had room."""

    experts: Tensor  # (token) int64
    weights: Tensor  # (token), the probability of that expert
    kept: Tensor  # (token) bool: False where the expert was full; the layer then adds nothing to the token


def switch_route(logits: Tensor, capacity: int, dtype: torch.dtype | None = None) -> SwitchRouting:
    """The most probable expert of each token; an expert keeps its first `capacity` tokens in the order of the sequence.

    logits: (token, expert), the tokens of one sequence, in float32 in the released class. dtype: that of the model, in
    which probabilities are compared; default that of the logits.
    """
    probabilities = logits.softmax(dim=-1).to(dtype or logits.dtype)
    experts = probabilities.argmax(dim=-1)
    one_hot = F.one_hot(experts, logits.shape[-1])
    place = (one_hot.cumsum(dim=0) * one_hot).amax(dim=-1)  # 1 for the first token of an expert
    return SwitchRouting(experts, probabilities.amax(dim=-1), place <= capacity)
