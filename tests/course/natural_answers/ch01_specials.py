"""Natural answers to 01.4: a text, cut at its special tokens."""

import re

from tests.course.natural_answers.collect import Collection

collection = Collection("01.4")
wrong, right, ANSWERS = collection.wrong, collection.right, collection.answers


def pattern(specials):
    """The longest first, each with its characters meant literally."""
    return "|".join(re.escape(special) for special in sorted(specials, key=len, reverse=True))


@wrong("01.4", "the special tokens are lost", "lost", "special", "kept", "group", "missing")
def _(text, specials):
    return [part for part in re.split(pattern(specials), text) if part] if specials else [text]


@wrong("01.4", "not escaped", "escape", "pattern", "bar", "literal", "|")
def _(text, specials):
    return [part for part in re.split("(" + "|".join(specials) + ")", text) if part]


@wrong("01.4", "empty parts stay", "empty")
def _(text, specials):
    return re.split(f"({pattern(specials)})", text) if specials else [text]


@wrong("01.4", "in the order of the list", "longer", "longest", "begins", "order")
def _(text, specials):
    if not specials:
        return [text] if text else []
    return [part for part in re.split("(" + "|".join(map(re.escape, specials)) + ")", text) if part]


@wrong("01.4", "the shortest first", "longer", "longest", "shorter", "begins")
def _(text, specials):
    if not specials:
        return [text] if text else []
    order = sorted(specials, key=len)
    return [part for part in re.split("(" + "|".join(map(re.escape, order)) + ")", text) if part]


@wrong("01.4", "spaces stripped", "space", "strip")
def _(text, specials):
    if not specials:
        return [text] if text else []
    return [part.strip() for part in re.split(f"({pattern(specials)})", text) if part.strip()]


@wrong("01.4", "parts of white space left out", "space", "blank", "line break", "strip", "lost")
def _(text, specials):
    if not specials:
        return [text] if text else []
    return [part for part in re.split(f"({pattern(specials)})", text) if part.strip()]


@wrong("01.4", "only the special tokens", "between", "only", "special", "lost", "ordinary", "text")
def _(text, specials):
    return re.findall(pattern(specials), text) if specials else []


@wrong("01.4", "each special token once", "once", "first", "every", "occurrence", "second", "later")
def _(text, specials):
    parts = [text]
    for special in sorted(specials, key=len, reverse=True):
        for n, part in enumerate(parts):
            if part not in specials and special in part:
                parts[n : n + 1] = part.partition(special)
                break
    return [part for part in parts if part]


@wrong("01.4", "a longer one is cut again", "inside", "again", "longer", "within", "part of", "shorter", "contains")
def _(text, specials):
    parts = [text]
    for special in sorted(specials, key=len, reverse=True):
        parts = [piece for part in parts for piece in re.split(f"({re.escape(special)})", part)]
    return [part for part in parts if part]


@wrong(
    "01.4", "special tokens stay with the text behind", "behind", "joined", "together", "own", "stay", "cut", "stuck"
)
def _(text, specials):
    if not specials:
        return [text] if text else []
    return [part for part in re.split(f"(?={pattern(specials)})", text) if part]


@wrong("01.4", "equal neighbours as one", "neighbour", "twice", "together", "one part", "repeated", "each", "own")
def _(text, specials):
    if not specials:
        return [text] if text else []
    return [
        match.group() for match in re.finditer(f"(?:{pattern(specials)})+|.+?(?={pattern(specials)}|$)", text, re.S)
    ]


@wrong("01.4", "capitals ignored", "capital", "case", "lower")
def _(text, specials):
    if not specials:
        return [text] if text else []
    return [part for part in re.split(f"({pattern(specials)})", text, flags=re.IGNORECASE) if part]


@wrong("01.4", "the argument sorted in place", "in place", "changed", "argument", "sort")
def _(text, specials):
    specials.sort(key=len, reverse=True)
    if not specials:
        return [text] if text else []
    return [part for part in re.split("(" + "|".join(map(re.escape, specials)) + ")", text) if part]


@wrong("01.4", "the text behind the last one is lost", "last", "rest", "end", "behind", "lost", "missing")
def _(text, specials):
    parts, ordinary, i = [], "", 0
    order = sorted(specials, key=len, reverse=True)
    while i < len(text):
        special = next((each for each in order if text.startswith(each, i)), None)
        if special is None:
            ordinary += text[i]
            i += 1
        else:
            parts += [ordinary, special] if ordinary else [special]
            ordinary = ""
            i += len(special)
    return parts


@wrong("01.4", "letter by letter between them", "character", "letter", "together", "between", "each")
def _(text, specials):
    if not specials:
        return list(text)
    return re.findall(f"{pattern(specials)}|.", text, re.S)


@wrong("01.4", "line breaks end the search", "line", "newline", "break", "dot")
def _(text, specials):
    if not specials:
        return [text] if text else []
    either = pattern(specials)
    return re.findall(f"{either}|.+?(?=$|{either})", text)


@wrong("01.4", "sorted by alphabet", "longer", "longest", "begins", "order", "shorter", "alphabet")
def _(text, specials):
    if not specials:
        return [text] if text else []
    return [part for part in re.split("(" + "|".join(map(re.escape, sorted(specials))) + ")", text) if part]


@right("01.4", "split with a group")
def _(text, specials):
    if not specials:
        return [text] if text else []
    return [part for part in re.split(f"({pattern(specials)})", text) if part]


@right("01.4", "without a case for an empty list of special tokens, as in the hints")
def _(text, specials):
    return [part for part in re.split(f"({pattern(specials)})", text) if part]


@right("01.4", "letter by letter")
def _(text, specials):
    parts, ordinary, i = [], "", 0
    while i < len(text):
        special = max((each for each in specials if text[i:].startswith(each)), key=len, default="")
        if special:
            if ordinary:
                parts.append(ordinary)
            parts.append(special)
            ordinary = ""
        else:
            ordinary += text[i]
        i += len(special) or 1
    return [*parts, ordinary] if ordinary else parts


@right("01.4", "finditer with the place of the last match")
def _(text, specials):
    parts, end = [], 0
    for match in re.finditer(pattern(specials), text) if specials else ():
        parts += [text[end : match.start()], match[0]]
        end = match.end()
    return [part for part in (*parts, text[end:]) if part]


@right("01.4", "a pattern that never matches if there are none")
def _(text, specials):
    return list(filter(None, re.split("(" + (pattern(specials) or r"(?!)") + ")", text)))


@right("01.4", "recursion at the first special token")
def _(text, specials):
    found = [(text.find(special), -len(special), special) for special in specials if special in text]
    if not found:
        return [text] if text else []
    at, _, special = min(found)
    return ([text[:at]] if at else []) + [special] + parts_of(text[at + len(special) :], specials)


def parts_of(text, specials):
    """The answer above, for the rest of a text."""
    return ANSWERS["01.4"].right["recursion at the first special token"](text, specials)


@right("01.4", "parts that are marked as special")
def _(text, specials):
    parts = [(text, False)]
    for special in sorted(specials, key=lambda each: -len(each)):
        cut = []
        for part, done in parts:
            if done:
                cut.append((part, done))
                continue
            for n, piece in enumerate(part.split(special)):
                cut += [(special, True)] * (n > 0) + [(piece, False)]
        parts = cut
    return [part for part, _ in parts if part]
