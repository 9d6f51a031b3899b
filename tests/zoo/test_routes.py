"""Every rule of the catalogue against the released class, equal to the bit: experts, their order, and weights."""

import pytest
import torch
from torch import Tensor, nn

from minimoe.model.router import Routing
from minimoe.zoo import FAMILIES, hash_route, route, router_logits, sparsemixer, switch_route
from tests.zoo.released import DTYPES, EXPERTS, TOKENS, TOP_K, hidden_states, released, value


def routed(family: str, hidden: Tensor, router: nn.Module) -> Routing:
    """Our route, with the weights of the released router."""
    rule = FAMILIES[family].rule
    weight = value(router, "wg.weight" if family == "hunyuan_v1_moe" else "weight")
    logits = router_logits(hidden, weight, rule, value(router, "bias") if FAMILIES[family].learned_bias else None)
    bias = value(router, "correction_bias")
    return route(logits, 1 if family == "llama4" else TOP_K, rule, bias, hidden.dtype)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("family", [name for name in FAMILIES if name not in ("dbrx", "llama4", "minimax_m2")])
@torch.no_grad()
def test_route_is_equal_to_the_released_class(family, dtype):
    hidden, router = hidden_states(dtype), released(family, FAMILIES[family].router_class, dtype)
    _, weights, experts = router(hidden)
    ours = routed(family, hidden, router)
    assert torch.equal(ours.experts, experts)
    assert ours.weights.dtype == weights.dtype
    assert torch.equal(ours.weights, weights)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@torch.no_grad()
def test_minimax_whose_bias_belongs_to_the_block(dtype):
    hidden, block = hidden_states(dtype), released("minimax_m2", "MiniMaxM2SparseMoeBlock", dtype)
    _, weights, experts = block.gate(hidden, block.e_score_correction_bias)
    rule = FAMILIES["minimax_m2"].rule
    ours = route(router_logits(hidden, block.gate.weight, rule), TOP_K, rule, block.e_score_correction_bias)
    assert torch.equal(ours.experts, experts) and torch.equal(ours.weights, weights)
    assert ours.weights.dtype == weights.dtype == torch.float32


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@torch.no_grad()
def test_dbrx_whose_block_routes(dtype):
    hidden, block = hidden_states(dtype), released("dbrx", "DbrxFFN", dtype)
    weights, experts = block.route_tokens_to_experts(block.router(hidden))
    ours = routed("dbrx", hidden, block.router)
    assert torch.equal(ours.experts, experts) and torch.equal(ours.weights, weights)
    assert ours.weights.dtype == weights.dtype


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@torch.no_grad()
def test_llama4_whose_router_returns_a_weight_for_every_expert(dtype):
    hidden, router = hidden_states(dtype), released("llama4", "Llama4Router", dtype)
    scores, logits = router(hidden)
    ours = routed("llama4", hidden, router)
    assert torch.equal(torch.zeros_like(logits).scatter(1, ours.experts, ours.weights), scores)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@torch.no_grad()
def test_deepseek_v2_greedy_without_groups(dtype):
    from dataclasses import replace

    hidden, router = hidden_states(dtype), released("deepseek_v2", "DeepseekV2TopkRouter", dtype)
    router.topk_method = "greedy"
    _, weights, experts = router(hidden)
    rule = replace(FAMILIES["deepseek_v2"].rule, groups=1, groups_kept=1)
    ours = route(router_logits(hidden, router.weight, rule), TOP_K, rule)
    assert torch.equal(ours.experts, experts) and torch.equal(ours.weights, weights)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@torch.no_grad()
def test_hash_routing_of_deepseek_v4(dtype):
    hidden, router = hidden_states(dtype), released("deepseek_v4", "DeepseekV4HashRouter", dtype)
    draw = torch.Generator().manual_seed(2)
    table = torch.stack([torch.randperm(EXPERTS, generator=draw)[:TOP_K] for _ in range(300)])
    token_ids = torch.randint(300, (TOKENS,), generator=draw)
    router.tid2eid.copy_(table)
    _, weights, experts = router(hidden, token_ids)
    rule = FAMILIES["deepseek_v4"].rule
    ours = hash_route(router_logits(hidden, router.weight, rule), token_ids, table, rule)
    assert torch.equal(ours.experts, experts) and torch.equal(ours.weights, weights)
    assert ours.weights.dtype == weights.dtype


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@torch.no_grad()
def test_sparsemixer_of_phi(dtype):
    hidden, router = hidden_states(dtype), released("phimoe", "PhimoeTopKRouter", dtype)
    logits, weights, experts = router(hidden)
    ours = sparsemixer(logits)
    assert torch.equal(ours.experts, experts) and torch.equal(ours.weights, weights)
    assert ours.weights.dtype == weights.dtype
    assert (weights < 1).any(), "no token had a contender, so the softmax was not tested"


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@torch.no_grad()
def test_switch_with_its_capacity(dtype):
    hidden, router = hidden_states(dtype), released("switch_transformers", "SwitchTransformersTop1Router", dtype)
    kept, weights, logits = router(hidden[None])
    ours = switch_route(logits[0], capacity=7, dtype=dtype)
    assert torch.equal(torch.nn.functional.one_hot(ours.experts, EXPERTS) * ours.kept[:, None], kept[0])
    assert torch.equal(ours.weights, weights[0, :, 0])
    assert 0 < int((~ours.kept).sum()) < TOKENS, "some tokens have to be dropped, and some not"
