"""Chapter 01, tokens: merges, special tokens, bytes of a stream, predictions (01.2 to 01.4, 01.7 and 01.8)."""

import codecs
import re
from collections.abc import Callable, Sequence
from itertools import pairwise

import torch

from minimoe.course.checker.exercise import Arguments, Case, Exercise

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


# 01.4 splitting at specials ------------------------------------------------------------------------------------------


def split_by_scanning(text: str, specials: Sequence[str]) -> list[str]:
    """At each place the longest special token that begins there, else one more character of plain text."""
    parts: list[str] = []
    plain, place = "", 0
    while place < len(text):
        here = max((special for special in specials if text.startswith(special, place)), key=len, default="")
        if here:
            parts += [plain] if plain else []
            parts.append(here)
            plain, place = "", place + len(here)
        else:
            plain, place = plain + text[place], place + 1
    return parts + ([plain] if plain else [])


def pattern(specials: Sequence[str], keep: bool, longest: bool) -> Callable[[str], list[str]]:
    """A function that splits at the special tokens."""
    joined = "|".join(re.escape(special) for special in sorted(specials, key=len, reverse=longest))
    return lambda text: re.split(f"({joined})" if keep else joined, text)


def specials_lost(text: str, specials: Sequence[str]) -> list[str]:
    return [part for part in pattern(specials, False, True)(text) if part]


def empties_left(text: str, specials: Sequence[str]) -> list[str]:
    return pattern(specials, True, True)(text)


def shortest_first(text: str, specials: Sequence[str]) -> list[str]:
    return [part for part in pattern(specials, True, False)(text) if part]


def unescaped(text: str, specials: Sequence[str]) -> list[str]:
    """In a regular expression "|" means "or"."""
    return [part for part in re.split("(" + "|".join(specials) + ")", text) if part]


def first_of_each(text: str, specials: Sequence[str]) -> list[str]:
    parts = [text]
    for special in specials:
        for number, part in enumerate(parts):
            if part not in specials and special in part:
                before, _, after = part.partition(special)
                parts[number : number + 1] = [before, special, after]
                break
    return [part for part in parts if part]


def stripped(text: str, specials: Sequence[str]) -> list[str]:
    return [part.strip() for part in split_by_scanning(text, specials) if part.strip()]


def by_expression(text: str, specials: Sequence[str]) -> list[str]:
    return [part for part in pattern(specials, True, True)(text) if part]


def by_replacing(text: str, specials: Sequence[str]) -> list[str]:
    parts = [text]
    for special in sorted(specials, key=len, reverse=True):
        fresh: list[str] = []
        for part in parts:
            if part in specials:
                fresh.append(part)
                continue
            pieces = part.split(special)
            for number, piece in enumerate(pieces):
                fresh += [special] if number else []
                fresh.append(piece)
        parts = fresh
    return [part for part in parts if part]


# 01.7 the bug hunt ---------------------------------------------------------------------------------------------------


def suspicious(tokens: list[bytes]) -> list[str]:
    """The text of each token, as soon as it arrives."""
    return [token.decode("utf-8", errors="replace") for token in tokens]


def stream_by_waiting(tokens: list[bytes]) -> list[str]:
    """For each token the text that is complete by then and was not shown before; what never completes is left out."""
    shown, kept = [], b""
    for token in tokens:
        kept += token
        cut = next(cut for cut in range(len(kept), -1, -1) if is_whole(kept[:cut]))
        shown.append(kept[:cut].decode("utf-8"))
        kept = kept[cut:]
    return shown


def is_whole(raw: bytes) -> bool:
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def tokens_of(*texts: str, cut: int) -> Arguments:
    """The bytes of texts in pieces of `cut` bytes, so that pieces end inside characters."""

    def arguments(generator: torch.Generator) -> tuple[list[bytes]]:
        raw = "".join(texts).encode("utf-8")
        return ([raw[place : place + cut] for place in range(0, len(raw), cut)],)

    return arguments


def dropped(tokens: list[bytes]) -> list[str]:
    return [token.decode("utf-8", errors="ignore") for token in tokens]


