"""The index and the headers of all files together: one table of where every tensor lies, checked both ways."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from minimoe.checkpoint.resolve import INDEX, SINGLE, download_command
from minimoe.checkpoint.safetensors.header import Header, TensorEntry, read_header
from minimoe.checkpoint.safetensors.index import Index
from minimoe.errors import IndexMismatch, MissingShard, shown


@dataclass(frozen=True)
class Shards:
    """An opened checkpoint. `headers` by file name, for the files that were opened; `names` are all tensors, opened or
    not.
    """

    index: Index
    headers: dict[str, Header]

    @property
    def directory(self) -> Any:
        """A Path here, or what prints as the address of a folder on a server."""
        return self.index.directory

    @property
    def names(self) -> Iterable[str]:
        return self.headers[SINGLE].tensors if self.index.weight_map is None else self.index.weight_map

    def find(self, name: str) -> tuple[Header, TensorEntry] | None:
        """The header of the file that holds `name`, and its entry there; None if no opened file holds it."""
        file = SINGLE if self.index.weight_map is None else self.index.weight_map.get(name, "")
        header = self.headers.get(file)
        entry = header.tensors.get(name) if header else None
        return (header, entry) if header and entry else None

    @property
    def bytes_read(self) -> int:
        """Bytes of the index and of the headers that were read to learn all this."""
        return self.index.bytes_read + sum(header.bytes_read for header in self.headers.values())


def open_indexed(index: Index, wanted: Callable[[str], bool] | None = None) -> Shards:
    """Read the headers. With `wanted`, only of the files that hold a wanted tensor: the others need not be there.

    Raises what read_header raises, MissingShard, and IndexMismatch where index and headers disagree.
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
    """Those of `files` that are not there."""
    directory = index.directory
    if isinstance(directory, Path):
        return [file for file in files if not (directory / file).exists()]
    return directory.absent(files)


def missing_shards(index: Index, absent: list[str]) -> MissingShard:
    """How many files are absent, which is the first, what it holds, and how to get them."""
    names = [name for name, file in (index.weight_map or {}).items() if file == absent[0]]
    numbers = sorted({int(match[1]) for name in names if (match := re.match(r"model\.layers\.(\d{1,6})\.", name))})
    if numbers:
        holds = f"layers {numbers[0]}-{numbers[-1]}" if len(numbers) > 1 else f"layer {numbers[0]}"
    else:
        holds = ", ".join(names[:2])
    mend = "Its owner has to put them there."
    if isinstance(index.directory, Path):
        mend = f"Resume with: {download_command(index.directory)}"
    return MissingShard(
        f"{len(absent)} of {len(index.files)} files are absent in {index.directory}, first: {absent[0]} (holds "
        f"{holds}). {mend}"
    )


def disagreements(shards: Shards) -> Iterable[IndexMismatch]:
    """Where the index and the headers of the opened files contradict each other: tensors first, then the total."""
    weight_map, path = shards.index.weight_map, shards.directory / INDEX
    if weight_map is None:
        return
    absent = [
        f"{shown(name)} (said to be in {file})"
        for name, file in weight_map.items()
        if file in shards.headers and name not in shards.headers[file].tensors
    ]
    if absent:
        yield IndexMismatch(f"{path} names {listed(absent)} not found in the file's own header. {MEND}")
    held = [(name, file) for file, header in shards.headers.items() for name in header.tensors]
    twice = [
        f"{shown(name)} (in {file} and {weight_map[name]})" for name, file in held if weight_map.get(name, file) != file
    ]
    if twice:
        yield IndexMismatch(f"{path}: the same tensor is in two files: {listed(twice)}. {MEND}")
    unlisted = [f"{shown(name)} (in {file})" for name, file in held if name not in weight_map]
    if unlisted:
        yield IndexMismatch(f"{path} does not mention {listed(unlisted)}. {MEND}")
    total, promised = sum(header.payload_bytes for header in shards.headers.values()), shards.index.total_size
    if (
        promised is not None
        and len(shards.headers) == len(shards.index.files)
        and promised not in (total, total - tied_copy(shards))
    ):
        yield IndexMismatch(f"{path}: total_size is {promised:,} bytes, the files hold {total:,}. {MEND}")


def tied_copy(shards: Shards) -> int:
    """Bytes of an lm_head that repeats the embedding: some writers count the two as one in total_size."""
    head, embedding = shards.find("lm_head.weight"), shards.find("model.embed_tokens.weight")
    same = head and embedding and (head[1].shape, head[1].dtype) == (embedding[1].shape, embedding[1].dtype)
    return head[1].nbytes if head and same else 0


def listed(items: list[str]) -> str:
    """Up to five items and the count of all."""
    more = f", ... ({len(items):,} in all)" if len(items) > 5 else ""
    return ", ".join(items[:5]) + more


MEND = "Index and files are from different downloads; download all of them again."
