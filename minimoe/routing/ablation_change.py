"""What an ablation changes: one router's decision, between the router and its experts.

    mask              before the choice: the expert's logit is minus infinity, so the next in rank takes its place
    drop              after the choice: its answer is left out, the other weights stay as they are
    drop_renormalise  after the choice: its answer is left out, the other weights grow until their sum is what it was
    force             the expert always gets in, in the place of the last one; its weight is its own softmax value

Nothing of the model is written to. Forward hooks on the routers hand the experts another `Routing`, and are gone when
the block ends, however it ends.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from minimoe.errors import BadArgument
from minimoe.model.norm import at_least_float32
from minimoe.model.router import Routing, route
from minimoe.model.transformer import Transformer, check_choice
from minimoe.routing.recorder import router

MODES = ("mask", "drop", "drop_renormalise", "force")
MOST_SLOTS = 16


@dataclass(frozen=True)
class Change:
    """`experts` of `layer` in `mode`, and `top_k` experts a token, in that layer or everywhere (None: as trained)."""

    layer: int
    experts: tuple[int, ...]
    mode: str
    top_k: int | None = None
    everywhere: bool = False

    def layers(self, model: Transformer) -> list[int]:
        """The layers in which something changes."""
        return router_layers(model) if self.everywhere and self.top_k is not None else [self.layer]

    def hook(self, layer: int, gate: nn.Module, args: tuple[Any, ...], routing: Routing) -> Routing:
        """A forward hook of the router of `layer`: what it returns takes the place of the router's own answer."""
        return change_routing(
            routing, self.experts if layer == self.layer else (), self.mode, self.top_k, bool(gate.renormalise)
        )


def change_routing(
    routing: Routing, experts: Sequence[int], mode: str, top_k: int | None, renormalise: bool
) -> Routing:
    """The router's decision with `experts` masked, dropped or forced, and `top_k` slots (None: as many as before).

    Slots stay ordered by falling softmax value. `renormalise` is the model's `norm_topk_prob`.
    """
    logits, slots = routing.logits, top_k or routing.experts.shape[-1]
    chosen = torch.tensor(list(experts), dtype=torch.int64, device=logits.device)
    if mode == "force" and len(experts):
        return force(logits, chosen, slots, renormalise)
    if mode == "mask" and len(experts):
        return route(logits.index_fill(-1, chosen, -torch.inf), slots, renormalise)
    if slots != routing.experts.shape[-1]:
        routing = route(logits, slots, renormalise)
    if not len(experts):
        return routing
    left = routing.weights.masked_fill(torch.isin(routing.experts, chosen), 0.0)
    if mode == "drop_renormalise":
        wide = left.to(at_least_float32(left.dtype))
        before, after = routing.weights.to(wide.dtype).sum(-1, keepdim=True), wide.sum(-1, keepdim=True)
        left = torch.where(after > 0, wide * before / after, wide).to(left.dtype)  # nothing left: nothing to scale
    return Routing(logits, routing.experts, left)


def force(logits: Tensor, chosen: Tensor, slots: int, renormalise: bool) -> Routing:
    """`chosen` get in first, the rest by rank; everyone's weight is their own softmax value, then renormalised."""
    probabilities = logits.softmax(dim=-1, dtype=at_least_float32(logits.dtype))
    experts = probabilities.index_fill(-1, chosen, 2.0).topk(slots, dim=-1).indices  # 2: above every probability
    weights, order = probabilities.gather(-1, experts).sort(dim=-1, descending=True, stable=True)
    if renormalise:
        weights = weights / weights.sum(dim=-1, keepdim=True)
    return Routing(logits, experts.gather(-1, order), weights.to(logits.dtype))


@contextmanager
def installed(model: Transformer, change: Change | None, seen: dict[int, Tensor] | None = None) -> Iterator[None]:
    """Inside the block the routers of `model` decide as `change` says. `seen` collects the experts, layer by layer."""
    with ExitStack() as stack:
        for layer in change.layers(model) if change is not None else []:
            hook = partial(change.hook, layer)  # type: ignore[union-attr]
            stack.callback(router(model, layer).register_forward_hook(hook).remove)
        if seen is not None:
            for layer in router_layers(model):
                stack.callback(router(model, layer).register_forward_hook(partial(watch, seen, layer)).remove)
        yield


