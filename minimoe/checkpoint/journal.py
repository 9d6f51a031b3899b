"""A note of the checksums that are done, so that an interrupted `verify --sha256` of 470 GB goes on where it stopped.

It is one small file in the checkpoint's folder, or in the cache where that cannot be written. A checksum counts only as
long as the file's inode, size and time of change are what they were. When a run has come to its end the journal goes:
the next run is to read everything again, since a disk may have lost a bit in between.
"""

import hashlib
import json
from contextlib import suppress
from pathlib import Path
from typing import Any

from minimoe.checkpoint.checksums import SHA256
from minimoe.checkpoint.remote.range_cache import default_folder, write

NAME = ".minimoe-sha256.json"


class Journal:
    """The checksums of the files in `directory` that an interrupted run has left, and those that are added."""

    def __init__(self, directory: Path):
        elsewhere = hashlib.sha256(str(directory.absolute()).encode()).hexdigest()[:32] + ".json"
        self.places = [directory / NAME, default_folder() / "sha256" / elsewhere]
        self.done: dict[str, list[Any]] = {}
        for place in self.places:
            self.done |= read(place)

    def digest(self, name: str, identity: tuple[Any, ...]) -> str | None:
        """The checksum of the file of that name, if it was taken from this very file."""
        *found, digest = self.done.get(name, (None,))
        return digest if tuple(found) == identity and digest is not None else None

    def note(self, name: str, identity: tuple[Any, ...], digest: str) -> None:
        """Add a checksum, and write all of them. Where nothing can be written, only the resuming is lost."""
        self.done[name] = [*identity, digest]
        for place in self.places:
            try:
                return write(place, json.dumps(self.done).encode())
            except OSError:
                continue

    def finish(self) -> None:
        """All files are done."""
        for place in self.places:
            with suppress(OSError):
                place.unlink(missing_ok=True)


def read(place: Path) -> dict[str, list[Any]]:
    """The entries of a journal, as far as they are well formed: name -> [inode, size, time of change, digest]."""
    try:
        entries = json.loads(place.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(entries, dict):
        return {}
    return {name: entry for name, entry in entries.items() if is_entry(entry)}


def is_entry(entry: Any) -> bool:
    """Three integers and a SHA-256."""
    numbers = isinstance(entry, list) and len(entry) == 4 and all(type(number) is int for number in entry[:3])
    return numbers and isinstance(entry[3], str) and SHA256.fullmatch(entry[3]) is not None
