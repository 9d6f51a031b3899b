"""The change that an ablation makes: it replaces a router's decision before the experts see it.

    mask              before selection: the expert's logit is set to minus infinity, so the next in rank is selected
    drop              after selection: the expert's output is omitted, the other weights are unchanged
    drop_renormalise  after selection: the expert's output is omitted, the other weights are scaled to the same sum
    force             the expert is always selected, replacing the last one; its weight is its own softmax value

The model itself is not modified: forward hooks on the routers return another `Routing`, and are removed when the block
ends, also after an exception.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from minimoe.errors import BadArgument
from minimoe.model.checks import check_choice
from minimoe.model.norm import at_least_float32
from minimoe.model.router import Routing, route
from minimoe.model.transformer import Transformer
from minimoe.routing.trace.hooks import on_routers, router_layers

MODES = ("mask", "drop", "drop_renormalise", "force")
MOST_SLOTS = 16


@dataclass(frozen=True)
class Change:
    """A change of routing: `mode` applied to `experts` of `layer`, with `top_k` experts per token.

    `top_k` (None: as trained) applies to that layer, or with `everywhere` to all layers.
    """

    layer: int
    experts: tuple[int, ...]
    mode: str
    top_k: int | None = None
    everywhere: bool = False

    def layers(self, model: Transformer) -> list[int]:
        """The absolute numbers of the layers whose routing changes."""
        return router_layers(model) if self.everywhere and self.top_k is not None else [self.layer]

    def hook(self, layer: int, gate: nn.Module, routing: Routing) -> Routing:
        """Hook of the router of `layer`, see `on_routers`: the changed routing."""
        return change_routing(
            routing, self.experts if layer == self.layer else (), self.mode, self.top_k, bool(gate.renormalise)
        )


def change_routing(
    routing: Routing, experts: Sequence[int], mode: str, top_k: int | None, renormalise: bool
) -> Routing:
    """The router's decision with `experts` masked, dropped or forced, and `top_k` slots (None: unchanged).

    Slots stay in order of decreasing softmax value. `renormalise` is the model's `norm_topk_prob`.
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
    weights = routing.weights.masked_fill(torch.isin(routing.experts, chosen), 0.0)
    if mode == "drop_renormalise":
        wide = weights.to(at_least_float32(weights.dtype))
        before, after = routing.weights.to(wide.dtype).sum(-1, keepdim=True), wide.sum(-1, keepdim=True)
        weights = torch.where(after > 0, wide * before / after, wide).to(weights.dtype)  # all dropped: keep the zeros
    return Routing(logits, routing.experts, weights)


def force(logits: Tensor, chosen: Tensor, slots: int, renormalise: bool) -> Routing:
    """Routing that always selects `chosen` and fills the other slots by rank.

    Every weight is the expert's own softmax value, renormalised if `renormalise`.
    """
    probabilities = logits.softmax(dim=-1, dtype=at_least_float32(logits.dtype))
    experts = probabilities.index_fill(-1, chosen, 2.0).topk(slots, dim=-1).indices  # 2: above every probability
    weights, order = probabilities.gather(-1, experts).sort(dim=-1, descending=True, stable=True)
    if renormalise:
        weights = weights / weights.sum(dim=-1, keepdim=True)
    return Routing(logits, experts.gather(-1, order), weights.to(logits.dtype))


@contextmanager
def installed(model: Transformer, change: Change | None, seen: dict[int, Tensor] | None = None) -> Iterator[None]:
    """Apply `change` to the routers of `model` inside the block.

    If `seen` is given, it receives the selected experts (token, slot) of every Mixture-of-Experts layer.
    """
    with ExitStack() as stack:
        if change is not None:
            stack.enter_context(on_routers(model, change.hook, change.layers(model)))
        if seen is not None:
            stack.enter_context(on_routers(model, lambda layer, gate, routing: seen.update({layer: routing.experts})))
        yield


@contextmanager
def ablated(
    model: Transformer,
    layer: int,
    experts: Sequence[int] = (),
    mode: str = "mask",
    top_k: int | None = None,
    everywhere: bool = False,
) -> Iterator[None]:
    """Run `model` without (or always with) these experts of this layer inside the block.

        with ablated(model, layer=2, experts=[17]):
            print(*generate(model, tokenizer, "The cat"), sep="")

    The model is unchanged afterwards. mode: see the module docstring. top_k: experts per token, in this layer or, with
    `everywhere`, in all layers. Raises BadArgument.
    """
    with installed(model, check_change(model, layer, experts, mode, top_k, everywhere)):
        yield


def check_change(model: Any, layer: Any, experts: Any, mode: Any, top_k: Any = None, everywhere: Any = False) -> Change:
    """Validate the arguments for this model and return them as a Change. Raises BadArgument for the first bad one."""
    if not isinstance(model, Transformer):
        raise BadArgument(f"model is {type(model).__name__}, expected a minimoe.Transformer.")
    layers, config = router_layers(model), model.config
    if not layers:
        raise BadArgument(
            f"this {config.model_type} model has no router in layers {model.layer_range}, expected at least one "
            "Mixture-of-Experts layer."
        )
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
            raise BadArgument(f"experts contains {number!r}, expected numbers from 0 to {last} (layer {layer}).")
    if len(set(numbers)) != len(numbers):
        raise BadArgument(f"experts is {numbers}, expected no duplicates.")
    most = min(MOST_SLOTS, config.num_experts)
    if top_k is not None and (type(top_k) is not int or not 1 <= top_k <= most):
        raise BadArgument(
            f"top_k is {top_k!r}, expected 1 to {most} experts per token, or None for the trained number."
        )
    if type(everywhere) is not bool:
        raise BadArgument(f"everywhere is {everywhere!r}, expected True (top_k in all layers) or False.")
    if not numbers and top_k is None:
        raise BadArgument("nothing would change: pass experts, such as experts=[17], or top_k.")
    slots = top_k or config.num_experts_per_tok
    if mode == "mask" and len(numbers) > config.num_experts - slots:
        raise BadArgument(
            f"experts lists {len(numbers)} of {config.num_experts} experts, but masking them leaves fewer than "
            f"{slots} to select from. Mask fewer, or lower top_k."
        )
    if mode == "force" and len(numbers) > slots:
        raise BadArgument(
            f"experts lists {len(numbers)} experts, but a token has {slots} slots. Force fewer, or raise top_k."
        )
    return Change(layer, tuple(sorted(numbers)), mode, top_k, everywhere)


def spell(layers: list[int]) -> str:
    """Layer numbers for a message: "0..3", or a comma-separated list if they are not consecutive."""
    if layers == list(range(layers[0], layers[-1] + 1)):
        return f"{layers[0]}..{layers[-1]}"
    return ", ".join(map(str, layers))
