"""Chapter 01, tokens: all merges (01.3)."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

from minimoe.course.checker.exercise import Case, Exercise
from minimoe.course.exercises.ch01_merge import Pair, merge_by_marks, walk

# 01.3 all merges -----------------------------------------------------------------------------------------------------

RANKS: dict[Pair, int] = {("l", "i"): 0, ("a", "r"): 1, ("li", "b"): 2, ("r", "y"): 3, ("ar", "y"): 4, ("b", "r"): 5}


def bpe_by_rounds(text: str, ranks: dict[Pair, int]) -> list[str]:
    """The pair with the lowest rank of all neighbours, as long as there is one."""
    symbols = list(text)
    while True:
        known = [pair for pair in pairwise(symbols) if pair in ranks]
        if not known:
            return symbols
        symbols = merge_by_marks(symbols, min(known, key=lambda pair: ranks[pair]))


def once_each_in_order(text: str, ranks: dict[Pair, int]) -> list[str]:
    """All merges in the order of their ranks, each once: right, because a merge never makes an earlier one possible."""
    symbols = list(text)
    for pair in sorted(ranks, key=lambda pair: ranks[pair]):
        symbols = merge_by_marks(symbols, pair)
    return symbols


def leftmost_first(text: str, ranks: dict[Pair, int]) -> list[str]:
    symbols = list(text)
    while True:
        known = [pair for pair in pairwise(symbols) if pair in ranks]
        if not known:
            return symbols
        symbols = merge_by_marks(symbols, known[0])


def highest_rank(text: str, ranks: dict[Pair, int]) -> list[str]:
    symbols = list(text)
    while True:
        known = [pair for pair in pairwise(symbols) if pair in ranks]
        if not known:
            return symbols
        symbols = merge_by_marks(symbols, max(known, key=lambda pair: ranks[pair]))


def one_round(text: str, ranks: dict[Pair, int]) -> list[str]:
    symbols = list(text)
    known = [pair for pair in pairwise(symbols) if pair in ranks]
    return merge_by_marks(symbols, min(known, key=lambda pair: ranks[pair])) if known else symbols


def only_pairs_of_bytes(text: str, ranks: dict[Pair, int]) -> list[str]:
    """Joined symbols are never joined again."""
    symbols = list(text)
    while True:
        known = [pair for pair in pairwise(symbols) if pair in ranks and all(len(part) == 1 for part in pair)]
        if not known:
            return symbols
        symbols = merge_by_marks(symbols, min(known, key=lambda pair: ranks[pair]))


def longest_match(text: str, ranks: dict[Pair, int]) -> list[str]:
    """The longest known token from the left, as in WordPiece."""
    known, symbols, place = {a + b for a, b in ranks}, [], 0
    while place < len(text):
        stop = next((end for end in range(len(text), place + 1, -1) if text[place:end] in known), place + 1)
        symbols.append(text[place:stop])
        place = stop
    return symbols


def letters(text: str, ranks: dict[Pair, int]) -> list[str]:
    return list(text)


def by_rule(text: str, ranks: dict[Pair, int], choose: Callable[[list[Pair]], Pair]) -> list[str]:
    """Repeated merges of the known pair that `choose` takes."""
    symbols = list(text)
    while known := [pair for pair in pairwise(symbols) if pair in ranks]:
        symbols = merge_by_marks(symbols, choose(known))
    return symbols


def most_frequent(text: str, ranks: dict[Pair, int]) -> list[str]:
    return by_rule(text, ranks, lambda known: max(known, key=known.count))


def in_order_of_the_table(text: str, ranks: dict[Pair, int]) -> list[str]:
    symbols = list(text)
    for pair in ranks:
        symbols = merge_by_marks(symbols, pair)
    return symbols


def by_twos(text: str, ranks: dict[Pair, int]) -> list[str]:
    """Only the pairs that begin at an even place are seen."""
    symbols = list(text)
    while known := [pair for pair in list(pairwise(symbols))[::2] if pair in ranks]:
        symbols = merge_by_marks(symbols, min(known, key=lambda pair: ranks[pair]))
    return symbols


def unknown_joined(text: str, ranks: dict[Pair, int]) -> list[str]:
    """A pair without a rank counts as 0, so in the end all is joined."""
    symbols = list(text)
    while len(symbols) > 1:
        symbols = merge_by_marks(symbols, min(pairwise(symbols), key=lambda pair: ranks.get(pair, 0)))
    return symbols


def stopped_by_an_unknown(text: str, ranks: dict[Pair, int]) -> list[str]:
    """A pair without a rank counts as -1, so it comes first and ends the loop."""
    symbols = list(text)
    while len(symbols) > 1:
        pair = min(pairwise(symbols), key=lambda pair: ranks.get(pair, -1))
        if pair not in ranks:
            break
        symbols = merge_by_marks(symbols, pair)
    return symbols


def several_in_one_walk(text: str, ranks: dict[Pair, int]) -> list[str]:
    symbols, before = list(text), None
    while symbols != before:
        before, symbols = symbols, walk(symbols, lambda a, b: a + b if (a, b) in ranks else None)
    return symbols


def from_words(text: str, ranks: dict[Pair, int]) -> list[str]:
    return text.split()


def from_bytes(text: str, ranks: dict[Pair, int]) -> list[Any]:
    return [bytes([byte]) for byte in text.encode()]


def spaces_lost(text: str, ranks: dict[Pair, int]) -> list[str]:
    return bpe_by_rounds(text.strip(), ranks)


def letters_lost(text: str, ranks: dict[Pair, int]) -> list[str]:
    return [symbol for symbol in bpe_by_rounds(text, ranks) if len(symbol) > 1]


def ranks_of_merges(text: str, ranks: dict[Pair, int]) -> list[int]:
    used: list[int] = []

    def lowest(known: list[Pair]) -> Pair:
        pair = min(known, key=lambda pair: ranks[pair])
        used.append(ranks[pair])
        return pair

    by_rule(text, ranks, lowest)
    return used


def with_infinity(text: str, ranks: dict[Pair, int]) -> list[str]:
    parts = list(text)
    while len(parts) > 1:
        scores = [(ranks.get((a, b), float("inf")), i) for i, (a, b) in enumerate(pairwise(parts))]
        rank, i = min(scores)
        if rank == float("inf"):
            break
        parts[i : i + 2] = [parts[i] + parts[i + 1]]
    return parts


EXERCISES = (
    Exercise(
        id="01.3",
        title="All merges",
        kind="fill in",
        minutes=12,
        difficulty=3,
        hints=(
            "Which of the neighbouring pairs comes first: the leftmost, the longest, or the one learned earliest?",
            "Look at all neighbours, keep those that are in `ranks`, take the one with the lowest rank, merge, repeat.",
            "known = [pair for pair in pairwise(symbols) if pair in ranks]; if not known: return symbols; "
            "symbols = merge(symbols, min(known, key=ranks.get)).",
        ),
        now_you_know="the order of the merges is the order in which they were learned, the most frequent pair first.",
        oracle=bpe_by_rounds,
        cases=(
            Case("library", ("library", RANKS), ["lib", "r", "ary"]),
            Case("a rank decides, not the place", ("bry", {("b", "r"): 1, ("r", "y"): 0}), ["b", "ry"]),
            Case("the second pair first", ("abc", {("b", "c"): 0, ("a", "bc"): 1, ("a", "b"): 2}), ["abc"]),
            Case("nothing to merge", ("xyz", RANKS), ["x", "y", "z"]),
            Case("the same pair several times", ("libliblib", RANKS)),
            Case("a long merge beside short ones", ("abcabd", {("a", "b"): 0, ("ab", "c"): 2, ("c", "a"): 1})),
            Case("one letter", ("a", RANKS), ["a"]),
            Case("no letters", ("", RANKS), []),
            Case("spaces are symbols, too", (" a lib ", RANKS | {(" ", "a"): 6}), [" a", " ", "lib", " "]),
            Case("the table is not in order", ("abc", {("b", "c"): 1, ("a", "b"): 0}), ["ab", "c"]),
            Case("a pair that begins at the second letter", ("xab", {("a", "b"): 0}), ["x", "ab"]),
            Case("a frequent pair of a high rank", ("abcbc", {("a", "b"): 0, ("b", "c"): 1}), ["ab", "c", "bc"]),
        ),
        mutants={
            "leftmost first": (
                leftmost_first,
                "the leftmost known pair is joined first. The order is that of the ranks: lowest first.",
            ),
            "highest rank": (highest_rank, "the pair with the highest rank is joined first. Rank 0 comes first."),
            "one round": (one_round, "only one merge is done. Repeat until no neighbouring pair is known."),
            "pairs of letters": (
                only_pairs_of_bytes,
                "joined symbols are never joined again. A merge may have longer parts: (li, b).",
            ),
            "longest match": (
                longest_match,
                "the longest known token is taken from the left, as WordPiece does it. Here the ranks decide.",
            ),
            "letters": (letters, "nothing is joined."),
            "most frequent": (
                most_frequent,
                "the pair that is most frequent here is joined first. Training counts pairs; here the ranks decide.",
            ),
            "order of the table": (
                in_order_of_the_table,
                "the pairs are joined in the order of the dict. The order is that of the ranks.",
            ),
            "by twos": (by_twos, "only every second pair of neighbours is looked at. A symbol has one on each side."),
            "unknown joined": (
                unknown_joined,
                "pairs that are not in `ranks` are joined, too, as if they had the lowest rank.",
            ),
            "stopped by an unknown": (
                stopped_by_an_unknown,
                "it stops early: a pair that is not in `ranks` counts as the lowest, instead of being left out.",
            ),
            "several in one walk": (
                several_in_one_walk,
                "all known pairs are joined in one walk from the left. Join one pair, then look again.",
            ),
            "from words": (from_words, "the symbols are words. Begin with single letters."),
            "from bytes": (
                from_bytes,
                "the symbols are bytes, which `ranks` does not know. Begin with letters, as str.",
            ),
            "spaces lost": (spaces_lost, "spaces at the ends are lost. A space is a symbol like any other."),
            "letters lost": (letters_lost, "single letters are lost. What cannot be joined stays as it is."),
            "ranks": (ranks_of_merges, "these are the ranks of the merges. Return the symbols."),
        },
        accepted={"each merge once, in order": once_each_in_order, "with infinity": with_infinity},
    ),
)
