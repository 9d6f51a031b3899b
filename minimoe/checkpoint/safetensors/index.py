"""The index: which file holds which tensor. Read from `model.safetensors.index.json`, rebuilt from the headers, or
empty for a single `model.safetensors`.
"""

import re
from codecs import BOM_UTF8
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from minimoe.checkpoint.layout import INDEX, SINGLE
from minimoe.checkpoint.other_formats import weight_files
from minimoe.checkpoint.resolve import download_command, no_weights
from minimoe.checkpoint.safetensors.header import read_header
from minimoe.checkpoint.safetensors.pread import PositionedFile, RemoteDirectory
from minimoe.checkpoint.safetensors.strict_json import parse_object
from minimoe.errors import IndexMismatch, MissingShard, UnsafeIndex, shown

PLAIN_NAME = re.compile(r"[A-Za-z0-9._-]+\.safetensors")
NUMBERED = re.compile(r"-([0-9]{1,6})-of-([0-9]{1,6})\.safetensors$")
MOST_FILES = 100_000
LARGEST_INDEX = 100_000_000  # bytes


@dataclass(frozen=True)
class Index:
    """The index of a checkpoint. `weight_map`: tensor name -> file name, or None for a single file without an index.
    `total_size`: in bytes, None if not given.
    """

    directory: Path | RemoteDirectory
    weight_map: dict[str, str] | None
    total_size: int | None
    bytes_read: int
    is_rebuilt: bool = False  # from the headers, because there is no index file

    @property
    def files(self) -> list[str]:
        """The weight files, sorted by name."""
        return [SINGLE] if self.weight_map is None else sorted(set(self.weight_map.values()))


def read_index(directory: Path) -> Index:
    """Read the index of a checkpoint folder; for a single weight file, return an Index without a map. Opens no weight
    file.

    Raises NotFound (no safetensors weights), UnsafeIndex (an entry points outside the folder), IndexMismatch
    (unreadable).
    """
    path, single = directory / INDEX, directory / SINGLE
    if not path.exists():
        if not single.exists():
            raise no_weights(directory)
        return Index(directory, None, None, 0)
    with PositionedFile(path) as file:
        if file.size > LARGEST_INDEX:
            raise IndexMismatch(
                f"{path} is {file.size:,} bytes, expected at most {LARGEST_INDEX:,}. Download it again."
            )
        text = file.read(0, file.size)
    try:
        raw = parse_object(text.removeprefix(BOM_UTF8))  # added by some editors on Windows
    except ValueError as error:
        raise IndexMismatch(f"{path} cannot be used: {error}. Download it again.") from error
    weight_map = check_weight_map(path, raw.get("weight_map"))
    if single.exists() and SINGLE not in weight_map.values():
        raise IndexMismatch(
            f"{directory} holds both {SINGLE} and {INDEX}, which does not name it. Remove one of them."
        )
    return Index(directory, weight_map, check_total_size(path, raw.get("metadata")), len(text))


def find_index(directory: Path) -> Index:
    """`read_index`, or an index rebuilt from the headers of the safetensors files if there is no index file.

    Rebuilding is safe: names and shapes are compared with config.json later, which detects missing and unrelated files.
    Also raises MissingShard if the numbers in the file names show that some are absent, IndexMismatch if two files
    hold the same tensor, and the errors of read_header.
    """
    if (directory / INDEX).exists() or (directory / SINGLE).exists() or not directory.is_dir():
        return read_index(directory)
    files = sorted(weight_files(entry.name for entry in directory.iterdir()))
    if not files:
        return read_index(directory)
    for total, numbers in numbered(files).items():
        if absent := sorted(set(range(1, total + 1)) - numbers):
            raise MissingShard(
                f"{directory} has no {INDEX}, and of {total} numbered files {len(absent)} are absent, first number "
                f"{absent[0]}. Resume with: {download_command(directory)}"
            )
    weight_map: dict[str, str] = {}
    count = 0
    for file in files:
        header = read_header(directory / file)
        count += header.bytes_read
        for name in header.tensors:
            if name in weight_map:
                raise IndexMismatch(
                    f"{directory} has no {INDEX}, and {shown(name)} is both in {weight_map[name]} and in {file}. "
                    "Remove the files of the other checkpoint, or download the index."
                )
            weight_map[name] = file
    return Index(directory, weight_map, None, count, is_rebuilt=True)


def numbered(files: list[str]) -> dict[int, set[int]]:
    """The numbers in file names such as ...-00003-of-00118.safetensors, grouped by the total."""
    numbers: dict[int, set[int]] = {}
    for file in files:
        if (match := NUMBERED.search(file)) and int(match[2]) <= MOST_FILES:
            numbers.setdefault(int(match[2]), set()).add(int(match[1]))
    return numbers


def check_weight_map(path: Path, weight_map: Any) -> dict[str, str]:
    """Return the map. Raises UnsafeIndex if a value is not a plain file name (a symbolic link is allowed: hub caches
    consist of them), IndexMismatch if it is not an object.
    """
    if not isinstance(weight_map, dict) or not weight_map:
        raise IndexMismatch(f"{path}: weight_map is {shown(weight_map)}, expected an object: tensor name -> file name.")
    for name, file in weight_map.items():
        if not isinstance(file, str) or not PLAIN_NAME.fullmatch(file):
            raise UnsafeIndex(
                f"{path}: index entry for {shown(name)} points to {shown(file)}; only plain file names like "
                "model-00001-of-00002.safetensors are allowed. Do not use this checkpoint."
            )
    return weight_map


def check_total_size(path: Path, metadata: Any) -> int | None:
    """The stated number of payload bytes, None if the index has none. Raises IndexMismatch."""
    if metadata is None:
        return None
    if not isinstance(metadata, dict):
        raise IndexMismatch(f"{path}: metadata is {shown(metadata)}, expected an object.")
    total = metadata.get("total_size")
    if total is not None and (type(total) is not int or not 0 <= total < 2**63):
        raise IndexMismatch(
            f"{path}: total_size is {shown(total)}, expected a number of bytes below 2**63. Download the index again."
        )
    return total
