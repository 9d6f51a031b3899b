"""Writing safetensors shards: names, headers, weights, and the index (`model.safetensors.index.json`).

All headers are computed beforehand, so tensors can be written in any order and in parts.
"""

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from torch import Tensor

from minimoe.atomic import write
from minimoe.checkpoint.layout import INDEX, SINGLE, Expected
from minimoe.checkpoint.weights.tensor_reader import memory_of
from minimoe.dtypes import BYTES_PER_VALUE
from minimoe.errors import IncompleteLoad


@dataclass(frozen=True)
class Shard:
    """A weight file before it is written: its name, its header, and its tensors in the order of their bytes."""

    name: str
    header: bytes
    tensors: Sequence[Expected]
    payload_bytes: int

    @property
    def nbytes(self) -> int:
        """Size of the whole file."""
        return len(self.header) + self.payload_bytes

    def create(self, path: Path) -> None:
        """Write the header to `path` and extend the file to its full size by a hole (unwritten zeros). Raises
        OSError.
        """
        path.write_bytes(self.header)
        os.truncate(path, self.nbytes)


def split(tensors: Iterable[Expected], bytes_per_value: int, max_shard_bytes: int) -> list[list[Expected]]:
    """Group tensors, in the model's order, into shards; a new shard begins where the next tensor would not fit.
    Within a shard they are sorted by name. Qwen3-235B-A22B at 4e9 bytes: 118 shards.
    """
    shards: list[list[Expected]] = [[]]
    filled = 0
    for tensor in tensors:
        nbytes = tensor.nbytes(bytes_per_value)
        if shards[-1] and filled + nbytes > max_shard_bytes:
            shards.append([])
            filled = 0
        shards[-1].append(tensor)
        filled += nbytes
    return [sorted(shard, key=lambda tensor: tensor.name) for shard in shards]


def shards_of(groups: Sequence[Sequence[Expected]], code: str) -> list[Shard]:
    """The files for `groups` (from `split`), with their headers. `code`: dtype of the tensors without one of their
    own.
    """
    width = BYTES_PER_VALUE[code]
    return [
        Shard(name, header_of(group, code), group, sum(tensor.nbytes(width) for tensor in group))
        for name, group in zip(shard_names(len(groups)), groups, strict=True)
    ]


def shard_names(count: int) -> list[str]:
    """The conventional names of `count` shards."""
    if count == 1:
        return [SINGLE]
    return [f"model-{number:05}-of-{count:05}.safetensors" for number in range(1, count + 1)]


def header_of(tensors: Iterable[Expected], code: str) -> bytes:
    """Length and header of a safetensors file that stores these tensors in this order, padded to a multiple of 8
    bytes. `code`: dtype of the tensors without one of their own.
    """
    entries: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    position = 0
    for tensor in tensors:
        end = position + tensor.nbytes(BYTES_PER_VALUE[code])
        entries[tensor.name] = {
            "dtype": tensor.code or code, "shape": list(tensor.shape), "data_offsets": [position, end],
        }  # fmt: skip
        position = end
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def index_of(shards: Sequence[Shard]) -> bytes:
    """The content of the index file: total size in bytes, and the file of each tensor, by name."""
    weight_map = {tensor.name: shard.name for shard in shards for tensor in shard.tensors}
    total = sum(shard.payload_bytes for shard in shards)
    return as_json({"metadata": {"total_size": total}, "weight_map": dict(sorted(weight_map.items()))})


def as_json(value: Any) -> bytes:
    """The content of a JSON file, indented for readability."""
    return (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode()


class ShardWriter:
    """Writes the shards for `groups` (from `split`) into `folder`, and their index if there are several.

    A context manager. On a regular exit it raises IncompleteLoad if a tensor was not written in full. code: dtype of
    the tensors without one of their own. Raises OSError. One file is open at a time, so the number of shards is not
    limited by the system's open-file limit.
    """

    def __init__(self, folder: Path, groups: Sequence[Sequence[Expected]], code: str):
        shards, width = shards_of(groups, code), BYTES_PER_VALUE[code]
        self._offsets: dict[str, tuple[Path, int]] = {}  # tensor -> its file, position of its first byte
        self._missing: dict[str, int] = {}  # tensor -> bytes not yet written
        self._path: Path | None = None  # of the open file
        self._file: IO[bytes] | None = None
        for shard in shards:
            position = len(shard.header)
            for tensor in shard.tensors:
                self._offsets[tensor.name] = (folder / shard.name, position)
                self._missing[tensor.name] = tensor.nbytes(width)
                position += tensor.nbytes(width)
            shard.create(folder / shard.name)
        if len(shards) > 1:
            write(folder / INDEX, index_of(shards), durable=False)

    def write(self, name: str, values: Tensor, first: int = 0) -> None:
        """Write `values` into tensor `name`, starting at value number `first`. Each value must be written once."""
        values = values.to("cpu").contiguous()
        path, position = self._offsets[name]
        file = self._open(path)
        file.seek(position + first * values.itemsize)
        file.write(memory_of(values))
        self._missing[name] -= values.nbytes

    def _open(self, path: Path) -> IO[bytes]:
        if self._file is None or path != self._path:
            self._close()
            self._path, self._file = path, open(path, "r+b")  # noqa: SIM115  # closed in _close
        return self._file

    def _close(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            file.close()

    def __enter__(self) -> "ShardWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()
        incomplete = [name for name, nbytes in self._missing.items() if nbytes]
        if incomplete and error is None:
            raise IncompleteLoad(
                f"{incomplete[0]} was not written in full ({len(incomplete):,} such tensors). Please report this."
            )
