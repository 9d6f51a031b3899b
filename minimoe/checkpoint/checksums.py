"""SHA-256 of weight files: computing it, finding the expected one, and resuming an interrupted run.

A checksum is the only way to detect a flipped bit in the weights.
"""

import hashlib
import json
import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from minimoe.checkpoint.remote.range_cache import default_folder, write
from minimoe.checkpoint.safetensors.pread import PositionedFile

STEP = 8 * 2**20  # bytes
SHA256 = re.compile(r"[0-9a-f]{64}")
JOURNAL_NAME = ".minimoe-sha256.json"


def sha256_of(
    path: Path, progress: "tqdm | None" = None, see: Callable[[int, memoryview], None] = lambda offset, data: None
) -> str:
    """The SHA-256 of a file in hexadecimal. `see` is called with each block: its offset and its bytes.

    Raises ReadFailed, also if the file changes meanwhile.
    """
    digest = hashlib.sha256()
    buffer = memoryview(bytearray(STEP))
    with PositionedFile(path) as file:
        for offset in range(0, file.size, STEP):
            block = buffer[: min(STEP, file.size - offset)]
            file.read_into(block, offset)
            digest.update(block)
            see(offset, block)
            if progress is not None:
                progress.update(len(block))
        file.require_unchanged(file.identity)
    return digest.hexdigest()


def expected_sha256(path: Path) -> str | None:
    """The expected digest of a file, or None if none is recorded beside it. Sources, in this order:

    `<file>.sha256` (as `sha256sum` writes it); the blob name that a symbolic link in a hub cache points to; the
    metadata that `hf download --local-dir` leaves in `.cache/huggingface/download`.
    """
    candidates = [first_word(path.with_name(path.name + ".sha256"), line=0)]
    if path.is_symlink():
        candidates.append(Path(path.readlink()).name)
    candidates.append(first_word(path.parent / ".cache" / "huggingface" / "download" / f"{path.name}.metadata", line=1))
    return next((word.lower() for word in candidates if word and SHA256.fullmatch(word.lower())), None)


def first_word(path: Path, line: int) -> str | None:
    """The first word of one line of a small text file, or None."""
    try:
        with path.open("rb") as file:
            lines = file.read(1000).decode("utf-8", "replace").splitlines()
    except OSError:
        return None
    words = lines[line].split() if len(lines) > line else []
    return words[0] if words else None


class ChecksumJournal:
    """The finished checksums of an interrupted `verify --sha256`, so that the next run resumes where it stopped.

    A small file in the checkpoint's folder, or in the cache if that folder is read-only. An entry is valid only while
    the file's inode, size and modification time are unchanged. A completed run deletes the journal: the next run reads
    everything again, since a disk can lose a bit in between.
    """

    def __init__(self, directory: Path):
        cached_name = hashlib.sha256(str(directory.absolute()).encode()).hexdigest()[:32] + ".json"
        self.paths = [directory / JOURNAL_NAME, default_folder() / "sha256" / cached_name]
        self.entries: dict[str, list[Any]] = {}
        for path in self.paths:
            self.entries |= read_entries(path)

    def digest(self, name: str, identity: tuple[Any, ...]) -> str | None:
        """The recorded checksum of the file `name`, or None if there is none for this version of the file."""
        *recorded, digest = self.entries.get(name, (None,))
        return digest if tuple(recorded) == identity and digest is not None else None

    def record(self, name: str, identity: tuple[Any, ...], digest: str) -> None:
        """Add a checksum and write the journal. If no folder is writable, only the ability to resume is lost."""
        self.entries[name] = [*identity, digest]
        for path in self.paths:
            try:
                return write(path, json.dumps(self.entries).encode())
            except OSError:
                continue

    def finish(self) -> None:
        """Delete the journal after a completed run."""
        for path in self.paths:
            with suppress(OSError):
                path.unlink(missing_ok=True)


def read_entries(path: Path) -> dict[str, list[Any]]:
    """The well-formed entries of a journal: file name -> [inode, size, modification time, digest]."""
    try:
        entries = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(entries, dict):
        return {}
    return {name: entry for name, entry in entries.items() if is_entry(entry)}


def is_entry(entry: Any) -> bool:
    """Whether this is a list of three integers and a SHA-256."""
    has_numbers = isinstance(entry, list) and len(entry) == 4 and all(type(number) is int for number in entry[:3])
    return has_numbers and isinstance(entry[3], str) and SHA256.fullmatch(entry[3]) is not None
