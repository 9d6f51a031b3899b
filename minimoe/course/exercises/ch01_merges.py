"""Chapter 01, tokens: one merge, and all merges (01.2 and 01.3)."""

from itertools import pairwise

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
    """Joins what reads like the pair, wherever the borders are."""
    text, target = "|".join(symbols), "".join(pair)
    return text.replace("|".join(target), target).split("|") if symbols else []


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
        },
        accepted={"by index": by_index, "by recursion": by_recursion, "a stack": by_stack},
    ),
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
        },
        accepted={"each merge once, in order": once_each_in_order, "with infinity": with_infinity},
    ),
)
