"""progress: which exercises are done, kept in a small JSON file in the checkout.

$MINIMOE_PROGRESS names another file; "memory" keeps it in this process only, as the tests and the stored notebooks do.
"""

import json
import os
import sys
from collections.abc import Callable
from html import escape
from pathlib import Path
from typing import Any

from minimoe import atomic
from minimoe.course.chapters import CHAPTERS
from minimoe.course.checker.exercise import Exercise, all_exercises
from minimoe.course.source import show_code
from minimoe.errors import BadArgument
from minimoe.paths import checkout

NAME = "progress.json"
MEMORY = "memory"
memory: dict[str, Any] = {}
told: set[str] = set()  # notices that were given; each is given once


def place() -> Path | None:
    """The file, or None for memory. Outside of a checkout, or in one that is read-only, it lies in the home folder."""
    named = os.environ.get("MINIMOE_PROGRESS")
    if named:
        return None if named == MEMORY else Path(named).expanduser()
    here = checkout()
    if (here / "notebooks").is_dir() and os.access(here, os.W_OK):
        return here / NAME
    home = Path.home() / ".minimoe" / NAME
    notice(f"{here} cannot be written to; your progress is kept in {home}.")
    return home


def read() -> dict[str, Any]:
    """All that is known, exercise by exercise. A file that cannot be read is set aside under another name, with a
    notice, and never overwritten.
    """
    file = place()
    if file is None:
        return memory
    if file.exists() and not file.is_file():  # a device or a pipe is neither read nor moved aside
        notice(f"{file} is not a regular file; what you do now is not remembered.")
        return memory
    try:
        kept = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(kept, dict) or not all(isinstance(entry, dict) for entry in kept.values()):
            raise ValueError("it does not hold one record for each exercise")
        return kept
    except FileNotFoundError:
        return {}
    except OSError as error:
        notice(f"{file} cannot be read ({error.strerror}); what you do now is not remembered.")
        return memory
    except ValueError as error:
        aside = next(
            name for n in range(1, 10_000) if not (name := file.with_name(f"{file.stem}.unreadable-{n}.json")).exists()
        )
        try:
            file.rename(aside)
        except OSError:
            notice(f"{file} is unreadable ({error}) and cannot be moved; what you do now is not remembered.")
            return memory
        notice(f"{file.name} was unreadable ({error}). It is now {aside}, unchanged; a new one is begun.")
        return {}


def update(id: str, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the record of one exercise and write the file in one step: a crash leaves the old one."""
    kept = read()
    change(kept.setdefault(id, {}))
    file = place()
    if file is None or kept is memory:
        return
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        atomic.write(file, (json.dumps(kept, indent=1, sort_keys=True) + "\n").encode())
    except OSError as error:
        notice(f"{file} cannot be written ({atomic.reason(error)}); what you do now is not remembered.")


def record_check(id: str, status: str) -> None:
    """Count an attempt. What was right once stays done. An answer that was not begun is no attempt."""

    def change(record: dict[str, Any]) -> None:
        record["attempts"] = record.get("attempts", 0) + 1
        record["done"] = record.get("done", False) or status == "ok"

    if status != "todo":
        update(id, change)


def next_hint(id: str, tier: int | None) -> int:
    """The tier to show, one more than last time unless `tier` says which; and it is remembered."""
    shown = read().get(id, {}).get("hints", 0)
    tier = min(shown + 1, 3) if tier is None else tier
    update(id, lambda record: record.update(hints=max(tier, shown)))
    return tier


def record_solution(id: str) -> None:
    """Remember that the solution was looked at."""
    update(id, lambda record: record.update(solution=True))


def notice(text: str) -> None:
    """Say it once, on stderr."""
    if text not in told:
        told.add(text)
        print(f"minimoe: {text}", file=sys.stderr)


class Progress:
    """Done and to do by chapter, and the lines of the library that the reader has now written."""

    def __init__(self, records: dict[str, Any], chapter: int | None = None):
        everything = all_exercises().values()
        self.exercises = [exercise for exercise in everything if chapter in (None, exercise.chapter)]
        self.done = [exercise for exercise in self.exercises if records.get(exercise.id, {}).get("done")]

    def rows(self) -> list[tuple[str, str, int, int, str]]:
        """chapter, marks, minutes done, minutes in all, what is to do next; chapters without exercises are left out."""
        rows = []
        for chapter in CHAPTERS:
            here = [exercise for exercise in self.exercises if exercise.chapter == chapter.number]
            if not here:
                continue
            marks = "".join("■" if exercise in self.done else "□" for exercise in here)
            minutes = [sum(e.minutes for e in group) for group in ([e for e in here if e in self.done], here)]
            todo = next((f"{e.id} {e.title}" for e in here if e not in self.done), "")
            rows.append((f"{chapter.number:02d} {chapter.name}", marks, minutes[0], minutes[1], todo))
        return rows

    def written(self) -> list[str]:
        """The library's lines that a solved exercise teaches, such as `minimoe/model/router.py:27-41  route`."""
        return sorted({lines_of(exercise) for exercise in self.done if exercise.teaches is not None})

    def headline(self) -> str:
        return f"{len(self.done)} of {len(self.exercises)} exercises done"

    def __repr__(self) -> str:
        lines = [self.headline()]
        for chapter, marks, minutes, total, todo in self.rows():
            lines.append(f"{chapter:18s} {marks}  {minutes} of {total} min  {'next: ' + todo if todo else 'complete'}")
        lines += [f"you have written {line}" for line in self.written()]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        rows = [
            f"<tr><td>{escape(chapter)}</td><td>{marks}</td><td>{minutes} of {total} min</td>"
            f"<td>{escape('next: ' + todo if todo else 'complete')}</td></tr>"
            for chapter, marks, minutes, total, todo in self.rows()
        ]
        written = "".join(f"<li><code>{escape(line)}</code></li>" for line in self.written())
        mine = f"<p>The lines of the library that you have now written:</p><ul>{written}</ul>" if written else ""
        return f"<p><b>{escape(self.headline())}</b></p><table>{''.join(rows)}</table>{mine}"


def lines_of(exercise: Exercise) -> str:
    """Where in the library the thing stands that an exercise teaches."""
    source = show_code(exercise.teaches)
    last = source.line + source.text.count("\n")
    return f"{source.file}:{source.line}-{last}  {exercise.teaches.__name__}"


def progress(chapter: int | None = None) -> Progress:
    """What you have done, and what comes next: in the course, or in one chapter. Raises BadArgument."""
    numbers = [known.number for known in CHAPTERS]
    if chapter is not None and chapter not in numbers:
        raise BadArgument(f"chapter is {chapter!r}, expected a number from {numbers[0]} to {numbers[-1]}, or None.")
    return Progress(read(), chapter)
