"""Snapshots of the routers during training: their weights, and their selections on fixed texts, at a few steps.

They show how experts specialise. One file per step, a few hundred kB each.
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor

from minimoe import atomic
from minimoe.model.transformer import Transformer
from minimoe.routing.trace.hooks import router, router_layers
from minimoe.training.corpus.batches import Source
from minimoe.training.losses import RouterTap

TOKENS = 64  # in the passage of each domain


def snapshot_steps(steps: int, count: int) -> list[int]:
    """At most `count` steps from 1 to `steps`, evenly spaced on a logarithmic scale, since most changes happen early.

    Steps that round to the same number occur once.
    """
    exponents = [index / max(1, count - 1) for index in range(count)]
    return sorted({round(steps**exponent) for exponent in exponents}) if count > 0 else []


def file_of(directory: str | Path, step: int) -> Path:
    """The path of the snapshot after `step` steps, in the directory of a run."""
    return Path(directory) / "history" / f"step_{step:06d}.safetensors"


@torch.no_grad()
def write_snapshot(directory: str | Path, model: Transformer, source: Source, step: int) -> Path:
    """Write the weights of every router and, for one held-out passage per domain, the selected experts.

    Keys: "gate.LAYER" (expert, hidden) bfloat16; for each domain "DOMAIN.tokens" (token,) int64 ids,
    "DOMAIN.experts" (layer, token, slot) uint8 and "DOMAIN.weights" (layer, token, slot) float16.
    """
    tensors: dict[str, Tensor] = {
        f"gate.{layer}": router(model, layer).weight.detach().to("cpu", torch.bfloat16).contiguous()
        for layer in router_layers(model)
    }
    with RouterTap(model) as tap:
        for domain in source.domains:
            ids = source.held_out(domain, 1, TOKENS).to(model.device).inputs
            model(ids, last_only=True)
            routings = list(tap.routings.values())
            tensors[f"{domain}.tokens"] = ids[0].cpu()
            if routings:
                tensors[f"{domain}.experts"] = stack([routing.experts for routing in routings], torch.uint8)
                tensors[f"{domain}.weights"] = stack([routing.weights for routing in routings], torch.float16)
    file = file_of(directory, step)
    file.parent.mkdir(parents=True, exist_ok=True)
    atomic.write(file, save(tensors, {"step": str(step)}))
    return file


def stack(values: Sequence[Tensor], dtype: torch.dtype) -> Tensor:
    """The tensors of all layers, stacked, on the CPU."""
    return torch.stack([value.to("cpu", dtype) for value in values]).contiguous()
