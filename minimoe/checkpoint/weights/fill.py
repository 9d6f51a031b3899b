"""Memory for a model that has shapes only, and every slice of a load into its place there, exactly once.

Contiguous values go straight into the parameter. Columns of a matrix go through a small buffer, and so do values whose
dtype or device differs. A matrix that the model holds in another format is converted on the way, one at a time.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn
from tqdm.auto import tqdm

from minimoe.checkpoint.layout import expected_tensors
from minimoe.checkpoint.safetensors.pread import OpenFile
from minimoe.checkpoint.weights.convert import MatrixReader, StoredMatrix, converted
from minimoe.checkpoint.weights.coverage import Ledger
from minimoe.checkpoint.weights.slices import TensorSlice
from minimoe.checkpoint.weights.tensor_reader import STAGING_BYTES, Filler, memory_of
from minimoe.checkpoint.weights.values import check_values
from minimoe.dtypes import TORCH_DTYPES
from minimoe.errors import BadArgument, IncompleteLoad, NotFinite
from minimoe.huge_pages import with_huge_pages
from minimoe.model.transformer import Transformer
from minimoe.quantisation import Format, format_of, is_packed
from minimoe.quantisation.modules import Packed, stored_tensors

SHOW_PROGRESS_FROM = 10**9  # bytes
Destination = Callable[[str, int | None], Tensor]  # (parameter, expert) -> its memory, recorded as filled


def allocate(
    model: nn.Module, dtype: torch.dtype, device: torch.device, parts: Mapping[str, torch.dtype] | None = None
) -> None:
    """Give every parameter of a meta-device model its memory, once; a parameter under two names (tied) stays one.
    Values are undefined. `parts`: dtypes of packed parts by name, where the files chose another than the usual one.
    """
    made: dict[nn.Parameter, nn.Parameter] = {}
    for prefix, module in model.named_modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            if parameter not in made:
                memory = with_huge_pages(torch.empty(parameter.shape, dtype=dtype, device=device))
                made[parameter] = nn.Parameter(memory, requires_grad=False)
            module.register_parameter(name, made[parameter])
        if isinstance(module, Packed):
            for suffix, part in module.parts.items():
                stored = (parts or {}).get(f"{prefix}.{suffix}", part.dtype)
                setattr(module, suffix, with_huge_pages(torch.empty(part.shape, dtype=stored, device=device)))


def fill(
    model: Transformer,
    slices: Sequence[TensorSlice],
    matrices: Sequence[StoredMatrix],
    source: Format,
    title: str = "reading weights",
    show: bool = True,
) -> None:
    """Read `slices` into the parameters of `model`, and `matrices` converted from `source` to the model's format.

    source: the format of the files. Slices of a plain file are packed on the way if the model is packed. title: of the
    progress bar, which is shown from a gigabyte on, unless `show` is false.
    Raises ReadFailed, WrongModel, NotFinite, IncompleteLoad.
    """
    tensors, ledger = stored_tensors(model), Ledger(model)

    def destination(parameter: str, expert: int | None) -> Tensor:
        ledger.fill(parameter, expert)
        return tensors[parameter] if expert is None else tensors[parameter][expert]

    total = sum(each.nbytes for each in slices) + sum(each.nbytes for each in matrices)
    silent = not show or total < SHOW_PROGRESS_FROM
    with tqdm(total=total, unit="B", unit_scale=True, desc=title, disable=silent) as progress:
        fill_slices(model, slices, source, destination, progress)
        if matrices:
            fill_converted(model, matrices, source, destination, progress)
    ledger.close()


def fill_slices(
    model: Transformer, slices: Sequence[TensorSlice], source: Format, destination: Destination, progress: Any
) -> None:
    """File by file, in the order given."""
    filler, target = Filler(), format_of(model.config)
    for _, group in groupby(slices, key=lambda each: each.header.file):
        for file, part in opened_for(list(group)):
            if source.name == target.name or not is_packed(part.parameter):
                memory = destination(part.parameter, part.expert)
                fill_one(memory, file, part, filler)
                check_values(source, part.header, part.entry.name, memory, part.start)
            else:
                module = part.parameter.removesuffix(".weight")
                for suffix, values in packed(file, part, filler, target, model.device).items():
                    destination(f"{module}.{suffix}", part.expert).copy_(values)
            progress.update(part.nbytes)


def opened_for(slices: list[TensorSlice]) -> Iterator[tuple[OpenFile, TensorSlice]]:
    """Each slice of one file with the open file, which must not change meanwhile. Raises ReadFailed."""
    header = slices[0].header
    with header.open() as file:
        for each in slices:
            file.require_unchanged(header.identity)
            yield file, each
        file.require_unchanged(header.identity)


def fill_one(destination: Tensor, file: OpenFile, part: TensorSlice, filler: Filler) -> None:
    """Contiguous values are read in one piece; of scattered columns some rows at a time are staged and cut."""
    if tuple(destination.shape) != part.kept:
        raise IncompleteLoad(
            f"{part.parameter} is {tuple(destination.shape)} in memory, but {part.kept} is read for it. "
            "Please report this."
        )
    if not part.scattered:
        filler.fill(destination, file, part.entry, part.first_value)
        return
    dtype, width = TORCH_DTYPES[part.entry.dtype], part.shape[1]
    step = max(1, STAGING_BYTES // (width * dtype.itemsize))
    for row in range(0, part.shape[0], step):
        target = destination[row : row + step]
        staged = filler.staging(destination.device)[: len(target) * width * dtype.itemsize]
        file.read_into(memory_of(staged), part.offset + row * width * dtype.itemsize)
        rows = rearrange(staged.view(dtype), "(row column) -> row column", column=width)
        target.copy_(rows[:, part.start : part.stop])


def packed(
    file: OpenFile, part: TensorSlice, filler: Filler, target: Format, device: torch.device
) -> dict[str, Tensor]:
    """A plain matrix, or a rank's part of it, in format `target`: its components by suffix."""
    memory = torch.empty(part.kept, dtype=TORCH_DTYPES[part.entry.dtype], device=device)
    fill_one(memory, file, part, filler)
    try:
        return target.pack(memory)
    except BadArgument as error:
        raise NotFinite(f"{part.header.file}: {part.entry.name} cannot be packed: {error}") from error


def fill_converted(
    model: Transformer, matrices: Sequence[StoredMatrix], source: Format, destination: Destination, progress: Any
) -> None:
    """One matrix after another: read, unpacked, and packed into the format of the model."""
    target = format_of(model.config)
    pieces = {tensor.name: tensor.pieces[0] for tensor in expected_tensors(model.config, model.layer_range)}
    with MatrixReader(source, model.device) as reader:
        for matrix, parts in converted(matrices, reader, target, model.dtype):
            for suffix, values in parts.items():
                piece = pieces[f"{matrix.name}.{suffix}"]
                destination(piece.parameter, piece.expert).copy_(values)
            progress.update(matrix.nbytes)
