"""Packed matrices unpack to the values specified by their format, to the bit."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from minimoe import ModelConfig
from minimoe.checkpoint.layout import expected_tensors
from minimoe.checkpoint.safetensors.header import Header
from minimoe.checkpoint.weights.convert import check_values
from minimoe.errors import BadArgument, UnsupportedModel, WrongModel
from minimoe.quantisation import Format, format_of, is_packed
from minimoe.quantisation.detect import FP8, GPTQ_INT4, INT4, INT8, PLAIN
from tests.checkpoint.fake import TINY
from tests.quantisation.packing import PACKABLE, fp8_parts, gptq_parts, gptq_values

SHAPES = [(128, 256), (1, 2), (20, 264), (130, 128), (264, 130)]
DTYPES = [torch.bfloat16, torch.float16, torch.float32, torch.float64]


def matrix(outs: int, ins: int, seed: int = 0) -> Tensor:
    """Seeded values with rows of very different magnitude."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(outs, ins, generator=generator) * torch.logspace(-3, 1, outs)[:, None]


def packed(format: Format, shape: tuple[int, int]) -> dict[str, Tensor]:
    if format is FP8:
        return fp8_parts(matrix(*shape))
    return gptq_parts(matrix(*shape)) if format is GPTQ_INT4 else format.pack(matrix(*shape))


@pytest.mark.parametrize("format", [FP8, GPTQ_INT4, INT4, INT8], ids=lambda format: format.name)
@pytest.mark.parametrize("shape", SHAPES)
def test_components_describe_the_stored_tensors(format: Format, shape: tuple[int, int]) -> None:
    codes = {torch.float8_e4m3fn: "F8_E4M3", torch.bfloat16: "BF16", torch.float16: "F16", torch.int32: "I32",
             torch.uint8: "U8", torch.int8: "I8"}  # fmt: skip
    found = {suffix: (codes[part.dtype], tuple(part.shape)) for suffix, part in packed(format, shape).items()}
    assert found == {suffix: (part.code, part.shape) for suffix, part in format.components(*shape).items()}


