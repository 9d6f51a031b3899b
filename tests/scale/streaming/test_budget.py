"""The division of RAM: exact sums, the minimum, and expected reads under uniform routing against a simulation."""

import json
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from minimoe.errors import BadArgument, PlanTooBig
from minimoe.model.config import ModelConfig
from minimoe.scale.streaming.budget import budget
from minimoe.scale.streaming.buffer_layout import BufferLayout
from minimoe.scale.streaming.expert_cache import ExpertCache
from tests.scale.conftest import configs
from tests.scale.streaming.streamed import SETTINGS

BIG = ModelConfig.named("Qwen3-235B-A22B")
LAYER = 2 * (2 * 8192 * 4096 + 2 * 512 * 4096)  # bytes of one layer's projections
EXPERT = 3 * 2 * 1536 * 4096


@given(configs, st.integers(1, 50), st.integers(0, 3000))
def test_the_parts_of_the_budget_sum_to_its_total(config, context, beyond):
    least = budget(config, context=context).least
    plan = budget(config, ram=least + beyond, context=context)
    assert plan.weights == plan.small + plan.head + sum(plan.places) + plan.slots * plan.slot
    assert plan.total == plan.weights + plan.cache + plan.work <= plan.ram
    assert 0 <= plan.slots <= plan.experts and (plan.slots > 0) == (plan.experts > 0)
    assert plan.resident + plan.shared >= 1 and plan.resident <= len(plan.dense)
    assert (plan.shared == 0) == (plan.resident == len(plan.dense))
    spare = plan.ram - plan.total
    if plan.resident < len(plan.dense):
        assert spare < plan.dense[plan.resident] or spare < max(plan.dense)
    if plan.slots < plan.experts:
        assert spare < plan.slot


@given(configs, st.integers(1, 50))
def test_one_byte_less_than_the_minimum_is_refused(config, context):
    least = budget(config, context=context).least
    assert budget(config, context=context).total == least
    with pytest.raises(PlanTooBig, match=f"{least:,} bytes"):
        budget(config, ram=least - 1, context=context)


@given(configs, st.integers(1, 20), st.integers(1, 4000))
def test_more_ram_never_reads_more_of_what_every_token_needs(config, context, step):
    """For layers of equal size: the second shared buffer is as large as the largest layer."""
    config = replace(config, mlp_only_layers=(), decoder_sparse_step=1)
    least = budget(config, context=context).least
    parts = [budget(config, ram=least + each * step, context=context).token_parts() for each in range(5)]
    reads = [part["attention and dense layers"] for part in parts]
    assert reads == sorted(reads, reverse=True)


def test_the_235b():
    plan = budget(BIG, ram="12GB")
    assert plan.context == 4096 and plan.cache == 4096 * 192_512
    assert plan.dense == (LAYER,) * 94 and plan.slot == EXPERT and plan.experts == 94 * 128
    assert plan.head == 151_936 * 4096 * 2 and plan.small == 2 * (94 * (128 * 4096 + 2 * 4096 + 256) + 4096)
    assert (plan.shared, plan.slots, plan.hit_rate) == (2, 4, 0.0)
    assert plan.resident == (plan.ram - plan.needed) // LAYER - 2
    assert plan.token_parts()["attention and dense layers"] == (94 - plan.resident) * LAYER
    assert plan.token_parts()["experts"] == 94 * 8 * EXPERT
    everything = budget(BIG, ram="480GB")
    assert (everything.shared, everything.resident, everything.slots) == (0, 94, 94 * 128)
    assert everything.hit_rate == 1.0 and everything.token_bytes() == 8192
    assert budget(BIG, context=64).least < 1_700_000_000


@pytest.mark.parametrize(("tokens", "touched"), [(1, 8), (8, 52), (32, 112)])
def test_the_experts_of_a_layer_that_a_prompt_of_the_235b_uses(tokens, touched):
    assert round(budget(BIG, ram="12GB").prefill_parts(tokens)["experts"] / 94 / EXPERT) == touched


def test_layer_0_of_the_235b_by_routing_only_costs_145_mb():
    plan = budget(BIG, ram="1GB", layers=range(1), routing_only=True)
    assert plan.slots == plan.experts == plan.head == 0 and plan.context == 4096
    assert plan.prefill_parts(40) == {
        "embedding rows": 40 * 8192, "attention and dense layers": LAYER, "experts": 0, "lm_head": 0,
    }  # fmt: skip
    assert 143_500_000 < plan.small + plan.prefill_bytes(40) < 145_000_000
    assert plan.prefill_seconds(40, 12.5e6) == pytest.approx(plan.prefill_bytes(40) / 12.5e6)


def uniform_trial(slots, tokens=200, layers=12, experts=12, wanted=3):
    """Hit rate of the real cache, once it is full, under uniform routing."""
    generator, cache = torch.Generator().manual_seed(0), ExpertCache(slots, 64, lambda key, memory: BufferLayout([]))
    for token in range(tokens):
        if token == tokens // 4:
            cache.hits = cache.misses = 0
        for layer in range(layers):
            for expert in sorted(torch.randperm(experts, generator=generator)[:wanted].tolist()):
                cache.get((layer, expert))
    return cache.hits / (cache.hits + cache.misses)


def test_the_hit_rate_is_zero_until_one_token_fits_and_then_rises():
    config = replace(BIG, num_hidden_layers=12, num_experts=12, num_experts_per_tok=3)
    full = budget(config, ram=10**12)
    for slots in (1, 30, 40, 48, 72, 108, 140, 144):
        plan = replace(full, slots=slots)
        assert plan.hit_rate == pytest.approx(uniform_trial(slots), abs=0.04), slots
    assert replace(full, slots=35).hit_rate == 0.0 and replace(full, slots=36).hit_rate == 0.25


def test_packed_weights_need_less_memory():
    slots = {format: budget(replace(BIG, quantization_config=SETTINGS[format])).slot / EXPERT for format in SETTINGS}
    assert {format: round(16 * share, 3) for format, share in slots.items()} == {
        "fp8": 8.002, "gptq-int4": 4.173, "int4": 4.125, "int8": 8.125
    }  # bits a weight; fp8 with scales of 32 bits, which its files may have  # fmt: skip


def test_context_shrinks_by_itself_but_not_below_64():
    small = budget(BIG, context=64).least
    assert budget(BIG, ram=small).context == 64
    assert budget(BIG, ram=budget(BIG, context=512).least).context == 512
    with pytest.raises(PlanTooBig, match="a context of 64 tokens"):
        budget(BIG, ram=small - 1)
    with pytest.raises(PlanTooBig, match="a context of 4,096 tokens"):
        budget(BIG, ram=small, context=4096)


def test_bad_arguments_are_named():
    for arguments, name in [
        ({"ram": "12"}, "ram"), ({"ram": 0}, "ram"), ({"context": 0}, "context"), ({"layers": range(95)}, "layers"),
        ({"dtype": "fp8"}, "dtype"),
    ]:  # fmt: skip
        with pytest.raises(BadArgument, match=name):
            budget(BIG, **arguments)
    with pytest.raises(BadArgument, match="tokens"):
        budget(BIG).prefill_bytes(0)
    with pytest.raises(BadArgument, match="bytes_per_second"):
        budget(BIG).token_seconds(0)


def test_to_dict_is_json():
    assert json.loads(json.dumps(budget(BIG, ram="12GB").to_dict()))["ram"] == 12_000_000_000
