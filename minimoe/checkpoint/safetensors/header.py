"""Reads and validates the header of a safetensors file, without reading the weights.

The whole format: 8 bytes, the header's length as a little-endian integer; the header, a JSON object `{"name":
{"dtype": "BF16", "shape": [2, 3], "data_offsets": [begin, end]}, ...}`; then the bytes of all tensors, without gaps.
`data_offsets` are relative to the end of the header. See https://huggingface.co/docs/safetensors
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from minimoe.checkpoint.safetensors.pread import OpenFile, RemotePath, open_file
from minimoe.checkpoint.safetensors.strict_json import parse_object
from minimoe.dtypes import BYTES_PER_VALUE
from minimoe.errors import BadCheckpoint, CorruptHeader, NotSafetensors, TruncatedShard, shown

LARGEST_HEADER = 100_000_000  # bytes; the limit of the reference implementation
LARGEST_NUMBER = 2**63 - 1


@dataclass(frozen=True)
class TensorEntry:
    """One tensor of a file: `start` is the absolute position of its first byte, `nbytes` its size."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    nbytes: int


@dataclass(frozen=True)
class Header:
    """The validated header of `file`: entries by name, the free-form metadata, and the file's identity at that time.
    `file` prints as a path or a URL and has a `name`.
    """

    file: Path | RemotePath
    tensors: dict[str, TensorEntry]
    metadata: dict[str, str]
    identity: tuple[Any, ...]
    bytes_read: int

    @property
    def payload_bytes(self) -> int:
        return sum(entry.nbytes for entry in self.tensors.values())

    def open(self) -> OpenFile:
        """Open the file again to read weights; a context manager. Call `require_unchanged(header.identity)` before
        reading, so that the offsets and the bytes are of the same version.
        """
        return open_file(self.file)

    @contextmanager
    def reading(self) -> Iterator[OpenFile]:
        """Open the file, and check before and after reading that it has not changed. Raises ReadFailed."""
        with self.open() as file:
            file.require_unchanged(self.identity)
            yield file
            file.require_unchanged(self.identity)


def read_header(path: Path | RemotePath) -> Header:
    """Read and validate the header of `path`; reads no other bytes than the header and its 8-byte length.

    Raises NotSafetensors (another kind of file), CorruptHeader (unreadable or inconsistent), TruncatedShard (the file
    is shorter or longer than the header says), ReadFailed.
    """
    with open_file(path) as file:
        if file.size == 0:
            raise NotSafetensors(f"{path} is empty (0 bytes). The download did not begin; download it again.")
        if file.size < 8:
            raise TruncatedShard(
                f"{path} is {file.size} bytes, less than a header. The download did not finish; run it again."
            )
        length = int.from_bytes(file.read(0, 8), "little")
        if length > LARGEST_HEADER or length > file.size - 8:
            raise explain_first_bytes(path, file) or CorruptHeader(
                f"{path}: the header claims to be {length:,} bytes, but the file has {file.size:,} and a header at "
                f"most {LARGEST_HEADER:,}. "
                "Download the file again."
            )
        text = file.read(8, length)
        if not text.startswith(b"{"):
            raise explain_first_bytes(path, file) or CorruptHeader(
                f"{path}: the header begins with {shown(text[:12])}, expected '{{'. Download the file again."
            )
        try:
            raw = parse_object(text)
        except ValueError as error:
            raise CorruptHeader(f"{path}: the header is not JSON ({error}). Download the file again.") from error
        metadata = check_metadata(path, raw.pop("__metadata__", {}))
        tensors = {name: check_entry(path, name, fields, 8 + length) for name, fields in raw.items()}
        check_coverage(path, tensors, 8 + length, file.size)
        return Header(path, tensors, metadata, file.identity, file.bytes_read)


