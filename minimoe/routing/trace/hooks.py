"""The routers of a model, and forward hooks on them: recording, interventions and training all use `on_routers`."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, TypeAlias, cast

from torch import nn

from minimoe.model.router import Router, Routing
from minimoe.model.transformer import Transformer

RouterHook: TypeAlias = Callable[[int, nn.Module, Routing], Routing | None]


def router(model: Transformer, layer: int) -> Router:
    """The router module of a Mixture-of-Experts layer, by absolute layer number."""
    return cast(Router, model.layers[layer].mlp.gate)


def router_layers(model: Transformer) -> list[int]:
    """The absolute numbers of the loaded layers that have a router."""
    return [number for number in model.layer_range if model.config.is_moe(number)]


@contextmanager
def on_routers(
    model: Transformer, hook: RouterHook, layers: Sequence[int] | None = None, first: bool = False
) -> Iterator[None]:
    """Call `hook(layer, router, routing)` after every forward pass of a router inside the block.

    If the hook returns a `Routing`, it replaces the output of the router; None leaves the output unchanged. layers:
    absolute layer numbers; None for all layers with a router. first: before the hooks that are there already, so that
    it sees what the router itself has decided. The hooks are removed when the block ends, also after an exception.
    """

    def of_layer(layer: int) -> Callable[[nn.Module, Any, Routing], Routing | None]:
        return lambda module, arguments, routing: hook(layer, module, routing)

    with ExitStack() as stack:
        for layer in router_layers(model) if layers is None else layers:
            stack.callback(router(model, layer).register_forward_hook(of_layer(layer), prepend=first).remove)
        yield
