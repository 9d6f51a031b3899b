"""The claims of the article with their verdicts, and the published figures that no computation can give."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from html import escape
from string import Formatter
from typing import Any

from minimoe.errors import BadArgument
from minimoe.figure_style import GREEN, ORANGE, SKY, VERMILLION
from minimoe.paths import find

TRUE, CONDITION, FALSE, OUTDATED, OPEN = VERDICTS = (
    "true", "true with a condition", "false", "outdated", "not checkable",
)  # fmt: skip
# Each with a sign, since colour alone says nothing to some readers
COLOURS = {TRUE: GREEN, CONDITION: SKY, FALSE: VERMILLION, OUTDATED: ORANGE, OPEN: "#A0A0A0"}
SIGNS = {TRUE: "✓", CONDITION: "◐", FALSE: "✗", OUTDATED: "↷", OPEN: "?"}


@dataclass(frozen=True)
class Claim:
    """One claim. `question` decides it; `because` gives the reason, with names of numbers in braces.

    computed: the verdict follows from a computation. seen: the day on which the source was read.
    """

    number: int
    key: str
    section: str
    claim: str
    question: str
    verdict: str
    because: str
    source: str
    seen: str
    computed: bool

    def reason(self, numbers: Mapping[str, Any]) -> str:
        """`because` with its numbers filled in. Raises BadArgument if one is missing."""
        return fill(self.because, numbers, f"claim {self.key!r}")


def fill(template: str, numbers: Mapping[str, Any], what: str) -> str:
    """A template with its numbers. Raises BadArgument, naming those that are missing."""
    needed = {name for _, name, _, _ in Formatter().parse(template) if name}
    missing = sorted(needed - set(numbers))
    if missing:
        raise BadArgument(f"{what} needs the number {', '.join(missing)}; run the cells above that compute it.")
    return template.format_map(dict(numbers))


@cache
def claims() -> dict[str, Claim]:
    """All claims by key, in the order of the article."""
    stored = json.loads((find("data/article") / "claims.json").read_text(encoding="utf-8"))["claims"]
    return {each["key"]: Claim(number, **each) for number, each in enumerate(stored, start=1)}


@cache
def published() -> dict[str, Any]:
    """Published figures and dates by name."""
    figures = json.loads((find("data/article") / "published.json").read_text(encoding="utf-8"))["figures"]
    return {name: each["value"] for name, each in figures.items()}


class Card:
    """A claim with its verdict, reason and source: coloured in Jupyter, plain text elsewhere."""

    def __init__(self, claim: Claim, numbers: Mapping[str, Any]):
        self.claim, self.reason = claim, claim.reason(numbers)

    def __repr__(self) -> str:
        claim = self.claim
        says = f"{claim.number}. {claim.claim} {claim.question}\n"
        return says + f"   {claim.verdict.upper()}: {self.reason}\n   Source: {claim.source}"

    def _repr_html_(self) -> str:
        claim, colour = self.claim, COLOURS[self.claim.verdict]
        chip = (
            f'<b style="border-left: 10px solid {colour}; padding-left: 8px">{SIGNS[claim.verdict]} {claim.verdict}</b>'
        )
        source = f"<small>Source: {escape(claim.source)}. Read on {claim.seen}.</small>"
        return (
            f'<div style="margin: 4px 0 10px 0; max-width: 640px"><i>{claim.number}. {escape(claim.claim)}</i> '
            f"{escape(claim.question)}<br>"
            f"{chip}: {escape(self.reason)}<br>{source}</div>"
        )


class Cards:
    """Several cards, one below the other."""

    def __init__(self, cards: list[Card]):
        self.cards = cards

    def __repr__(self) -> str:
        return "\n".join(map(repr, self.cards))

    def _repr_html_(self) -> str:
        return "".join(card._repr_html_() for card in self.cards)


def verdicts(numbers: Mapping[str, Any], *keys: str) -> Cards:
    """The cards of some claims. numbers: those that the cells above have computed. Raises BadArgument."""
    unknown = [key for key in keys if key not in claims()]
    if unknown:
        raise BadArgument(f"there is no claim {unknown[0]!r}; the claims are {', '.join(claims())}.")
    return Cards([Card(claims()[key], {**published(), **numbers}) for key in keys])
