"""Pruned models against ablated ones, and the statistics of experts against loops over tokens."""

import pytest
import torch

import minimoe
from minimoe.errors import BadArgument
from minimoe.model.experts import swiglu
from minimoe.routing.ablation.ablate import ablated
from minimoe.routing.ablation.prune import expert_statistics, keep_highest, merge_experts, prune_experts
from minimoe.routing.trace.hooks import on_routers, router_layers
from tests.routing.conftest import small_model

TEXTS = [torch.tensor([[5, 6, 7, 8, 9]]), torch.tensor([[10, 11, 12]])]


@torch.no_grad()
def by_loops(model):
    """(layer, expert) counts, and means of weight times norm, one token and slot after another."""
    counts = torch.zeros(len(router_layers(model)), model.config.num_experts)
    total = torch.zeros_like(counts)
    for ids in TEXTS:
        entering, chosen = {}, {}
        handles = [
            model.layers[layer].mlp.gate.register_forward_pre_hook(
                lambda gate, given, layer=layer, entering=entering: entering.update({layer: given[0]})
            )
            for layer in router_layers(model)
        ]
        with on_routers(model, lambda layer, gate, routing, chosen=chosen: chosen.update({layer: routing})):
            model(ids)
        for handle in handles:
            handle.remove()
        for place, layer in enumerate(router_layers(model)):
            bank = model.layers[layer].mlp.experts
            for token, (experts, weights) in enumerate(zip(*chosen[layer][1:], strict=True)):
                for expert, weight in zip(experts.tolist(), weights.tolist(), strict=True):
                    matrices = (bank.gate_proj[expert], bank.up_proj[expert], bank.down_proj[expert])
                    counts[place, expert] += 1
                    total[place, expert] += weight * float(swiglu(entering[layer][token], *matrices).norm())
    return counts, total / counts.clamp_min(1)


def test_statistics_are_those_of_loops_over_tokens():
    model = small_model()
    seen, (counts, saliency) = expert_statistics(model, TEXTS), by_loops(model)
    assert seen.counts.equal(counts.long())
    torch.testing.assert_close(seen.saliency, saliency, rtol=1e-4, atol=1e-6)


def test_a_pruned_model_is_one_whose_experts_are_masked():
    model, ids = small_model(), TEXTS[0]
    experts, layers = model.config.num_experts, router_layers(model)
    keep = torch.tensor([[expert for expert in range(experts) if expert != 2] for _ in layers])
    keep[1:] = torch.tensor([expert for expert in range(experts) if expert != 0])
    smaller = prune_experts(model, keep)
    assert smaller.config.num_experts == experts - 1 and model.config.num_experts == experts
    parameters = sum(parameter.numel() for parameter in smaller.parameters())
    assert parameters == smaller.config.total_parameters
    with torch.no_grad(), minimoe.record_routing(smaller, label="smaller"):
        logits = smaller(ids)
    masks = [ablated(model, layer, [2 if place == 0 else 0]) for place, layer in enumerate(layers)]
    for mask in masks:
        mask.__enter__()
    with torch.no_grad():
        masked = model(ids)
    for mask in reversed(masks):
        mask.__exit__(None, None, None)
    torch.testing.assert_close(logits, masked, rtol=1e-4, atol=1e-5)


def test_the_highest_are_kept_in_ascending_order():
    scores = torch.tensor([[0.1, 0.5, 0.3, 0.5], [2.0, 0.0, 1.0, 0.0]])
    assert keep_highest(scores, 2).tolist() == [[1, 3], [0, 2]]
    assert keep_highest(scores, 3).tolist() == [[1, 2, 3], [0, 1, 2]]


def test_merging_all_of_them_changes_nothing():
    model = small_model()
    counts = torch.ones(len(router_layers(model)), model.config.num_experts)
    everyone = keep_highest(counts, model.config.num_experts)
    with torch.no_grad():
        torch.testing.assert_close(merge_experts(model, everyone, counts)(TEXTS[0]), model(TEXTS[0]))


def test_a_merged_expert_is_the_mean_by_tokens():
    model = small_model()
    layers, experts = router_layers(model), model.config.num_experts
    bank, gate = model.layers[layers[0]].mlp.experts, model.layers[layers[0]].mlp.gate
    gate.weight.data[1] = 3 * gate.weight.data[0]  # the same direction
    keep = torch.tensor([[expert for expert in range(experts) if expert != 1] for _ in layers])
    counts = torch.zeros(len(layers), experts)
    counts[0, :2] = torch.tensor([1.0, 3.0])  # one more each, so that experts without tokens count, too
    merged = merge_experts(model, keep, counts).layers[layers[0]].mlp.experts
    torch.testing.assert_close(merged.up_proj[0], (2 * bank.up_proj[0] + 4 * bank.up_proj[1]) / 6)
    assert merged.up_proj[1].equal(bank.up_proj[2])


@pytest.mark.parametrize("keep", [[[0, 1, 2, 3]], [[0, 1]] * 3, [[0, 0, 1, 2]] * 3, [0, 1, 2, 3]])
def test_bad_selections_are_refused(keep):
    with pytest.raises(BadArgument):
        prune_experts(small_model(), torch.tensor(keep))


@pytest.mark.parametrize("count", [0, 5, 2.0])
def test_bad_numbers_of_experts_are_refused(count):
    with pytest.raises(BadArgument):
        keep_highest(torch.zeros(2, 4), count)
