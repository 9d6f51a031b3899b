"""hint and solution: three hints of increasing detail, and the full solution."""

from typing import Any

from minimoe.course.checker.exercise import find_exercise
from minimoe.course.checker.notebook_source import solution_of
from minimoe.course.checker.progress import next_hint, record_solution
from minimoe.course.source import Source
from minimoe.errors import BadArgument


class Hint(str):
    """A hint, displayed as plain text in Jupyter and in a terminal."""

    def __repr__(self) -> str:
        return str(self)


def hint(id: str, tier: int | None = None) -> Hint:
    """The next hint, or the one of a given tier: 1 a nudge, 2 the shapes, 3 the steps. Raises BadArgument."""
    exercise = find_exercise(id)
    if tier is not None and (type(tier) is not int or not 1 <= tier <= 3):
        raise BadArgument(f"tier is {tier!r}, expected 1, 2 or 3, or None for the next one.")
    tier = next_hint(id, tier, current_cell())
    more = f'Next: minimoe.hint("{id}", {tier + 1})' if tier < 3 else f'All of it: minimoe.solution("{id}")'
    more += f'   Again from the start: minimoe.hint("{id}", 1)' if tier > 1 else ""
    return Hint(f"{id}  hint {tier} of 3: {exercise.hints[tier - 1]}\n{more}")


def current_cell() -> str | None:
    """The id of the notebook cell that is being run, if the front end sends it."""
    try:
        from IPython import get_ipython
    except ImportError:
        return None
    shell: Any = get_ipython()
    parent = shell.get_parent() if hasattr(shell, "get_parent") else {}
    found = (parent or {}).get("metadata", {}).get("cellId")
    return str(found) if found else None


def solution(id: str) -> Source:
    """The solution, from the chapter's master. Raises BadArgument for an unknown id, NotFound outside a checkout."""
    exercise = find_exercise(id)
    source = solution_of(exercise.id)
    record_solution(id)
    return source
