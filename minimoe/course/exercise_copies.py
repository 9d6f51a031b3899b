"""exercises: your own copies of the exercises, which an update of the course never touches.

They are in `my_exercises/` in the checkout, which git ignores. An existing copy is never overwritten. Each holds a hash
of the exercises that it was made from, so that newer ones are noticed.
"""

import hashlib
import json
import os
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

from minimoe import atomic
from minimoe.course.chapters import CHAPTERS, Chapter
from minimoe.errors import BadArgument, MinimoeError, NotFound
from minimoe.paths import checkout

NAME = "my_exercises"
KEY = "minimoe_exercises"  # in the metadata of a copy: the hash of the exercises that it was made from


@dataclass(frozen=True)
class Copy:
    """A reader's copy of the exercises of one chapter, displayed with a link.

    newer: the name that a copy of the shipped exercises would get, if they have changed since this one was made.
    """

    chapter: Chapter
    path: Path
    newer: str = ""

    def name(self) -> str:
        """The path, relative to the checkout if it is inside."""
        inside = self.path.is_relative_to(checkout())
        return self.path.relative_to(checkout()).as_posix() if inside else str(self.path)

    def notes(self) -> Iterator[tuple[str, str]]:
        """Sentences about this copy, each with the code that it ends with."""
        if not self.path.is_relative_to(checkout()):
            yield f"It is there because {checkout()} is not writable.", ""
        if self.newer:
            yield (
                "The exercises have changed since this copy was made. To get the new ones beside it, as "
                f"{self.newer}, run",
                f"minimoe.exercises({self.chapter.number}, new=True)",
            )

    def __repr__(self) -> str:
        lines = [f"Your copy of the exercises of chapter {self.chapter.number:02d}: {self.name()}"]
        return "\n".join([*lines, *(f"{text} {code}".strip() for text, code in self.notes())])

    def _repr_html_(self) -> str:
        shown = f"<code>{escape(self.name())}</code>"
        link = link_to(self.path)
        shown = f'<a href="{escape(quote(link))}">{shown}</a>' if link else shown
        notes = [escape(text) + (f" <code>{escape(code)}</code>" if code else "") for text, code in self.notes()]
        return "<br>".join([f"Your copy of the exercises of chapter {self.chapter.number:02d}: {shown}", *notes])


class Copies(list[Copy]):
    """The reader's copies of several chapters, one line each."""

    def __repr__(self) -> str:
        return "\n".join(map(repr, self))

    def _repr_html_(self) -> str:
        return "".join(f"<p>{copy._repr_html_()}</p>" for copy in self)


def exercises(chapter: int | None = None, new: bool = False) -> Copy | Copies:
    """Your copy of the exercises of a chapter, made at the first call; without a number, those of all chapters.

    new: make another copy of the exercises as they are now, beside the old one. Without a writable checkout the copies
    are in `~/.minimoe/my_exercises`. If $MINIMOE_PROGRESS is "memory", as in tests and stored notebooks, nothing is
    read or written. Raises BadArgument, NotFound and WriteFailed.
    """
    written = [known for known in CHAPTERS if (checkout() / known.exercises).is_file()]
    if not written:
        raise NotFound(
            f"{checkout() / 'exercises'} has no exercises: an installed package is without them. Clone the repository."
        )
    if chapter is None:
        if new:
            raise BadArgument("new is True without a chapter. Give its number, such as minimoe.exercises(6, new=True).")
        return Copies(copy_of(each) for each in written)
    found = next((each for each in written if each.number == chapter), None)
    if found is None:
        numbers = ", ".join(str(each.number) for each in written)
        raise BadArgument(f"chapter is {chapter!r}, expected one that has exercises: {numbers}.")
    return copy_of(found, new)


def copy_of(chapter: Chapter, new: bool = False) -> Copy:
    """The latest copy of the exercises of a chapter, made if there is none, or if a `new` one is requested."""
    if os.environ.get("MINIMOE_PROGRESS") == "memory":
        return Copy(chapter, checkout() / NAME / chapter.file.name)
    shipped = json.loads((checkout() / chapter.exercises).read_text(encoding="utf-8"))
    fingerprint = hash_of(shipped)
    target = folder()
    latest, following = latest_copy(target, chapter.file.stem)
    if latest is None or new:
        path = atomic.check_folder_writable(target, "the folder of your exercises") / following
        target.mkdir(parents=True, exist_ok=True)
        atomic.write(path, (json.dumps(fresh(shipped, fingerprint), indent=1, ensure_ascii=False) + "\n").encode())
        return Copy(chapter, path)
    return Copy(chapter, latest, following if made_from(latest) not in (fingerprint, None) else "")


def folder() -> Path:
    """The folder of the copies, which may not exist yet."""
    here = checkout()
    found = (here if os.access(here, os.W_OK) else Path.home() / ".minimoe") / NAME
    if found.exists() and not found.is_dir():
        raise BadArgument(f"{found} is not a folder, but your exercises belong there. Rename it.")
    return found


def latest_copy(where: Path, stem: str) -> tuple[Path | None, str]:
    """The copy with the highest number, and the name of the one after it: 06_router.ipynb, 06_router-2.ipynb, ..."""
    pattern = re.compile(rf"{re.escape(stem)}(?:-(\d+))?\.ipynb")
    names = os.listdir(where) if where.exists() else []
    numbered = {int(match[1] or 1): where / name for name in names if (match := pattern.fullmatch(name))}
    if not numbered:
        return None, f"{stem}.ipynb"
    highest = max(numbered)
    path = numbered[highest]
    if path.exists() and not path.is_file():
        raise BadArgument(f"{path} is {atomic.kind(path)}, expected your copy of the exercises. Rename it.")
    return path if path.exists() else None, f"{stem}-{highest + 1}.ipynb"


def fresh(shipped: dict[str, Any], fingerprint: str) -> dict[str, Any]:
    """The notebook without outputs, and with the hash in its metadata."""
    cells = [
        cell | {"outputs": [], "execution_count": None} if cell["cell_type"] == "code" else cell
        for cell in shipped["cells"]
    ]
    return shipped | {"cells": cells, "metadata": shipped["metadata"] | {KEY: fingerprint}}


def hash_of(notebook: dict[str, Any]) -> str:
    """A hash of the sources of a notebook; its outputs do not count."""
    sources = [(cell["cell_type"], "".join(cell["source"])) for cell in notebook["cells"]]
    return hashlib.sha256(json.dumps(sources).encode()).hexdigest()[:16]


def made_from(path: Path) -> str | None:
    """The hash of the exercises that a copy was made from; None if it does not say."""
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))["metadata"].get(KEY)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None  # a damaged copy is the reader's, and opening it shows the damage
    return stored if isinstance(stored, str) else None


def link_to(path: Path) -> str:
    """A link for the page of a notebook, relative to the kernel's folder; "" if they are not in the same checkout."""
    here = Path.cwd()
    both_inside = here.is_relative_to(checkout()) and path.is_relative_to(checkout())
    return Path(os.path.relpath(path, here)).as_posix() if both_inside else ""


if __name__ == "__main__":  # `make lab` has the copies ready before the page opens
    try:
        exercises()
    except MinimoeError as error:
        print(f"minimoe: {error}", file=sys.stderr)
