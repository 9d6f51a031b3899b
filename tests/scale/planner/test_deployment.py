"""Fit, missing bytes and alternatives, against reference arithmetic for the 235B and against exhaustive searches."""

import dataclasses
import importlib.util
import json
import subprocess
import sys

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from minimoe.errors import BadArgument, PlanTooBig
from minimoe.model.config import ModelConfig
from minimoe.paths import checkout
from minimoe.scale.planner.alternatives import USEFUL_CONTEXT, alternatives, smaller
from minimoe.scale.planner.deployment import RESERVE, deploy
from minimoe.scale.planner.gpus import CARDS
from minimoe.scale.planner.model_size import plan
from minimoe.scale.planner.rank_memory import work_bytes
from minimoe.scale.planner.report import as_dict, require_fit
from tests.scale.conftest import TINY, configs

BIG = ModelConfig.named("Qwen3-235B-A22B")
GB, MIB = 10**9, 2**20
TRUTH = checkout().parent / "shared" / "anchors" / "facts" / "memory_truth.py"

# Gigabytes to spare over all cards (32,768 tokens, 16-bit cache, 2 GiB reserved on each) from the reference arithmetic,
# which excludes work space and the copies of small tensors.
SPARE = {
    (1, 24_564): {"bf16": -453, "fp8": -219, "int4": -106, "3-bit": -77},
    (4, 24_564): {"bf16": -382, "fp8": -148, "int4": -35, "3-bit": -6},
    (8, 24_564): {"bf16": -294, "fp8": -60, "int4": 53, "3-bit": 82},
    (1, 81_559): {"bf16": -393, "fp8": -159, "int4": -46, "3-bit": -17},
    (2, 81_559): {"bf16": -310, "fp8": -76, "int4": 37, "3-bit": 67},
    (4, 81_559): {"bf16": -143, "fp8": 91, "int4": 204, "3-bit": 233},
    (8, 81_559): {"bf16": 184, "fp8": 418, "int4": 531, "3-bit": 560},
    (8, 40_960): {"bf16": -156, "fp8": 77, "int4": 191, "3-bit": 220},
    (1, 143_771): {"bf16": -328, "fp8": -94, "int4": 19, "3-bit": 48},
    (2, 143_771): {"bf16": -179, "fp8": 54, "int4": 168, "3-bit": 197},
    (4, 143_771): {"bf16": 118, "fp8": 352, "int4": 465, "3-bit": 494},
    (8, 143_771): {"bf16": 706, "fp8": 940, "int4": 1053, "3-bit": 1082},
}


@pytest.mark.parametrize(("devices", "mebibytes"), SPARE)
def test_fit_agrees_with_the_reference_arithmetic(devices, mebibytes):
    for precision, spare in SPARE[devices, mebibytes].items():
        placed = deploy(BIG, devices, mebibytes * MIB, precision=precision, context=32_768, kernel="flash")
        assert placed.fits == (spare > 0)
        left_out = sum(rank.work for rank in placed.ranks) + placed.weight_bytes
        left_out -= plan(BIG, precision=precision).weight_bytes
        assert round((sum(placed.spare) + left_out) / GB) == spare
        assert left_out < 5 * GB


# 1..16 ranks: weights and cache (32,768 tokens) of a rank, and weights over all ranks, in bf16 and decimal gigabytes.
PER_RANK = {1: (470.2, 6.31, 470.2), 2: (235.1, 3.15, 470.3), 4: (117.6, 1.58, 470.5), 8: (59.0, 1.58, 471.7),
            16: (29.6, 1.58, 474.1)}  # fmt: skip


@pytest.mark.parametrize("devices", PER_RANK)
def test_bytes_per_rank_agree_with_the_reference_arithmetic(devices):
    placed = deploy(BIG, devices, context=32_768)
    rank = placed.ranks[0]
    assert len({(each.weights, each.cache, each.work) for each in placed.ranks}) == 1
    assert (round(rank.weights / GB, 1), round(rank.cache / GB, 2), round(placed.weight_bytes / GB, 1)) == PER_RANK[
        devices
    ]


