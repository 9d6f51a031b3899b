"""Natural answers to 01.2: one merge."""

import re
from itertools import pairwise

from tests.course.natural_answers.collect import Collection

collection = Collection("01.2")
wrong, right, ANSWERS = collection.wrong, collection.right, collection.answers

# 01.2 one merge ------------------------------------------------------------------------------------------------------


@wrong("01.2", "in place", "in place", "new list", "changed", "argument")
def _(symbols, pair):
    i = 0
    while i < len(symbols) - 1:
        if (symbols[i], symbols[i + 1]) == pair:
            symbols[i : i + 2] = [pair[0] + pair[1]]
        i += 1
    return symbols


@wrong("01.2", "a symbol used twice", "twice", "overlap", "once", "a a a")
def _(symbols, pair):
    result, used = [], set()
    for i in range(len(symbols) - 1):
        if (symbols[i], symbols[i + 1]) == tuple(pair):
            result.append("".join(pair))
            used |= {i, i + 1}
        elif i not in used:
            result.append(symbols[i])
    if symbols and len(symbols) - 1 not in used:
        result.append(symbols[-1])
    return result


@wrong("01.2", "the last symbol is lost", "last", "end", "lost", "missing")
def _(symbols, pair):
    result, i = [], 0
    while i < len(symbols) - 1:
        if (symbols[i], symbols[i + 1]) == pair:
            result.append(symbols[i] + symbols[i + 1])
            i += 2
        else:
            result.append(symbols[i])
            i += 1
    return result


@wrong("01.2", "the second half stays", "second", "skip", "again", "twice", "stay", "remain")
def _(symbols, pair):
    result = []
    for i, symbol in enumerate(symbols):
        if symbols[i : i + 2] == list(pair):
            result.append("".join(pair))
        else:
            result.append(symbol)
    return result


@wrong("01.2", "only the first occurrence", "first", "every", "only one", "all")
def _(symbols, pair):
    for i in range(len(symbols) - 1):
        if (symbols[i], symbols[i + 1]) == pair:
            return [*symbols[:i], "".join(pair), *symbols[i + 2 :]]
    return list(symbols)


@wrong("01.2", "from right to left", "right", "left", "end", "direction", "backwards")
def _(symbols, pair):
    result = list(symbols)
    i = len(result) - 2
    while i >= 0:
        if (result[i], result[i + 1]) == pair:
            result[i : i + 2] = ["".join(pair)]
            i -= 1
        i -= 1
    return result


@wrong("01.2", "replace in a text with spaces", "space", "inside", "part of", "boundar", "end of", "symbol")
def _(symbols, pair):
    return " ".join(symbols).replace(" ".join(pair), "".join(pair)).split(" ")


@wrong("01.2", "pairs stay tuples", "tuple", "join", "string", "str")
def _(symbols, pair):
    result, i = [], 0
    while i < len(symbols):
        if tuple(symbols[i : i + 2]) == pair:
            result.append(pair)
            i += 2
        else:
            result.append(symbols[i])
            i += 1
    return result


@wrong("01.2", "either order of the pair", "order", "either", "swapped", "reverse", "(b, a)")
def _(symbols, pair):
    result, i = [], 0
    while i < len(symbols):
        if i + 1 < len(symbols) and sorted(symbols[i : i + 2]) == sorted(pair):
            result.append(symbols[i] + symbols[i + 1])
            i += 2
        else:
            result.append(symbols[i])
            i += 1
    return result


@wrong("01.2", "one beyond the end", "index", "end", "range", "last")
def _(symbols, pair):
    result, i = [], 0
    while i < len(symbols):
        if symbols[i] == pair[0] and symbols[i + 1] == pair[1]:
            result.append(pair[0] + pair[1])
            i += 2
        else:
            result.append(symbols[i])
            i += 1
    return result


@wrong("01.2", "one text instead of a list", "str", "list", "text")
def _(symbols, pair):
    result, i = "", 0
    while i < len(symbols):
        if tuple(symbols[i : i + 2]) == pair:
            result += "".join(pair)
            i += 2
        else:
            result += symbols[i]
            i += 1
    return result


@wrong("01.2", "only the first half is compared", "first", "second", "both", "pair", "half")
def _(symbols, pair):
    result, i = [], 0
    while i < len(symbols):
        if symbols[i] == pair[0] and i + 1 < len(symbols):
            result.append(symbols[i] + symbols[i + 1])
            i += 2
        else:
            result.append(symbols[i])
            i += 1
    return result


@wrong("01.2", "without the rest where the pair is missing", "none", "missing", "lost", "other", "kept")
def _(symbols, pair):
    result = []
    for a, b in pairwise(symbols):
        if (a, b) == pair:
            result.append(a + b)
    return result


@wrong("01.2", "a space between the halves", "space", "between", "join")
def _(symbols, pair):
    result, i = [], 0
    while i < len(symbols):
        if tuple(symbols[i : i + 2]) == pair:
            result.append(" ".join(pair))
            i += 2
        else:
            result.append(symbols[i])
            i += 1
    return result


@wrong("01.2", "characters of the joined text", "character", "symbol", "text", "letters", "boundar")
def _(symbols, pair):
    parts = re.split(f"({re.escape(''.join(pair))})", "".join(symbols))
    return [one for part in parts for one in ([part] if part == "".join(pair) else part)]


@right("01.2", "while with an index")
def _(symbols, pair):
    result, i = [], 0
    while i < len(symbols):
        if i + 1 < len(symbols) and symbols[i] == pair[0] and symbols[i + 1] == pair[1]:
            result.append(pair[0] + pair[1])
            i += 2
        else:
            result.append(symbols[i])
            i += 1
    return result


@right("01.2", "a copy that is shortened")
def _(symbols, pair):
    symbols = symbols.copy()
    i = 0
    while i + 1 < len(symbols):
        if (symbols[i], symbols[i + 1]) == pair:
            symbols[i] += symbols.pop(i + 1)
        i += 1
    return symbols


@right("01.2", "for with a flag")
def _(symbols, pair):
    result, skip = [], False
    for here, behind in zip(symbols, [*symbols[1:], None], strict=False):
        if skip:
            skip = False
        elif (here, behind) == pair:
            result.append(here + behind)
            skip = True
        else:
            result.append(here)
    return result


@right("01.2", "an iterator")
def _(symbols, pair):
    result, numbers = [], iter(range(len(symbols)))
    for i in numbers:
        if tuple(symbols[i : i + 2]) == pair:
            result.append("".join(pair))
            next(numbers)
        else:
            result.append(symbols[i])
    return result


@right("01.2", "recursion")
def _(symbols, pair):
    def rest(left):
        if len(left) < 2:
            return list(left)
        if (left[0], left[1]) == pair:
            return ["".join(pair), *rest(left[2:])]
        return [left[0], *rest(left[1:])]

    return rest(symbols)


@right("01.2", "repeated until nothing changes")
def _(symbols, pair):
    symbols = list(symbols)
    while pair in (pairs := list(pairwise(symbols))):
        at = pairs.index(pair)
        symbols = [*symbols[:at], "".join(pair), *symbols[at + 2 :]]
    return symbols


@right("01.2", "a stack of unused symbols")
def _(symbols, pair):
    result, free = [], False
    for symbol in symbols:
        if free and (result[-1], symbol) == pair:
            result[-1] += symbol
            free = False
        else:
            result.append(symbol)
            free = True
    return result
