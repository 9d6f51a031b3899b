"""The state of a training run, from which it can resume: weights, optimizer moments, step and history.

It is one safetensors file, replaced atomically.
"""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save

from minimoe import atomic
from minimoe.errors import BadCheckpoint, NotFound
from minimoe.model.transformer import Transformer
from minimoe.training.optimizer import MuonAndAdamW

NAME = "training_state.safetensors"


def write_state(
    directory: str | Path, model: Transformer, optimizer: MuonAndAdamW, step: int, history: dict[str, Any]
) -> Path:
    """Write the state of a run after `step` steps. A crash leaves either the old file or the new one.

    Raises WriteFailed.
    """
    folder = Path(directory)
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {f"model.{name}": value.detach().cpu().contiguous() for name, value in model.named_parameters()}
    for name, parameter in model.named_parameters():
        for key, value in optimizer.state_of(parameter).items():
            tensors[f"optimizer.{key}.{name}"] = value.detach().cpu().contiguous()
    metadata = {"step": str(step), "history": json.dumps(history), "config": json.dumps(model.config.to_dict())}
    atomic.write(folder / NAME, save(tensors, metadata))
    return folder / NAME


def read_state(
    directory: str | Path, model: Transformer, optimizer: MuonAndAdamW | None = None
) -> tuple[int, dict[str, Any]]:
    """Restore a model (and its optimizer) and return (step, history). Raises NotFound, BadCheckpoint."""
    file = Path(directory) / NAME
    if not file.is_file():
        raise NotFound(f"{file} does not exist: there is no run to resume. Start it without --resume.")
    with safe_open(file, framework="pt") as stored:
        metadata = stored.metadata() or {}
        names = set(stored.keys())
        for name, parameter in model.named_parameters():
            if f"model.{name}" not in names or stored.get_slice(f"model.{name}").get_shape() != list(parameter.shape):
                raise BadCheckpoint(
                    f"{file} has no {name} of shape {tuple(parameter.shape)}. Resume with the config of that run."
                )
            with torch.no_grad():
                parameter.copy_(stored.get_tensor(f"model.{name}"))
            if optimizer is not None:
                keys = [
                    key.split(".", 2)[1]
                    for key in names
                    if key.startswith("optimizer.") and key.split(".", 2)[2] == name
                ]
                optimizer.restore(parameter, {key: stored.get_tensor(f"optimizer.{key}.{name}") for key in keys})
    return int(metadata["step"]), json.loads(metadata["history"])
