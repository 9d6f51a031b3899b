"""Shared experts: a feed-forward network that every token uses, beside those the router chooses (arXiv:2401.06066)."""

from torch import Tensor
from torch.nn import functional as F

from minimoe.model.experts import swiglu


def shared_expert(hidden: Tensor, gate: Tensor, up: Tensor, down: Tensor, shared_gate: Tensor | None = None) -> Tensor:
    """The output of the shared expert, which is added to that of the chosen ones.

    hidden: (token, hidden) -> the same. gate, up: (ffn, hidden). down: (hidden, ffn). shared_gate: (1, hidden); with
    it the output is multiplied by sigmoid(hidden · shared_gate), one number a token (Qwen2-MoE, Qwen3-Next, Qwen3.5).
    Several shared experts are one of several times the width (DeepSeek, GLM, Kimi).
    """
    output = swiglu(hidden, gate, up, down)
    return output if shared_gate is None else F.linear(hidden, shared_gate).sigmoid() * output
