"""Tiny checkpoints for the tests of streaming: every architecture and format, with random values."""

from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from minimoe.checkpoint.layout import Expected, expected_tensors
from minimoe.checkpoint.load import load_model
from minimoe.checkpoint.save import as_json
from minimoe.dtypes import TORCH_DTYPES
from minimoe.model.config import ModelConfig
from minimoe.model.transformer import Transformer
from minimoe.quantisation.detect import OWN
from minimoe.scale.streaming.budget import Budget, budget
from minimoe.scale.streaming.stream import StreamedTransformer, stream_model
from tests.checkpoint.fake import TINY

NAMES = {"bf16": "bfloat16", "fp32": "float32", "fp16": "float16", "fp64": "float64"}
# Wide enough for two blocks or groups, with a hidden size whose last block is partial.
PACKED = replace(TINY, hidden_size=144, moe_intermediate_size=136, intermediate_size=24, num_experts=6)
SETTINGS = {
    "fp8": {"quant_method": "fp8", "fmt": "e4m3", "activation_scheme": "dynamic", "weight_block_size": [128, 128]},
    "gptq-int4": {"quant_method": "gptq", "bits": 4, "group_size": 128, "desc_act": False},
    "int4": OWN["int4"].settings(),
    "int8": OWN["int8"].settings(),
}
FORMATS = tuple(SETTINGS)


def packed(format: str) -> ModelConfig:
    """The config of the checkpoint that `save_random` writes in this format."""
    return replace(PACKED, quantization_config=SETTINGS[format])


def save_random(directory: Path, config: ModelConfig, seed: int = 0) -> Path:
    """One file with seeded random values of every tensor, in whatever format the config has."""
    directory.mkdir(parents=True)
    generator = torch.Generator().manual_seed(seed)
    tensors = {each.name: values(each, config, generator) for each in expected_tensors(config)}
    save_file(tensors, directory / "model.safetensors")
    (directory / "config.json").write_bytes(as_json(config.to_dict()))
    return directory


def values(expected: Expected, config: ModelConfig, generator: torch.Generator) -> Tensor:
    """Random values that are valid for this tensor, and matrices of a moderate magnitude."""
    suffix, code, shape = expected.name.rpartition(".")[2], expected.code, expected.shape
    if suffix == "g_idx":
        return torch.arange(shape[0], dtype=torch.int32) // 128
    if code == "I32":
        return torch.randint(-(2**31), 2**31, shape, dtype=torch.int32, generator=generator)
    if code in ("U8", "I8"):
        low, high = (0, 256) if code == "U8" else (-127, 128)
        return torch.randint(low, high, shape, generator=generator).to(TORCH_DTYPES[code])
    plain = torch.randn(shape, generator=generator)
    if suffix in ("scales", "weight_scale", "weight_scale_inv"):
        size = {"weight_scale_inv": 0.1, "scales": 0.02, "weight_scale": 0.02 if code == "BF16" else 0.002}[suffix]
        return (size * (0.5 + plain.abs())).to(TORCH_DTYPES[code or "BF16"])
    return (0.3 * plain).to(TORCH_DTYPES[code] if code else getattr(torch, config.dtype))


def loaded(directory: Path, dtype: str | None = None, layers: range | None = None) -> Transformer:
    """The loaded model, with the engine of a streamed one."""
    model = load_model(directory, dtype=dtype, layers=layers)
    model.engine = "loop"
    return model


def opened(
    directory: Path, beyond_least: float = 0, dtype: str | None = None, context: int = 40, **rest: object
) -> StreamedTransformer:
    """The streamed model, with `beyond_least` bytes more than the minimum RAM."""
    config = ModelConfig.from_file(directory)
    return stream_model(
        directory, least(config, dtype, context, **rest) + int(beyond_least), dtype=dtype, context=context, **rest
    )  # type: ignore[arg-type]


def least(config: ModelConfig, dtype: str | None, context: int, **rest: object) -> int:
    return smallest(config, dtype, context, **rest).least


def smallest(config: ModelConfig, dtype: str | None, context: int, **rest: object) -> Budget:
    """The budget with the minimum RAM."""
    return budget(config, dtype=NAMES[dtype] if dtype else None, context=context, **rest)  # type: ignore[arg-type]
