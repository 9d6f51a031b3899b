"""Positioned reads (pread): bytes from a given offset of a file, directly into existing memory.

Why not memory-mapping: when a mapped file shrinks or its network disk fails, the process is killed by a signal,
whereas a read fails with an error. A positioned read also has no shared file position, so it is thread-safe.
"""

import os
import stat
import threading
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

from minimoe.errors import NotSafetensors, ReadFailed

LARGEST_READ = 64 * 2**20  # bytes for one system call; more gains nothing, and Linux stops at 2 GiB anyway


class OpenFile(Protocol):
    """The interface of an open weight file: a local PositionedFile or a RangeFile on a server."""

    size: int
    bytes_read: int
    identity: tuple[Any, ...]

    def read_into(self, destination: memoryview, offset: int) -> None: ...
    def read(self, offset: int, count: int) -> bytes: ...
    def require_unchanged(self, identity: tuple[Any, ...]) -> None: ...
    def __enter__(self) -> "OpenFile": ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class RemotePath(Protocol):
    """The interface of a file on a server; prints as its URL."""

    @property
    def name(self) -> str: ...
    def open(self) -> OpenFile: ...


class RemoteDirectory(Protocol):
    """The interface of a folder on a server; prints as its URL."""

    @property
    def name(self) -> str: ...
    def __truediv__(self, name: str) -> RemotePath: ...
    def absent(self, names: list[str]) -> list[str]: ...


def open_file(path: Path | RemotePath) -> OpenFile:
    """Open a weight file for positioned reads. Raises ReadFailed, NotSafetensors, and NotFound for a remote file."""
    return PositionedFile(path) if isinstance(path, Path) else path.open()


class PositionedFile:
    """A regular file open for positioned reads; a context manager. Counts the bytes delivered in `bytes_read`.

    Raises ReadFailed if the file cannot be opened or read, NotSafetensors if it is a directory, a pipe or a device.
    """

    def __init__(self, path: Path):
        self.path = path
        self.bytes_read = 0
        self._lock = threading.Lock()
        try:
            if not stat.S_ISREG(os.stat(path).st_mode):  # checked first: opening a pipe would block
                raise NotSafetensors(f"{path} is not a regular file. Remove it and download the file again.")
            self._descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        except OSError as error:
            raise ReadFailed(f"{path} cannot be opened: {error.strerror or error}.") from error
        self.size, self.identity = self._stat()

    def _stat(self) -> tuple[int, tuple[int, int, int]]:
        state = os.fstat(self._descriptor)
        return state.st_size, (state.st_ino, state.st_size, state.st_mtime_ns)

    def read_into(self, destination: memoryview, offset: int) -> None:
        """Fill all of `destination` (a writable memoryview of bytes) with the bytes from `offset` on. Raises ReadFailed
        if it cannot be filled.
        """
        done, total = 0, len(destination)
        while done < total:
            part = destination[done : done + LARGEST_READ]
            try:
                count = self._read(part, offset + done)
            except OSError as error:
                raise ReadFailed(
                    f"{self.path}: reading {len(part):,} bytes at {offset + done:,} failed: {error.strerror or error}."
                ) from error
            if count == 0:
                raise ReadFailed(
                    f"{self.path} ends at {offset + done:,}, but {total - done:,} more bytes were expected there. "
                    "It was cut while being read; download it again."
                )
            done += count
            self.bytes_read += count

    def read(self, offset: int, count: int) -> bytes:
        """Read `count` bytes from `offset` on, as a new bytes object. For headers; payloads use `read_into`."""
        buffer = bytearray(count)
        self.read_into(memoryview(buffer), offset)
        return bytes(buffer)

    def _read(self, destination: memoryview, offset: int) -> int:
        if hasattr(os, "preadv"):
            return os.preadv(self._descriptor, [destination], offset)
        with self._lock:  # Windows and old macOS: seek and read, one caller at a time
            os.lseek(self._descriptor, offset, os.SEEK_SET)
            data = os.read(self._descriptor, min(len(destination), 2**20))
        destination[: len(data)] = data
        return len(data)

    def require_unchanged(self, identity: tuple[Any, ...]) -> None:
        """Raise ReadFailed unless the file's identity (inode, size, modification time) is still `identity`."""
        if self._stat()[1] != identity:
            raise ReadFailed(
                f"{self.path} was changed while the checkpoint was being loaded. Load it again when it is complete."
            )

    def __enter__(self) -> "PositionedFile":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._descriptor)
