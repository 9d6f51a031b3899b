"""The sizes of the real packed checkpoints follow from the layout and equal those of the planner."""

import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest

from minimoe import ModelConfig
from minimoe.checkpoint.layout import expected_tensors
from minimoe.quantisation import format_of, is_packed
from minimoe.quantisation.detect import OWN
from minimoe.scale.planner.model_size import plan
from minimoe.scale.planner.precision import linear_bytes
from minimoe.scale.planner.tensor_kinds import kinds

BIG = "Qwen3-235B-A22B"


def own(name: str, bits: int) -> ModelConfig:
    return replace(ModelConfig.named(name), quantization_config=OWN[f"int{bits}"].settings())


@pytest.mark.parametrize(
    ("config", "tensors", "nbytes"),
    [
        (ModelConfig.named(BIG), 36_945, 470_187_269_120),
        (ModelConfig.named(f"{BIG}-FP8"), 73_417, 236_416_915_456),
        (ModelConfig.named(f"{BIG}-GPTQ-Int4"), 146_361, 124_531_203_072),
        (own(BIG, 4), 73_417, 123_142_036_480),
        (own(BIG, 8), 73_417, 240_041_483_264),
        (ModelConfig.named("Qwen3-30B-A3B-FP8"), 37_491, 31_170_895_872),
    ],
    ids=lambda value: format_of(value).name if isinstance(value, ModelConfig) else str(value),
)
def test_tensors_and_bytes(config: ModelConfig, tensors: int, nbytes: int) -> None:
    """Tensors: one, two or four for each of 94 x 388 linear layers, and 2 + 2 norms and a router a layer, and three."""
    found = list(expected_tensors(config))
    assert len({tensor.name for tensor in found}) == len(found) == tensors
    assert sum(tensor.nbytes(2) for tensor in found) == nbytes
    assert plan(config).to_dict()["weight_bytes"] == nbytes


@pytest.mark.parametrize("precision", ["fp8", "gptq-int4", "int4", "int8"])
@pytest.mark.parametrize("outs", [1, 8, 128, 1536, 20])
@pytest.mark.parametrize("ins", [2, 128, 4096, 130])
def test_bytes_of_one_matrix_equal_those_of_the_planner(precision: str, outs: int, ins: int) -> None:
    settings: dict[str, Any] = {
        "fp8": ModelConfig.named(f"{BIG}-FP8").quantization_config,
        "gptq-int4": ModelConfig.named(f"{BIG}-GPTQ-Int4").quantization_config,
    }
    config = replace(own(BIG, 4), quantization_config=settings.get(precision) or OWN[precision].settings())
    format = format_of(config)
    assert format.name == precision
    widths = {"F8_E4M3": 1, "U8": 1, "I8": 1, "BF16": 2, "F16": 2, "I32": 4}
    counted = 0
    for part in format.components(outs, ins).values():
        rows, columns = (*part.shape, 1)[:2]
        counted += rows * columns * widths[part.code or ""]
    assert counted == linear_bytes(outs, ins, precision)


def test_the_shapes_of_one_expert_as_they_are_published() -> None:
    """From the headers of the released files: anchors for both formats, gate_proj and down_proj of the 235B."""
    wanted = {
        "FP8": {
            "gate_proj": {"weight": (1536, 4096), "weight_scale_inv": (12, 32)},
            "down_proj": {"weight": (4096, 1536), "weight_scale_inv": (32, 12)},
        },
        "GPTQ-Int4": {
            "gate_proj": {"qweight": (512, 1536), "qzeros": (32, 192), "scales": (32, 1536), "g_idx": (4096,)},
            "down_proj": {"qweight": (192, 4096), "qzeros": (12, 512), "scales": (12, 4096), "g_idx": (1536,)},
        },
    }
    for kind, matrices in wanted.items():
        tensors = expected_tensors(ModelConfig.named(f"{BIG}-{kind}"), range(5, 6))
        shapes = {tensor.name: tensor.shape for tensor in tensors}
        for matrix, parts in matrices.items():
            name = f"model.layers.5.mlp.experts.127.{matrix}."
            assert {each.removeprefix(name): shapes[each] for each in shapes if each.startswith(name)} == parts


def test_planner_and_formats_pack_the_same_matrices() -> None:
    for name in (BIG, "Qwen3-0.6B"):
        for kind in kinds(ModelConfig.named(name)):
            everyone = kind.names(kind.layers[:1], range(min(kind.experts, 1)))
            assert [is_packed(each) for each in everyone] == [kind.packed], kind


def test_names_and_sizes_need_no_torch() -> None:
    script = (
        "import sys; from minimoe.model.config import ModelConfig; from minimoe.checkpoint.layout import *;"
        f"sum(1 for _ in expected_tensors(ModelConfig.named('{BIG}-GPTQ-Int4')));"
        "sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