@pytest.mark.skipif(not TRUTH.is_file(), reason=f"the reference arithmetic is not at {TRUTH}")
def test_the_reference_arithmetic_itself():
    specification = importlib.util.spec_from_file_location("memory_truth", TRUTH)
    truth = importlib.util.module_from_spec(specification)
    sys.modules["memory_truth"] = truth  # dataclasses look their module up
    specification.loader.exec_module(truth)
    del sys.modules["memory_truth"]
    names = {"bf16": "bf16", "fp8": "fp8 128x128 (e4m3 + bf16 scale)", "int4": "int4 g128 symmetric (4.125 b)"}
    names |= {"3-bit": "3-bit g128 (3.125 b)"}
    assert RESERVE == truth.OVERHEAD
    for ours, theirs in names.items():
        sizes = plan(BIG, precision=ours)
        assert sizes.weight_bytes == pytest.approx(truth.FORMATS[theirs], abs=1)
        for card, mebibytes in truth.CARDS.items():
            for devices in (1, 2, 4, 8):
                spare = truth.fits(devices, mebibytes, truth.FORMATS[theirs], 32_768)[1]
                if (devices, mebibytes) in SPARE:
                    assert round(spare) == SPARE[devices, mebibytes][ours], card
    for devices in (1, 2, 4, 8, 16):
        for kv_precision, size in (("bf16", 2), ("fp8", 1)):
            placed = deploy(BIG, devices, context=32_768, kv_precision=kv_precision)
            assert placed.cache_bytes == truth.C.kv_per_token(size) * 32_768 * truth.kv_copies(devices)


def test_the_1m_token_figure():
    """470 + 194 GB; on 8 ranks the cache is stored twice; FP8 weights and cache on 4 ranks: 334 GB."""
    eight = deploy(BIG, 8, context=1_010_000)
    assert round(eight.cache_bytes / GB) == 389
    four = deploy(BIG, 4, context=1_010_000, precision="fp8", kv_precision="fp8")
    assert round((four.weight_bytes + four.cache_bytes) / GB) == 334


def test_fit_is_decided_per_rank():
    """The total memory is sufficient, but the first rank also holds the embedding and one more layer."""
    placed = deploy(BIG, 7, 70 * GB, split="layers", context=1000, reserve=0)
    assert sum(placed.spare) > 0 > min(placed.spare)
    assert placed.fits is False
    assert placed.short_bytes == -sum(left for left in placed.spare if left < 0)
    assert placed.largest.rank == 0


def test_without_device_memory_fit_is_unknown():
    placed = deploy(BIG, 8)
    assert (placed.fits, placed.usable, placed.spare, placed.short_bytes) == (None, None, (), 0)
    assert alternatives(placed) == ()
    require_fit(placed)


def test_too_big_is_one_error_with_a_fix():
    with pytest.raises(PlanTooBig) as caught:
        require_fit(deploy(BIG, 2, CARDS["H100"], context=32_768))
    assert str(caught.value) == (
        "rank 0 of 2 needs 238.40 GB (weights 235.14 GB, KV cache 3.15 GB, work space 102.24 MB), a device has 83.37 "
        "GB to use: 155.03 GB short. What fits: the weights in int4."
    )
    with pytest.raises(PlanTooBig, match="No plan near this one fits: use other devices"):
        require_fit(deploy(BIG, 1, GB))
    require_fit(deploy(BIG, 8, CARDS["H100"], context=32_768))


@pytest.mark.parametrize(
    ("devices", "card", "arguments", "changes"),
    [
        (8, "H100", {"context": 262_144}, []),
        (2, "H100", {"context": 32_768}, ["the weights in int4", "8 such devices"]),
        (8, "A100-40GB", {"context": 32_768}, ["the weights in fp8", "16 such devices"]),
        (4, "RTX 4090", {"context": 32_768, "precision": "int4"}, ["8 such devices"]),
        (3, "H200", {"context": 32_768, "split": "layers"}, ["the weights in fp8", "4 such devices"]),
        (1, "H200", {"context": 262_144, "precision": "int4"},
         ["a context of 131,412 tokens", "2 such devices"]),
        (8, "H100", {"context": 700_000},
         ["the KV cache in fp8", "a context of 459,586 tokens", "the weights in fp8",
          "the same devices with split 'layers'", "16 such devices"]),
    ],
)  # fmt: skip
def test_nearest_plans(devices, card, arguments, changes):
    placed = deploy(BIG, devices, CARDS[card], **arguments)
    assert [each.change for each in alternatives(placed)] == changes
    assert placed.fits == (not changes)


