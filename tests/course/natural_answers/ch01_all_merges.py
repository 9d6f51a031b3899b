"""Natural answers to 01.3: all merges."""

from itertools import pairwise

from tests.course.natural_answers.collect import Collection

collection = Collection("01.3")
wrong, right, ANSWERS = collection.wrong, collection.right, collection.answers


def joined(symbols, pair):
    """A correct answer to 01.2."""
    result, i = [], 0
    while i < len(symbols):
        size = 2 if tuple(symbols[i : i + 2]) == pair else 1
        result.append("".join(symbols[i : i + size]))
        i += size
    return result


@wrong("01.3", "the highest rank first", "highest", "lowest", "last", "rank", "order")
def _(text, ranks):
    symbols = list(text)
    while known := [pair for pair in pairwise(symbols) if pair in ranks]:
        symbols = joined(symbols, max(known, key=ranks.get))
    return symbols


@wrong("01.3", "the leftmost pair first", "left", "rank", "lowest", "order")
def _(text, ranks):
    symbols = list(text)
    while known := [pair for pair in pairwise(symbols) if pair in ranks]:
        symbols = joined(symbols, known[0])
    return symbols


@wrong("01.3", "one merge only", "once", "repeat", "one merge", "until")
def _(text, ranks):
    symbols = list(text)
    known = [pair for pair in pairwise(symbols) if pair in ranks]
    return joined(symbols, min(known, key=ranks.get)) if known else symbols


@wrong("01.3", "begun with words", "letter", "word", "character", "split", "single")
def _(text, ranks):
    symbols = text.split()
    while known := [pair for pair in pairwise(symbols) if pair in ranks]:
        symbols = joined(symbols, min(known, key=ranks.get))
    return symbols


@wrong("01.3", "unknown pairs have rank 0", "unknown", "not in", "every pair", "rank", "any pair", "joined")
def _(text, ranks):
    symbols = list(text)
    while len(symbols) > 1:
        symbols = joined(symbols, min(pairwise(symbols), key=lambda pair: ranks.get(pair, 0)))
    return symbols


@wrong("01.3", "the longest known symbol from the left", "longest", "greedy", "rank", "order", "merges")
def _(text, ranks):
    known, result = {a + b for a, b in ranks}, []
    while text:
        size = next((n for n in range(len(text), 1, -1) if text[:n] in known), 1)
        result.append(text[:size])
        text = text[size:]
    return result


@wrong("01.3", "ends at the first pair that is unknown", "unknown", "stop", "until", "first", "early", "not in")
def _(text, ranks):
    symbols = list(text)
    while len(symbols) > 1:
        pair = min(pairwise(symbols), key=lambda pair: ranks.get(pair, -1))
        if pair not in ranks:
            break
        symbols = joined(symbols, pair)
    return symbols


@wrong("01.3", "no case for an empty list of pairs", "empty", "single", "one symbol", "min()", "no pair")
def _(text, ranks):
    symbols = list(text)
    while True:
        best = min(pairwise(symbols), key=lambda pair: ranks.get(pair, float("inf")))
        if best not in ranks:
            return symbols
        symbols = joined(symbols, best)


@wrong("01.3", "the joined text", "list", "str", "text")
def _(text, ranks):
    symbols = list(text)
    while known := [pair for pair in pairwise(symbols) if pair in ranks]:
        symbols = joined(symbols, min(known, key=ranks.get))
    return "".join(symbols)


@wrong("01.3", "bytes instead of letters", "bytes", "letters", "int", "str")
def _(text, ranks):
    symbols = [bytes([byte]) for byte in text.encode()]
    while known := [pair for pair in pairwise(symbols) if pair in ranks]:
        symbols = joined(symbols, min(known, key=ranks.get))
    return symbols


@wrong("01.3", "the table in its own order, once", "rank", "order", "repeat", "sort", "dict")
def _(text, ranks):
    symbols = list(text)
    for pair in ranks:
        symbols = joined(symbols, pair)
    return symbols


