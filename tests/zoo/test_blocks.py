"""Whole Mixture-of-Experts layers against the released classes, equal to the bit."""

import pytest
import torch
from einops import reduce
from torch import Tensor, nn
from torch.nn import functional as F

from minimoe.zoo import (
    FAMILIES,
    gpt_oss_expert,
    route,
    router_logits,
    run_chosen,
    run_on_weighted_input,
    shared_expert,
    sparsemixer,
    stacked_swiglu,
    weigh_inputs,
)
from tests.zoo.released import DTYPES, TOP_K, hidden_states, released, value

SWIGLU_BLOCKS = {
    "mixtral": "MixtralSparseMoeBlock",
    "qwen2_moe": "Qwen2MoeSparseMoeBlock",
    "qwen3_moe": "Qwen3MoeSparseMoeBlock",
    "qwen3_next": "Qwen3NextSparseMoeBlock",
    "qwen3_5_moe": "Qwen3_5MoeSparseMoeBlock",
    "olmoe": "OlmoeSparseMoeBlock",
    "deepseek_v2": "DeepseekV2Moe",
    "deepseek_v3": "DeepseekV3MoE",
    "deepseek_v32": "DeepseekV32MoE",
    "glm4_moe": "Glm4MoeMoE",
    "glm_moe_dsa": "GlmMoeDsaMoE",
    "hunyuan_v1_moe": "HunYuanMoEV1Moe",
    "ernie4_5_moe": "Ernie4_5_MoeSparseMoeBlock",
    "minimax_m2": "MiniMaxM2SparseMoeBlock",
    "longcat_flash": "LongcatFlashMoE",
}
SHARED_NAMES = ("shared_expert.", "shared_experts.", "shared_mlp.")


def swiglu_experts(experts: nn.Module):
    """Run one expert of a released bank, whose gate and up are stacked. An expert without a down is the identity."""

    def run(number: int, rows: Tensor) -> Tensor:
        if number >= len(experts.down_proj):  # LongCat's zero-computation experts
            return rows
        return stacked_swiglu(rows, experts.gate_up_proj[number], experts.down_proj[number])

    return run


def shared_of(block: nn.Module, hidden: Tensor) -> Tensor | None:
    """The output of the released block's shared expert, computed by ours."""
    named = dict(block.named_parameters())
    for name in SHARED_NAMES:
        if f"{name}gate_proj.weight" in named:
            projections = [named[f"{name}{projection}_proj.weight"] for projection in ("gate", "up", "down")]
            return shared_expert(hidden, *projections, shared_gate=named.get("shared_expert_gate.weight"))
    return None


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("family", SWIGLU_BLOCKS)
@torch.no_grad()
def test_block_with_swiglu_experts(family, dtype):
    hidden, block = hidden_states(dtype), released(family, SWIGLU_BLOCKS[family], dtype)
    rule, router = FAMILIES[family].rule, block.router if family == "longcat_flash" else block.gate
    logits = router_logits(hidden, value(router, "weight"), rule)
    ours = run_chosen(
        hidden, route(logits, TOP_K, rule, value(block, "correction_bias"), dtype), swiglu_experts(block.experts)
    )
    shared = shared_of(block, hidden)
    assert (shared is None) == (FAMILIES[family].shared == "none")
    assert ("shared_expert_gate.weight" in dict(block.named_parameters())) == (FAMILIES[family].shared == "gated")
    assert torch.equal(ours if shared is None else ours + shared, block(hidden[None])[0])


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@torch.no_grad()
def test_phi_with_two_rounds(dtype):
    hidden, block = hidden_states(dtype), released("phimoe", "PhimoeSparseMoeBlock", dtype)
    routing = sparsemixer(F.linear(hidden, block.router.weight))
    assert torch.equal(run_chosen(hidden, routing, swiglu_experts(block.experts)), block(hidden[None])[0])


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@torch.no_grad()
def test_gpt_oss_with_clamped_experts(dtype):
    hidden, block = hidden_states(dtype), released("gpt_oss", "GptOssMLP", dtype)
    rule, bank = FAMILIES["gpt_oss"].rule, block.experts
    for weights in (bank.gate_up_proj, bank.down_proj):
        weights.mul_(4)  # so that the clamps have work
    routing = route(router_logits(hidden, block.router.weight, rule, block.router.bias), TOP_K, rule)

    def expert(number: int, rows: Tensor) -> Tensor:
        parts = (bank.gate_up_proj, bank.gate_up_proj_bias, bank.down_proj, bank.down_proj_bias)
        return gpt_oss_expert(rows, *(part[number] for part in parts))

    assert (hidden @ bank.gate_up_proj[0]).abs().max() > 7
    assert torch.equal(run_chosen(hidden, routing, expert), block(hidden[None])[0][0])


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@torch.no_grad()
def test_llama4_weighs_the_input(dtype):
    hidden, block = hidden_states(dtype), released("llama4", "Llama4TextMoe", dtype)
    rule, bank = FAMILIES["llama4"].rule, block.experts
    routing = route(router_logits(hidden, block.router.weight, rule), 1, rule)
    inputs = weigh_inputs(hidden, routing)
    gate, up = torch.bmm(inputs, bank.gate_up_proj).chunk(2, dim=-1)
    every_expert = torch.bmm(up * F.silu(gate), bank.down_proj)
    shared = shared_of(block, hidden)
    theirs = block(hidden[None])[0]
    assert torch.equal(shared + reduce(every_expert, "expert token hidden -> token hidden", "sum"), theirs)

    def expert(number: int, rows: Tensor) -> Tensor:
        gate, up = (rows @ bank.gate_up_proj[number]).chunk(2, dim=-1)
        return (up * F.silu(gate)) @ bank.down_proj[number]

    ours = shared + run_on_weighted_input(hidden, routing, expert)
    tolerance = 1e-4 if dtype == torch.float32 else 0.05
    torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance)
    on_output = shared + run_chosen(hidden, routing, expert)
    assert (on_output - theirs).abs().max() > 1  # w f(x) is not f(w x)