@given(
    config=configs, devices=st.sampled_from([1, 2, 3, 4]), memory=st.integers(1, 60_000), context=st.integers(0, 9000),
    split=st.sampled_from(["tensor", "layers"]),
)  # fmt: skip
def test_alternatives_fit_and_the_context_is_the_longest(config, devices, memory, context, split):
    from minimoe.scale.planner.divisibility import divides

    assume(divides(config, devices, split, "whole", "bf16"))
    placed = deploy(config, devices, memory, context=context, split=split, reserve=0)
    assert placed.fits == all(rank.total <= memory for rank in placed.ranks)
    for each in alternatives(placed):
        there = each.deployment
        assert there.fits and there.device_memory == memory
        same = dataclasses.replace(there, ranks=placed.ranks)
        keys = ("precision", "kv_precision", "context", "split", "devices")
        changed = [key for key in keys if getattr(same, key) != getattr(placed, key)]
        assert changed in ([key] for key in keys) or changed == ["split", "devices"]
        if changed == ["context"]:
            assert there.context >= min(context, USEFUL_CONTEXT)
            assert not deploy(config, devices, memory, context=there.context + 1, split=split, reserve=0).fits
        if changed == ["devices"]:
            for fewer in range(devices + 1, there.devices):
                if divides(config, fewer, split, "whole", "bf16"):
                    assert not deploy(config, fewer, memory, context=context, split=split, reserve=0).fits


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"chunk": 3}, 72 + (168 + 45)),  # stream, then attention and its mask
        ({"chunk": 3, "kv_precision": "fp8"}, 72 + (168 + 45 + 2 * 5 * 2 * 2)),  # a layer's keys and values in 16 bits
        ({"chunk": 1}, 24 + (10 * 2 + 10 * 4)),  # one new token: no mask, and the head is the largest
        ({"chunk": 9}, 5 * 4 * 3 * 2 + (5 * 28 * 2 + 3 * 5 * 5)),  # never more positions than the context
        ({"chunk": 1, "kv_precision": "fp32"}, 24 + (10 * 2 + 10 * 4)),
        ({"chunk": 3, "split": "tensor"}, 72 + 3 * (4 * 4 + 3 * 3) * 2 + 3 * 2 * (2 * 4 + 4) * 2),  # its experts
        # q, its normed copy, k and v, and a plain kernel: keys and values, queries, the mask, nine bytes a score
        ({"chunk": 3, "kernel": "plain"}, 72 + 3 * 12 * 2 + (8 * 5 * (4 + 2) + 8 * 3 * 4 + 4 * 3 * 5) + 9 * 2 * 3 * 5),
    ],
)
def test_work_space_by_hand(arguments, expected):
    assert deploy(TINY, 2, context=5, **({"split": "layers", "kernel": "cpu"} | arguments)).ranks[-1].work == expected