@wrong("01.3", "spaces stripped", "space", "strip", "lost", "character")
def _(text, ranks):
    symbols = list(text.strip())
    while known := [pair for pair in pairwise(symbols) if pair in ranks]:
        symbols = joined(symbols, min(known, key=ranks.get))
    return symbols


@wrong("01.3", "neighbours by twos", "overlap", "neighbour", "every second", "pairs", "even", "each")
def _(text, ranks):
    symbols = list(text)
    while known := [pair for pair in zip(symbols[::2], symbols[1::2], strict=False) if pair in ranks]:
        symbols = joined(symbols, min(known, key=ranks.get))
    return symbols


@wrong("01.3", "all known pairs in one walk from the left, repeated", "left", "rank", "lowest", "order", "one walk")
def _(text, ranks):
    symbols, before = list(text), None
    while symbols != before:
        before, result, i = symbols, [], 0
        while i < len(symbols):
            if tuple(symbols[i : i + 2]) in ranks:
                result.append("".join(symbols[i : i + 2]))
                i += 2
            else:
                result.append(symbols[i])
                i += 1
        symbols = result
    return symbols


@wrong("01.3", "the most frequent pair first, as in training", "frequent", "often", "count", "rank", "lowest")
def _(text, ranks):
    symbols = list(text)
    while known := [pair for pair in pairwise(symbols) if pair in ranks]:
        symbols = joined(symbols, max(known, key=known.count))
    return symbols


@wrong("01.3", "the ranks of the merges", "str", "symbols", "rank", "int", "number")
def _(text, ranks):
    symbols, used = list(text), []
    while known := [pair for pair in pairwise(symbols) if pair in ranks]:
        best = min(known, key=ranks.get)
        used.append(ranks[best])
        symbols = joined(symbols, best)
    return used


@wrong("01.3", "the merged symbols only", "single", "lost", "letters", "missing", "kept")
def _(text, ranks):
    symbols = list(text)
    while known := [pair for pair in pairwise(symbols) if pair in ranks]:
        symbols = joined(symbols, min(known, key=ranks.get))
    return [symbol for symbol in symbols if len(symbol) > 1]


@right("01.3", "known pairs, then the lowest")
def _(text, ranks):
    symbols = list(text)
    while known := [pair for pair in pairwise(symbols) if pair in ranks]:
        symbols = joined(symbols, min(known, key=ranks.get))
    return symbols


@right("01.3", "infinity for the unknown")
def _(text, ranks):
    symbols = [*text]
    while len(symbols) > 1:
        pair = min(pairwise(symbols), key=lambda pair: ranks.get(pair, float("inf")))
        if pair not in ranks:
            break
        symbols = joined(symbols, pair)
    return symbols


@right("01.3", "recursion")
def _(text, ranks):
    def merged(symbols):
        pairs = set(pairwise(symbols)) & ranks.keys()
        return merged(joined(symbols, min(pairs, key=ranks.__getitem__))) if pairs else symbols

    return merged(list(text))


@right("01.3", "sorted ranks, from the start after each merge")
def _(text, ranks):
    symbols, order = list(text), sorted(ranks, key=ranks.get)
    changed = True
    while changed:
        changed = False
        for pair in order:
            if pair in pairwise(symbols):
                symbols, changed = joined(symbols, pair), True
                break
    return symbols


@right("01.3", "numbers of ranks, and the pair of the least")
def _(text, ranks):
    pair_of = {rank: pair for pair, rank in ranks.items()}
    symbols = [*text]
    while True:
        found = [ranks[pair] for pair in pairwise(symbols) if pair in ranks]
        if not found:
            return symbols
        symbols = joined(symbols, pair_of[min(found)])


@right("01.3", "one occurrence after the other, the lowest and leftmost first")
def _(text, ranks):
    symbols = list(text)
    while True:
        found = [(ranks[pair], i) for i, pair in enumerate(pairwise(symbols)) if pair in ranks]
        if not found:
            return symbols
        _, i = min(found)
        symbols[i : i + 2] = [symbols[i] + symbols[i + 1]]
