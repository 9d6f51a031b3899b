"""Convert matrices from one format to another, one at a time: read the parts, unpack them, pack them again if needed.

A checkpoint can thus be loaded, or written, in another format with memory for the result and one matrix.
"""

import math
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from minimoe.checkpoint.layout import Piece
from minimoe.checkpoint.match import Placed
from minimoe.checkpoint.safetensors.header import Header
from minimoe.checkpoint.safetensors.pread import OpenFile
from minimoe.checkpoint.weights.tensor_reader import Filler
from minimoe.checkpoint.weights.values import check_values
from minimoe.dtypes import TORCH_DTYPES
from minimoe.errors import BadArgument, NotFinite
from minimoe.quantisation import Format, is_packed


@dataclass
class StoredMatrix:
    """One matrix of a linear layer as the files hold it.

    name: what its tensors would be called on disk without the suffix: "model.layers.0.mlp.experts.3.up_proj".
    parts: suffix -> the stored tensor of that component.
    """

    name: str
    parts: dict[str, tuple[Placed, Piece]] = field(default_factory=dict)

    @property
    def file(self) -> Any:
        """The file that holds it (or its first part), for messages."""
        return next(iter(self.parts.values()))[0].header.file

    @property
    def nbytes(self) -> int:
        """Bytes that have to be read for it."""
        widths = {suffix: TORCH_DTYPES[placed.entry.dtype].itemsize for suffix, (placed, _) in self.parts.items()}
        return sum(math.prod(piece.shape) * widths[suffix] for suffix, (_, piece) in self.parts.items())


def stored_matrices(plan: Iterable[Placed]) -> list[StoredMatrix]:
    """The matrices among the tensors of a plan, in the plan's order; tensors that formats do not pack are left out."""
    found: dict[str, StoredMatrix] = {}
    for placed in plan:
        if is_packed(placed.expected.name):
            for piece in placed.expected.pieces:
                name, suffix = name_on_disk(placed, piece)
                found.setdefault(name, StoredMatrix(name)).parts[suffix] = (placed, piece)
    return list(found.values())


def name_on_disk(placed: Placed, piece: Piece) -> tuple[str, str]:
    """(module, suffix) of a piece. One from a fused tensor gets the name it would have alone."""
    if len(placed.expected.shape) == 3:
        bank, _, kind = piece.parameter.rpartition(".")
        return f"model.{bank}.{piece.expert}.{kind}", "weight"
    module, _, suffix = placed.expected.name.rpartition(".")
    return module, suffix


class MatrixReader(ExitStack):
    """Reads matrices in `format`. Keeps the files open, since the parts of one matrix may be in several. A context
    manager; at its end, files that were changed meanwhile raise ReadFailed.
    """

    def __init__(self, format: Format, device: torch.device) -> None:
        super().__init__()
        self.format, self.device = format, device
        self.filler = Filler()
        self.files: dict[str, OpenFile] = {}

    def file(self, header: Header) -> OpenFile:
        """The open file behind a header. Raises ReadFailed if it is not the one whose header was read."""
        if str(header.file) not in self.files:
            self.files[str(header.file)] = self.enter_context(header.reading())
        self.files[str(header.file)].require_unchanged(header.identity)
        return self.files[str(header.file)]

    def read(self, matrix: StoredMatrix, dtype: torch.dtype | None = None) -> Tensor:
        """The matrix (outs, ins), unpacked to `dtype`; None keeps every bit: plain values as they are stored, packed
        ones in float32. Raises ReadFailed, WrongModel, NotFinite.
        """
        parts = {}
        for suffix, (placed, piece) in matrix.parts.items():
            memory = torch.empty(piece.shape, dtype=TORCH_DTYPES[placed.entry.dtype])
            self.filler.fill(memory, self.file(placed.header), placed.entry, piece.begin)
            check_values(self.format, placed.header, placed.entry.name, memory)
            parts[suffix] = memory.to(self.device)
        if dtype is None:
            dtype = memory.dtype if self.format.name == "plain" else torch.float32
        return self.format.unpack(parts, dtype)


def converted(
    matrices: Iterable[StoredMatrix], reader: MatrixReader, target: Format, dtype: torch.dtype
) -> Iterator[tuple[StoredMatrix, dict[str, Tensor]]]:
    """Each matrix with its components in format `target`, by suffix; one at a time. `dtype` is that of plain values.

    Raises ReadFailed, WrongModel, and NotFinite naming a matrix that holds NaN or infinity.
    """
    for matrix in matrices:
        if target.name == "plain":
            yield matrix, {"weight": reader.read(matrix, dtype)}
            continue
        try:
            yield matrix, target.pack(reader.read(matrix))
        except BadArgument as error:
            raise NotFinite(f"{matrix.file}: {matrix.name} cannot be packed: {error}") from error
