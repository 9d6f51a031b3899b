"""The other half of a Mixture-of-Experts layer: run the chosen experts and add up what they return."""

from collections.abc import Callable

import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional as F

from minimoe.model.router import Routing

Expert = Callable[[int, Tensor], Tensor]  # number of an expert, rows (token, hidden) -> (token, hidden)


def run_chosen(hidden: Tensor, routing: Routing, expert: Expert) -> Tensor:
    """The weighted sum over each token's experts. hidden: (token, hidden) -> the same shape and dtype.

    Experts run in ascending order. A float32 weight makes the product float32, which is cast to the model's dtype and
    then added. The order and the cast are those of transformers' eager experts, so results are equal to the bit.
    """
    output = torch.zeros_like(hidden)
    for number in routing.experts.unique().tolist():
        slot, token = torch.where(rearrange(routing.experts == number, "token slot -> slot token"))
        weights = rearrange(routing.weights[token, slot], "assignment -> assignment 1")
        output.index_add_(0, token, (expert(number, hidden[token]) * weights).to(hidden.dtype))
    return output


def stacked_swiglu(rows: Tensor, gate_up: Tensor, down: Tensor) -> Tensor:
    """One expert whose gate and up are one matrix, as most classes store them. rows: (token, hidden) -> the same.

    gate_up: (2 ffn, hidden), the gate first. down: (hidden, ffn). One product in place of two may round differently.
    """
    gate, up = rearrange(F.linear(rows, gate_up), "token (pair ffn) -> pair token ffn", pair=2)
    return F.linear(F.silu(gate) * up, down)


def gpt_oss_expert(rows: Tensor, gate_up: Tensor, gate_up_bias: Tensor, down: Tensor, down_bias: Tensor) -> Tensor:
    """One expert of gpt-oss: a clamped SwiGLU with biases. rows: (token, hidden) -> the same.

    gate_up: (hidden, 2 ffn), gate and up in alternating columns. down: (ffn, hidden). down((up + 1) · gate ·
    sigmoid(1.702 gate)), with the gate at most 7 and up within ±7.
    """
    pairs = rearrange(rows @ gate_up + gate_up_bias, "token (ffn pair) -> pair token ffn", pair=2)
    gate, up = pairs[0].clamp(max=7.0), pairs[1].clamp(-7.0, 7.0)
    return ((up + 1) * (gate * F.sigmoid(gate * 1.702))) @ down + down_bias
