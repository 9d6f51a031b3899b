"""One rank's part of a checkpoint, read from the files: only its rows, straight to their place.

Everything that can be refused is refused before the first weight is read, on every rank alike. Loading uses no
collective, so it works in one process too, to look at what rank 3 of 8 would get. Beside the parameters themselves a
rank needs one staging buffer.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path

import torch

from minimoe.checkpoint.device import memory_of_device, require_room
from minimoe.checkpoint.load import check_device, check_dtype, compare_tied_head, read_tokenizer
from minimoe.checkpoint.match import Placed, match
from minimoe.checkpoint.open import OpenedCheckpoint, open_checkpoint
from minimoe.checkpoint.weights.fill import allocate
from minimoe.dtypes import TORCH_DTYPES
from minimoe.errors import BadArgument, PlanTooBig
from minimoe.model.checks import check_layers
from minimoe.model.config import ModelConfig
from minimoe.model.transformer import Transformer
from minimoe.quantisation import format_of
from minimoe.quantisation.detect import OWN
from minimoe.quantisation.modules import Packed, pack_modules
from minimoe.scale.distributed.fill_shard import fill_rank
from minimoe.scale.distributed.pipeline_parallel import LayerSplit
from minimoe.scale.distributed.shard_reads import Read, rank_reads, runs
from minimoe.scale.distributed.tensor_parallel import TensorSplit
from minimoe.scale.planner.divisibility import refuse_uneven
from minimoe.scale.planner.precision import own_precision
from minimoe.text.tokenizer import Tokenizer


@dataclass(frozen=True)
class RankPart:
    """What a rank is about to read; nothing is read yet but headers."""

    opened: OpenedCheckpoint
    rank: int
    world: int
    split: str
    layers: range
    plan: list[Placed]  # of all ranks
    reads: list[Read]
    target: ModelConfig  # of the model in memory, which may be packed in another format than the files

    @property
    def config(self) -> ModelConfig:
        return self.opened.config

    @property
    def dtypes(self) -> dict[str, torch.dtype]:
        """In what dtype the files hold each parameter or packed part."""
        return {read.parameter: TORCH_DTYPES[read.entry.dtype] for read in self.reads}

    @property
    def bytes(self) -> int:
        return sum(read.nbytes for read in self.reads)

    @property
    def fingerprint(self) -> str:
        """The same on all ranks that see the same config.json and the same headers."""
        digest = hashlib.sha256(repr(sorted(self.config.to_dict().items())).encode())
        for name, header in sorted(self.opened.shards.headers.items()):
            entries = [(each.name, each.dtype, each.shape, each.start) for each in header.tensors.values()]
            digest.update(repr((name, sorted(entries))).encode())
        return digest.hexdigest()


def load_rank(
    path: str | Path,
    rank: int,
    world: int,
    split: str = "tensor",
    device: str | torch.device = "cpu",
    dtype: str | torch.dtype | None = None,
    layers: range | None = None,
    precision: str | None = None,
) -> tuple[Transformer, Tokenizer]:
    """What `rank` of `world` holds of a checkpoint folder, ready for a process group of that size.

    split: "tensor" (heads, whole experts, vocabulary rows) or "layers" (a run of layers). precision: "int4" or "int8"
    packs a plain checkpoint while it is read; None keeps what the files have. path, device, dtype, layers and all
    errors as for `minimoe.load`; BadArgument also if the model cannot be divided among so many ranks.
    """
    part = open_part(path, rank, world, split, layers, precision)
    tokenizer = read_tokenizer(part.opened.folder, part.config)
    return read_part(part, device, dtype), tokenizer


def open_part(
    path: str | Path,
    rank: int,
    world: int,
    split: str = "tensor",
    layers: range | None = None,
    precision: str | None = None,
) -> RankPart:
    """Check the whole checkpoint by its headers and say what this rank has to read. Arguments and errors as
    `load_rank`.
    """
    opened = open_checkpoint(path, layers)
    config = opened.config
    if opened.remote:
        raise BadArgument(
            f"path is {opened.source!r}, but ranks read from a folder: from a server each would fetch its part anew at "
            "every start. Download the checkpoint first."
        )
    target = target_config(config, precision)
    refuse_uneven(config, world, split, "whole", own_precision(target))
    if type(rank) is not int or not 0 <= rank < world:
        raise BadArgument(f"rank is {rank!r}, expected 0 to {world - 1}.")
    if split == "layers" and layers is not None:
        raise BadArgument('layers= cannot be combined with split="layers". Take split="tensor", or all layers.')
    chosen = check_layers(config, layers)
    plan = match(config, opened.shards, chosen)
    return RankPart(opened, rank, world, split, chosen, plan, rank_reads(config, plan, rank, world, split), target)


def target_config(config: ModelConfig, precision: str | None) -> ModelConfig:
    """The config of the model in memory. Raises BadArgument."""
    if precision is None or precision == format_of(config).name:
        return config
    if precision not in OWN or config.quantization_config is not None:
        raise BadArgument(
            f"precision is {precision!r}, but ranks take a checkpoint in {format_of(config).name} as it is"
            f"{', or packed to int4 or int8' if config.quantization_config is None else ''}. Leave precision out, or "
            "convert the files first: minimoe quantise."
        )
    return replace(config, quantization_config=OWN[precision].settings())


def read_part(
    part: RankPart,
    device: str | torch.device = "cpu",
    dtype: str | torch.dtype | None = None,
    show: bool = True,
    neighbours: int = 1,
) -> Transformer:
    """Read it. show: a progress bar in bytes, for the one rank of a machine that has it. neighbours: ranks that share
    the memory of this machine, if `device` is the CPU.

    Raises PlanTooBig before reading; ReadFailed, WrongModel, IncompleteLoad.
    """
    chosen, where = check_dtype(dtype, part.config), check_device(device)
    with torch.device("meta"):
        model = build(part, chosen)
    require_rank_room(size_of(model, chosen), where, neighbours)
    allocate(model, chosen, where, part.dtypes)
    fill_rank(model, part.reads, format_of(part.config), f"rank {part.rank} of {part.world} reads", show)
    if part.rank == 0:
        compare_tied_head(part.plan, part.opened.shards)
    return model.eval()


def weight_bytes(part: RankPart, dtype: str | torch.dtype | None = None) -> int:
    """Bytes of the rank's weights in memory. Raises BadArgument for an unknown dtype."""
    chosen = check_dtype(dtype, part.config)
    with torch.device("meta"):
        return size_of(build(part, chosen), chosen)


