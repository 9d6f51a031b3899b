"""Chapter 01, tokens: one merge (01.2)."""

import re
from collections.abc import Callable
from itertools import pairwise
from typing import Any

from minimoe.course.checker.exercise import Case, Exercise

Pair = tuple[str, str]

# 01.2 one merge ------------------------------------------------------------------------------------------------------


def merge_by_marks(symbols: list[str], pair: Pair) -> list[str]:
    """Walk from left to right; a pair that was used cannot be used again."""
    joined: list[str] = []
    skip = False
    for place, symbol in enumerate(symbols):
        if skip:
            skip = False
        elif place + 1 < len(symbols) and (symbol, symbols[place + 1]) == pair:
            joined.append(symbol + symbols[place + 1])
            skip = True
        else:
            joined.append(symbol)
    return joined


def first_only(symbols: list[str], pair: Pair) -> list[str]:
    for place, two in enumerate(pairwise(symbols)):
        if two == pair:
            return [*symbols[:place], "".join(pair), *symbols[place + 2 :]]
    return list(symbols)


def overlapping(symbols: list[str], pair: Pair) -> list[str]:
    """Every place where the pair begins gives a joined symbol, also within the one before."""
    joined = ["".join(two) if two == pair else two[0] for two in pairwise(symbols)]
    ended = len(symbols) > 1 and tuple(symbols[-2:]) == pair
    return joined + ([] if ended or not symbols else [symbols[-1]])


def second_kept(symbols: list[str], pair: Pair) -> list[str]:
    """The joined symbol appears, and its second half stays."""
    joined = []
    for place, symbol in enumerate(symbols):
        two = place + 1 < len(symbols) and (symbol, symbols[place + 1]) == pair
        joined.append("".join(pair) if two else symbol)
    return joined


def either_order(symbols: list[str], pair: Pair) -> list[str]:
    joined, place = [], 0
    while place < len(symbols):
        if set(symbols[place : place + 2]) == set(pair) and len(symbols[place : place + 2]) == 2:
            joined.append("".join(symbols[place : place + 2]))
            place += 2
        else:
            joined.append(symbols[place])
            place += 1
    return joined


def from_the_right(symbols: list[str], pair: Pair) -> list[str]:
    joined, place = [], len(symbols)
    while place > 0:
        if place > 1 and tuple(symbols[place - 2 : place]) == pair:
            joined.append("".join(pair))
            place -= 2
        else:
            joined.append(symbols[place - 1])
            place -= 1
    return joined[::-1]


def last_lost(symbols: list[str], pair: Pair) -> list[str]:
    """A loop that stops one too early."""
    joined, place = [], 0
    while place < len(symbols) - 1:
        if (symbols[place], symbols[place + 1]) == pair:
            joined.append("".join(pair))
            place += 2
        else:
            joined.append(symbols[place])
            place += 1
    return joined


def in_the_text(symbols: list[str], pair: Pair) -> list[str]:
    """Joins what reads like the pair, wherever the borders are, and cuts the rest into letters."""
    target = "".join(pair)
    parts = re.split(f"({re.escape(target)})", "".join(symbols))
    return [symbol for part in parts for symbol in ([part] if part == target else part)]


def used_twice(symbols: list[str], pair: Pair) -> list[str]:
    """A symbol that is the second of one pair is also the first of the next."""
    joined, used = [], set()
    for place, two in enumerate(pairwise(symbols)):
        if two == pair:
            joined.append("".join(pair))
            used |= {place, place + 1}
        elif place not in used:
            joined.append(two[0])
    return joined + ([] if len(symbols) - 1 in used else symbols[-1:])


def with_spaces(symbols: list[str], pair: Pair) -> list[str]:
    """The symbols as a text with spaces; a symbol that ends with the first of the pair is hit, too."""
    return " ".join(symbols).replace(" ".join(pair), "".join(pair)).split(" ")


def walk(symbols: list[str], joins: Callable[[str, str], Any]) -> list[Any]:
    """From left to right; `joins` gives what takes the place of two neighbours, or None."""
    joined: list[Any] = []
    place = 0
    while place < len(symbols):
        two = symbols[place : place + 2]
        taken = joins(two[0], two[1]) if len(two) == 2 else None
        joined.append(symbols[place] if taken is None else taken)
        place += 1 if taken is None else 2
    return joined


def space_between(symbols: list[str], pair: Pair) -> list[str]:
    return walk(symbols, lambda a, b: f"{a} {b}" if (a, b) == pair else None)


