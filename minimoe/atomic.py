"""Atomic file writes: minimoe writes every file completely or not at all.

The content is written to a temporary file in the same folder, which is then renamed in one step (`os.replace`, POSIX
rename). Until that step the old file is unchanged, even by a full disk, a crash or Ctrl-C. For several files of one
folder that must change together, see checkpoint/folder_transaction.py.
"""

import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from minimoe.errors import BadArgument, MinimoeError, NotFound, WriteFailed

KINDS = {
    stat.S_IFDIR: "a folder", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device", stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
}  # fmt: skip


def write(path: str | Path, *parts: bytes | memoryview, durable: bool = True) -> None:
    """Replace the file at `path` by one with the concatenated `parts`. Raises WriteFailed and keeps the old file.

    Symbolic links are followed: the link is kept and its target replaced. The permissions of an existing file are kept,
    and its owner where the system allows it; a new file gets those of the umask. `durable`: flush to the disk before
    returning, so that the content survives a power failure.
    """
    with replacement(path, durable) as temporary, open(temporary, "wb") as file:
        for part in parts:
            file.write(part)


@contextmanager
def replacement(path: str | Path, durable: bool = True) -> Iterator[Path]:
    """Yield an empty temporary file, which replaces the file at `path` on exit. If the body raises, it is removed and
    the file at `path` is unchanged. Otherwise like `write`.
    """
    try:
        target, before = locate(path)
        temporary = temporary_beside(target)
        try:
            os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
            yield temporary
            if durable:
                to_disk(temporary)
            if before is not None:
                keep_owner_and_mode(temporary, before)
            locate(path)  # the target may have changed in between
            os.replace(temporary, target)
        except BaseException:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise
        if durable:
            with suppress(OSError):  # the content is durable; some network file systems cannot sync a folder
                to_disk(target.parent)
    except BadArgument as error:
        raise WriteFailed(str(error)) from error
    except OSError as error:
        if isinstance(error, MinimoeError):
            raise
        raise WriteFailed(failure(str(path), error)) from error


def check_writable(path: str | Path, argument: str = "path") -> Path:
    """Check that a file can be written, before work whose result would otherwise be lost. Leaves nothing behind.

    argument: its name in messages, such as "--out". Raises BadArgument if `path` names something other than a file,
    NotFound if its folder does not exist, WriteFailed if the folder or the file cannot be written.
    """
    name = usable_name(path, argument, "a file")
    try:
        target, _ = locate(path)
        if not target.parent.is_dir():
            missing = target.parent if Path(path).parent.is_dir() else Path(path).parent  # of a link: its target
            raise NotFound(f"{argument} is {name!r}, but there is no folder {missing}. Create it first.")
        try_to_create(target)
    except BadArgument as error:
        raise BadArgument(f"{argument}: {error}") from error
    except OSError as error:
        if isinstance(error, MinimoeError):
            raise
        raise WriteFailed(failure(f"{argument}: {name}", error)) from error
    return Path(path)


def check_folder_writable(path: str | Path, argument: str = "directory") -> Path:
    """`check_writable` for a folder. If it does not exist yet, its nearest existing parent is checked."""
    name = usable_name(path, argument, "a folder")
    try:
        absolute = Path(path).absolute()
        nearest = next(folder for folder in (absolute, *absolute.parents) if os.path.lexists(folder))
        if not nearest.is_dir():
            blocking = name if nearest == absolute else nearest
            raise BadArgument(f"{argument} is {name!r}, but {blocking} is not a folder. Choose another one.")
        try_to_create(nearest / "file")
    except OSError as error:
        raise WriteFailed(failure(f"{argument}: {name}", error)) from error
    return Path(path)


def usable_name(path: str | Path, argument: str, what: str) -> str:
    """The path as text. Raises BadArgument if it is not a valid file name."""
    name = str(path)
    try:
        usable = bool(name.strip()) and b"\0" not in os.fsencode(name)
    except UnicodeEncodeError:
        usable = False
    if not usable:
        raise BadArgument(f"{argument} is {name!r}, expected the name of {what} to write.")
    return name


def locate(path: str | Path) -> tuple[Path, os.stat_result | None]:
    """The file that a write to `path` replaces, symbolic links followed, and its state; None if it does not exist.

    Raises BadArgument for anything but a regular file, and OSError.
    """
    try:
        state = os.stat(path)
    except FileNotFoundError:
        return Path(os.path.realpath(path)), None
    if not stat.S_ISREG(state.st_mode):
        raise BadArgument(f"{path} is {kind(path)}, expected the name of a file. It is unchanged; choose another name.")
    target = Path(os.path.realpath(path))
    if not os.access(target, os.W_OK):
        raise PermissionError(13, "it is read-only", str(target))
    return target, state


def kind(path: str | Path) -> str:
    """The kind of a path that is not a regular file: "a folder", "a pipe", ..."""
    return KINDS.get(stat.S_IFMT(os.stat(path).st_mode), "not a regular file")


def temporary_beside(target: Path) -> Path:
    """A new name in the same folder. Short, as the name of `target` may have the maximum of 255 bytes."""
    return target.with_name(f".minimoe-{secrets.token_hex(8)}")


def try_to_create(target: Path) -> None:
    """Create and remove a temporary file; permission bits are not conclusive, least of all for root."""
    temporary = temporary_beside(target)
    try:
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def keep_owner_and_mode(file: Path, before: os.stat_result) -> None:
    """Copy owner and mode of the replaced file, where the system supports and permits it."""
    with suppress(OSError, AttributeError):
        os.chown(file, before.st_uid, before.st_gid)
    with suppress(OSError):
        os.chmod(file, stat.S_IMODE(before.st_mode))


def failure(name: str, error: OSError) -> str:
    """The message for an error of the operating system."""
    return (
        f"{name} cannot be written: {reason(error)}. The previous content is unchanged; free some space, "
        "or choose another folder."
    )


def reason(error: OSError) -> str:
    """The short message of the operating system."""
    cause = error.__cause__ if isinstance(error, WriteFailed) and error.__cause__ is not None else error
    return getattr(cause, "strerror", None) or str(cause)


def to_disk(path: Path) -> None:
    """Flush a file, or a folder's list of names, to the disk. Folders that cannot be opened (Windows) are skipped.
    """
    is_folder = path.is_dir()
    try:
        descriptor = os.open(path, os.O_RDONLY if is_folder else os.O_RDWR)
    except PermissionError:
        if is_folder:
            return
        raise
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
