"""Llama 4's difference: the weight multiplies the *input* of an expert, so it passes through the nonlinearity.

f(w · x) and w · f(x) differ, since an expert is not linear.
"""

import torch
from einops import rearrange
from torch import Tensor

from minimoe.model.router import Routing
from minimoe.zoo.block import Expert


def run_on_weighted_input(hidden: Tensor, routing: Routing, expert: Expert) -> Tensor:
    """The sum of each token's experts, each run on the weighted token. hidden: (token, hidden) -> the same."""
    output = torch.zeros_like(hidden)
    for number in routing.experts.unique().tolist():
        token, slot = torch.where(routing.experts == number)
        weights = rearrange(routing.weights[token, slot], "assignment -> assignment 1")
        output.index_add_(0, token, expert(number, hidden[token] * weights))
    return output


def weigh_inputs(hidden: Tensor, routing: Routing) -> Tensor:
    """The input of every expert for every token: the weighted token, and zeros where the expert was not chosen.

    hidden: (token, hidden) -> (expert, token, hidden). The released class runs all experts on it and sums the outputs:
    an expert returns zero for zero. It is the same sum with more work.
    """
    weights = torch.zeros_like(routing.logits).scatter(-1, routing.experts, routing.weights)
    return hidden * rearrange(weights, "token expert -> expert token 1")
