"""The family tree of routers: what was changed, when, and what for (data/models/families/history.json)."""

from dataclasses import dataclass

from minimoe.zoo.checkpoints import read


@dataclass(frozen=True)
class Change:
    """One change of a router in the family tree."""

    when: str  # year-month of the first publication
    name: str
    family: str | None  # a key of FAMILIES that has this rule
    after: tuple[str, ...]  # names of the entries it changes
    change: str
    why: str | None  # what it was for, by its source; None where no source says so
    source: str


def history() -> list[Change]:
    """The changes of routers from 2017 on, oldest first."""
    return [Change(**{**entry, "after": tuple(entry["after"])}) for entry in read("history.json", "changes")]