def all_at_the_end(tokens: list[bytes]) -> list[str]:
    return ["" for _ in tokens[:-1]] + ([b"".join(tokens).decode("utf-8")] if tokens else [])


def said_again(tokens: list[bytes]) -> list[str]:
    """The whole text so far, each time."""
    return [b"".join(tokens[: place + 1]).decode("utf-8", errors="ignore") for place in range(len(tokens))]


def as_latin(tokens: list[bytes]) -> list[str]:
    return [token.decode("latin-1") for token in tokens]


def whole_or_nothing(tokens: list[bytes]) -> list[str]:
    """Waits until everything that was kept is complete, so that finished characters wait with it."""
    shown, kept = [], b""
    for token in tokens:
        kept += token
        shown.append(kept.decode("utf-8") if is_whole(kept) else "")
        kept = b"" if is_whole(kept) else kept
    return shown


def forgets_the_rest(tokens: list[bytes]) -> list[str]:
    """Shows what is complete and throws the rest away."""
    shown = []
    for token in tokens:
        cut = next(cut for cut in range(len(token), -1, -1) if is_whole(token[:cut]))
        shown.append(token[:cut].decode("utf-8"))
    return shown


def by_codec(tokens: list[bytes]) -> list[str]:
    decoder = codecs.getincrementaldecoder("utf-8")()
    return [decoder.decode(token) for token in tokens]


def by_difference(tokens: list[bytes]) -> list[str]:
    shown, before = [], ""
    for place in range(len(tokens)):
        now = b"".join(tokens[: place + 1]).decode("utf-8", errors="ignore")
        shown.append(now[len(before) :])
        before = now
    return shown


# 01.8 predictions ----------------------------------------------------------------------------------------------------

