"""Atomic replacement of several files in a folder: after a crash at any moment, all old or all new files are there.

A single file is replaced atomically by renaming. For several, the new files are first written to a staging folder
inside the target, together with a journal of the files to install and to remove. Renaming the staging folder commits
the save. The remaining steps only apply the journal; they can be interrupted and repeated, and the next load or save
of the folder completes them.
"""

import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from minimoe import atomic
from minimoe.atomic import to_disk, write
from minimoe.errors import BadArgument, MinimoeError, UnsafeIndex, WriteFailed

STAGING, DECIDED, JOURNAL = ".minimoe-saving", ".minimoe-saved", "journal.json"
PLAIN_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*")


@contextmanager
def replacing(directory: Path, obsolete: Callable[[], set[str]]) -> Iterator[Path]:
    """Yield an empty folder for the new files. On exit they are moved to `directory` and the `obsolete()` files are
    removed, atomically.

    Other files are not changed. If the body raises, nothing changes. Raises WriteFailed for an error of the operating
    system, BadArgument if `directory` is a file. Not safe for concurrent saves to one folder: a second save would
    delete the first one's staging folder.
    """
    if directory.exists() and not directory.is_dir():
        raise BadArgument(f"directory is {str(directory)!r}, which is a file. Choose a folder.")
    staging, is_new = directory / STAGING, not directory.exists()
    try:
        directory.mkdir(parents=True, exist_ok=True)
        finish_interrupted_save(directory)
        shutil.rmtree(staging, ignore_errors=True)  # left by a save that was killed before its commit
        staging.mkdir()
        yield staging
        new = sorted(file.name for file in staging.iterdir())
        check_targets(directory, new)
        journal = {
            "files": new,
            "remove": sorted(name for name in obsolete() - set(new) if is_file_or_link(directory / name)),
        }
        write(staging / JOURNAL, json.dumps(journal).encode(), durable=False)
        for file in staging.iterdir():
            to_disk(file)
        to_disk(staging)
        os.rename(staging, directory / DECIDED)  # the commit
        to_disk(directory)
        finish_interrupted_save(directory)
        is_new = False
    except MinimoeError:
        raise
    except OSError as error:
        raise WriteFailed(
            f"{directory} could not be written: {error.strerror or error}. Its previous files are unchanged; free some "
            "space or choose another folder."
        ) from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
        if is_new:
            with suppress(OSError):  # nothing was saved: remove the new folder if it is empty
                directory.rmdir()


def check_targets(directory: Path, names: list[str]) -> None:
    """Raise BadArgument if a file cannot be installed under its name. Checked before the commit, which must not fail
    afterwards.
    """
    for name in names:
        if not PLAIN_NAME.fullmatch(name):
            raise BadArgument(
                f"a file of the checkpoint is called {name!r}; expected a plain name like tokenizer.json."
            )
        if os.path.lexists(directory / name) and not is_file_or_link(directory / name):
            kind = atomic.kind(directory / name)
            raise BadArgument(f"{directory / name} is {kind}, where a file of that name is to be saved. Move it away.")


def is_file_or_link(path: Path) -> bool:
    """Whether a save may replace or remove this path: not a folder, a device, a pipe or a socket. A link is replaced
    itself, not its target, which may be shared (in the Hugging Face cache it is).
    """
    return path.is_symlink() or path.is_file()


def finish_interrupted_save(directory: Path) -> None:
    """Apply the journal of a committed save, if there is one. Can be interrupted and repeated.

    Raises UnsafeIndex if the journal names anything but plain files of this folder, WriteFailed if the folder is not
    writable.
    """
    decided = directory / DECIDED
    if not decided.is_dir() or decided.is_symlink():
        return
    try:
        journal = read_journal(decided)
        for name in journal["remove"]:
            (directory / name).unlink(missing_ok=True)
        for name in journal["files"]:
            with suppress(FileNotFoundError):  # already in place
                os.replace(decided / name, directory / name)
        to_disk(directory)
        (decided / JOURNAL).unlink(missing_ok=True)
        with suppress(FileNotFoundError):
            decided.rmdir()
    except OSError as error:
        raise WriteFailed(
            f"{directory} holds an interrupted save, and completing it failed: {error.strerror or error}. "
            "Load it once with write access to the folder."
        ) from error


def read_journal(decided: Path) -> dict[str, list[str]]:
    """The journal; empty if it was applied already and only the folder is left. It may have been downloaded with the
    checkpoint, so it is validated. Raises UnsafeIndex.
    """
    path = decided / JOURNAL
    if not path.exists():
        return {"files": [], "remove": []}
    try:
        journal = json.loads(path.read_text(encoding="utf-8"))
        names = [*journal["files"], *journal["remove"]]
        is_valid = all(PLAIN_NAME.fullmatch(name) for name in names)
    except (ValueError, KeyError, TypeError, RecursionError):
        is_valid = False
    if not is_valid:
        raise UnsafeIndex(
            f"{path} is not a journal of plain file names. Remove the folder {decided.name} if you did not save here."
        )
    return journal
