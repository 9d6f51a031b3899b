"""Several files of one folder replaced as one: after a crash at any moment, all of the old or all of the new are
there.

A single file is replaced atomically by renaming. For several, the new ones are first written in full to a staging
folder inside the target, together with a journal: what is to be put in place, what is to go. Renaming that folder is
the one step that decides. What follows only carries out the journal, and can be interrupted and repeated: the next
load or save of the folder finishes it.
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
    """Yields an empty folder to write the new files into. On leaving, they take their places in `directory` and
    `obsolete()` files go: all or nothing.

    Other files are not touched. If the body raises, everything stays as it was. Raises WriteFailed if the operating
    system refuses, BadArgument if `directory` is a file. One save at a time: a second one at the same moment would
    clear the first one's staging folder.
    """
    if directory.exists() and not directory.is_dir():
        raise BadArgument(f"directory is {str(directory)!r}, which is a file. Choose a folder.")
    staging, is_new = directory / STAGING, not directory.exists()
    try:
        directory.mkdir(parents=True, exist_ok=True)
        finish_interrupted_save(directory)
        shutil.rmtree(staging, ignore_errors=True)  # left by a save that was killed before it was decided
        staging.mkdir()
        yield staging
        new = sorted(file.name for file in staging.iterdir())
        refuse_what_cannot_be_placed(directory, new)
        journal = {
            "files": new,
            "remove": sorted(name for name in obsolete() - set(new) if is_file_or_link(directory / name)),
        }
        write(staging / JOURNAL, json.dumps(journal).encode(), durable=False)
        for file in staging.iterdir():
            to_disk(file)
        to_disk(staging)
        os.rename(staging, directory / DECIDED)  # the one step that decides
        to_disk(directory)
        finish_interrupted_save(directory)
        is_new = False
    except MinimoeError:
        raise
    except OSError as error:
        raise WriteFailed(
            f"{directory} could not be written: {error.strerror or error}. What was there before is still there; make "
            "room or choose another folder."
        ) from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
        if is_new:
            with suppress(OSError):  # nothing was saved, so no empty folder is left
                directory.rmdir()


def refuse_what_cannot_be_placed(directory: Path, names: list[str]) -> None:
    """After the decision nothing may be in the way, so it is looked for before."""
    for name in names:
        if not PLAIN_NAME.fullmatch(name):
            raise BadArgument(
                f"a file of the checkpoint is called {name!r}; expected a plain name like tokenizer.json."
            )
        if os.path.lexists(directory / name) and not is_file_or_link(directory / name):
            found = atomic.kind(directory / name)
            raise BadArgument(
                f"{directory / name} is {found}, where a file of that name is to be saved. Move it away."
            )


def is_file_or_link(path: Path) -> bool:
    """What a save may replace or remove: not a folder, a device, a pipe or a socket. A link itself is replaced: its
    target may be shared, as in the cache of the Hugging Face hub.
    """
    return path.is_symlink() or path.is_file()


def finish_interrupted_save(directory: Path) -> None:
    """Carry out a decided journal, if there is one. May itself be interrupted and repeated.

    Raises UnsafeIndex if the journal names anything but plain files of this folder, WriteFailed if the folder cannot
    be written.
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
            f"{directory} holds a save that was interrupted, and finishing it failed: {error.strerror or error}. "
            "Load it once where the folder can be written."
        ) from error


def read_journal(decided: Path) -> dict[str, list[str]]:
    """The journal; empty when all was carried out and only the folder is left. It comes with the files, so it is not
    trusted.
    """
    path = decided / JOURNAL
    if not path.exists():
        return {"files": [], "remove": []}
    try:
        journal = json.loads(path.read_text(encoding="utf-8"))
        names = [*journal["files"], *journal["remove"]]
        plain = all(PLAIN_NAME.fullmatch(name) for name in names)
    except (ValueError, KeyError, TypeError, RecursionError):
        plain = False
    if not plain:
        raise UnsafeIndex(
            f"{path} is not a journal of plain file names. Remove the folder {decided.name} if you did not save here."
        )
    return journal
