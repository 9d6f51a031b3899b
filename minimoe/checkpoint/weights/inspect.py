"""Inspects the values of a checkpoint without loading it: the small tensors that `load` inspects too, or all of them
while a checksum is computed, which reads every byte anyway.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from minimoe.checkpoint.match import Placed
from minimoe.checkpoint.safetensors.header import Header, TensorEntry
from minimoe.checkpoint.safetensors.pread import OpenFile
from minimoe.checkpoint.weights.tensor_reader import Filler
from minimoe.checkpoint.weights.values import check_values, is_inspected
from minimoe.dtypes import TORCH_DTYPES
from minimoe.errors import MinimoeError, NotFinite
from minimoe.model.finite import is_finite
from minimoe.quantisation import Format

MOST = 5  # problems of one kind reported individually


def inspect_small(plan: list[Placed], format: Format) -> Iterator[MinimoeError]:
    """The errors that a load would raise for norms, routers, and the scales of packed weights; at most MOST."""
    filler, count = Filler(), 0
    for placed in plan:
        if count == MOST:
            return
        if not is_inspected(placed.entry.name):
            continue
        try:
            with placed.header.reading() as file:
                check_values(format, placed.header, placed.entry.name, read_one(placed, file, filler))
        except MinimoeError as problem:
            count += 1
            yield problem


def read_one(placed: Placed, file: OpenFile, filler: Filler) -> Tensor:
    """Read one tensor in its stored dtype."""
    memory = torch.empty(placed.entry.shape, dtype=TORCH_DTYPES[placed.entry.dtype])
    filler.fill(memory, file, placed.entry)
    return memory


class Inspector:
    """Receives the bytes of a file in order, and records the tensors with NaN or infinity and those with only zeros."""

    def __init__(self, header: Header):
        self.header = header
        self.entries = sorted(header.tensors.values(), key=lambda entry: entry.start)
        self.not_finite: list[str] = []
        self.zeros: list[str] = []
        self._next, self._is_zero, self._rest = 0, True, b""

    def see(self, offset: int, data: memoryview) -> None:
        """Inspect the next bytes of the file, which begin at `offset`."""
        end = offset + len(data)
        while self._next < len(self.entries):
            entry = self.entries[self._next]
            stop = entry.start + entry.nbytes
            if entry.start >= end and entry.nbytes:
                return
            self._see_part(entry, bytes(data[max(entry.start, offset) - offset : min(stop, end) - offset]))
            if stop > end:
                return
            self._close(entry)

    def _see_part(self, entry: TensorEntry, data: bytes) -> None:
        dtype = TORCH_DTYPES.get(entry.dtype)
        whole = self._rest + data  # a value can straddle two blocks
        usable = len(whole) - len(whole) % (dtype.itemsize if dtype else 1)
        self._rest = whole[usable:]
        if usable == 0:
            return
        self._is_zero = self._is_zero and whole.count(0) == len(whole)
        bad = self.not_finite and self.not_finite[-1] == entry.name
        if dtype is not None and not bad:
            values = torch.frombuffer(bytearray(whole[:usable]), dtype=dtype)
            if not is_finite(values):
                self.not_finite.append(entry.name)

    def _close(self, entry: TensorEntry) -> None:
        if self._is_zero and entry.nbytes:
            self.zeros.append(entry.name)
        self._next, self._is_zero, self._rest = self._next + 1, True, b""

    def problem(self) -> NotFinite | None:
        """The error for tensors with NaN or infinity, if there are any."""
        if not self.not_finite:
            return None
        more = f" and {len(self.not_finite) - MOST:,} more" if len(self.not_finite) > MOST else ""
        return NotFinite(
            f"{self.header.file}: NaN or infinity in {', '.join(self.not_finite[:MOST])}{more}. Download the file "
            "again, or ask its author to save it again."
        )

    def note(self) -> str | None:
        """A note about tensors of only zeros, which are suspicious but load."""
        if not self.zeros:
            return None
        more = f" and {len(self.zeros) - MOST:,} more" if len(self.zeros) > MOST else ""
        return (
            f"{self.header.file.name}: all zeros: {', '.join(self.zeros[:MOST])}{more}. An interrupted download can "
            "leave such holes."
        )