def left_as_tuples(symbols: list[str], pair: Pair) -> list[Any]:
    return walk(symbols, lambda a, b: pair if (a, b) == pair else None)


def first_compared(symbols: list[str], pair: Pair) -> list[str]:
    return walk(symbols, lambda a, b: a + b if a == pair[0] else None)


def rest_lost(symbols: list[str], pair: Pair) -> list[str]:
    return [symbol for symbol in merge_by_marks(symbols, pair) if symbol == "".join(pair)]


def by_index(symbols: list[str], pair: Pair) -> list[str]:
    out: list[str] = []
    i = 0
    while i < len(symbols):
        if i + 1 < len(symbols) and symbols[i] == pair[0] and symbols[i + 1] == pair[1]:
            out.append(pair[0] + pair[1])
            i += 2
        else:
            out.append(symbols[i])
            i += 1
    return out


def by_recursion(symbols: list[str], pair: Pair) -> list[str]:
    if len(symbols) < 2:
        return list(symbols)
    if tuple(symbols[:2]) == pair:
        return ["".join(pair), *by_recursion(symbols[2:], pair)]
    return [symbols[0], *by_recursion(symbols[1:], pair)]


def by_stack(symbols: list[str], pair: Pair) -> list[str]:
    out: list[tuple[str, bool]] = []
    for symbol in symbols:
        if out and not out[-1][1] and (out[-1][0], symbol) == pair:
            out[-1] = (out[-1][0] + symbol, True)
        else:
            out.append((symbol, False))
    return [text for text, _ in out]


EXERCISES = (
    Exercise(
        id="01.2",
        title="One merge",
        kind="fill in",
        minutes=10,
        difficulty=2,
        hints=(
            "Walk from left to right. After a hit, how far do you go on?",
            "Two cases: the symbol here and the next one are the pair: append them joined, go on by 2. Else append the "
            "symbol, go on by 1. The last symbol has no neighbour.",
            "while place < len(symbols): if tuple(symbols[place : place + 2]) == pair: ... place += 2; else: ... "
            "place += 1.",
        ),
        now_you_know="a tokenizer is a list of such merges, and nothing else.",
        oracle=merge_by_marks,
        cases=(
            Case("l i b with (l, i)", (["l", "i", "b"], ("l", "i")), ["li", "b"]),
            Case("twice in one word", (list("banana"), ("a", "n")), ["b", "an", "an", "a"]),
            Case("a a a: the middle one is used once", (list("aaa"), ("a", "a")), ["aa", "a"]),
            Case("the pair at the end", (list("cat"), ("a", "t"))),
            Case("the other order is another pair", (list("abba"), ("b", "a"))),
            Case("joined symbols count as one", (["a", "bc", "ab", "c", "d"], ("ab", "c"))),
            Case("a pair that does not occur", (list("dog"), ("o", "d"))),
            Case("a single symbol", (["x"], ("x", "y"))),
            Case("no symbols", ([], ("x", "y"))),
            Case("symbols that end like the first of the pair", (["ba", "b", "a", "b"], ("a", "b")), ["ba", "b", "ab"]),
        ),
        mutants={
            "first only": (first_only, "only the first occurrence is joined. All of them are, from left to right."),
            "overlapping": (overlapping, "a symbol is used twice: after a hit, go on behind both of its symbols."),
            "second kept": (second_kept, "the second symbol of a pair stays behind the joined one. It is used up."),
            "either order": (either_order, "the pair is also joined the other way round. (a, b) is not (b, a)."),
            "from the right": (from_the_right, "the walk begins on the right. In a a a, the first two are joined."),
            "last lost": (last_lost, "the last symbol is lost if it has no partner. The loop ends one too early."),
            "in the text": (
                in_the_text,
                "symbols are taken apart again. The pair is two symbols, not all letters that read alike.",
            ),
            "used twice": (
                used_twice,
                "a symbol is used in two pairs. In a a a, the one in the middle belongs to the first.",
            ),
            "with spaces": (
                with_spaces,
                "the pair is looked for in a text with spaces, where the end of a symbol passes for a whole one.",
            ),
            "space between": (space_between, "there is a space between the two parts. Join them without one."),
            "left as tuples": (left_as_tuples, "the pair is put in as a tuple. Join its parts to one string."),
            "first compared": (first_compared, "only the first symbol of the pair is compared. Both have to be equal."),
            "rest lost": (rest_lost, "only the joined symbols are there. All the others are kept, in their places."),
        },
        accepted={"by index": by_index, "by recursion": by_recursion, "a stack": by_stack},
    ),
)
