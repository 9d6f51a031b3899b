"""One rank's part of a checkpoint, read from the files: only its rows, straight to their place.

The same load as that of a whole model (`minimoe.checkpoint.load`), with the rank's slices and the rank's modules.
Everything that can be refused is refused before the first weight is read, on every rank alike. Loading uses no
collective, so a single process can load what rank 3 of 8 would hold. Beside the parameters a rank needs one staging
buffer.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from minimoe.checkpoint.load import ModelPart, check_dtype, open_model, read_model
from minimoe.checkpoint.resolve import remote_address
from minimoe.errors import BadArgument
from minimoe.model.config import ModelConfig
from minimoe.model.transformer import Transformer
from minimoe.quantisation import format_of
from minimoe.scale.distributed.pipeline_parallel import LayerSplit
from minimoe.scale.distributed.shard_reads import rank_reads
from minimoe.scale.distributed.tensor_parallel import TensorSplit
from minimoe.scale.planner.divisibility import refuse_uneven
from minimoe.scale.planner.precision import own_precision


def open_part(
    path: str | Path,
    rank: int,
    world: int,
    split: str = "tensor",
    layers: range | None = None,
    precision: str | None = None,
    dtype: str | torch.dtype | None = None,
) -> ModelPart:
    """Check the whole checkpoint by its headers and decide what `rank` of `world` reads.

    path: a folder. split: "tensor" (heads, whole experts, vocabulary rows) or "layers" (a run of layers). precision:
    "int4" or "int8" packs a plain checkpoint while it is read; None keeps the format of the files. layers, dtype and
    errors as for `minimoe.load_model`; BadArgument also if the model cannot be divided among so many ranks.
    """
    if remote_address(path) is not None:
        raise BadArgument(
            f"path is {str(path)!r}, but ranks read from a folder: from a server each would fetch its part again at "
            "every start. Download the checkpoint first."
        )
    whole = open_model(path, dtype, layers, precision)
    if whole.matrices:
        raise BadArgument(
            f"precision is {precision!r}, but ranks take a checkpoint in {format_of(whole.config).name} as it is. "
            "Leave precision out, or convert the files first: minimoe quantise."
        )
    refuse_uneven(whole.config, world, split, "whole", own_precision(whole.target))
    if type(rank) is not int or not 0 <= rank < world:
        raise BadArgument(f"rank is {rank!r}, expected 0 to {world - 1}.")
    if split == "layers" and layers is not None:
        raise BadArgument('layers= cannot be combined with split="layers". Use split="tensor", or all layers.')
    slices = rank_reads(whole.config, whole.plan, rank, world, split)
    return replace(whole, slices=slices, rank=rank, world=world, modules=modules_of(split, rank, world))


def modules_of(split: str, rank: int, world: int) -> Callable[[ModelConfig, range], Transformer]:
    """What makes the modules of this rank."""
    if split == "layers":
        return lambda config, layers: LayerSplit(config, rank, world)
    return lambda config, layers: TensorSplit(config, rank, world, layers)


def read_part(
    part: ModelPart,
    device: str | torch.device = "cpu",
    dtype: str | torch.dtype | None = None,
    show: bool = True,
    neighbours: int = 1,
) -> Transformer:
    """Read it. dtype: instead of that of `part`. Other arguments and errors as `checkpoint.load.read_model`."""
    return read_model(with_dtype(part, dtype), device, show, neighbours)


def weight_bytes(part: ModelPart, dtype: str | torch.dtype | None = None) -> int:
    """Bytes of the rank's weights in memory. Raises BadArgument for an unknown dtype."""
    return with_dtype(part, dtype).weight_bytes


def with_dtype(part: ModelPart, dtype: str | torch.dtype | None) -> ModelPart:
    """The same part in another dtype; None changes nothing."""
    return part if dtype is None else replace(part, dtype=check_dtype(dtype, part.config))
