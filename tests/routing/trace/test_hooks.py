"""One place for hooks on routers: the hook sees every router, may replace its output, and is removed afterwards."""

from dataclasses import replace

import pytest
import torch

from minimoe.model.config import ModelConfig
from minimoe.model.transformer import Transformer
from minimoe.routing.trace.hooks import on_routers, router, router_layers
from tests.training.test_loop import CONFIG

IDS = torch.arange(20).reshape(2, 10)


@pytest.fixture
def model() -> Transformer:
    """Layers 0 and 2 have experts, layer 1 is dense."""
    torch.manual_seed(0)
    sizes: ModelConfig = replace(CONFIG, num_hidden_layers=3, mlp_only_layers=(1,))
    return Transformer(sizes)


def test_the_hook_sees_each_router_once_and_leaves_the_output_unchanged(model: Transformer) -> None:
    before, seen = model(IDS), []
    with on_routers(model, lambda layer, gate, routing: seen.append((layer, gate, routing.experts.shape))):
        assert torch.equal(model(IDS), before)
    assert router_layers(model) == [0, 2]
    assert [(layer, gate) for layer, gate, _ in seen] == [(layer, router(model, layer)) for layer in (0, 2)]
    assert {shape for *_, shape in seen} == {(20, model.config.num_experts_per_tok)}


def test_a_returned_routing_replaces_the_output_in_the_given_layers_only(model: Transformer) -> None:
    before, seen = model(IDS), {}

    def weightless(layer, gate, routing):
        return routing._replace(weights=torch.zeros_like(routing.weights))

    watch = on_routers(model, lambda layer, gate, routing: seen.update({layer: routing}))
    with on_routers(model, weightless, layers=[2]), watch:
        assert not torch.equal(model(IDS), before)
    assert seen[0].weights.any() and not seen[2].weights.any()


def test_the_first_hook_sees_what_the_router_decided(model: Transformer) -> None:
    seen = []

    def weightless(layer, gate, routing):
        return routing._replace(weights=torch.zeros_like(routing.weights))

    def watch(first):
        return on_routers(model, lambda layer, gate, routing: seen.append(bool(routing.weights.any())), [0], first)

    with on_routers(model, weightless), watch(first=True), watch(first=False):
        model(IDS)
    assert seen == [True, False]


def test_hooks_are_removed_after_an_exception(model: Transformer) -> None:
    with pytest.raises(RuntimeError, match="stop"), on_routers(model, lambda *_: None):
        raise RuntimeError("stop")
    assert not any(module._forward_hooks for module in model.modules())
