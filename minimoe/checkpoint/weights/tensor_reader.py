"""Read the bytes of a file into the memory of a parameter, with no copy larger than one staging buffer.

If dtype and device agree, the operating system writes directly into the parameter's memory. Otherwise the values pass
through a buffer of bounded size.
"""

import math

import torch
from torch import Tensor

from minimoe.checkpoint.safetensors.header import TensorEntry
from minimoe.checkpoint.safetensors.pread import OpenFile
from minimoe.dtypes import TORCH_DTYPES

STAGING_BYTES = 8 * 2**20


def memory_of(tensor: Tensor) -> memoryview:
    """The bytes of a contiguous CPU tensor, writable. (NumPy has no bfloat16, so every dtype is viewed as bytes.)
    """
    return memoryview(tensor.view(-1).view(torch.uint8).numpy())  # type: ignore[arg-type]


class Filler:
    """Fills destinations from one file after another through a single staging buffer, allocated on first use."""

    def __init__(self) -> None:
        self._staging: Tensor | None = None

    def fill(self, destination: Tensor, file: OpenFile, entry: TensorEntry, begin: int = 0) -> None:
        """Fill `destination` (contiguous) with the values of `entry` from number `begin` on, converting the dtype if
        it differs.

        Raises ReadFailed.
        """
        dtype = TORCH_DTYPES[entry.dtype]
        flat = destination.view(-1)
        start = entry.start + begin * dtype.itemsize
        if flat.device.type == "cpu" and flat.dtype == dtype:
            file.read_into(memory_of(flat), start)
            return
        room = STAGING_BYTES // dtype.itemsize
        for first in range(0, len(flat), room):
            part = flat[first : first + room]
            staged = self.staging(flat.device)[: len(part) * dtype.itemsize]
            file.read_into(memory_of(staged), start + first * dtype.itemsize)
            part.copy_(staged.view(dtype))

    def staging(self, device: torch.device) -> Tensor:
        if self._staging is None:  # pinned memory is what a GPU can fetch from directly; it belongs to the current one
            with torch.cuda.device(device if device.type == "cuda" else -1):  # -1: leaves everything as it is
                self._staging = torch.empty(STAGING_BYTES, dtype=torch.uint8, pin_memory=device.type == "cuda")
        return self._staging


def same_values(file: OpenFile, entry: TensorEntry, other_file: OpenFile, other: TensorEntry) -> bool:
    """Whether two stored tensors are equal, compared chunk by chunk: to the bit, or in the narrower of two dtypes."""
    if entry.shape != other.shape:
        return False
    dtypes = TORCH_DTYPES[entry.dtype], TORCH_DTYPES[other.dtype]
    narrower = min(dtypes, key=lambda dtype: dtype.itemsize)
    values = math.prod(entry.shape)
    step = STAGING_BYTES // 16
    for first in range(0, values, step):
        count = min(step, values - first)
        one = file.read(entry.start + first * dtypes[0].itemsize, count * dtypes[0].itemsize)
        two = other_file.read(other.start + first * dtypes[1].itemsize, count * dtypes[1].itemsize)
        if dtypes[0] != dtypes[1]:
            one, two = (as_dtype(data, dtype, narrower) for data, dtype in zip((one, two), dtypes, strict=True))
        if one != two:
            return False
    return True


def as_dtype(data: bytes, dtype: torch.dtype, to: torch.dtype) -> bytes:
    """The bytes of the same values in another dtype."""
    return bytes(memory_of(torch.frombuffer(bytearray(data), dtype=dtype).to(to)))
