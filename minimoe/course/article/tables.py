"""Three tables of benchmark scores, and their comparison row by row."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from minimoe.errors import BadArgument
from minimoe.paths import find


@dataclass(frozen=True)
class Row:
    """One benchmark with two scores; higher is better in all of them."""

    area: str
    benchmark: str
    ours: float
    theirs: float

    @property
    def difference(self) -> float:
        """In points of the benchmark, rounded to the digits of the table."""
        return round(self.ours - self.theirs, 2)

    @property
    def percent(self) -> float:
        """The difference in percent of the other score: scales from 8.9 to 2,056 become comparable."""
        return 100 * self.difference / self.theirs


@dataclass(frozen=True)
class Scores:
    """A published table: the names of its two columns, its rows, its source."""

    ours: str
    theirs: str
    rows: tuple[Row, ...]
    source: str
    seen: str
    published_count: Mapping[str, int] | None

    def of(self, area: str) -> tuple[Row, ...]:
        """The rows of one area. Raises BadArgument for an unknown one."""
        chosen = tuple(row for row in self.rows if row.area == area)
        if not chosen:
            raise BadArgument(
                f"area is {area!r}, expected one of {', '.join(dict.fromkeys(r.area for r in self.rows))}."
            )
        return chosen

    def row(self, benchmark: str) -> Row:
        """One row by its name. Raises BadArgument for an unknown one."""
        found = [row for row in self.rows if row.benchmark == benchmark]
        if not found:
            raise BadArgument(
                f"benchmark is {benchmark!r}, expected one of {', '.join(r.benchmark for r in self.rows)}."
            )
        return found[0]


@cache
def tables() -> dict[str, Scores]:
    """The tables "r1", "gpt-4o" and "2507" of data/article/benchmarks.json."""
    stored = json.loads((find("data/article") / "benchmarks.json").read_text(encoding="utf-8"))["tables"]
    return {key: Scores(**{**each, "rows": tuple(Row(**row) for row in each["rows"])}) for key, each in stored.items()}


def higher(rows: tuple[Row, ...]) -> int:
    """In how many rows our score is the higher one."""
    return sum(row.ours > row.theirs for row in rows)
