"""The same weights give the same numbers as `transformers`: to the bit in bfloat16 on CPU, and in float32 with an error
against float64 like the reference's own.

Every comparison names the implementation on both sides, because the reference's own implementations differ in the
last bfloat16 bit.
"""

from functools import cache

import pytest
import torch

from minimoe.routing.trace.trace import record_routing
from tests.model.reference import SAME_ROUNDING, SHAPES, assert_as_exact_as_the_reference

MOE_SHAPES = [name for name in SHAPES if name != "dense qwen3"]
IDS = torch.randint(0, 320, (3, 100), generator=torch.Generator().manual_seed(0))


@pytest.fixture(autouse=True)
def no_grad():
    with torch.no_grad():
        yield


@pytest.fixture(scope="module")
def truth(pair):
    """shape -> its logits in float64."""

    @cache
    def logits(shape):
        return pair(shape, torch.float64).ours(IDS)

    return logits


def test_the_test_models_are_as_hard_as_trained_ones(pair):
    """With default initialisation logits are tiny and margins large; parity would prove little."""
    both = pair("128 experts", torch.float32)
    gates = []
    handle = both.ours.layers[2].mlp.gate.register_forward_hook(lambda module, args, routing: gates.append(routing))
    logits = both.ours(IDS)
    handle.remove()
    assert logits.std() >= 1
    ranked = gates[0].logits.softmax(-1).sort(descending=True).values
    assert 0.05 < ranked[:, 0].median() < 0.6  # decided, not saturated
    assert 1e-5 < (ranked[:, 7] - ranked[:, 8]).median() < 0.01  # the cut after rank 8 is a close call


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("engine", ["loop", "gather", "grouped"])
@pytest.mark.parametrize("shape", MOE_SHAPES)
def test_bfloat16_equals_the_reference_to_the_bit(pair, shape, engine, attention):
    both = pair(shape, torch.bfloat16)
    both.set(engine, attention)
    reference, ours = both.logits(IDS)
    assert reference.std() >= 1
    assert torch.equal(reference, ours), (
        f"{engine} / {SAME_ROUNDING[engine]}, {attention}: {(reference - ours).abs().max()}"
    )


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("engine", ["loop", "gather", "grouped"])
@pytest.mark.parametrize("shape", MOE_SHAPES)
def test_float32_agrees_with_every_reference_implementation(pair, truth, shape, engine, attention):
    both = pair(shape, torch.float32)
    both.set(engine, attention)
    ours = both.ours(IDS)
    for implementation in SAME_ROUNDING.values():
        both.reference.set_experts_implementation(implementation)
        assert_as_exact_as_the_reference(ours, both.reference(IDS, use_cache=False).logits, truth(shape))


@pytest.mark.parametrize("shape", MOE_SHAPES)
def test_no_selection_of_these_models_is_a_near_tie(pair, shape):
    """With a near tie the comparison in float32 would depend on the last bit of a router logit."""
    both = pair(shape, torch.float64)
    with record_routing(both.ours) as trace:
        both.ours(IDS)
    assert trace.margins.min() > 5e-6


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_dense_qwen3(pair, truth, dtype, attention):
    both = pair("dense qwen3", dtype)
    both.set("loop", attention)
    reference, ours = both.logits(IDS)
    if dtype == torch.float32:
        assert_as_exact_as_the_reference(ours, reference, truth("dense qwen3"))
    else:
        assert torch.equal(ours, reference)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("engine", ["loop", "gather", "grouped"])
@pytest.mark.parametrize("shape", ["128 experts", "160 experts, 96 to 8 heads", "YaRN"])
def test_one_token_decode_in_bfloat16_equals_the_reference_to_the_bit(pair, shape, engine, attention):
    both = pair(shape, torch.bfloat16)
    both.set(engine, attention)
    ids = IDS[:1, :40]
    theirs = both.reference(ids[:, :36], use_cache=True)
    cache = both.ours.new_cache(batch=1, capacity=40)
    assert torch.equal(theirs.logits, both.ours(ids[:, :36], cache=cache))
    for position in range(36, 40):
        token = ids[:, position : position + 1]
        theirs = both.reference(token, past_key_values=theirs.past_key_values, use_cache=True)
        assert torch.equal(theirs.logits, both.ours(token, cache=cache))


@pytest.mark.parametrize("shape", MOE_SHAPES)
def test_the_same_experts_are_selected(pair, shape):
    """float32, loop against eager, eager attention: equal sets wherever rank k and k+1 are further apart than 1e-5;
    ties may fall either way.
    """
    both = pair(shape, torch.float32)
    both.set("loop", "eager")
    theirs: list[torch.Tensor] = []
    ours = []
    handles = []
    for layer in both.ours.layers:
        if hasattr(layer.mlp, "gate"):
            handles.append(layer.mlp.gate.register_forward_hook(lambda module, args, routing: ours.append(routing)))
    for layer in both.reference.model.layers:
        if hasattr(layer.mlp, "gate"):
            handles.append(layer.mlp.gate.register_forward_hook(lambda module, args, output: theirs.append(output[2])))
    both.logits(IDS)
    for handle in handles:
        handle.remove()
    assert len(ours) == len(theirs) == len(both.ours.config.moe_layers)
    for routing, reference in zip(ours, theirs, strict=True):
        slots = routing.experts.shape[1]
        ranked = routing.logits.sort(descending=True).values
        clear = ranked[:, slots - 1] - ranked[:, slots] > 1e-5
        assert clear.float().mean() > 0.95
        assert torch.equal(routing.experts.sort().values[clear], reference.sort().values[clear])


def test_auto_uses_engines_of_equal_rounding(pair):
    """Whatever `auto` picks for a prompt and for one token, the roundings are those of one family: bits equal to
    gather and grouped.
    """
    both = pair("128 experts", torch.bfloat16)
    both.set("grouped", "sdpa")
    whole, single = both.ours(IDS), both.ours(IDS[:1, :1])
    both.ours.engine = "auto"
    assert torch.equal(whole, both.ours(IDS))
    assert torch.equal(single, both.ours(IDS[:1, :1]))


@pytest.mark.parametrize("shape", ["128 experts", "YaRN"])
def test_rotary_tables_equal_the_reference_to_the_bit(pair, shape):
    """float32 tables at positions up to 100,000, where a rounding in the frequencies would have grown large."""
    from minimoe.model.rope import rotary_tables

    both = pair(shape, torch.float32)
    start = 99_000
    cos, sin = rotary_tables(both.ours.config, start, start + 50, torch.float32, torch.device("cpu"))
    positions = torch.arange(start, start + 50)[None]
    expected = both.reference.model.rotary_emb(torch.zeros(1), positions)
    assert torch.equal(cos, expected[0][0]) and torch.equal(sin, expected[1][0])
