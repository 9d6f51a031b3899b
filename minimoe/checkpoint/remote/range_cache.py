"""A least-recently-used disk cache of downloaded byte ranges, limited to a number of bytes.

A range is stored in pieces, each a small file with its length and a checksum. A piece is written under a temporary
name and then renamed, so a killed process leaves no partial piece; a piece whose checksum is wrong is removed and
fetched again. Several processes can share the folder: none relies on a piece still being there. If the disk is not
writable, caching stops, not the run.
"""

import hashlib
import json
import os
import re
import shutil
import struct
import sys
import tempfile
import threading
import time
import zlib
from bisect import bisect_right, insort
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from tqdm.auto import tqdm

from minimoe import atomic
from minimoe.checkpoint.remote.range_response import Version
from minimoe.errors import BadArgument

LARGEST_PIECE = 4 * 2**20  # bytes; using a part of a piece means reading and checking all of it
DEFAULT_CAP = 20 * 10**9
HEAD = struct.Struct("<8sQQI")  # magic, start, length, CRC-32 of what follows
MAGIC = b"minimoe\x01"
OWN = re.compile(r"\d+-\d+\.piece|[0-9a-f]{32}\.json|\.minimoe-[0-9a-f]{16}")  # nothing else is counted or removed
ABANDONED = 3600  # seconds after which a temporary file counts as left by a killed process


def default_folder() -> Path:
    """$MINIMOE_CACHE, or ~/.cache/minimoe; a temporary folder for users without a home, as in some containers."""
    try:
        return Path(os.environ.get("MINIMOE_CACHE") or "~/.cache/minimoe").expanduser()
    except RuntimeError:
        return Path(tempfile.gettempdir()) / "minimoe"