# ------------------------------------------------------------------ the official formats


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", SHAPES)
def test_fp8_number_by_number(shape: tuple[int, int], dtype: torch.dtype) -> None:
    parts = fp8_parts(matrix(*shape))
    found = FP8.unpack(parts, dtype)
    weight, scale = parts["weight"].tolist(), parts["weight_scale_inv"].tolist()
    wanted = [[number * scale[out // 128][k // 128] for k, number in enumerate(row)] for out, row in enumerate(weight)]
    assert torch.equal(found, torch.tensor(wanted, dtype=torch.float32).to(dtype))
    assert found.is_contiguous() and found.dtype == dtype


def test_fp8_equals_transformers() -> None:
    """Whole blocks only, as its code refuses others; all 254 finite bytes are there, and scales of every size."""
    from transformers.integrations.finegrained_fp8 import Fp8Dequantize

    every = torch.arange(256, dtype=torch.uint8).view(torch.float8_e4m3fn)
    every = every[every.float().isfinite()]
    weight = every.repeat(384 * 512 // len(every) + 1)[: 384 * 512].reshape(384, 512)
    scale = torch.logspace(-6, 2, 12).reshape(3, 4).bfloat16()
    reference: Any = Fp8Dequantize(None)
    theirs = reference.convert({"weight": weight, "weight_scale_inv": scale})["weight"]
    ours = FP8.unpack({"weight": weight, "weight_scale_inv": scale}, torch.bfloat16)
    assert theirs.dtype == torch.bfloat16 and torch.equal(ours, theirs)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("scale_dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("shape", SHAPES)
def test_gptq_number_by_number(shape: tuple[int, int], scale_dtype: torch.dtype, dtype: torch.dtype) -> None:
    parts = gptq_parts(matrix(*shape), scale_dtype)
    assert torch.equal(GPTQ_INT4.unpack(parts, dtype), gptq_values(parts, dtype))


def test_gptq_by_hand() -> None:
    """Two outputs, eight inputs: 0 .. 7 in the first number, 8 .. 15 in the second; zero points 8 and 16."""
    parts = {
        "qweight": torch.tensor([[0x76543210, 0xFEDCBA98 - 2**32]], dtype=torch.int32),
        "qzeros": torch.tensor([[0xF7]], dtype=torch.int32),  # stored minus one
        "scales": torch.tensor([[0.5, 2.0]], dtype=torch.float16),
        "g_idx": torch.zeros(8, dtype=torch.int32),
    }
    rows = [[-4, -3.5, -3, -2.5, -2, -1.5, -1, -0.5], [-16, -14, -12, -10, -8, -6, -4, -2]]
    assert GPTQ_INT4.unpack(parts, torch.float32).tolist() == rows


def test_gptq_refuses_reordered_inputs() -> None:
    groups = gptq_parts(matrix(8, 256))["g_idx"]
    assert GPTQ_INT4.check("g_idx", groups) is None
    assert "not k // 128" in str(GPTQ_INT4.check("g_idx", groups.flip(0)))


def test_invalid_values_are_reported_with_file_and_name() -> None:
    header = Header(Path("x.safetensors"), {}, {}, (), 0)
    groups = gptq_parts(matrix(8, 384))["g_idx"]
    check_values(GPTQ_INT4, header, "a.g_idx", groups[128:], start=128)
    with pytest.raises(WrongModel, match=r"x\.safetensors: a\.g_idx: the group of input k"):
        check_values(GPTQ_INT4, header, "a.g_idx", groups[128:])


def test_gptq_groups_are_checked_by_the_reader_not_at_every_use() -> None:
    """On the meta device, where tensors have no values."""
    parts = gptq_parts(matrix(8, 256))
    unpacked = GPTQ_INT4.unpack(parts | {"g_idx": parts["g_idx"].to("meta")}, torch.bfloat16)
    assert torch.equal(unpacked, gptq_values(parts))


# ------------------------------------------------------------------ minimoe's own formats


@given(
    bits=st.sampled_from([4, 8]), outs=st.integers(1, 9), pairs=st.integers(1, 200), seed=st.integers(0, 10**6),
    size=st.sampled_from([1e-20, 1e-3, 1.0, 3e4]),
)  # fmt: skip
def test_rounding_is_off_by_half_a_step_at_most(bits: int, outs: int, pairs: int, seed: int, size: float) -> None:
    weight = matrix(outs, 2 * pairs, seed) * size
    parts = (INT4 if bits == 4 else INT8).pack(weight)
    found = (INT4 if bits == 4 else INT8).unpack(parts, torch.float64)
    step = parts["weight_scale"].double().repeat_interleave(128, 1)[:, : 2 * pairs]
    assert ((found - weight.double()).abs() <= step * 0.500001).all()
    largest = weight.abs().amax(1)
    assert (parts["weight_scale"].float().amax(1) <= largest / (2 ** (bits - 1) - 1) * (1 + 2**-8)).all()


@given(bits=st.sampled_from([4, 8]), outs=st.integers(1, 5), pairs=st.integers(1, 140), seed=st.integers(0, 10**6))
def test_values_on_the_grid_are_exact(bits: int, outs: int, pairs: int, seed: int) -> None:
    format, most = (INT4, 7) if bits == 4 else (INT8, 127)
    generator = torch.Generator().manual_seed(seed)
    numbers = torch.randint(-most, most + 1, (outs, 2 * pairs), generator=generator)
    numbers[:, ::128] = most  # the first of each group is the largest, as it is of every packed matrix
    scale = torch.rand(outs, -(-2 * pairs // 128), generator=generator).add(0.01).bfloat16()
    weight = numbers * scale.float().repeat_interleave(128, 1)[:, : 2 * pairs]
    parts = format.pack(weight)
    assert torch.equal(parts["weight_scale"], scale)
    assert torch.equal(format.unpack(parts, torch.float32), weight)
    again = format.pack(format.unpack(parts, torch.float32))
    assert all(torch.equal(again[suffix], part) for suffix, part in parts.items())


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("format", [INT4, INT8], ids=lambda format: format.name)
@pytest.mark.parametrize("shape", SHAPES)
def test_own_formats_number_by_number(format: Any, shape: tuple[int, int], dtype: torch.dtype) -> None:
    """The even input is in the lower half of a byte, 8 means zero."""
    parts = format.pack(matrix(*shape))
    stored, scale = parts[format.numbers].tolist(), parts["weight_scale"].tolist()
    if format is INT4:
        stored = [[(row[k // 2] >> 4 * (k % 2) & 15) - 8 for k in range(shape[1])] for row in stored]
    wanted = [[number * scale[out][k // 128] for k, number in enumerate(row)] for out, row in enumerate(stored)]
    assert torch.equal(format.unpack(parts, dtype), torch.tensor(wanted, dtype=torch.float32).to(dtype))


def test_a_row_of_zeros_stays_zero_and_changes_no_other() -> None:
    weight = torch.zeros(2, 256)
    weight[1, 3] = -7
    for format in (INT4, INT8):
        found = format.unpack(format.pack(weight), torch.float32)
        assert torch.equal(found[0], weight[0])
        assert found[1].tolist() == pytest.approx(weight[1].tolist(), rel=4e-3)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_non_finite_values_are_refused(value: float) -> None:
    weight = matrix(4, 256)
    weight[2, 200] = value
    with pytest.raises(BadArgument, match="NaN or infinity"):
        INT4.pack(weight)


def test_an_odd_number_of_inputs_fits_int8_only() -> None:
    assert INT8.unpack(INT8.pack(matrix(3, 131)), torch.float32).shape == (3, 131)
    with pytest.raises(UnsupportedModel, match="Choose int8"):
        INT4.pack(matrix(3, 131))


@pytest.mark.parametrize("format", [FP8, GPTQ_INT4, PLAIN], ids=lambda format: format.name)
def test_read_only_formats(format: Format) -> None:
    with pytest.raises(BadArgument, match="int4, int8"):
        format.pack(matrix(2, 128))


# ------------------------------------------------------------------ slices of a matrix


@pytest.mark.parametrize("format", [FP8, GPTQ_INT4, INT4, INT8], ids=lambda format: format.name)
@pytest.mark.parametrize(
    ("axis", "start", "stop"),
    [("rows", 0, 128), ("rows", 128, 300), ("rows", 0, 200), ("columns", 128, 384), ("columns", 256, 390)],
)
def test_slices_of_the_components_are_slices_of_the_matrix(format: Format, axis: str, start: int, stop: int) -> None:
    parts = packed(format, (300, 390))
    piece = {}
    for suffix, part in parts.items():
        cut = format.cut(suffix, axis, start, stop)
        piece[suffix] = part if cut is None else part.narrow(cut[0], cut[1], cut[2] - cut[1]).contiguous()
        begin = start if axis == "columns" else 0
        assert format.check(suffix, piece[suffix], begin) is None
    whole = format.unpack(parts, torch.float32)
    wanted = whole[start:stop] if axis == "rows" else whole[:, start:stop]
    assert torch.equal(format.unpack(piece, torch.float32), wanted)
    components = format.components(*wanted.shape)
    assert {suffix: tuple(part.shape) for suffix, part in piece.items()} == {
        suffix: part.shape for suffix, part in components.items()
    }


@pytest.mark.parametrize(
    ("format", "suffix", "axis", "start"),
    [
        (FP8, "weight", "rows", 192),  # where the second of 8 devices would begin in 1536 rows
        (FP8, "weight_scale_inv", "columns", 64),
        (GPTQ_INT4, "qweight", "columns", 192),
        (GPTQ_INT4, "scales", "rows", 12),
        (INT4, "weight_int4", "columns", 96),
        (INT8, "weight_scale", "columns", 8),
    ],
)
def test_a_slice_that_begins_inside_a_block_is_refused(format: Format, suffix: str, axis: str, start: int) -> None:
    with pytest.raises(BadArgument, match="begin inside one of the blocks"):
        format.cut(suffix, axis, start, start + 128)
    with pytest.raises(BadArgument, match="axis is 'depth'"):
        format.cut(suffix, "depth", 0, 128)


# ------------------------------------------------------------------ detection


def test_the_format_of_every_member_of_the_family() -> None:
    named = {
        "Qwen3-235B-A22B": "plain", "Qwen3-235B-A22B-FP8": "fp8", "Qwen3-235B-A22B-GPTQ-Int4": "gptq-int4",
        "Qwen3-Coder-480B-A35B-Instruct-FP8": "fp8", "Qwen3-30B-A3B-GPTQ-Int4": "gptq-int4", "Qwen3-0.6B": "plain",
    }  # fmt: skip
    assert {name: format_of(ModelConfig.named(name)).name for name in named} == named


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"quant_method": "awq"}, "quant_method 'awq'"),
        ({}, "quant_method None"),
        ({"quant_method": ["fp8"]}, r"quant_method \['fp8'\]"),
        ({"quant_method": "fp8"}, "weight_block_size None"),
        ({"quant_method": "fp8", "weight_block_size": [64, 64]}, r"weight_block_size \[64, 64\]"),
        ({"quant_method": "fp8", "weight_block_size": [128, 128], "fmt": "e5m2"}, "fmt 'e5m2'"),
        ({"quant_method": "fp8", "weight_block_size": [128, 128], "activation_scheme": "static"}, "'static'"),
        (
            {"quant_method": "fp8", "weight_block_size": [128, 128],
             "modules_to_not_convert": ["lm_head", "model.layers.0.self_attn.q_proj"]},
            "modules_to_not_convert",
        ),
        ({"quant_method": "gptq", "bits": 8, "group_size": 128, "desc_act": False}, "bits 8"),
        ({"quant_method": "gptq", "bits": 4, "group_size": 32, "desc_act": False}, "group_size 32"),
        ({"quant_method": "gptq", "bits": 4, "group_size": 128, "desc_act": True}, "desc_act True"),
        (
            {"quant_method": "gptq", "bits": 4, "group_size": 128, "desc_act": False, "checkpoint_format": "marlin"},
            "checkpoint_format 'marlin'",
        ),
        ({"quant_method": "gptq", "bits": 4, "group_size": 128, "desc_act": False, "sym": "yes"}, "sym 'yes'"),
        ({"quant_method": "minimoe", "bits": 2, "group_size": 128}, "bits 2"),
        ({"quant_method": "minimoe", "bits": 4, "group_size": 128.0}, "group_size 128.0"),
    ],
)  # fmt: skip
def test_unsupported_settings_are_refused_by_name(settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UnsupportedModel, match=sentence):
        format_of(replace(TINY, quantization_config=settings))


def test_linear_layers_are_packed_and_nothing_else() -> None:
    names = [tensor.name for tensor in expected_tensors(PACKABLE)]
    packs = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
    for name in names:
        assert is_packed(name) == (name.split(".")[-2] in packs), name
        assert is_packed(name.removeprefix("model.")) == is_packed(name.removesuffix(".weight")) == is_packed(name)
    assert is_packed("layers.0.mlp.experts.gate_proj") and is_packed("model.layers.3.mlp.experts.gate_up_proj")
    assert not is_packed("model.layers.0.mlp.gate.weight") and not is_packed("xmodel.layers.0.mlp.gate_proj.weight")
