"""progress: the solved exercises, stored in a small JSON file in the checkout.

$MINIMOE_PROGRESS names another file; with "memory" progress is kept in this process only, as in the tests and the
stored notebooks.
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
cells: dict[tuple[str, str], int] = {}  # (exercise, notebook cell) -> the tier of the hint that it showed
notices: set[str] = set()  # the notices already printed; each is printed once


def progress_file() -> Path | None:
    """The progress file, or None for memory. Without a writable checkout it is in the home folder."""
    named = os.environ.get("MINIMOE_PROGRESS")
    if named:
        return None if named == MEMORY else Path(named).expanduser()
    here = checkout()
    if (here / "notebooks").is_dir() and os.access(here, os.W_OK):
        return here / NAME
    home = Path.home() / ".minimoe" / NAME
    notice(f"{here} is not writable; your progress is kept in {home}.")
    return home


def read() -> dict[str, Any]:
    """The records of all exercises. A corrupt file is renamed, with a notice, and never overwritten."""
    file = progress_file()
    if file is None:
        return memory
    if file.exists() and not file.is_file():  # a device or a pipe is neither read nor renamed
        notice(f"{file} is not a regular file; new progress is not saved.")
        return memory
    try:
        records = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(records, dict) or not all(isinstance(entry, dict) for entry in records.values()):
            raise ValueError("expected one record for each exercise")
        return records
    except FileNotFoundError:
        return {}
    except OSError as error:
        notice(f"{file} cannot be read ({error.strerror}); new progress is not saved.")
        return memory
    except ValueError as error:
        aside = next(
            name for n in range(1, 10_000) if not (name := file.with_name(f"{file.stem}.unreadable-{n}.json")).exists()
        )
        try:
            file.rename(aside)
        except OSError:
            notice(f"{file} is unreadable ({error}) and cannot be renamed; new progress is not saved.")
            return memory
        notice(f"{file.name} was unreadable ({error}). It was renamed to {aside}; a new file is started.")
        return {}


def update(id: str, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the record of one exercise and write the file atomically."""
    records = read()
    change(records.setdefault(id, {}))
    file = progress_file()
    if file is None or records is memory:
        return
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        atomic.write(file, (json.dumps(records, indent=1, sort_keys=True) + "\n").encode())
    except OSError as error:
        notice(f"{file} cannot be written ({atomic.reason(error)}); new progress is not saved.")


def record_check(id: str, status: str) -> None:
    """Count an attempt. A solved exercise stays solved; an unanswered one ("todo") is not counted."""

    def change(record: dict[str, Any]) -> None:
        record["attempts"] = record.get("attempts", 0) + 1
        record["done"] = record.get("done", False) or status == "ok"

    if status != "todo":
        update(id, change)


def next_hint(id: str, tier: int | None, cell: str | None = None) -> int:
    """The tier of the hint to show: `tier`, or the one after the last. The highest is recorded.

    cell: the notebook cell that asks. A cell that is run again gets the same tier again.
    """
    shown = read().get(id, {}).get("hints", 0)
    if tier is None:
        tier = cells.get((id, cell or ""), min(shown + 1, 3)) if cell else min(shown + 1, 3)
    if cell:
        cells[id, cell] = tier
    highest = max(tier, shown)
    update(id, lambda record: record.update(hints=highest))
    return tier


def record_solution(id: str) -> None:
    """Record that the solution was viewed."""
    update(id, lambda record: record.update(solution=True))


def notice(text: str) -> None:
    """Print a notice to stderr, once."""
    if text not in notices:
        notices.add(text)
        print(f"minimoe: {text}", file=sys.stderr)


class Progress:
    """Solved and open exercises by chapter, and the functions of the library that the reader has written."""

    def __init__(self, records: dict[str, Any], chapter: int | None = None):
        everything = all_exercises().values()
        self.exercises = [exercise for exercise in everything if chapter in (None, exercise.chapter)]
        self.done = [exercise for exercise in self.exercises if is_done(exercise, records)]

    def rows(self) -> list[tuple[str, str, int, int, str]]:
        """(chapter, marks, minutes done, minutes in total, next exercise) for each chapter with exercises."""
        rows = []
        for chapter in CHAPTERS:
            exercises = [exercise for exercise in self.exercises if exercise.chapter == chapter.number]
            if not exercises:
                continue
            marks = "".join("■" if exercise in self.done else "□" for exercise in exercises)
            done = sum(exercise.minutes for exercise in exercises if exercise in self.done)
            total = sum(exercise.minutes for exercise in exercises)
            todo = next((f"{exercise.id} {exercise.title}" for exercise in exercises if exercise not in self.done), "")
            rows.append((f"{chapter.number:02d} {chapter.name}", marks, done, total, todo))
        return rows

    def written(self) -> list[str]:
        """The lines of the library that the solved exercises teach, such as `minimoe/model/router.py:27-41  route`."""
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


def is_done(exercise: Exercise, records: dict[str, Any]) -> bool:
    """Whether an exercise is solved, under its id or an earlier one."""
    return any(records.get(id, {}).get("done", False) for id in (exercise.id, *exercise.formerly))


def lines_of(exercise: Exercise) -> str:
    """File and lines of the function that an exercise teaches."""
    source = show_code(exercise.teaches)
    last = source.line + source.text.count("\n")
    return f"{source.file}:{source.line}-{last}  {exercise.teaches.__name__}"


def progress(chapter: int | None = None) -> Progress:
    """Your solved exercises and the next ones, in the whole course or in one chapter. Raises BadArgument."""
    numbers = [known.number for known in CHAPTERS]
    if chapter is not None and chapter not in numbers:
        raise BadArgument(f"chapter is {chapter!r}, expected a number from {numbers[0]} to {numbers[-1]}, or None.")
    return Progress(read(), chapter)
