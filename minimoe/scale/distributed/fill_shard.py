"""What a rank reads goes to its place: rows straight into the parameter, columns through a small buffer, and a matrix
that is to be packed through memory for its own part.
"""

from itertools import groupby

import torch
from einops import rearrange
from torch import Tensor
from tqdm.auto import tqdm

from minimoe.checkpoint.safetensors.pread import OpenFile
from minimoe.checkpoint.weights.coverage import Ledger
from minimoe.checkpoint.weights.tensor_reader import STAGING_BYTES, Filler, memory_of
from minimoe.checkpoint.weights.values import check_values
from minimoe.dtypes import TORCH_DTYPES
from minimoe.errors import BadArgument, IncompleteLoad, NotFinite
from minimoe.model.transformer import Transformer
from minimoe.quantisation import Format, format_of, is_packed
from minimoe.quantisation.modules import stored_tensors
from minimoe.scale.distributed.shard_reads import Read

SHOW_PROGRESS_FROM = 10**9  # bytes


def fill_rank(model: Transformer, reads: list[Read], source: Format, title: str, show: bool) -> None:
    """Every read into its place; each place exactly once. `source` is the format of the files; where the model has
    another one, matrices are packed on their way.

    Raises ReadFailed, WrongModel, NotFinite, IncompleteLoad.
    """
    tensors, ledger, filler, target = stored_tensors(model), Ledger(model), Filler(), format_of(model.config)

    def place(parameter: str, expert: int | None) -> Tensor:
        ledger.fill(parameter, expert)
        return tensors[parameter] if expert is None else tensors[parameter][expert]

    total = sum(read.nbytes for read in reads)
    silent = not show or total < SHOW_PROGRESS_FROM
    with tqdm(total=total, unit="B", unit_scale=True, desc=title, disable=silent) as progress:
        for _, group in groupby(reads, key=lambda read: read.header.file):
            together = list(group)
            header = together[0].header
            with header.open() as file:
                for read in together:
                    file.require_unchanged(header.identity)
                    if source.name == target.name or not is_packed(read.parameter):
                        memory = place(read.parameter, read.expert)
                        fill_one(memory, file, read, filler)
                        check_values(source, header, read.entry.name, memory, read.start)
                    else:
                        for suffix, values in packed(file, read, filler, target, model.device).items():
                            module = read.parameter.removesuffix(".weight")
                            place(f"{module}.{suffix}", read.expert).copy_(values)
                    progress.update(read.nbytes)
                file.require_unchanged(header.identity)
    ledger.close()


def fill_one(destination: Tensor, file: OpenFile, read: Read, filler: Filler) -> None:
    """Rows go straight to their place; of scattered columns some rows at a time are staged and cut."""
    if tuple(destination.shape) != read.kept:
        raise IncompleteLoad(
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


def packed(
    file: OpenFile, read: Read, filler: Filler, target: Format, device: torch.device
) -> dict[str, Tensor]:
    """A plain matrix, or this rank's part of it, in format `target`, by suffix."""
    memory = torch.empty(read.kept, dtype=TORCH_DTYPES[read.entry.dtype], device=device)
    fill_one(memory, file, read, filler)
    try:
        return target.pack(memory)
    except BadArgument as error:
        raise NotFinite(f"{read.header.file}: {read.entry.name} cannot be packed: {error}") from error
