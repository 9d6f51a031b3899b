"""A checkpoint on a server: its files as objects with the interface of local ones, read by range requests through a
cache.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any

from tqdm.auto import tqdm

from minimoe.checkpoint.remote.http_client import RangeClient, start_worker
from minimoe.checkpoint.remote.range_cache import RangeCache
from minimoe.checkpoint.remote.range_response import Version
from minimoe.errors import NotFound, ReadFailed

THREADS = 4  # concurrent requests
PART = 8 * 2**20  # bytes; a larger read is split into parts, each cached when it arrives


class RemoteFolder:
    """A folder on a server. Counts traffic in `bytes_fetched` and `requests`.

    base: its URL, ending with "/". shown: how it is printed. is_pinned: the file at a URL never changes. headers:
    credentials.
    """

    def __init__(
        self, base: str, cache: RangeCache, shown: str = "", headers: Mapping[str, str] | None = None,
        is_pinned: bool = False,
    ):  # fmt: skip
        self.base, self.cache, self.shown, self.is_pinned = base, cache, shown or base.rstrip("/"), is_pinned
        self.client = RangeClient(headers)
        self._files: dict[str, RemoteFile] = {}

    def __str__(self) -> str:
        return self.shown

    def __truediv__(self, name: str) -> "RemoteFile":
        return self._files.setdefault(name, RemoteFile(self, name))

    @property
    def name(self) -> str:
        return self.shown.rsplit("/", 1)[-1]

    @property
    def bytes_fetched(self) -> int:
        """Bytes downloaded."""
        return self.client.bytes_fetched

    @property
    def requests(self) -> int:
        return self.client.requests

    def absent(self, names: list[str]) -> list[str]:
        """The names of the files that do not exist on the server. Several files are checked in parallel; the versions
        and first bytes of the others are kept and not requested again.
        """
        silent = len(names) < 8
        existing = in_parallel(lambda name: (self / name).exists(), names)
        existing = tqdm(existing, total=len(names), desc="reading headers", unit="file", disable=silent)
        return [name for name, exists in zip(names, existing, strict=True) if not exists]


class RemoteFile:
    """A file on a server. Its version and first bytes are requested once and kept."""

    def __init__(self, folder: RemoteFolder, name: str):
        self.folder, self.name, self.url = folder, name, folder.base + name
        self._lock = threading.Lock()
        self._seen: tuple[Version, bytes] | None = None

    def __str__(self) -> str:
        return f"{self.folder}/{self.name}"

    def look(self) -> tuple[Version, bytes]:
        """The file's version and its first bytes (none if the version is cached). Raises NotFound, ReadFailed."""
        with self._lock:
            if self._seen is None:
                self._seen = self._look()
            return self._seen

    def _look(self) -> tuple[Version, bytes]:
        known = self.folder.cache.recall(self.url)
        if known is not None and self.folder.is_pinned:
            return known, b""
        version, head = self.folder.client.look(self.url, known)
        if version.size and not (version.etag or version.modified or self.folder.is_pinned):
            raise ReadFailed(
                f"{self.url}: the server sends neither ETag nor Last-Modified, so a change of the file while it is "
                "read could not be detected. Download the folder, or use a server that sends one."
            )
        self.folder.cache.remember(version)
        self.folder.cache.pieces(version).store(memoryview(head), 0)
        return version, head

    def exists(self) -> bool:
        """Whether the file exists on the server. Raises ReadFailed if that cannot be determined."""
        try:
            self.look()
        except NotFound:
            return False
        return True

    def open(self) -> "RangeFile":
        """Open it for positioned reads. Raises NotFound, ReadFailed."""
        return RangeFile(self)


class RangeFile:
    """An open remote file with the interface of PositionedFile. Thread-safe.

    `bytes_read` counts the bytes delivered, from the server (`bytes_fetched`) or the cache.
    """

    def __init__(self, file: RemoteFile):
        self.file = self.path = file
        self._version, self._head = file.look()
        self.identity: tuple[Any, ...] = self._version
        self.size = self._version.size
        self.bytes_read = self.bytes_fetched = 0
        self._pieces = file.folder.cache.pieces(self._version)
        self._lock = threading.Lock()

    def read_into(self, destination: memoryview, offset: int) -> None:
        """Fill all of `destination` with the bytes from `offset` on. Raises ReadFailed if it cannot be filled."""
        stop = offset + len(destination)
        if stop > self.size:
            raise ReadFailed(
                f"{self.file} ends at {self.size:,}, but {stop - self.size:,} more bytes were expected there."
            )
        missing = []
        for begin, end, piece in self._cover(offset, stop):
            part = destination[begin - offset : end - offset]
            if end <= len(self._head):
                part[:] = self._head[begin:end]
            elif piece is None or not self._pieces.read(piece, part, begin):
                missing += [(first, min(end, first + PART)) for first in range(begin, end, PART)]
        for (begin, end), fetched in zip(missing, in_parallel(self._fetch, missing), strict=True):
            destination[begin - offset : end - offset] = fetched  # only here: a worker can outlive an interrupted read
        with self._lock:
            self.bytes_read += len(destination)

    def _cover(self, start: int, stop: int) -> Iterable[tuple[int, int, tuple[int, int] | None]]:
        """Split start:stop into extents of the first bytes, of cached pieces, and of missing bytes."""
        if start < (end := min(stop, len(self._head))):
            yield start, end, None
            start = end
        yield from self._pieces.cover(start, stop)

    def _fetch(self, extent: tuple[int, int]) -> memoryview:
        """Download the bytes begin:end into a new buffer; at most THREADS + 1 of these exist at a time."""
        begin, end = extent
        fetched = memoryview(bytearray(end - begin))
        self.file.folder.client.fetch(self._version, fetched, begin)
        self._pieces.store(fetched, begin)
        with self._lock:
            self.bytes_fetched += len(fetched)
        return fetched

    def read(self, offset: int, count: int) -> bytes:
        """Read `count` bytes from `offset` on, as a new bytes object."""
        buffer = bytearray(count)
        self.read_into(memoryview(buffer), offset)
        return bytes(buffer)

    def require_unchanged(self, identity: tuple[Any, ...]) -> None:
        """Raise ReadFailed if this is another version than `identity`. Sends no request: every response of the server
        is compared with the version on arrival.
        """
        if self.identity != identity:
            raise ReadFailed(f"{self.file} was changed on the server while it was being read. Start again.")

    def __enter__(self) -> "RangeFile":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing to close: the connections belong to the folder."""


def in_parallel(function: Callable[[Any], Any], items: list[Any]) -> Iterable[Any]:
    """Yield function(item) for each item, in order, with at most THREADS results pending. After a failure or Ctrl-C no
    further call is started, and the running ones are cancelled.
    """
    if len(items) < 2:
        yield from map(function, items)
        return
    cancelled, pending = threading.Event(), deque[Future[Any]]()
    with ThreadPoolExecutor(THREADS, initializer=start_worker, initargs=(cancelled,)) as pool:
        try:
            for item in items:
                if len(pending) == THREADS:
                    yield pending.popleft().result()
                pending.append(pool.submit(function, item))
            while pending:
                yield pending.popleft().result()
        finally:
            cancelled.set()
            for future in pending:
                future.cancel()