def test_unpacked_matrices_by_hand():
    """int4: 3 bytes per value and 8 per group of the matrix being unpacked, plus two unpacked ones in an expert."""
    one = deploy(TINY, 1, context=5, chunk=3, precision="int4", kernel="cpu").ranks[0].work
    assert one == 72 + (3 * (6 * 4 + 2 * 2) * 2 + 45) + (2 * 2 * 3 * 4 + 4 * 128 * 3 * 2)  # its groups are partial
    expert, queries = 4096 * 1536, 8192 * 4096
    for devices, most in ((8, expert * (2 * 2 + 3) + 8 * expert // 128), (1, queries * 3 + 8 * queries // 128)):
        works = [deploy(BIG, devices, context=5, precision=each).ranks[0].work for each in ("int4", "bf16")]
        assert works[0] - works[1] == most


@given(config=configs, context=st.integers(0, 500), chunk=st.integers(1, 600))
def test_memory_never_shrinks_as_the_context_grows(config, context, chunk):
    held = deploy(config, 1, context=context).cuts(0)
    sizes = [work_bytes(config, held, each, "bf16", "fp8", chunk) for each in (context, context + 1)]
    assert 0 < sizes[0] <= sizes[1]


def test_to_dict_is_plain_json_and_complete():
    placed = deploy(BIG, 4, CARDS["H100"], context=32_768, name="x")
    again = json.loads(json.dumps(as_dict(placed)))
    assert again["fits"] is False
    assert [rank["spare_bytes"] for rank in again["ranks"]] == list(placed.spare)
    for rank in again["ranks"]:
        assert sum(tensor["bytes"] for tensor in rank["tensors"]) == rank["weight_bytes"]
        assert rank["total_bytes"] == rank["weight_bytes"] + rank["kv_cache_bytes"] + rank["work_bytes"]
        experts = next(tensor for tensor in rank["tensors"] if tensor["tensor"] == "mlp.experts.up_proj")
        assert experts["experts"] == [32 * rank["rank"], 32 * rank["rank"] + 32]
    assert again["alternatives"][-1] == {
        "change": "8 such devices", "devices": 8, "precision": "bf16", "kv_precision": "bf16", "context": 32_768,
        "split": "tensor", "experts": "whole", "tight": False,
    }  # fmt: skip
    assert (again["attention"], again["tight"], again["tight_bytes"]) == ("flash", False, 0)


@pytest.mark.parametrize(
    ("device", "precision", "kernel"),
    [
        ("A100-80GB", "bf16", "flash"), ("RTX 4090", "int4", "flash"), ("H100", "fp8", "flash"),
        ("T4", "int4", "plain"), ("V100-32GB", "bf16", "plain"), ("MI300X", "bf16", "plain"),
        ("H100", "fp32", "plain"), (80 * GB, "bf16", "plain"), (None, "bf16", "plain"),
    ],
)  # fmt: skip
def test_card_and_precision_determine_the_attention_kernel(device, precision, kernel):
    placed = deploy(BIG, 8, CARDS.get(device, device), precision=precision, context=32_768)
    assert placed.attention == kernel
    scores = 8 * 512 * 32_768 * 4  # float32 scores of the query heads of a rank
    assert (placed.ranks[0].work > 2 * scores) == (kernel == "plain")


def test_a_head_dim_without_flash_attention_needs_the_plain_kernel():
    for head_dim, kernel in ((64, "flash"), (256, "flash"), (320, "plain"), (100, "plain")):
        config = dataclasses.replace(BIG, head_dim=head_dim)
        assert deploy(config, 8, CARDS["H100"], context=100).attention == kernel


def test_a_plan_with_little_spare_memory_is_tight():
    """Six RTX 4090 hold int4 with half a gigabyte to spare, while CUDA and NCCL may use up to 4.34 GB."""
    six = deploy(BIG, 6, CARDS["RTX 4090"], precision="int4", split="layers", context=32_768)
    assert six.fits and six.tight and 0 < min(six.spare) < GB
    assert six.tight_bytes + min(six.spare) + six.reserve == 4_340_000_000
    roomy = deploy(BIG, 8, CARDS["H100"], context=32_768)
    assert (roomy.fits, roomy.tight, roomy.tight_bytes) == (True, False, 0)
    short, unsaid = deploy(BIG, 2, CARDS["H100"]), deploy(BIG, 2)
    assert (short.fits, short.tight, short.tight_bytes) == (False, False, 0)
    assert (unsaid.tight, unsaid.tight_bytes) == (None, 0)
    alone = deploy(BIG, 1, six.largest.total + six.reserve, precision="int4", split="layers", context=0)
    assert not alone.tight  # one device has no NCCL, and 2 GiB are more than CUDA takes


def test_a_tight_plan_is_proposed_only_without_another_and_is_labelled():
    """Five cards are too few, six are tight, seven are enough."""
    five = deploy(BIG, 5, CARDS["RTX 4090"], precision="int4", split="layers", context=32_768)
    assert deploy(BIG, 6, CARDS["RTX 4090"], precision="int4", split="layers", context=32_768).tight
    assert [each.change for each in alternatives(five)] == ["7 such devices"]
    config = dataclasses.replace(BIG, num_hidden_layers=8)
    needs = deploy(config, 8, split="layers", context=32_768, kernel="flash").largest.total
    few = deploy(config, 7, needs + RESERVE, split="layers", context=32_768, precision="bf16", kernel="flash")
    assert "8 such devices (tight)" in [each.change for each in alternatives(few)]


@pytest.mark.parametrize(
    ("arguments", "limit"),
    [
        ({"context": 10**25}, f"context is {10**25}, expected a number of tokens, 0 to 1,000,000,000."),
        ({"device_memory": 10**29}, "expected a number of bytes, 1 to 1,000,000,000,000,000."),
        ({"context": 10**40}, "context is a number of more than 30 digits, expected"),
        ({"reserve": 10**16}, "reserve is 10000000000000000, expected"),
        ({"kernel": "fused"}, "kernel is 'fused', expected one of flash, plain, cpu."),
    ],
)
def test_numbers_beyond_any_device_are_refused(arguments, limit):
    with pytest.raises(BadArgument) as caught:
        deploy(BIG, 8, **arguments)
    assert limit in str(caught.value)


def test_the_planner_imports_neither_torch_nor_plotly():
    code = (
        "import sys; from minimoe.course.figures.ch14_claims import CLAIMS; [claim.verdict() for claim in CLAIMS];"
        "sys.exit('torch' in sys.modules or 'plotly' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("precision", "fewer"),
    [("fp32", ("bf16", "fp8", "int8", "int4")), ("bf16", ("fp8", "int8", "int4")), ("fp8", ("int4",)),
     ("int8", ("int4",)), ("int4", ()), ("gptq-int4", ()), ("3-bit", ())],
)  # fmt: skip
def test_smaller_precisions_have_fewer_bytes(precision, fewer):
    assert smaller(deploy(BIG, precision=precision)) == fewer
    whole = plan(BIG, precision=precision).weight_bytes
    assert all(plan(BIG, precision=each).weight_bytes < whole for each in fewer)
