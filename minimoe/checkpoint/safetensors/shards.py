"""The index and the headers of all files: one table of every tensor's file and position, checked for consistency."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from minimoe.checkpoint.layout import INDEX, SINGLE
from minimoe.checkpoint.resolve import download_command
from minimoe.checkpoint.safetensors.header import Header, TensorEntry, read_header
from minimoe.checkpoint.safetensors.index import Index
from minimoe.errors import IndexMismatch, MissingShard, shown


@dataclass(frozen=True)
class Shards:
    """The index of a checkpoint and the headers of the opened files, by file name. `names`: all tensors, also those of
    unopened files.
    """

    index: Index
    headers: dict[str, Header]

    @property
    def directory(self) -> Any:
        """A Path, or a RemoteDirectory, which prints as its URL."""
        return self.index.directory

    @property
    def names(self) -> Iterable[str]:
        return self.headers[SINGLE].tensors if self.index.weight_map is None else self.index.weight_map

    def find(self, name: str) -> tuple[Header, TensorEntry] | None:
        """The header of the file with tensor `name`, and its entry there; None if no opened file holds it."""
        file = SINGLE if self.index.weight_map is None else self.index.weight_map.get(name, "")
        header = self.headers.get(file)
        entry = header.tensors.get(name) if header else None
        return (header, entry) if header and entry else None

    @property
    def bytes_read(self) -> int:
        """Bytes read from the index and the headers."""
        return self.index.bytes_read + sum(header.bytes_read for header in self.headers.values())


def open_indexed(index: Index, wanted: Callable[[str], bool] | None = None) -> Shards:
    """Read the headers. With `wanted`, only of the files that hold a wanted tensor: the others need not exist.

    Raises the errors of read_header, MissingShard, and IndexMismatch if index and headers disagree.
    """
    files = index.files
    if wanted is not None and index.weight_map is not None:
        files = sorted({file for name, file in index.weight_map.items() if wanted(name)})
    if absent := absent_files(index, files):
        raise missing_shards(index, absent)
    shards = Shards(index, {file: read_header(index.directory / file) for file in files})
    for problem in disagreements(shards):
        raise problem
    return shards


def absent_files(index: Index, files: list[str]) -> list[str]:
    """The names in `files` of files that do not exist."""
    directory = index.directory
    if isinstance(directory, Path):
        return [file for file in files if not (directory / file).exists()]
    return directory.absent(files)


def missing_shards(index: Index, absent: list[str]) -> MissingShard:
    """The error for absent files: their number, the first one, its layers, and how to get them."""
    names = [name for name, file in (index.weight_map or {}).items() if file == absent[0]]
    numbers = sorted({int(match[1]) for name in names if (match := re.match(r"model\.layers\.(\d{1,6})\.", name))})
    if numbers:
        holds = f"layers {numbers[0]}-{numbers[-1]}" if len(numbers) > 1 else f"layer {numbers[0]}"
    else:
        holds = ", ".join(names[:2])
    fix = "The owner of the server has to add them."
    if isinstance(index.directory, Path):
        fix = f"Resume with: {download_command(index.directory)}"
    return MissingShard(
        f"{len(absent)} of {len(index.files)} files are absent in {index.directory}, first: {absent[0]} (holds "
        f"{holds}). {fix}"
    )


def disagreements(shards: Shards) -> Iterable[IndexMismatch]:
    """The contradictions between the index and the headers of the opened files: tensors first, then the total."""
    weight_map, path = shards.index.weight_map, shards.directory / INDEX
    if weight_map is None:
        return
    absent = [
        f"{shown(name)} (said to be in {file})"
        for name, file in weight_map.items()
        if file in shards.headers and name not in shards.headers[file].tensors
    ]
    if absent:
        yield IndexMismatch(f"{path} names {listed(absent)} not found in the file's own header. {FIX}")
    held = [(name, file) for file, header in shards.headers.items() for name in header.tensors]
    twice = [
        f"{shown(name)} (in {file} and {weight_map[name]})" for name, file in held if weight_map.get(name, file) != file
    ]
    if twice:
        yield IndexMismatch(f"{path}: the same tensor is in two files: {listed(twice)}. {FIX}")
    unlisted = [f"{shown(name)} (in {file})" for name, file in held if name not in weight_map]
    if unlisted:
        yield IndexMismatch(f"{path} does not mention {listed(unlisted)}. {FIX}")
    total, promised = sum(header.payload_bytes for header in shards.headers.values()), shards.index.total_size
    if (
        promised is not None
        and len(shards.headers) == len(shards.index.files)
        and promised not in (total, total - tied_copy(shards))
    ):
        yield IndexMismatch(f"{path}: total_size is {promised:,} bytes, the files hold {total:,}. {FIX}")


def tied_copy(shards: Shards) -> int:
    """Bytes of an lm_head stored besides its tied embedding: some writers count the two once in total_size."""
    head, embedding = shards.find("lm_head.weight"), shards.find("model.embed_tokens.weight")
    same = head and embedding and (head[1].shape, head[1].dtype) == (embedding[1].shape, embedding[1].dtype)
    return head[1].nbytes if head and same else 0


def listed(items: list[str]) -> str:
    """Up to five items, and the total count if there are more."""
    more = f", ... ({len(items):,} in all)" if len(items) > 5 else ""
    return ", ".join(items[:5]) + more


FIX = "Index and files are from different downloads; download all of them again."
