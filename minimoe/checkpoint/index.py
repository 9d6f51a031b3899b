"""Which file holds which tensor: `model.safetensors.index.json`, or the one `model.safetensors`."""

import re
from codecs import BOM_UTF8
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from minimoe.checkpoint.locate import INDEX, SINGLE, no_weights
from minimoe.checkpoint.positioned import FarFolder, PositionedFile
from minimoe.checkpoint.strict_json import parse_object, shown
from minimoe.errors import IndexMismatch, UnsafeIndex

PLAIN_NAME = re.compile(r"[A-Za-z0-9._-]+\.safetensors")
LARGEST_INDEX = 100_000_000  # bytes


@dataclass(frozen=True)
class Index:
    """`weight_map`: tensor name -> file name, or None for a single file without an index. `total_size` in bytes, if it
    is given.
    """

    directory: Path | FarFolder
    weight_map: dict[str, str] | None
    total_size: int | None
    bytes_read: int

    @property
    def files(self) -> list[str]:
        """The weight files, sorted by name."""
        return [SINGLE] if self.weight_map is None else sorted(set(self.weight_map.values()))


def read_index(directory: Path) -> Index:
    """Read the index of a checkpoint folder, or note that it has a single file. Opens no weight file.

    Raises NotFound or NotSafetensors (no weights that we read), UnsafeIndex (it points outside the folder),
    IndexMismatch (unreadable).
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
        raw = parse_object(text.removeprefix(BOM_UTF8))  # which editors on Windows put in front
    except ValueError as error:
        raise IndexMismatch(f"{path} cannot be used: {error}. Download it again.") from error
    weight_map = check_weight_map(path, raw.get("weight_map"))
    if single.exists() and SINGLE not in weight_map.values():
        raise IndexMismatch(
            f"{directory} holds both {SINGLE} and {INDEX}, which does not name it. Remove the one that is not meant."
        )
    return Index(directory, weight_map, check_total_size(path, raw.get("metadata")), len(text))


def check_weight_map(path: Path, weight_map: Any) -> dict[str, str]:
    """Every value is a plain file name. A link is fine (hub caches are made of them), a path is not."""
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
    """The promised number of payload bytes; None if the index does not give one."""
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