TRUTH = {
    "é as one character, and as e with an accent behind it: the same ids": True,
    "'cat' and ' cat' are the same token": False,
    "12 is one token": False,
    "every token is a valid piece of text": False,
    "decoding the ids of any text gives that text, byte for byte": False,
    "<think> in a prompt is one id": True,
    "a longer word always has more tokens": False,
}

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
    Exercise(
        id="01.4",
        title="Split at the special tokens",
        kind="fill in",
        minutes=10,
        difficulty=2,
        hints=(
            "re.split keeps what is inside a group.",
            'The special tokens contain "|", which means something in a regular expression: re.escape. If one begins '
            "with another, the longer one must come first.",
            're.split("(" + "|".join(map(re.escape, sorted(specials, key=len, reverse=True))) + ")", text), without '
            "the empty parts.",
        ),
        now_you_know="special tokens are found before anything else, so no merge can ever make or break one.",
        oracle=split_by_scanning,
        cases=(
            Case(
                "a turn of a chat",
                ("<|im_start|>user\nHi<|im_end|>", ["<|im_start|>", "<|im_end|>"]),
                ["<|im_start|>", "user\nHi", "<|im_end|>"],
            ),
            Case("none in the text", ("plain text", ["<think>"]), ["plain text"]),
            Case("twice the same", ("a<think>b<think>c", ["<think>", "</think>"])),
            Case("two beside each other", ("<think></think>", ["<think>", "</think>"])),
            Case("one is the beginning of another", ("x<a>1<a>", ["<a>", "<a>1"])),
            Case("spaces and line ends are kept", (" <think>\n\n</think> ", ["<think>", "</think>"])),
            Case("no text", ("", ["<think>"]), []),
        ),
        mutants={
            "specials lost": (specials_lost, "the special tokens themselves are missing. They are parts, too."),
            "empty parts": (empties_left, "there are empty parts between neighbours. Leave them out."),
            "shortest first": (shortest_first, "a short token is found inside a longer one. Look for long ones first."),
            "not escaped": (
                unescaped,
                '"|" means "or" in a regular expression, so the parts of <|im_start|> were looked for. Use re.escape.',
            ),
            "first of each": (first_of_each, "each special token is found once only. Find all of them."),
            "stripped": (stripped, "spaces or line ends are lost. They belong to the text."),
        },
        accepted={"an expression": by_expression, "one after another": by_replacing},
    ),
    Exercise(
        id="01.7",
        title="Bug hunt: characters in pieces",
        kind="bug hunt",
        minutes=12,
        difficulty=3,
        hints=(
            "Where do the question marks appear? How many bytes has the character there, and how many the token?",
            "Keep the bytes that do not form a character yet, and put them before the next token.",
            'codecs.getincrementaldecoder("utf-8")() keeps the unfinished bytes itself: decoder.decode(token).',
        ),
        now_you_know="a token is a piece of bytes, and only a text is made of characters.",
        oracle=stream_by_waiting,
        cases=(
            Case("é in two tokens", ([b"caf", b"\xc3", b"\xa9", b"!"],), ["caf", "", "é", "!"]),
            Case("a smile, one byte each", ([bytes([byte]) for byte in "🙂".encode()],), ["", "", "", "🙂"]),
            Case("Chinese, two bytes at a time", tokens_of("猫看见一只鸟。", cut=2)),
            Case("a mixture, five bytes at a time", tokens_of("a é 猫 🙂 z", cut=5)),
            Case("plain letters", ([b"The", b" cat"],), ["The", " cat"]),
            Case("nothing", ([],), []),
        ),
        given=suspicious,
        mutants={
            "as it was": (
                suspicious,
                "each token is still decoded alone, and a part of a character becomes a question mark.",
            ),
            "ignored": (dropped, "unfinished bytes are dropped, so characters in several tokens never appear."),
            "at the end": (all_at_the_end, "everything appears at the end. Show each character once it is complete."),
            "said again": (said_again, "the whole text so far is returned each time. Return what is new."),
            "latin-1": (as_latin, "the bytes are read as Latin-1, one character each. They are UTF-8."),
            "whole or nothing": (
                whole_or_nothing,
                "characters that are complete wait for others that are not. Show all that is complete.",
            ),
            "thrown away": (
                forgets_the_rest,
                "the unfinished bytes are thrown away instead of being kept for the next token.",
            ),
        },
        accepted={"an incremental decoder": by_codec, "the difference": by_difference},
    ),
    Exercise(
        id="01.8",
        title="Predict: what becomes of a text?",
        kind="predict",
        minutes=8,
        difficulty=2,
        hints=(
            "Go through the three steps: normalise, split, merge.",
            "NFC makes one character of two. The space belongs to the word behind it. Digits are split one by one. "
            "Bytes are merged, not characters.",
            "Same ids for é; ' cat' is another token; 12 is two; some tokens are parts of characters; NFC may change "
            "the text; added tokens have ids of their own; frequent words are one token, however long.",
        ),
        now_you_know="ids depend on spaces, accents and frequency, in ways that no reader of the text can see.",
        expected=TRUTH,
        reasons={
            "é as one character, and as e with an accent behind it: the same ids": "What does NFC do before the split?",
            "'cat' and ' cat' are the same token": "Which piece does the space go to?",
            "12 is one token": "What does the split pattern say about digits?",
            "every token is a valid piece of text": "How many bytes has a Chinese character, and what is merged first?",
            "decoding the ids of any text gives that text, byte for byte": "Type é as two characters. What comes back?",
            "<think> in a prompt is one id": "Look at tokenizer.special_tokens.",
            "a longer word always has more tokens": "Compare a frequent long word with a rare short one.",
        },
        mutants={
            "accents": (
                TRUTH | {"é as one character, and as e with an accent behind it: the same ids": False},
                "NFC writes both spellings as one character before anything is split.",
            ),
            "characters": (
                TRUTH | {"every token is a valid piece of text": True},
                "bytes are merged, so a token may end inside a character.",
            ),
            "there and back": (
                TRUTH | {"decoding the ids of any text gives that text, byte for byte": True},
                "NFC changes some texts, such as an e with an accent behind it. What it has changed cannot come back.",
            ),
            "numbers": (TRUTH | {"12 is one token": True}, "digits are cut apart, one by one, before any merge."),
        },
        accepted={
            "as numbers": {question: int(answer) for question, answer in TRUTH.items()},
            "as tensors": {question: torch.tensor(answer) for question, answer in TRUTH.items()},
        },
    ),
)
