"""Memory for a model that has shapes only, and every tensor of a plan into its place there."""

from collections.abc import Callable, Mapping
from itertools import groupby
from typing import Any

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from minimoe.checkpoint.layout import Piece, expected_tensors
from minimoe.checkpoint.match import Placed
from minimoe.checkpoint.weights.convert import MatrixReader, converted, stored_matrices
from minimoe.checkpoint.weights.coverage import Ledger
from minimoe.checkpoint.weights.tensor_reader import Filler
from minimoe.checkpoint.weights.values import check_values, is_inspected
from minimoe.model.transformer import Transformer
from minimoe.quantisation import Format, format_of
from minimoe.quantisation.modules import Packed, stored_tensors

SHOW_PROGRESS_FROM = 10**9  # bytes
Place = Callable[[Piece], Tensor]  # the memory that a piece goes to


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
                memory = torch.empty(parameter.shape, dtype=dtype, device=device)
                made[parameter] = nn.Parameter(memory, requires_grad=False)
            module.register_parameter(name, made[parameter])
        if isinstance(module, Packed):
            for suffix, part in module.parts.items():
                stored = (parts or {}).get(f"{prefix}.{suffix}", part.dtype)
                setattr(module, suffix, torch.empty(part.shape, dtype=stored, device=device))


def fill(model: Transformer, plan: list[Placed], kept: list[Placed], source: Format) -> None:
    """Read every tensor of the plan. Those that are `kept` go to their places as they are; the others are matrices in
    format `source`, which the model holds in another. Raises ReadFailed, IncompleteLoad, WrongModel, NotFinite.
    """
    tensors, ledger = stored_tensors(model), Ledger(model)

    def place(piece: Piece) -> Tensor:
        ledger.fill(piece.parameter, piece.expert)
        whole = tensors[piece.parameter]
        return whole if piece.expert is None else whole[piece.expert]

    total = sum(placed.entry.nbytes for placed in plan)
    silent = total < SHOW_PROGRESS_FROM
    with tqdm(total=total, unit="B", unit_scale=True, desc="reading weights", disable=silent) as progress:
        fill_as_stored(kept, source, place, progress)
        if len(kept) < len(plan):
            fill_converted(plan, source, model, place, progress)
    ledger.close()


def fill_as_stored(plan: list[Placed], source: Format, place: Place, progress: Any) -> None:
    """Straight from the files into memory, file by file."""
    filler = Filler()
    for _, group in groupby(plan, key=lambda placed: placed.header.file):
        tensors = list(group)
        header = tensors[0].header
        with header.open() as file:
            for placed in tensors:
                file.require_unchanged(header.identity)
                is_small = is_inspected(placed.entry.name)
                for piece in placed.expected.pieces:
                    destination = place(piece)
                    filler.fill(destination, file, placed.entry, piece.begin)
                    if is_small:
                        check_values(source, header, placed.entry.name, destination)
                progress.update(placed.entry.nbytes)
            file.require_unchanged(header.identity)


def fill_converted(plan: list[Placed], source: Format, model: Transformer, place: Place, progress: Any) -> None:
    """One matrix after another: read, unpacked, and packed into the format of the model."""
    target = format_of(model.config)
    places = {tensor.name: tensor.pieces[0] for tensor in expected_tensors(model.config, model.layer_range)}
    with MatrixReader(source, model.device) as reader:
        for matrix, parts in converted(stored_matrices(plan), reader, target, model.dtype):
            for suffix, values in parts.items():
                place(places[f"{matrix.name}.{suffix}"]).copy_(values)
            progress.update(matrix.nbytes)
