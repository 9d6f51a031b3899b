"""Tiny checkpoints with random values; those of true size come from minimoe.checkpoint.sparse_checkpoint."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from minimoe import ModelConfig, Transformer
from minimoe.checkpoint.load import load_model
from minimoe.checkpoint.save import save
from minimoe.checkpoint.sparse_checkpoint import write_sparse as write_sparse  # at true size

TINY = ModelConfig(
    vocab_size=48, hidden_size=16, num_hidden_layers=4, num_attention_heads=4, num_key_value_heads=2, head_dim=8,
    intermediate_size=20, moe_intermediate_size=24, num_experts=12, num_experts_per_tok=3, norm_topk_prob=True,
    mlp_only_layers=(1,), max_position_embeddings=64, initializer_range=0.3, dtype="bfloat16",
)  # fmt: skip
DENSE = replace(
    TINY, model_type="qwen3", num_experts=0, num_experts_per_tok=0, norm_topk_prob=False, moe_intermediate_size=0,
    mlp_only_layers=(), dtype="float32",
)  # fmt: skip
SHARD_BYTES = 16_000  # cuts the tiny model into several files, also between the matrices of one expert


def random_model(config: ModelConfig = TINY, seed: int = 0) -> Transformer:
    """A model of that config with seeded random values everywhere, the norms included."""
    torch.manual_seed(seed)
    model = Transformer(config).to(getattr(torch, config.dtype)).eval().requires_grad_(False)
    for parameter in model.parameters():
        parameter.normal_(std=0.3)
    return model


def save_tiny(
    directory: Path, config: ModelConfig = TINY, seed: int = 0, shard_bytes: int = SHARD_BYTES
) -> Transformer:
    """Save such a model, in several shards, without a tokenizer; returns it."""
    model = random_model(config, seed)
    save(model, None, directory, max_shard_bytes=shard_bytes)
    return model


def weights(model: Transformer) -> dict[str, bytes]:
    """Every parameter's dtype, shape and bytes; two models with equal weights have equal dicts."""
    return {
        name: f"{value.dtype}{tuple(value.shape)}".encode()
        + value.detach().contiguous().view(torch.uint8).numpy().tobytes()
        for name, value in model.named_parameters()
    }


# ---------------------------------------------------------------- taking files apart and putting them together again


def first_shard(directory: Path) -> Path:
    return sorted(directory.glob("*.safetensors"))[0]


def split_file(path: Path) -> tuple[dict[str, Any], bytes]:
    """A safetensors file as (header, payload)."""
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def join_file(header: dict[str, Any] | bytes, payload: bytes) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + payload


def edit_header(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    header, payload = split_file(path)
    change(header)
    path.write_bytes(join_file(header, payload))


def edit_json(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def refused(directory: Path, kind: type[Exception], **arguments: Any) -> str:
    """The message of the error that loading `directory` raises."""
    with pytest.raises(kind) as caught:
        load_model(directory, **arguments)
    return str(caught.value)


def rewrite(directory: Path, change: Callable[[dict[str, Tensor]], None]) -> None:
    """Replace the weight files by one of the safetensors library's, after `change` to the tensors by name."""
    tensors: dict[str, Tensor] = {}
    for path in sorted(directory.glob("*.safetensors")):
        tensors |= load_file(path)
        path.unlink()
    (directory / "model.safetensors.index.json").unlink(missing_ok=True)
    change(tensors)
    save_file(tensors, directory / "model.safetensors")
