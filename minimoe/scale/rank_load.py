"""One rank's part of a checkpoint, read from the files: only its rows, straight to their place.

Everything that can be refused is refused before the first weight is read, on every rank alike. Loading uses no
collective, so it works in one process too, to look at what rank 3 of 8 would get. Beside the parameters themselves a
rank needs one staging buffer.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import torch
from einops import rearrange
from torch import Tensor
from tqdm.auto import tqdm

from minimoe.checkpoint.compare import match
from minimoe.checkpoint.fill import STAGING_BYTES, TORCH_DTYPES, Filler, memory_of
from minimoe.checkpoint.ledger import Ledger
from minimoe.checkpoint.opened import OpenedCheckpoint, open_checkpoint
from minimoe.checkpoint.read import allocate, check_device, check_dtype, read_tokenizer
from minimoe.checkpoint.room import require_room
from minimoe.errors import BadArgument
from minimoe.model.config import ModelConfig
from minimoe.model.transformer import Transformer, check_layers
from minimoe.scale.divide import refuse_uneven
from minimoe.scale.parallel import TensorSplit
from minimoe.scale.pipeline import LayerSplit
from minimoe.scale.precision import own_precision
from minimoe.scale.rank_plan import Read, rank_reads, runs
from minimoe.text.tokenizer import Tokenizer

SHOW_PROGRESS_FROM = 10**9  # bytes


@dataclass(frozen=True)
class RankPart:
    """What a rank is about to read; nothing is read yet but headers."""

    opened: OpenedCheckpoint
    rank: int
    world: int
    split: str
    layers: range
    reads: list[Read]

    @property
    def config(self) -> ModelConfig:
        return self.opened.config

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
) -> tuple[Transformer, Tokenizer]:
    """What `rank` of `world` holds of a checkpoint folder, ready for a process group of that size.

    split: "tensor" (heads, whole experts, vocabulary rows) or "layers" (a run of layers). path, device, dtype, layers
    and all errors as for `minimoe.load`; BadArgument also if the model cannot be divided among so many ranks.
    """
    part = open_part(path, rank, world, split, layers)
    tokenizer = read_tokenizer(part.opened.folder, part.config)
    return read_part(part, device, dtype), tokenizer


def open_part(
    path: str | Path, rank: int, world: int, split: str = "tensor", layers: range | None = None
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
    refuse_uneven(config, world, split, "whole", own_precision(config))
    if type(rank) is not int or not 0 <= rank < world:
        raise BadArgument(f"rank is {rank!r}, expected 0 to {world - 1}.")
    if split == "layers" and layers is not None:
        raise BadArgument('layers= cannot be combined with split="layers". Take split="tensor", or all layers.')
    chosen = check_layers(config, layers)
    reads = rank_reads(config, match(config, opened.shards, chosen), rank, world, split)
    return RankPart(opened, rank, world, split, chosen, reads)


def read_part(
    part: RankPart,
    device: str | torch.device = "cpu",
    dtype: str | torch.dtype | None = None,
    show: bool = True,
    neighbours: int = 1,
) -> Transformer:
    """Read it. show: a progress bar in bytes, for the one rank of a machine that has it. neighbours: ranks that share
    the memory of this machine, if `device` is the CPU.

    Raises PlanTooBig before reading; ReadFailed, IncompleteLoad.
    """
    chosen, where = check_dtype(dtype, part.config), check_device(device)
    with torch.device("meta"):
        model = build(part)
    size = sum(parameter.numel() for parameter in model.parameters()) * chosen.itemsize
    require_room(size * (neighbours if where.type == "cpu" else 1), where)
    allocate(model, chosen, where)
    fill_rank(model, part, show)
    return model.eval()


def build(part: RankPart) -> Transformer:
    """The rank's modules, without values."""
    if part.split == "layers":
        return LayerSplit(part.config, part.rank, part.world)
    return TensorSplit(part.config, part.rank, part.world, part.layers)


def fill_rank(model: Transformer, part: RankPart, show: bool) -> None:
    """Every read of the part into its parameter or its expert's row; each place exactly once."""
    places = dict(model.named_parameters()) | dict(model.named_buffers())
    ledger, filler = Ledger(model), Filler()
    with tqdm(total=part.bytes, unit="B", unit_scale=True, disable=not show or part.bytes < SHOW_PROGRESS_FROM,
              desc=f"rank {part.rank} of {part.world} reads") as progress:  # fmt: skip
        for _, group in groupby(part.reads, key=lambda read: read.header.file):
            reads = list(group)
            header = reads[0].header
            with header.open() as file:
                file.require_unchanged(header.identity)
                for read in reads:
                    place = places[read.parameter].data
                    ledger.fill(read.parameter, read.expert)
                    fill_one(place if read.expert is None else place[read.expert], file, read, filler)
                    progress.update(read.nbytes)
                file.require_unchanged(header.identity)
    ledger.close()


def fill_one(destination: Tensor, file: Any, read: Read, filler: Filler) -> None:
    """Rows go straight to their place; of scattered columns some rows at a time are staged and cut."""
    if tuple(destination.shape) != read.kept:
        raise BadArgument(
            f"{read.parameter} is {tuple(destination.shape)} on this rank, its cut gives {read.kept}. "
            "Please report this."
        )
    if not read.scattered:
        filler.fill(destination, file, read.entry, read.first_value)
        return
    dtype, width = TORCH_DTYPES[read.entry.dtype], read.shape[1]
    step = max(1, STAGING_BYTES // (width * dtype.itemsize))
    for row in range(0, read.shape[0], step):
        target = destination[row : row + step]
        staged = filler.staging(destination.device)[: len(target) * width * dtype.itemsize]
        file.read_into(memory_of(staged), read.offset + row * width * dtype.itemsize)
        rows = rearrange(staged.view(dtype), "(row column) -> row column", column=width)
        target.copy_(rows[:, read.start : read.stop])


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
