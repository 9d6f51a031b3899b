"""Positioned reads: these bytes, from there, straight into that memory.

Why not memory-mapping: when a mapped file shrinks or its network disk fails, the process dies by a signal; a read
fails with an error that can be explained. A positioned read also has no file position that two threads could fight
over.
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
    """What every opened weight file can do, wherever it lies: a PositionedFile here, a RangeFile on a server."""

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


class FarFile(Protocol):
    """A file that is not on this machine's disks: it prints as its address and knows how to open itself."""

    @property
    def name(self) -> str: ...
    def open(self) -> OpenFile: ...


class FarFolder(Protocol):
    """A folder that is not on this machine's disks; prints as its address."""

    @property
    def name(self) -> str: ...
    def __truediv__(self, name: str) -> FarFile: ...
    def absent(self, names: list[str]) -> list[str]: ...


def open_file(place: Path | FarFile) -> OpenFile:
    """Open a weight file for positioned reads. Raises ReadFailed, NotSafetensors, and NotFound for a far one."""
    return PositionedFile(place) if isinstance(place, Path) else place.open()


class PositionedFile:
    """A regular file opened for positioned reads. Counts what it delivers in `bytes_read`. Use it as a context
    manager.

    Raises ReadFailed if the file cannot be opened or read, NotSafetensors if it is a directory, a pipe or a device.
    """

    def __init__(self, path: Path):
        self.path = path
        self.bytes_read = 0
        self._lock = threading.Lock()
        try:
            if not stat.S_ISREG(os.stat(path).st_mode):  # asked first: opening a pipe would wait for ever
                raise NotSafetensors(f"{path} is not a regular file. Remove it and download the file again.")
            self._descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        except OSError as error:
            raise ReadFailed(f"{path} cannot be opened: {error.strerror or error}.") from error
        self.size, self.identity = self._look()

    def _look(self) -> tuple[int, tuple[int, int, int]]:
        state = os.fstat(self._descriptor)
        return state.st_size, (state.st_ino, state.st_size, state.st_mtime_ns)

    def read_into(self, destination: memoryview, offset: int) -> None:
        """Fill all of `destination` (a writable memoryview of bytes) from `offset` on. Raises ReadFailed, never leaves
        it half filled unnoticed.
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
        """`count` bytes from `offset` on, as a new bytes object. For headers; payloads use `read_into`."""
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
        """Raises ReadFailed if the file is not the one (inode, size, time of change) that `identity` was taken from."""
        if self._look()[1] != identity:
            raise ReadFailed(
                f"{self.path} was changed while the checkpoint was being loaded. Load it again when it is complete."
            )

    def __enter__(self) -> "PositionedFile":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._descriptor)
