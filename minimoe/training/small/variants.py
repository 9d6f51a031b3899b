"""Parts that the family does not have, for comparison: a biased choice, a shared expert, experts copied from a dense
model.
"""

from dataclasses import replace
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from minimoe.errors import BadArgument
from minimoe.model.config import ModelConfig
from minimoe.model.experts import ExpertBank
from minimoe.model.layer import FeedForward, MixtureOfExperts
from minimoe.model.router import Router, Routing
from minimoe.model.transformer import Transformer
from minimoe.zoo.router import route
from minimoe.zoo.rule import Rule


class BiasedRouter(Router):
    """A router that adds a bias to the probabilities for the choice only; the weights do not contain it.

    The bias is no parameter: `moved_bias` in balancing.py moves it after each step.
    """

    def __init__(self, config: ModelConfig):
        super().__init__(config)
        self.bias: Tensor
        self.register_buffer("bias", torch.zeros(config.num_experts))

    def forward(self, hidden: Tensor) -> Routing:
        """hidden: (token, hidden)."""
        rule = Rule(selection_bias=True, renormalise=self.renormalise)
        return route(F.linear(hidden, self.weight), self.top_k, rule, self.bias)


class WithSharedExpert(nn.Module):
    """A Mixture-of-Experts layer plus one expert that every token visits, with weight 1."""

    def __init__(self, mixture: MixtureOfExperts, config: ModelConfig, width: int):
        super().__init__()
        self.gate, self.experts = mixture.gate, mixture.experts
        self.shared = FeedForward(replace(config, intermediate_size=width))
        for matrix in self.shared.parameters():
            nn.init.normal_(matrix, std=config.initializer_range)
        self.mixture = (mixture,)  # in a tuple: its parameters are registered above

    def forward(self, x: Tensor) -> Tensor:
        """x: (batch, position, hidden) -> the same shape."""
        return cast(Tensor, self.mixture[0](x) + self.shared(x))


@torch.no_grad()
def upcycled(dense: Transformer, experts: int, top_k: int) -> Transformer:
    """A Mixture of Experts whose every expert is a copy of the dense feed-forward (Komatsuzaki et al. 2022).

    Its routers are drawn at random. With renormalised weights it computes what the dense model computes. Raises
    BadArgument if `dense` has experts already.
    """
    config = dense.config
    if config.num_experts:
        raise BadArgument(f"the model has {config.num_experts} experts already, expected a dense one.")
    mixture = Transformer(
        replace(
            config,
            model_type="qwen3_moe",
            num_experts=experts,
            num_experts_per_tok=top_k,
            moe_intermediate_size=config.intermediate_size,
            norm_topk_prob=True,
        )
    )
    parameters = dict(dense.named_parameters())
    for name, parameter in mixture.named_parameters():
        if name in parameters:
            parameter.copy_(parameters[name])
    for ours, theirs in zip(mixture.layers, dense.layers, strict=True):
        bank, source = cast(ExpertBank, ours.mlp.experts), cast(FeedForward, theirs.mlp)
        for name in ("gate_proj", "up_proj", "down_proj"):
            getattr(bank, name).copy_(getattr(source, name).weight)  # broadcast over the experts
    return mixture
