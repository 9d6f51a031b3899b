"""Safetensors files whose headers are known beforehand, so that tensors may come in any order and in pieces."""

import os
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import IO

from torch import Tensor

from minimoe.atomic import write
from minimoe.checkpoint.layout import Expected
from minimoe.checkpoint.resolve import INDEX
from minimoe.checkpoint.save import as_json, header_of, shard_names
from minimoe.checkpoint.weights.tensor_reader import memory_of
from minimoe.dtypes import BYTES_PER_VALUE
from minimoe.errors import IncompleteLoad


class ShardWriter:
    """Writes `shards` (as `save.split` makes them) into `folder`, with their index if there are several. A context
    manager; what is left unwritten at its end is an error.

    code: the dtype of the tensors that have none of their own. Raises OSError.
    """

    def __init__(self, folder: Path, shards: Sequence[Sequence[Expected]], code: str):
        self.code, width = code, BYTES_PER_VALUE[code]
        self.files: list[IO[bytes]] = []
        self.places: dict[str, tuple[IO[bytes], int]] = {}  # tensor -> file, position of its first byte
        self.missing: dict[str, int] = {}  # tensor -> bytes not yet written
        weight_map: dict[str, str] = {}
        for name, shard in zip(shard_names(len(shards)), shards, strict=True):
            file = open(folder / name, "w+b")  # noqa: SIM115  # closed in __exit__
            self.files.append(file)
            position = file.write(header_of(shard, code))
            for tensor in shard:
                self.places[tensor.name] = (file, position)
                self.missing[tensor.name] = tensor.nbytes(width)
                position += tensor.nbytes(width)
            file.flush()
            os.truncate(folder / name, position)
            weight_map |= {tensor.name: name for tensor in shard}
        if len(shards) > 1:
            total = sum(self.missing.values())
            index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(weight_map.items()))}
            write(folder / INDEX, as_json(index), durable=False)

    def write(self, name: str, values: Tensor, first: int = 0) -> None:
        """Write `values` as those of tensor `name` from number `first` on. Each value has to be written once."""
        values = values.to("cpu").contiguous()
        file, position = self.places[name]
        file.seek(position + first * values.itemsize)
        file.write(memory_of(values))
        self.missing[name] -= values.nbytes

    def __enter__(self) -> "ShardWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for file in self.files:
            file.close()
        wrong = [name for name, nbytes in self.missing.items() if nbytes]
        if wrong and error is None:
            raise IncompleteLoad(
                f"{wrong[0]} was not written in full ({len(wrong):,} such tensors). Please report this."
            )
