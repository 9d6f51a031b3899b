"""Chapter 01, tokens: a text is split at its special tokens (01.4)."""

import re
from collections.abc import Callable, Sequence

from minimoe.course.checker.exercise import Case, Exercise

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
    for special in sorted(specials, key=len, reverse=True):
        for number, part in enumerate(parts):
            if part not in specials and special in part:
                before, _, after = part.partition(special)
                parts[number : number + 1] = [before, special, after]
                break
    return [part for part in parts if part]


def stripped(text: str, specials: Sequence[str]) -> list[str]:
    return [part.strip() for part in split_by_scanning(text, specials) if part.strip()]


def only_specials(text: str, specials: Sequence[str]) -> list[str]:
    return [part for part in split_by_scanning(text, specials) if part in specials]


def either(specials: Sequence[str]) -> str:
    """An expression for any of the special tokens, the longest first."""
    return "|".join(re.escape(special) for special in sorted(specials, key=len, reverse=True))


def cut_before(text: str, specials: Sequence[str]) -> list[str]:
    """Each special token and the text behind it are one part."""
    return [part for part in re.split(f"(?={either(specials)})", text) if part]


def runs_as_one(text: str, specials: Sequence[str]) -> list[str]:
    """Special tokens without a text between them are one part."""
    parts: list[str] = []
    for part in split_by_scanning(text, specials):
        if part in specials and parts and parts[-1].endswith(tuple(specials)):
            parts[-1] += part
        else:
            parts.append(part)
    return parts


def end_lost(text: str, specials: Sequence[str]) -> list[str]:
    parts = split_by_scanning(text, specials)
    return parts if parts and parts[-1] in specials else parts[:-1]


def by_letters(text: str, specials: Sequence[str]) -> list[str]:
    return re.findall(f"{either(specials)}|.", text, re.DOTALL)


def line_ends_lost(text: str, specials: Sequence[str]) -> list[str]:
    """The dot matches no line end."""
    return re.findall(f"{either(specials)}|.+?(?=$|{either(specials)})", text)


def capitals_ignored(text: str, specials: Sequence[str]) -> list[str]:
    return [part for part in re.split(f"({either(specials)})", text, flags=re.IGNORECASE) if part]


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


EXERCISES = (
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
            Case("capitals count", ("a<Think>b", ["<think>"]), ["a<Think>b"]),
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
            "only specials": (
                only_specials,
                "only the special tokens are there. The text between them is a part, too.",
            ),
            "cut before": (cut_before, "a special token and the text behind it are one part. Cut on both sides of it."),
            "runs as one": (runs_as_one, "special tokens beside each other are one part. Each is a part of its own."),
            "end lost": (end_lost, "the text behind the last special token is lost."),
            "by letters": (by_letters, "the text between special tokens is cut into letters. It is one part."),
            "line ends lost": (
                line_ends_lost,
                "line ends are lost: in a regular expression the dot matches no line end, unless re.DOTALL is set.",
            ),
            "capitals ignored": (
                capitals_ignored,
                "capitals are ignored. A special token is found only as it is written.",
            ),
        },
        accepted={"an expression": by_expression, "one after another": by_replacing},
    ),
)