def default_cap(folder: Path) -> int:
    """$MINIMOE_CACHE_GB, or 20 GB, but at most half of the free disk space. Raises BadArgument."""
    if (given := os.environ.get("MINIMOE_CACHE_GB")) is not None:
        try:
            return check_cap(int(float(given) * 1e9))
        except (ValueError, OverflowError):
            raise BadArgument(f"MINIMOE_CACHE_GB is {given!r}, expected a number from 0 on, such as 50.") from None
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return min(DEFAULT_CAP, shutil.disk_usage(folder).free // 2)


def check_cap(cap: int) -> int:
    """Return the cap. Raises BadArgument if it is not a number of bytes."""
    if type(cap) is not int or cap < 0:
        raise BadArgument(f"cache_bytes is {cap!r}, expected a number of bytes from 0 on (0: keep nothing).")
    return cap


def write(path: Path, *parts: bytes | memoryview) -> None:
    """Write a file of the cache atomically, creating its folder. Raises OSError.

    It does not wait for the disk: a file damaged by a power failure is detected by its checksum and fetched again.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic.write(path, *parts, durable=False)


class RangeCache:
    """The pieces in `folder`, at most `cap` bytes together (a second process may exceed it by a sixteenth)."""

    def __init__(self, folder: Path, cap: int):
        self.folder, self.cap = folder, check_cap(cap)
        self.piece = max(1, min(LARGEST_PIECE, cap // 16))
        self.is_writing = cap > 0
        self._lock = threading.Lock()
        self._warning = threading.Lock()
        self._estimate = self._unseen = 0  # bytes in the folder; bytes written since it was last scanned
        if self.is_writing:
            self.evict(0)

    def recall(self, url: str) -> Version | None:
        """The last known version of the file at `url`, or None."""
        try:
            version = Version(*json.loads(self._note(url).read_bytes()))
        except (OSError, ValueError, TypeError, RecursionError):
            return None
        return version if version.url == url and type(version.size) is int else None

    def remember(self, version: Version) -> None:
        """Record the current version of a file."""
        if version.is_durable and self.recall(version.url) != version:
            self.store(self._note(version.url), json.dumps(version).encode())

    def pieces(self, version: Version) -> "Pieces":
        """The cached pieces of one version of a file."""
        return Pieces(self, version)

    def store(self, path: Path, *parts: bytes | memoryview) -> bool:
        """Write one file, after freeing space for it. False if nothing was stored."""
        size = sum(len(part) for part in parts)
        if not self.is_writing or size > self.cap:
            return False
        with self._lock:
            self._estimate += size
            self._unseen += size
            if self._estimate > self.cap or self._unseen > self.cap // 16:  # other processes may have written as well
                self.evict(size)
            return self._write(path, *parts)

    def evict(self, size: int) -> None:
        """Scan the folder. If `size` more bytes do not fit, remove the least recently used pieces until they do and a
        sixteenth is free: a scan takes a moment and should not be needed for each piece.
        """
        pieces = []
        for folder, _, names in os.walk(self.folder):
            for name in filter(OWN.fullmatch, names):
                path = Path(folder, name)
                with suppress(OSError):
                    state = path.stat()
                    if not name.startswith("."):
                        pieces.append((state.st_mtime_ns, state.st_size, path))
                    elif time.time() - state.st_mtime > ABANDONED:
                        path.unlink()
                    else:
                        size += state.st_size
        total = sum(length for _, length, _ in pieces)
        target = self.cap if total + size <= self.cap else self.cap - self.cap // 16
        for _, length, path in sorted(pieces):
            if total + size <= target:
                break
            with suppress(OSError):
                path.unlink()
                total -= length
        self._estimate, self._unseen = total + size, 0

    def _note(self, url: str) -> Path:
        return self.folder / f"{hashlib.sha256(url.encode()).hexdigest()[:32]}.json"

    def _write(self, path: Path, *parts: bytes | memoryview) -> bool:
        try:
            write(path, *parts)
        except OSError as error:
            with self._warning:  # several threads may meet the same full disk; only the first one prints
                is_first, self.is_writing = self.is_writing, False
            if is_first:
                tqdm.write(
                    f"{self.folder} cannot be written ({atomic.reason(error)}), so caching stops: bytes that are "
                    "needed again are downloaded again. Set MINIMOE_CACHE to another folder.",
                    file=sys.stderr,
                )
            return False
        return True


class Pieces:
    """The stored pieces of one version of a file. Safe for several threads."""

    def __init__(self, cache: RangeCache, version: Version):
        self.cache = cache
        self.is_kept = version.is_durable and cache.cap > 0
        self.folder = cache.folder / hashlib.sha256(json.dumps(version).encode()).hexdigest()[:32]
        self._lock = threading.Lock()
        self._spans: list[tuple[int, int]] = []  # (start, stop), sorted; they may overlap
        if self.is_kept:
            with suppress(OSError, ValueError):
                spans = (name.removesuffix(".piece").split("-") for name in os.listdir(self.folder) if name[0] != ".")
                self._spans = sorted((int(start), int(stop)) for start, stop in spans)

    def cover(self, start: int, stop: int) -> Iterator[tuple[int, int, tuple[int, int] | None]]:
        """Split start:stop into cached extents, (begin, end, piece), and missing ones, (begin, end, None)."""
        while start < stop:
            with self._lock:
                at = bisect_right(self._spans, (start, sys.maxsize))
                holding = [span for span in self._spans[max(0, at - 8) : at] if span[1] > start]
                following = self._spans[at][0] if at < len(self._spans) else stop
            piece = max(holding, key=lambda span: span[1], default=None)
            end = min(stop, piece[1] if piece else following)
            yield start, end, piece
            start = end

    def read(self, piece: tuple[int, int], destination: memoryview, offset: int) -> bool:
        """Fill `destination` from a piece. Returns False if the piece is missing or damaged; the content of
        `destination` is undefined then.
        """
        start, stop = piece
        path = self._path(piece)
        with suppress(OSError, struct.error):
            data = memoryview(path.read_bytes())
            body = data[HEAD.size :]
            head = (MAGIC, start, stop - start, zlib.crc32(body))
            if HEAD.unpack(data[: HEAD.size]) == head and len(body) == stop - start:
                destination[:] = body[offset - start : offset - start + len(destination)]
                with suppress(OSError):
                    os.utime(path)  # marks it as recently used
                return True
        with suppress(OSError):
            path.unlink()
        with self._lock, suppress(ValueError):
            self._spans.remove(piece)
        return False

    def store(self, data: memoryview, offset: int) -> None:
        """Cache these bytes, which begin at `offset` of the file."""
        if not self.is_kept:
            return
        for begin in range(0, len(data), self.cache.piece):
            part = data[begin : begin + self.cache.piece]
            start = offset + begin
            span = (start, start + len(part))
            head = HEAD.pack(MAGIC, start, len(part), zlib.crc32(part))
            if self.cache.store(self._path(span), head, part):
                with self._lock:
                    if span not in self._spans:
                        insort(self._spans, span)

    def _path(self, span: tuple[int, int]) -> Path:
        return self.folder / f"{span[0]}-{span[1]}.piece"

