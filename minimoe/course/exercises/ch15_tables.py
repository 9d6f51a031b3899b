"""Chapter 15, the article: two tables of scores, compared row by row (15.2)."""

from collections.abc import Callable, Mapping
from operator import itemgetter

from minimoe.course.article.tables import tables
from minimoe.course.checker.exercise import Case, Exercise

Table = Mapping[str, float | None]
Counts = tuple[int, int, int, int]


def compared(ours: Table, theirs: Table) -> Counts:
    """(rows in which ours is higher, equal, lower, rows without two scores)."""
    higher = equal = lower = missing = 0
    for name in dict.fromkeys([*ours, *theirs]):
        one, other = ours.get(name), theirs.get(name)
        if one is None or other is None:
            missing += 1
        elif one > other:
            higher += 1
        elif one == other:
            equal += 1
        else:
            lower += 1
    return higher, equal, lower, missing


def counting(
    ours: Table, theirs: Table, *, names: Callable = lambda a, b: dict.fromkeys([*a, *b]),
    gap: Callable = lambda a, b: a - b, known: Callable = lambda score: score is not None,
) -> Counts:  # fmt: skip
    """The oracle with one decision replaced: which rows, what difference, what counts as a score."""
    pairs = [(ours.get(name), theirs.get(name)) for name in names(ours, theirs)]
    gaps = [gap(one, other) for one, other in pairs if known(one) and known(other)]
    return sum(g > 0 for g in gaps), sum(g == 0 for g in gaps), sum(g < 0 for g in gaps), len(pairs) - len(gaps)


def filled(ours: Table, theirs: Table) -> Counts:
    names = dict.fromkeys([*ours, *theirs])
    return compared({n: ours.get(n) or 0 for n in names}, {n: theirs.get(n) or 0 for n in names})


def dash_as_zero(ours: Table, theirs: Table) -> Counts:
    """A dash is 0, and a row that stands in one table only is missing."""
    return compared(*({name: score or 0 for name, score in side.items()} for side in (ours, theirs)))


def moved(counts: Counts, source: int, target: int) -> Counts:
    """One count added to another."""
    changed = list(counts)
    changed[target], changed[source] = changed[target] + changed[source], 0
    return changed[0], changed[1], changed[2], changed[3]


def by_signs(ours: Table, theirs: Table) -> list[int]:
    """A list, from the signs of the differences."""
    names = set(ours) | set(theirs)
    both = [n for n in names if ours.get(n) is not None and theirs.get(n) is not None]
    signs = [(ours[n] > theirs[n]) - (ours[n] < theirs[n]) for n in both]  # type: ignore[operator]
    return [signs.count(1), signs.count(0), signs.count(-1), len(names) - len(both)]


def columns(key: str) -> tuple[Table, Table]:
    """The two columns of a published table."""
    rows = tables()[key].rows
    return {row.benchmark: row.ours for row in rows}, {row.benchmark: row.theirs for row in rows}


PARTS = ("the higher rows", "the equal rows", "the lower rows", "the missing rows")

EXERCISES = (
    Exercise(
        id="15.2",
        title="Two tables, row by row",
        kind="fill in",
        minutes=10,
        difficulty=2,
        hints=(
            "Which rows are there at all? A benchmark may stand in one of the two tables only.",
            "Go through the names of both tables. get(name) gives None for a row that is not there, like a dash in a "
            "printed table.",
            "For each name: if one of the two is None, count it as missing; else compare. Test with `is None`: a score "
            "of 0 is a score.",
        ),
        now_you_know="“ahead on most benchmarks” is a count, and the rows that are not compared belong to it.",
        oracle=compared,
        parts={name: itemgetter(at) for at, name in enumerate(PARTS)},
        cases=(
            Case(
                "four rows by hand: one higher, one equal, one lower, one with a dash",
                ({"A": 71.5, "B": 80.0, "C": 60.0, "D": None}, {"A": 71.1, "B": 80.0, "C": 60.4, "D": 50.0}),
                (1, 1, 1, 1),
            ),
            Case("a row that only one table has", ({"A": 1.0, "B": 2.0}, {"B": 2.5, "C": 3.0, "E": 4.0}), (0, 0, 1, 3)),
            Case("a score of 0 is a score", ({"A": 0.0, "B": 0.0, "C": 2.0}, {"A": 0.5, "B": 0.0, "C": 0.0})),
            Case("dashes on both sides", ({"A": None, "B": None, "C": 5.0}, {"A": None, "B": 1.0, "C": None, "D": 2})),
            Case("no rows at all", ({}, {}), (0, 0, 0, 0)),
            Case("the table beside DeepSeek-R1", columns("r1")),
            Case("the table beside GPT-4o", columns("gpt-4o")),
            Case("the table of the update", columns("2507")),
        ),
        mutants={
            "missing is 0": (
                filled,
                "a missing score is taken for 0, so that the other one wins. A dash is no score: count it as missing.",
            ),
            "a dash is 0": (
                dash_as_zero,
                "a dash (None) is taken for 0, so that the other score wins. It is no score: count the row as missing.",
            ),
            "0 is missing": (
                lambda a, b: counting(a, b, known=bool),
                "a score of 0 is taken for a missing one. Test with `is None`: 0 is a score.",
            ),
            "equal is higher": (
                lambda a, b: moved(compared(a, b), 1, 0),
                "equal scores are counted as higher. They have a count of their own.",
            ),
            "equal is lower": (
                lambda a, b: moved(compared(a, b), 1, 2),
                "equal scores are counted as lower. They have a count of their own.",
            ),
            "missing is lower": (
                lambda a, b: moved(compared(a, b), 3, 2),
                "rows without two scores are counted as lower. They have a count of their own: missing.",
            ),
            "only ours": (
                lambda a, b: counting(a, b, names=lambda a, b: a),
                "only the names of ours are visited. A row that only theirs has is missing, too.",
            ),
            "only both": (
                lambda a, b: counting(a, b, names=lambda a, b: [n for n in a if n in b]),
                "rows that stand in only one of the tables are left out. They count as missing.",
            ),
            "exchanged": (
                lambda a, b: counting(b, a),
                "higher and lower have changed places: the first number is that of the rows in which ours is higher.",
            ),
            "whole points": (
                lambda a, b: counting(a, b, gap=lambda a, b: round(a) - round(b)),
                "the scores are rounded to whole points, which makes rows equal that are not.",
            ),
            "a margin": (
                lambda a, b: counting(a, b, gap=lambda a, b: (a - b) * (abs(a - b) > 1)),
                "differences of up to a point are counted as equal. A margin may be wise, but then it must be said; "
                "here equal means equal.",
            ),
            "dashes skipped": (
                lambda a, b: moved(compared(a, b), 3, 3),
                "the rows without two scores are not counted. They are the fourth number.",
            ),
        },
        accepted={"signs, as a list": by_signs, "a loop": counting},
    ),
)
