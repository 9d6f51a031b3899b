"""What a load reads: slices of stored tensors and the parameters they fill. Pure data; no weight is opened.

A whole model reads every tensor whole; a rank of several reads its rows or columns (`scale.distributed.shard_reads`).
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from minimoe.checkpoint.match import Placed
from minimoe.checkpoint.safetensors.header import Header, TensorEntry
from minimoe.dtypes import BYTES_PER_VALUE


@dataclass(frozen=True)
class TensorSlice:
    """Values of one stored tensor and their destination: `parameter`, or its row `expert` in a bank.

    shape: of the values in the file, from value number `begin` on. start:stop along `dim` of it is kept.
    """

    header: Header
    entry: TensorEntry
    parameter: str
    expert: int | None
    begin: int
    shape: tuple[int, ...]
    dim: int
    start: int
    stop: int

    @property
    def kept(self) -> tuple[int, ...]:
        """Shape of the values in memory."""
        return (*self.shape[: self.dim], self.stop - self.start, *self.shape[self.dim + 1 :])

    @property
    def scattered(self) -> bool:
        """Whether the kept values are not contiguous in the file."""
        return self.dim > 0 and self.kept != self.shape

    @property
    def first_value(self) -> int:
        """The first value that is read, counted from the tensor's beginning."""
        return self.begin if self.scattered else self.begin + self.start * math.prod(self.shape[self.dim + 1 :])

    @property
    def offset(self) -> int:
        """The first byte that is read, counted from the file's beginning."""
        return self.entry.start + self.first_value * BYTES_PER_VALUE[self.entry.dtype]

    @property
    def nbytes(self) -> int:
        """Bytes that are read."""
        return math.prod(self.shape if self.scattered else self.kept) * BYTES_PER_VALUE[self.entry.dtype]


def whole_tensors(plan: Iterable[Placed]) -> list[TensorSlice]:
    """Every tensor of a plan, uncut, in the plan's order. A fused tensor has one slice for each expert."""
    return [
        TensorSlice(
            header=placed.header,
            entry=placed.entry,
            parameter=piece.parameter,
            expert=piece.expert,
            begin=piece.begin,
            shape=piece.shape,
            dim=0,
            start=0,
            stop=piece.shape[0],
        )
        for placed in plan
        for piece in placed.expected.pieces
    ]