def explain_first_bytes(path: Path | RemotePath, file: OpenFile) -> BadCheckpoint | None:
    """NotSafetensors for the kinds of file that are often mistaken for weights, else None."""
    first = file.read(0, min(64, file.size))
    lines = first.lstrip().lower()
    if lines.startswith(b"version https://git-lfs"):
        what = "this is a Git LFS pointer, not weights. Run `git lfs pull`, or download it with `hf download`"
    elif lines.startswith((b"<!doctype", b"<html", b"<?xml", b"<head")):
        what = (
            "this is a web page, not weights. The download was answered by an error or log-in page; use `hf download`"
        )
    elif first.startswith((b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")):
        what = "this is a PyTorch pickle, which can run code when opened. Download the safetensors files"
    elif first.startswith(b"GGUF"):
        what = "this is a GGUF file (llama.cpp). Download the safetensors files"
    elif not first.strip(b"\0"):
        what = "the space was reserved but nothing was downloaded into it. Download it again"
    else:
        return None
    return NotSafetensors(f"{path} starts with {shown(first[:24].decode('latin-1'))}: {what}.")


def check_metadata(path: Path | RemotePath, metadata: Any) -> dict[str, str]:
    """Return `__metadata__`. Raises CorruptHeader unless it is an object of strings."""
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise CorruptHeader(f"{path}: __metadata__ is {shown(metadata)}, expected an object of strings.")
    return metadata


def check_entry(path: Path | RemotePath, name: str, fields: Any, data_start: int) -> TensorEntry:
    """One entry of the header as a TensorEntry. Raises CorruptHeader for invalid or inconsistent values."""

    def broken(what: str) -> CorruptHeader:
        return CorruptHeader(f"{path}: tensor {shown(name)}: {what}. Download the file again.")

    if not isinstance(fields, dict):
        raise broken(f"its entry is {shown(fields)}, expected an object")
    dtype: Any = fields.get("dtype")
    shape: Any = fields.get("shape")
    offsets: Any = fields.get("data_offsets")
    if not isinstance(dtype, str) or dtype not in BYTES_PER_VALUE:
        raise broken(f"dtype is {shown(dtype)}, expected one of {', '.join(BYTES_PER_VALUE)}")
    if not is_list_of_counts(shape) or len(shape) > 64:
        raise broken(f"shape is {shown(shape)}, expected a list of integers from 0 on")
    if not is_list_of_counts(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise broken(f"data_offsets is {shown(offsets)}, expected [begin, end] with 0 <= begin <= end")
    nbytes = BYTES_PER_VALUE[dtype]
    for size in shape:
        nbytes *= size
    if nbytes != offsets[1] - offsets[0]:
        raise broken(
            f"{list(shape)} values of {dtype} are {nbytes:,} bytes, data_offsets {offsets} span "
            f"{offsets[1] - offsets[0]:,}"
        )
    return TensorEntry(name, dtype, tuple(shape), data_start + offsets[0], nbytes)


def is_list_of_counts(value: Any) -> bool:
    """Whether this is a list of non-negative integers (not True, not 1.0) that fit in a signed 64-bit integer."""
    return isinstance(value, list) and all(type(item) is int and 0 <= item <= LARGEST_NUMBER for item in value)


def check_coverage(path: Path | RemotePath, tensors: dict[str, TensorEntry], data_start: int, size: int) -> None:
    """Check that the tensors fill the file from the header to its end without gap or overlap.

    Raises CorruptHeader, TruncatedShard.
    """
    position = data_start
    for entry in sorted(tensors.values(), key=lambda entry: (entry.start, entry.nbytes)):
        if entry.start != position:
            what = (
                "overlaps the tensor before it" if entry.start < position else "leaves a gap after the tensor before it"
            )
            raise CorruptHeader(
                f"{path}: tensor {shown(entry.name)} begins at byte {entry.start:,} of the file, expected "
                f"{position:,}: it {what}. "
                "Download the file again."
            )
        position = entry.start + entry.nbytes
    if size < position:
        raise TruncatedShard(
            f"{path} is {size:,} bytes, its header describes {position:,}. The download did not finish; run it again."
        )
    if size > position:
        raise TruncatedShard(
            f"{path} has {size - position:,} extra bytes: it is {size:,} bytes, its header describes {position:,}. "
            "Download it again."
        )
