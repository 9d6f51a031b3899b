"""A model that cannot be divided is refused in one sentence with the reason and a fix, and the fix works."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minimoe.errors import BadArgument
from minimoe.model.config import ModelConfig
from minimoe.scale.planner.deployment import deploy
from minimoe.scale.planner.divisibility import divides, list_of
from minimoe.scale.planner.precision import PRECISIONS
from minimoe.scale.planner.sharding import EXPERT_SPLITS, SPLITS
from tests.scale.conftest import TINY, configs

BIG, SMALL = ModelConfig.named("Qwen3-235B-A22B"), ModelConfig.named("Qwen3-30B-A3B")
DENSE = ModelConfig.named("Qwen3-0.6B")
LAYERS = 'or divide by layers (split="layers").'


def refusal(config, **arguments):
    with pytest.raises(BadArgument) as caught:
        deploy(config, **arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_heads():
    assert refusal(BIG, devices=3) == (
        "devices is 3 with split 'tensor', but 64 query heads cannot be dealt out evenly: each rank takes whole heads. "
        f"Take 1, 2, 4, 8, 16, 32 or 64 devices, {LAYERS}"
    )


def test_more_ranks_than_key_value_heads():
    odd = dataclasses.replace(BIG, num_attention_heads=48, num_experts=96)
    assert (
        "but 4 key/value heads can be neither divided nor replicated evenly. Take"
        in refusal(odd, devices=6)
    )
    assert deploy(odd, 12).ranks[0].cache == deploy(odd, 4).ranks[0].cache  # three copies of each


def test_experts():
    assert "but 4 experts cannot be dealt out evenly: each rank takes whole experts" in refusal(
        dataclasses.replace(TINY, num_attention_heads=8), devices=8
    )
    odd = dataclasses.replace(BIG, moe_intermediate_size=1535)
    assert "but an expert's width of 1535 is not a multiple of it" in refusal(odd, devices=2, experts="split")
    assert refusal(odd, devices=2, experts="split").endswith(
        f'Take 1 device, or keep experts whole (experts="whole"), {LAYERS}'
    )


def test_dense_feed_forward():
    assert "but the dense feed-forward's width of 3071 is not a multiple of it. " in refusal(
        dataclasses.replace(DENSE, intermediate_size=3071), devices=2
    )


ROWS = "{} ranks would cut the {} rows of mlp.experts.gate_proj at 192, which is 1.5 of them."
COLUMNS = "8 ranks would cut the 1,536 columns of mlp.experts.down_proj at 192, which is 1.5 of them."


@pytest.mark.parametrize(
    ("config", "devices", "precision", "reason"),
    [
        (BIG, 8, "fp8", "FP8 blocks are 128 wide, and " + ROWS.format(8, "1,536") + " Take 1, 2 or 4 devices, or keep"),
        (BIG, 8, "int4", "int4 groups are 128 wide, and " + COLUMNS),
        (BIG, 8, "int8", "int8 groups are 128 wide, and " + COLUMNS),
        (BIG, 8, "gptq-int4", "what GPTQ-Int4 packs together is 128 wide, and " + COLUMNS),
        (BIG, 8, "3-bit", "3-bit groups are 128 wide, and " + COLUMNS),
        (SMALL, 4, "fp8", "FP8 blocks are 128 wide, and " + ROWS.format(4, 768)),
    ],
)
def test_blocks_and_groups_inside_an_expert(config, devices, precision, reason):
    assert reason in refusal(config, devices=devices, precision=precision, experts="split")
    assert deploy(config, devices, precision=precision).experts == "whole"  # the fix
    assert deploy(config, 2, precision=precision, experts="split").ranks
    assert deploy(config, devices, precision="bf16", experts="split").ranks  # not packed, so no block is split


def test_blocks_of_narrow_heads():
    narrow = dataclasses.replace(BIG, head_dim=32)
    assert "FP8 blocks are 128 wide, and 4 ranks would cut the 128 rows of self_attn.k_proj at 32" in refusal(
        narrow, devices=4, precision="fp8"
    )
    assert deploy(narrow, 4, precision="int4").ranks  # its groups are along the other axis
    assert deploy(narrow, 4, precision="gptq-int4").ranks  # eight rows at a time
    assert "together is 8 wide, and 4 ranks would cut the 16 rows of self_attn.k_proj at 4" in refusal(
        dataclasses.replace(narrow, head_dim=4), devices=4, precision="gptq-int4"
    )


def test_layers():
    assert refusal(BIG, devices=95, split="layers") == (
        "devices is 95 with split 'layers', but the model has 94 layers and each device needs at least one. "
        "Take 94 devices or fewer."
    )


@pytest.mark.parametrize(
    "arguments",
    [
        {"devices": 0}, {"devices": 2.0}, {"devices": True}, {"split": "rows"}, {"experts": "some"},
        {"precision": "fp7"}, {"kv_precision": "int3"}, {"context": -1}, {"chunk": 0}, {"reserve": -1},
        {"device_memory": 0}, {"device_memory": "80GB"},
    ],
)  # fmt: skip
def test_bad_arguments_are_named_with_their_values(arguments):
    (name, value), *_ = arguments.items()
    sentence = refusal(BIG, **arguments)
    assert sentence.startswith(f"{name} is {value!r}, expected ")


@given(
    config=configs, devices=st.integers(1, 16), split=st.sampled_from(SPLITS), experts=st.sampled_from(EXPERT_SPLITS),
    precision=st.sampled_from(PRECISIONS),
)  # fmt: skip
def test_the_fix_works(config, devices, split, experts, precision):
    if divides(config, devices, split, experts, precision):
        return
    sentence = refusal(config, devices=devices, split=split, experts=experts, precision=precision)
    if split == "layers":
        assert deploy(config, config.num_hidden_layers, split="layers", precision=precision).ranks
        return
    counts = [n for n in range(1, 65) if divides(config, n, split, experts, precision)]
    assert f"Take {list_of(counts)} device" in sentence
    if "split=" in sentence:
        assert deploy(config, devices, split="layers", precision=precision).ranks
    if "experts=" in sentence:
        assert deploy(config, devices, precision=precision).ranks
    for count in counts[1:]:
        assert deploy(config, count, split=split, experts=experts, precision=precision).ranks
