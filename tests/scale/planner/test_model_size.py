"""The planned sizes against known figures of the real family and against naive counts."""

import dataclasses
import json
import math
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minimoe.errors import BadArgument
from minimoe.model.config import ModelConfig
from minimoe.scale.planner.model_size import plan
from minimoe.scale.planner.precision import PRECISIONS, linear_bytes, own_precision

BIG = ModelConfig.named("Qwen3-235B-A22B")


def test_the_235b_in_every_precision():
    sizes = plan(BIG).bytes_by_precision
    assert sizes == {
        "fp32": 940_374_538_240,
        "bf16": 470_187_269_120,
        "fp16": 470_187_269_120,
        "fp8": 236_416_915_456,
        "int8": 240_041_483_264,
        "int4": 123_142_036_480,
        "gptq-int4": 124_531_203_072,
    }


def test_the_235b_part_by_part():
    table = {part.name: part for part in plan(BIG, precision="bf16").parts}
    assert list(table) == ["embeddings", "attention", "router", "experts", "norms"]
    assert table["experts"].parameters == 227_096_395_776
    assert table["experts"].active == 227_096_395_776 * 8 // 128
    assert table["router"].parameters == 94 * 524_288
    assert table["attention"].parameters == 94 * (71_303_424 - 256)  # q_norm and k_norm are counted as norms
    assert table["embeddings"].bytes == 2 * 2 * 151_936 * 4096


def test_kv_cache_and_total():
    sizes = plan(BIG, context=1000, precision="int4")
    assert sizes.kv_cache_bytes == 192_512_000
    assert sizes.total_bytes == 123_142_036_480 + 192_512_000
    assert plan(BIG).context == 40_960


@pytest.mark.parametrize("precision", PRECISIONS)
def test_parameters_do_not_depend_on_the_precision(precision):
    sizes = plan(BIG, precision=precision)
    assert (sizes.parameters, sizes.active_parameters) == (235_093_634_560, 22_190_763_520)
    assert sizes.active_bytes < sizes.weight_bytes == sizes.bytes_by_precision[precision]


def test_to_dict_is_plain_json_and_agrees_with_the_properties():
    sizes = plan(BIG, context=7, precision="fp8", name="x")
    again = json.loads(json.dumps(sizes.to_dict()))
    assert again["weight_bytes"] == sizes.weight_bytes == sum(part["bytes"] for part in again["parts"])
    assert again["kv_cache_bytes"] == 7 * 192_512
    assert again["name"] == "x"


@pytest.mark.parametrize(
    ("name", "precision"),
    [
        ("Qwen3-235B-A22B", "bf16"),
        ("Qwen3-30B-A3B-FP8", "fp8"),
        ("Qwen3-30B-A3B-GPTQ-Int4", "gptq-int4"),
        ("Qwen3-0.6B", "bf16"),
    ],
)
def test_a_checkpoint_is_planned_in_its_own_precision(name, precision):
    assert own_precision(ModelConfig.named(name)) == precision
    assert plan(ModelConfig.named(name)).precision == precision


@pytest.mark.parametrize(("bits", "precision"), [(4, "int4"), (8, "int8"), (5, "bf16"), ("4", "bf16")])
def test_the_library_s_own_formats_are_recognised(bits, precision):
    packed = dataclasses.replace(BIG, quantization_config={"quant_method": "minimoe", "bits": bits, "group_size": 128})
    assert own_precision(packed) == precision
    assert plan(packed).weight_bytes == plan(BIG, precision=precision).weight_bytes


@pytest.mark.parametrize("arguments", [{"precision": "fp7"}, {"context": -1}, {"context": 1.5}])
def test_bad_arguments_are_named(arguments):
    with pytest.raises(BadArgument, match=next(iter(arguments))):
        plan(BIG, **arguments)


def blocks(length, size=128):
    """The number of blocks, counted naively."""
    return len(range(0, length, size))


@given(outs=st.integers(1, 700), ins=st.integers(1, 700))
def test_linear_bytes_equals_counting_the_stored_values(outs, ins):
    assert linear_bytes(outs, ins, "bf16") == 2 * outs * ins
    assert linear_bytes(outs, ins, "fp8") == outs * ins + 2 * blocks(outs) * blocks(ins)
    assert linear_bytes(outs, ins, "int8") == outs * (ins + 2 * blocks(ins))
    assert linear_bytes(outs, ins, "int4") == outs * (math.ceil(ins / 2) + 2 * blocks(ins))
    stored = {
        "qweight": 4 * blocks(ins, 8) * outs,
        "qzeros": 4 * blocks(ins) * blocks(outs, 8),
        "scales": 2 * blocks(ins) * outs,
        "g_idx": 4 * ins,
    }
    assert linear_bytes(outs, ins, "gptq-int4") == sum(stored.values())


configs = st.builds(
    ModelConfig,
    vocab_size=st.integers(1, 300),
    hidden_size=st.integers(1, 300),
    num_hidden_layers=st.integers(1, 5),
    num_attention_heads=st.just(4),
    num_key_value_heads=st.sampled_from([1, 2, 4]),
    head_dim=st.sampled_from([2, 16]),
    intermediate_size=st.integers(1, 300),
    moe_intermediate_size=st.integers(1, 100),
    num_experts=st.integers(4, 20),
    num_experts_per_tok=st.integers(1, 4),
    decoder_sparse_step=st.integers(1, 3),
    mlp_only_layers=st.sampled_from([(), (0,), (1, 2)]),
    tie_word_embeddings=st.booleans(),
)


@settings(deadline=None)
@given(config=configs)
def test_any_config_agrees_with_the_config_s_own_count(config):
    sizes = plan(config, precision="bf16")
    assert sizes.parameters == config.total_parameters
    assert sizes.active_parameters == config.active_parameters
    assert sizes.weight_bytes == 2 * config.total_parameters


def test_planning_needs_no_torch():
    code = (
        "import sys; from minimoe.scale.planner.model_size import plan; from minimoe.model.config import ModelConfig;"
        "plan(ModelConfig.named('Qwen3-30B-A3B')); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
