"""Pruning: a smaller model with some experts of every layer left out, and the statistics that choose them.

    seen = expert_statistics(model, texts)
    smaller = prune_experts(model, keep_highest(seen.saliency, 64))

Rows of the router go with their experts, so that a token's next choice comes in; the number of experts per token stays.
The model itself is not changed. Source of the saliency: REAP, arXiv 2510.13999.
"""

import copy
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, cast

import torch
from einops import einsum, rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from minimoe.errors import BadArgument
from minimoe.model.experts import per_expert_weights, swiglu
from minimoe.model.layer import MixtureOfExperts
from minimoe.model.router import Routing
from minimoe.model.transformer import Transformer
from minimoe.routing.trace.hooks import router_layers

KINDS = ("gate_proj", "up_proj", "down_proj")


def moe(model: Transformer, layer: int) -> MixtureOfExperts:
    """The Mixture of Experts of a layer that has one, by absolute layer number."""
    return cast(MixtureOfExperts, model.layers[layer].mlp)


@dataclass(frozen=True)
class ExpertStatistics:
    """What calibration texts say about experts; layers in the order of the model.

    counts: (layer, expert) tokens that select each expert. saliency: (layer, expert) mean over those tokens of router
    weight times the norm of the expert's output; 0 for an expert that no token selects.
    """

    counts: Tensor
    saliency: Tensor


@torch.no_grad()
def expert_statistics(model: Transformer, texts: Sequence[Tensor]) -> ExpertStatistics:
    """Run the model on calibration texts, each (1, position), and measure its experts.

    The inputs of all experts are kept until the end: layers times tokens times hidden_size values.
    """
    layers, experts = router_layers(model), model.config.num_experts
    seen: dict[int, list[tuple[Tensor, Routing]]] = {layer: [] for layer in layers}
    with ExitStack() as stack:
        for layer in layers:
            bank = moe(model, layer).experts
            keep = partial(keep_arguments, seen[layer])
            stack.callback(bank.register_forward_pre_hook(keep).remove)
        for ids in texts:
            model(ids, last_only=True)
    counts = torch.zeros(len(layers), experts, dtype=torch.int64)
    saliency = torch.zeros(len(layers), experts)
    for place, layer in enumerate(layers):
        x = torch.cat([x for x, _ in seen[layer]])
        chosen = torch.cat([routing.experts for _, routing in seen[layer]])
        weights = torch.cat([routing.weights for _, routing in seen[layer]])
        gate, up, down = per_expert_weights(moe(model, layer).experts)
        for expert in chosen.unique().tolist():
            token, slot = torch.where(chosen == expert)
            norms = swiglu(x[token], gate[expert], up[expert], down[expert]).norm(dim=-1)
            counts[place, expert] = len(token)
            saliency[place, expert] = (weights[token, slot] * norms).mean()
    return ExpertStatistics(counts, saliency)


def keep_arguments(kept: list[Any], module: nn.Module, arguments: tuple[Any, ...]) -> None:
    """A hook that runs before a module: keep what it is given."""
    kept.append(arguments)


def keep_highest(scores: Tensor, count: int) -> Tensor:
    """scores (layer, expert) -> (layer, kept) the `count` experts with the highest scores of each layer, ascending.

    Of equal scores the lower number stays. Raises BadArgument.
    """
    if type(count) is not int or not 1 <= count <= scores.shape[-1]:
        raise BadArgument(f"count is {count!r}, expected 1 to {scores.shape[-1]} experts.")
    return scores.argsort(dim=-1, descending=True, stable=True)[..., :count].sort(dim=-1).values


def prune_experts(model: Transformer, keep: Tensor) -> Transformer:
    """A copy of the model that has only the experts `keep` (layer, kept), with their rows of the router.

    Raises BadArgument unless there is one row of at least `num_experts_per_tok` different experts for each layer.
    """
    layers, config = router_layers(model), model.config
    enough = keep.ndim == 2 and len(keep) == len(layers) and keep.shape[1] >= config.num_experts_per_tok
    if not enough or any(len(row.unique()) < keep.shape[1] for row in keep):
        raise BadArgument(
            f"keep has shape {tuple(keep.shape)}, expected ({len(layers)}, kept): at least "
            f"{config.num_experts_per_tok} different experts for each layer with a router."
        )
    smaller = copy.deepcopy(model)
    smaller.config = replace(config, num_experts=keep.shape[1])
    for layer, kept in zip(layers, keep, strict=True):
        mlp = moe(smaller, layer)
        mlp.gate.weight.data = mlp.gate.weight.data[kept]
        for kind in KINDS:
            stack = getattr(mlp.experts, kind)
            stack.data = stack.data[kept]
    return smaller


def merge_experts(model: Transformer, keep: Tensor, counts: Tensor) -> Transformer:
    """As `prune_experts`, but each expert that goes is averaged into the kept one whose router row is most similar.

    The mean of the matrices is weighted by the numbers of tokens, counts (layer, expert). Rows of the router stay as
    they are: those of the kept experts.
    """
    smaller = prune_experts(model, keep)
    for place, layer in enumerate(router_layers(model)):
        mlp, kept = moe(model, layer), keep[place]
        rows = F.normalize(mlp.gate.weight.data.float(), dim=-1)
        likeness = einsum(rows, rows[kept], "expert hidden, kept hidden -> expert kept")
        share = F.one_hot(likeness.argmax(dim=-1), len(kept)) * rearrange(counts[place] + 1.0, "expert -> expert 1")
        share = share / share.sum(dim=0)
        for kind in KINDS:
            weights = getattr(mlp.experts, kind).data
            merged = einsum(share.to(weights.dtype), weights, "expert kept, expert out into -> kept out into")
            getattr(moe(smaller, layer).experts, kind).data = merged
    return smaller