def watch(seen: dict[int, Tensor], layer: int, gate: nn.Module, args: tuple[Any, ...], routing: Routing) -> None:
    """Note what was selected (token, slot)."""
    seen[layer] = routing.experts


@contextmanager
def ablated(
    model: Transformer,
    layer: int,
    experts: Sequence[int] = (),
    mode: str = "mask",
    top_k: int | None = None,
    everywhere: bool = False,
) -> Iterator[None]:
    """Inside the block `model` runs without (or with) these experts of this layer; afterwards it is as it was.

        with ablated(model, layer=2, experts=[17]):
            print(*generate(model, tokenizer, "The cat"), sep="")

    mode: see the top of this file. top_k: experts a token, in this layer, or in all with `everywhere`. Raises
    BadArgument.
    """
    with installed(model, check_change(model, layer, experts, mode, top_k, everywhere)):
        yield


def router_layers(model: Transformer) -> list[int]:
    """The absolute numbers of the Mixture-of-Experts layers."""
    return [number for number in model.layer_range if model.config.is_moe(number)]


def check_change(model: Any, layer: Any, experts: Any, mode: Any, top_k: Any = None, everywhere: Any = False) -> Change:
    """These arguments as a Change that this model can make; BadArgument names the first one that it cannot."""
    if not isinstance(model, Transformer):
        raise BadArgument(f"model is {type(model).__name__}, expected a minimoe.Transformer.")
    layers, config = router_layers(model), model.config
    if not layers:
        raise BadArgument(f"this {config.model_type} model has no router in layers {model.layer_range}: no experts.")
    if type(layer) is not int or layer not in layers:
        raise BadArgument(f"layer is {layer!r}, expected the number of a Mixture-of-Experts layer: {spell(layers)}.")
    check_choice("mode", mode, MODES)
    last = config.num_experts - 1
    numbers: Any = experts.tolist() if hasattr(experts, "tolist") else experts
    if isinstance(numbers, str) or not isinstance(numbers, Sequence):
        raise BadArgument(f"experts is {experts!r}, expected a list of numbers from 0 to {last}, such as [17].")
    numbers = list(numbers)
    for number in numbers:
        if type(number) is not int or not 0 <= number <= last:
            raise BadArgument(f"experts holds {number!r}, expected numbers from 0 to {last} (of layer {layer}).")
    if len(set(numbers)) != len(numbers):
        raise BadArgument(f"experts is {numbers}, expected every expert once.")
    most = min(MOST_SLOTS, config.num_experts)
    if top_k is not None and (type(top_k) is not int or not 1 <= top_k <= most):
        raise BadArgument(f"top_k is {top_k!r}, expected 1 to {most} experts a token, or None for the trained number.")
    if type(everywhere) is not bool:
        raise BadArgument(f"everywhere is {everywhere!r}, expected True (top_k in all layers) or False.")
    if not numbers and top_k is None:
        raise BadArgument("nothing would change: give experts, such as experts=[17], or top_k.")
    slots = top_k or config.num_experts_per_tok
    if mode == "mask" and len(numbers) > config.num_experts - slots:
        raise BadArgument(
            f"experts holds {len(numbers)} of {config.num_experts}: with these masked fewer than {slots} are left to "
            "select from. Mask fewer, or lower top_k."
        )
    if mode == "force" and len(numbers) > slots:
        raise BadArgument(f"experts holds {len(numbers)}, but a token has {slots} slots. Force fewer, or raise top_k.")
    return Change(layer, tuple(sorted(numbers)), mode, top_k, everywhere)


def spell(layers: list[int]) -> str:
    """Layer numbers for a sentence: 0..3, or one by one where some are missing."""
    if layers == list(range(layers[0], layers[-1] + 1)):
        return f"{layers[0]}..{layers[-1]}"
    return ", ".join(map(str, layers))
