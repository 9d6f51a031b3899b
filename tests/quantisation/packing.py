"""Packed checkpoints for tests in the layout of the released ones, and slow oracles that read them.

Nothing here uses the library's own packing: what it reads must agree with the description of the format.
"""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from minimoe import ModelConfig
from minimoe.quantisation import is_packed
from tests.checkpoint.fake import TINY, edit_json, save_tiny

# more than one group of 128 inputs in all matrices, none of them full at the end; widths that eight does not divide
PACKABLE = replace(
    TINY, hidden_size=136, head_dim=34, moe_intermediate_size=148, intermediate_size=260, num_experts=6,
    num_experts_per_tok=2, num_hidden_layers=3, initializer_range=0.05,
)  # fmt: skip
Parts = dict[str, Tensor]


def fp8_parts(weight: Tensor) -> Parts:
    """weight and weight_scale_inv of a matrix, block by block."""
    outs, ins = weight.shape
    scale = torch.empty(-(-outs // 128), -(-ins // 128), dtype=torch.bfloat16)
    packed = torch.empty(outs, ins, dtype=torch.float8_e4m3fn)
    for row in range(scale.shape[0]):
        for column in range(scale.shape[1]):
            block = (slice(128 * row, 128 * row + 128), slice(128 * column, 128 * column + 128))
            scale[row, column] = weight[block].abs().max().float() / 448
            packed[block] = (weight[block].float() / scale[row, column].float()).clamp(-448, 448).to(packed.dtype)
    return {"weight": packed, "weight_scale_inv": scale}


def fp8_values(parts: Parts) -> Tensor:
    """The matrix in bfloat16: each byte times the scale of its block, in float32."""
    outs, ins = parts["weight"].shape
    scale = parts["weight_scale_inv"].float().repeat_interleave(128, 0)[:outs].repeat_interleave(128, 1)[:, :ins]
    return (parts["weight"].float() * scale).bfloat16()


def gptq_parts(weight: Tensor, scale_dtype: torch.dtype = torch.float16, seed: int = 0) -> Parts:
    """qweight, qzeros, scales and g_idx of a matrix. The zero points are not all 8, so that they matter."""
    outs, ins = weight.shape
    groups = -(-ins // 128)
    zeros = torch.randint(5, 12, (groups, outs), generator=torch.Generator().manual_seed(seed))
    scales = torch.empty(groups, outs, dtype=scale_dtype)
    numbers = torch.zeros(-(-ins // 8) * 8, outs, dtype=torch.int64)
    for group in range(groups):
        member = slice(128 * group, min(ins, 128 * group + 128))
        block = weight[:, member].float().T
        scales[group] = (block.abs().amax(0) / 7).to(scale_dtype)
        numbers[member] = ((block / scales[group].float()).round().long() + zeros[group]).clamp(0, 15)
    padded = torch.zeros(groups, -(-outs // 8) * 8, dtype=torch.int64)
    padded[:, :outs] = zeros - 1
    qweight = sum(numbers[nibble::8] << 4 * nibble for nibble in range(8))
    qzeros = sum(padded[:, nibble::8] << 4 * nibble for nibble in range(8))
    g_idx = torch.arange(ins) // 128
    return {"qweight": as_int32(qweight), "qzeros": as_int32(qzeros), "scales": scales, "g_idx": g_idx.int()}


def as_int32(numbers: Any) -> Tensor:
    """0 .. 2**32 - 1 as the int32 of the same bits."""
    return torch.where(numbers >= 2**31, numbers - 2**32, numbers).int().contiguous()


def gptq_values(parts: Parts, dtype: torch.dtype = torch.bfloat16) -> Tensor:
    """The matrix, number by number as the format specifies. A slow oracle."""
    qweight, qzeros = parts["qweight"].tolist(), parts["qzeros"].tolist()
    scales, groups = parts["scales"].float(), parts["g_idx"].tolist()
    ins, outs = len(groups), scales.shape[1]
    whole = torch.empty(outs, ins)
    for k in range(ins):
        row, group = qweight[k // 8], qzeros[groups[k]]
        whole[:, k] = torch.tensor([
            (row[n] >> 4 * (k % 8) & 15) - ((group[n // 8] >> 4 * (n % 8) & 15) + 1) for n in range(outs)
        ])  # fmt: skip
    return (whole * scales[parts["g_idx"].long()].T).to(dtype)


def symmetric(stored: Parts, nibble: int = 7) -> None:
    """Every zero point becomes 8, stored as `nibble`; what is left of a last, part filled word stays empty."""
    for name in [name for name in stored if name.endswith("qzeros")]:
        outs = stored[name.removesuffix("qzeros") + "scales"].shape[1]
        words = torch.full(stored[name].shape, 0x11111111 * nibble)
        if outs % 8:
            words[:, -1] &= 2 ** (4 * (outs % 8)) - 1
        stored[name] = as_int32(words)


FP8 = ModelConfig.named("Qwen3-235B-A22B-FP8").quantization_config
GPTQ = ModelConfig.named("Qwen3-235B-A22B-GPTQ-Int4").quantization_config | {"sym": False}  # zero points of many values
KINDS: dict[str, tuple[Any, Callable[..., Parts], Callable[..., Tensor]]] = {
    "fp8": (FP8, fp8_parts, fp8_values),
    "gptq": (GPTQ, gptq_parts, gptq_values),
}


def write_packed(
    folder: Path,
    kind: str,
    config: ModelConfig = PACKABLE,
    change: Callable[[Parts], Any] | None = None,
    settings: dict[str, Any] | None = None,
    **options: Any,
) -> tuple[Path, Path]:
    """Two checkpoints with equal values: a packed one (released layout, in two files that cut through matrices), and a
    plain one of what an oracle reads in it. `change` is made to the packed tensors before they are written; `settings`
    is another quantization_config than the usual one.
    """
    usual, pack, values = KINDS[kind]
    packed, plain = folder / "packed", folder / "plain"
    save_tiny(plain, config, shard_bytes=10**9)
    tensors, stored = load_file(plain / "model.safetensors"), {}
    for name, tensor in list(tensors.items()):
        if is_packed(name):
            parts = pack(tensor, **options)
            stored |= {f"{name.removesuffix('.weight')}.{suffix}": part for suffix, part in parts.items()}
            tensors[name] = values(parts)
        else:
            stored[name] = tensor
    save_file(tensors, plain / "model.safetensors")
    packed.mkdir()
    (packed / "config.json").write_text((plain / "config.json").read_text())
    edit_json(packed / "config.json", lambda raw: raw.update(quantization_config=settings or usual))
    if change is not None:
        change(stored)
    names, files = sorted(stored), ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
    weight_map = {name: files[number % 3 == 0] for number, name in enumerate(names)}
    for file in files:
        save_file({name: stored[name].contiguous() for name in names if weight_map[name] == file}, packed / file)
    total = sum(tensor.nbytes for tensor in stored.values())
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    (packed / "model.safetensors.index.json").write_text(json.dumps(index))
    return packed, plain