def size_of(model: Transformer, dtype: torch.dtype) -> int:
    """Bytes of a model without values, once its parameters are in `dtype`."""
    plain = sum(parameter.numel() for parameter in model.parameters()) * dtype.itemsize
    packed = (each.parts.values() for each in model.modules() if isinstance(each, Packed))
    return plain + sum(stored.nbytes for parts in packed for stored in parts)


def require_rank_room(size: int, device: torch.device, neighbours: int) -> None:
    """Raises PlanTooBig if there is less memory than this rank needs, and on the CPU its neighbours with it."""
    require_room(size, device)
    room = memory_of_device(device) if device.type == "cpu" else None
    if room is not None and size * neighbours > room:
        raise PlanTooBig(
            f"the weights of {neighbours} ranks need {size * neighbours:,} bytes together, {size:,} each, and this "
            f"machine has {room:,}. Spread the ranks over more machines, or pack the weights (precision)."
        )


def build(part: RankPart, dtype: torch.dtype) -> Transformer:
    """The rank's modules, without values; `dtype` is what packed ones unpack to."""
    if part.split == "layers":
        model: Transformer = LayerSplit(part.target, part.rank, part.world)
    else:
        model = TensorSplit(part.target, part.rank, part.world, part.layers)
    if part.target.quantization_config is not None:
        pack_modules(model, format_of(part.target), dtype)
    return model


def pour(part: RankPart, buffer: memoryview, tell: Callable[[int], object] = lambda count: None) -> int:
    """Read all bytes of the part, run by run, into one buffer over and over: what reading costs, without a place to
    put it. Returns the number of runs.
    """
    count = 0
    for _, group in groupby(runs(part.reads), key=lambda run: run.header.file):
        together = list(group)
        with together[0].header.open() as file:
            for run in together:
                for done in range(0, run.nbytes, len(buffer)):
                    piece = buffer[: min(len(buffer), run.nbytes - done)]
                    file.read_into(piece, run.offset + done)
                    tell(len(piece))
        count += len(together)
    return count
