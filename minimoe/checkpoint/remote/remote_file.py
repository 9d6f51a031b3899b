"""A checkpoint on a server: its files as objects that are read like local ones, through ranges and a cache."""

import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any

from tqdm.auto import tqdm

from minimoe.checkpoint.remote.http_client import RangeClient, read_for
from minimoe.checkpoint.remote.http_response import Version
from minimoe.checkpoint.remote.range_cache import RangeCache
from minimoe.errors import NotFound, ReadFailed

THREADS = 4  # requests at the same time
PART = 8 * 2**20  # bytes; a larger read is asked for in parts, of which each is kept as it comes


class RemoteFolder:
    """The folder at `base` (ends with "/"), printed as `shown`. `is_pinned`: its files never change under their
    addresses. `headers`: a log-in. Counts traffic in `bytes_fetched` and `requests`.
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
        """Bytes that came over the network."""
        return self.client.bytes_fetched

    @property
    def requests(self) -> int:
        return self.client.requests

    def absent(self, names: list[str]) -> list[str]:
        """Those of `names` that the server does not have. Looks at several at a time; what it saw of the others is not
        asked for again.
        """
        silent = len(names) < 8
        looks = in_parallel(lambda name: (self / name).exists(), names)
        shown = tqdm(looks, total=len(names), desc="reading headers", unit="file", disable=silent)
        return [name for name, found in zip(names, shown, strict=True) if not found]


class RemoteFile:
    """One file of it. What the first look found, its version and its first bytes, holds as long as this object."""

    def __init__(self, folder: RemoteFolder, name: str):
        self.folder, self.name, self.url = folder, name, folder.base + name
        self._lock = threading.Lock()
        self._seen: tuple[Version, bytes] | None = None

    def __str__(self) -> str:
        return f"{self.folder}/{self.name}"

    def look(self) -> tuple[Version, bytes]:
        """The file's version and its first bytes (none if the cache knows the file). Raises NotFound, ReadFailed."""
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
                f"{self.url}: the server sends neither ETag nor Last-Modified, so parts of two versions of the file "
                "could be mixed unnoticed. Download the folder, or use a server that sends one."
            )
        self.folder.cache.remember(version)
        self.folder.cache.pieces(version).store(memoryview(head), 0)
        return version, head

    def exists(self) -> bool:
        """Whether the server has it. Raises ReadFailed if it does not say."""
        try:
            self.look()
        except NotFound:
            return False
        return True

    def open(self) -> "RangeFile":
        """Open it for positioned reads. Raises NotFound, ReadFailed."""
        return RangeFile(self)


class RangeFile:
    """An opened remote file, used like a PositionedFile. `bytes_read` counts what it delivers, from the server
    (`bytes_fetched`) or the cache. Safe for several threads.
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
        """Fill all of `destination` from `offset` on. Raises ReadFailed, never leaves it half filled unnoticed."""
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
            destination[begin - offset : end - offset] = fetched  # here alone: a thread may outlive an interrupted read
        with self._lock:
            self.bytes_read += len(destination)

    def _cover(self, start: int, stop: int) -> Iterable[tuple[int, int, tuple[int, int] | None]]:
        """start:stop cut where the bytes that are here already end."""
        if start < (end := min(stop, len(self._head))):
            yield start, end, None
            start = end
        yield from self._pieces.cover(start, stop)

    def _fetch(self, run: tuple[int, int]) -> memoryview:
        """The bytes begin:end in memory of their own; of these there are THREADS + 1 at most."""
        begin, end = run
        fetched = memoryview(bytearray(end - begin))
        self.file.folder.client.fetch(self._version, fetched, begin)
        self._pieces.store(fetched, begin)
        with self._lock:
            self.bytes_fetched += len(fetched)
        return fetched

    def read(self, offset: int, count: int) -> bytes:
        """`count` bytes from `offset` on, as a new bytes object."""
        buffer = bytearray(count)
        self.read_into(memoryview(buffer), offset)
        return bytes(buffer)

    def require_unchanged(self, identity: tuple[Any, ...]) -> None:
        """Raises ReadFailed if this is another version than `identity`. Asks nobody: every answer of the server is
        compared with the version when it comes.
        """
        if self.identity != identity:
            raise ReadFailed(f"{self.file} was changed on the server while it was being read. Start again.")

    def __enter__(self) -> "RangeFile":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing to close: connections belong to the folder."""


def in_parallel(function: Callable[[Any], Any], items: list[Any]) -> Iterable[Any]:
    """function(item) of each, in order, at most THREADS begun and not yet handed over. After a failure or Ctrl-C no
    further one is begun, and those at work give up.
    """
    if len(items) < 2:
        yield from map(function, items)
        return
    given_up, waiting = threading.Event(), deque[Future[Any]]()
    with ThreadPoolExecutor(THREADS, initializer=read_for, initargs=(given_up,)) as pool:
        try:
            for item in items:
                if len(waiting) == THREADS:
                    yield waiting.popleft().result()
                waiting.append(pool.submit(function, item))
            while waiting:
                yield waiting.popleft().result()
        finally:
            given_up.set()
            for future in waiting:
                future.cancel()
