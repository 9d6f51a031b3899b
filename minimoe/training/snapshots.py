"""What the routers were like on the way: their weights and their choices on fixed texts, at a few steps of a run.

A lesson shows from these files how experts come to differ. One file a step, a few hundred kB each.
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor

from minimoe import atomic
from minimoe.model.transformer import Transformer
from minimoe.training.batches import Source
from minimoe.training.losses import RouterTap

TOKENS = 64  # a passage of each domain


def snapshot_steps(steps: int, count: int) -> list[int]:
    """At most `count` steps from 1 to `steps`, evenly spaced on a logarithmic scale: most happens early.

    Between the first and the last they are spread by ratio, and equal ones are taken once.
    """
    ratios = [place / max(1, count - 1) for place in range(count)]
    return sorted({round(steps**ratio) for ratio in ratios}) if count > 0 else []


def file_of(directory: str | Path, step: int) -> Path:
    """Where the snapshot after `step` steps lies below a run's directory."""
    return Path(directory) / "history" / f"step_{step:06d}.safetensors"


@torch.no_grad()
def write_snapshot(directory: str | Path, model: Transformer, source: Source, step: int) -> Path:
    """Write every router's weights and, for one held-out passage a domain, the chosen experts and their weights.

    Keys: "gate.LAYER" (expert, hidden) bfloat16; for each domain "DOMAIN.tokens" (token,) int64 ids,
    "DOMAIN.experts" (layer, token, slot) uint8 and "DOMAIN.weights" (layer, token, slot) float16.
    """
    tensors: dict[str, Tensor] = {
        f"gate.{layer}": weight.detach().to("cpu", torch.bfloat16).contiguous() for layer, weight in gates(model)
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


def gates(model: Transformer) -> list[tuple[int, Tensor]]:
    """(layer, router weight) of every mixture-of-experts layer."""
    return [
        (layer, model.get_parameter(f"layers.{layer}.mlp.gate.weight"))
        for layer in model.layer_range
        if model.config.is_moe(layer)
    ]


def stack(values: Sequence[Tensor], dtype: torch.dtype) -> Tensor:
    """The layers' tensors as one."""
    return torch.stack([value.to("cpu", dtype) for value in values]).contiguous()
