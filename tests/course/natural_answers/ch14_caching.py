"""Natural answers to 14.5 to 14.7: key/value heads of a rank, the cache of experts, and who misses."""

from collections import Counter, OrderedDict, deque
from fractions import Fraction

import numpy as np
import torch

from tests.course.natural_answers.collect import Collection

collection = Collection("14.5", "14.6", "14.7")
wrong, right, ANSWERS = collection.wrong, collection.right, collection.answers

# 14.5 key_heads ------------------------------------------------------------------------------------------------------


@wrong("14.5", "as it was on the page", "neighbour", "page", "unchanged", "given", "turn", "round", "same head", "%")
def _(query_heads, heads, ranks, rank):
    each = max(1, heads // ranks)
    return [(rank * each + n) % heads for n in range(each)]


@wrong("14.5", "by turns", "turn", "round", "neighbour", "same head", "%", "run", "modulo", "remainder")
def _(query_heads, heads, ranks, rank):
    return [rank % heads]


@wrong("14.5", "the first head only", "several", "more than one", "all", "first", "each", "two")
def _(query_heads, heads, ranks, rank):
    return [rank * heads // ranks]


@wrong("14.5", "no head at all", "at least one", "empty", "zero", "none", "max")
def _(query_heads, heads, ranks, rank):
    each = heads // ranks
    return list(range(rank * each, (rank + 1) * each))


@wrong("14.5", "stop rounded down", "empty", "none", "stop", "end", "at least one", "round", "last", "max")
def _(query_heads, heads, ranks, rank):
    return list(range(rank * heads // ranks, (rank + 1) * heads // ranks))


@wrong("14.5", "clamped to the last head", "last", "min", "neighbour", "same head", "clamp", "end")
def _(query_heads, heads, ranks, rank):
    each = max(1, heads // ranks)
    return [min(rank * each + n, heads - 1) for n in range(each)]


@wrong("14.5", "query heads in place of key/value heads", "query", "group", "share", "key/value")
def _(query_heads, heads, ranks, rank):
    each = query_heads // ranks
    return list(range(rank * each, (rank + 1) * each))


@wrong(
    "14.5", "one for each query head", "duplicate", "once", "repeated", "twice", "each query", "several times", "set"
)
def _(query_heads, heads, ranks, rank):
    mine = range(rank * query_heads // ranks, (rank + 1) * query_heads // ranks)
    return [query // (query_heads // heads) for query in mine]


@wrong("14.5", "all heads on each rank", "all", "need", "only", "every", "own")
def _(query_heads, heads, ranks, rank):
    return list(range(heads))


@wrong("14.5", "falling", "rising", "order", "falling", "sort", "reverse")
def _(query_heads, heads, ranks, rank):
    each = max(1, heads // ranks)
    first = rank * heads // ranks
    return list(range(first + each - 1, first - 1, -1))


@wrong("14.5", "a number", "list", "number", "int")
def _(query_heads, heads, ranks, rank):
    return rank * heads // ranks


@wrong("14.5", "rank divided by the number of heads", "group", "rank", "query", "ranks", "share")
def _(query_heads, heads, ranks, rank):
    each = max(1, heads // ranks)
    first = rank // heads if ranks > heads else rank * each
    return [first + n for n in range(each)]


@wrong("14.5", "the next group's head, too", "one too many", "stop", "end", "off by one", "next", "last", "range")
def _(query_heads, heads, ranks, rank):
    group = query_heads // heads
    first, stop = rank * query_heads // ranks, (rank + 1) * query_heads // ranks
    return [head for head in range(first // group, stop // group + 1) if head < heads]


@wrong("14.5", "division without rounding", "integer", "float", "//", "round", "whole")
def _(query_heads, heads, ranks, rank):
    each = max(1, heads // ranks)
    return [rank * heads / ranks + n for n in range(each)]


@wrong("14.5", "64, 4 and 16 typed in", "64", "group", "argument", "typed", "other sizes", "any", "query_heads")
def _(query_heads, heads, ranks, rank):
    first = rank * (64 // ranks) // 16
    return list(range(first, first + max(1, 4 // ranks)))


@right("14.5", "from the first head on")
def _(query_heads, heads, ranks, rank):
    first = rank * heads // ranks
    return list(range(first, first + max(1, heads // ranks)))


@right("14.5", "two cases")
def _(query_heads, heads, ranks, rank):
    if ranks > heads:
        return [rank // (ranks // heads)]
    each = heads // ranks
    return [rank * each + n for n in range(each)]


@right("14.5", "first and last query head")
def _(query_heads, heads, ranks, rank):
    group, each = query_heads // heads, query_heads // ranks
    return list(range(rank * each // group, ((rank + 1) * each - 1) // group + 1))


@right("14.5", "overlap of two runs")
def _(query_heads, heads, ranks, rank):
    return [head for head in range(heads) if head * ranks < (rank + 1) * heads and rank * heads < (head + 1) * ranks]


@right("14.5", "unique in torch")
def _(query_heads, heads, ranks, rank):
    head_of_query = torch.arange(heads).repeat_interleave(query_heads // heads)
    return head_of_query.chunk(ranks)[rank].unique().tolist()


@right("14.5", "NumPy, repeated or cut")
def _(query_heads, heads, ranks, rank):
    held = np.repeat(np.arange(heads), max(1, ranks // heads))
    return held.reshape(ranks, -1)[rank].tolist()


# 14.6 hits -----------------------------------------------------------------------------------------------------------


def lru(wanted, room):
    held, found = OrderedDict(), []
    for expert in wanted:
        found.append(expert in held)
        if expert in held:
            held.move_to_end(expert)
        else:
            if len(held) >= room:
                held.popitem(last=False)
            held[expert] = True
    return found


@wrong("14.6", "a hit does not count as a use", "use", "hit", "first in", "young", "last", "fifo", "recent")
def _(wanted, room):
    held, found = [], []
    for expert in wanted:
        found.append(expert in held)
        if expert not in held:
            if len(held) == room:
                held.pop(0)
            held.append(expert)
    return found


@wrong("14.6", "the newest leaves", "newest", "oldest", "longest", "last", "recent")
def _(wanted, room):
    held, found = [], []
    for expert in wanted:
        found.append(expert in held)
        if expert in held:
            held.remove(expert)
        elif len(held) == room:
            held.pop()
        held.append(expert)
    return found


@wrong("14.6", "the least frequent leaves", "often", "frequent", "longest", "last use", "count", "recent")
def _(wanted, room):
    uses, held, found = Counter(), [], []
    for expert in wanted:
        found.append(expert in held)
        uses[expert] += 1
        if expert not in held:
            if len(held) == room:
                held.remove(min(held, key=lambda each: uses[each]))
            held.append(expert)
    return found


@wrong("14.6", "misses", "miss", "opposite", "inverse", "hit")
def _(wanted, room):
    return [not hit for hit in lru(wanted, room)]


@wrong("14.6", "number of hits", "each", "list", "request", "number", "sum")
def _(wanted, room):
    return sum(lru(wanted, room))


@wrong("14.6", "room for one more", "room", "one more", "one too many", ">", "off by one", "full")
def _(wanted, room):
    return lru(wanted, room + 1)


@wrong("14.6", "room for one less", "room", "one less", "one too few", "off by one", "full", "before")
def _(wanted, room):
    return lru(wanted, max(1, room - 1))


@wrong("14.6", "nobody ever leaves", "leave", "room", "ever", "full", "limit")
def _(wanted, room):
    seen, found = set(), []
    for expert in wanted:
        found.append(expert in seen)
        seen.add(expert)
    return found


@wrong("14.6", "all leave when it is full", "all", "one", "clear", "empty", "single", "whole")
def _(wanted, room):
    held, found = set(), []
    for expert in wanted:
        found.append(expert in held)
        if expert not in held and len(held) == room:
            held.clear()
        held.add(expert)
    return found


@wrong("14.6", "asked after it was fetched", "before", "after", "always", "fetched", "added", "order")
def _(wanted, room):
    held, found = OrderedDict(), []
    for expert in wanted:
        held[expert] = True
        held.move_to_end(expert)
        if len(held) > room:
            held.popitem(last=False)
        found.append(expert in held)
    return found


@wrong(
    "14.6",
    "the last requests, repeats included",
    "different",
    "distinct",
    "repeat",
    "twice",
    "request",
    "window",
    "same",
)
def _(wanted, room):
    return [expert in wanted[max(0, place - room) : place] for place, expert in enumerate(wanted)]


@wrong("14.6", "one leaves at a hit, too", "hit", "leave", "only", "new", "full", "miss")
def _(wanted, room):
    held, found = [], []
    for expert in wanted:
        found.append(expert in held)
        if len(held) == room:
            held.pop(0)
        if expert in held:
            held.remove(expert)
        held.append(expert)
    return found


@wrong("14.6", "an expert that returns is kept twice", "twice", "remove", "hit", "duplicate", "again", "room")
def _(wanted, room):
    held, found = deque(maxlen=room), []
    for expert in wanted:
        found.append(expert in held)
        held.append(expert)
    return found


@wrong("14.6", "the smallest number leaves", "number", "longest", "last use", "oldest", "smallest", "order", "recent")
def _(wanted, room):
    held, found = set(), []
    for expert in wanted:
        found.append(expert in held)
        if expert not in held and len(held) == room:
            held.remove(min(held))
        held.add(expert)
    return found


@wrong("14.6", "the share of hits", "each", "list", "share", "request")
def _(wanted, room):
    return sum(lru(wanted, room)) / max(1, len(wanted))


@right("14.6", "OrderedDict")
def _(wanted, room):
    return lru(wanted, room)


@right("14.6", "a list, oldest in front")
def _(wanted, room):
    held, found = [], []
    for expert in wanted:
        hit = expert in held
        found.append(hit)
        if hit:
            held.remove(expert)
        held.append(expert)
        if len(held) > room:
            del held[0]
    return found


@right("14.6", "time of the last use")
def _(wanted, room):
    last, found = {}, []
    for time, expert in enumerate(wanted):
        found.append(expert in last)
        if expert not in last and len(last) == room:
            del last[min(last, key=last.get)]
        last[expert] = time
    return found


@right("14.6", "different experts since the last use")
def _(wanted, room):
    found = []
    for place, expert in enumerate(wanted):
        before = [other for other in range(place) if wanted[other] == expert]
        found.append(bool(before) and len(set(wanted[before[-1] + 1 : place])) < room)
    return found


@right("14.6", "a plain dict, put in again")
def _(wanted, room):
    held, found = {}, []
    for expert in wanted:
        found.append(held.pop(expert, False))
        if len(held) >= room:
            held.pop(next(iter(held)))
        held[expert] = True
    return found


@right("14.6", "NumPy, slots with a clock")
def _(wanted, room):
    slots, used, found = np.full(room, -1), np.full(room, -1), []
    for time, expert in enumerate(wanted):
        mine = np.flatnonzero(slots == expert)
        found.append(bool(len(mine)))
        place = mine[0] if len(mine) else used.argmin()
        slots[place], used[place] = expert, time
    return found


@right("14.6", "a deque")
def _(wanted, room):
    held, found = deque(maxlen=room), []
    for expert in wanted:
        try:
            held.remove(expert)
            found.append(True)
        except ValueError:
            found.append(False)
        held.append(expert)
    return found


# 14.7 predictions ----------------------------------------------------------------------------------------------------

LOOP = "94 layers in turn, room for 93: share of hits"
NEWEST = "the same, but the newest leaves: nearly all are hits"
DICE = "dice over 128 experts, room for 64: share of hits"
OLDEST = "oldest leaves: more room can mean fewer hits"
FIRST_IN = "first in, first out: more room can mean fewer hits"
SEEN = {LOOP: 0, NEWEST: True, DICE: 0.5, OLDEST: False, FIRST_IN: True}

CLIFF = ("thrown out", "left", "leaves", "before", "turn", "again", "next", "just")
wrong("14.7", "nearly all layers fit, so nearly all are hits", *CLIFF)(SEEN | {LOOP: 93 / 94})
wrong("14.7", "one in 94 is a hit", *CLIFF)(SEEN | {LOOP: 1 / 94})
wrong("14.7", "half of the loop are hits", *CLIFF)(SEEN | {LOOP: 0.5})
wrong("14.7", "the newest leaving is no better", "newest", "stay", "leaves", "loop", "others")(SEEN | {NEWEST: False})
wrong("14.7", "dice hit a quarter", "64", "128", "half", "share", "held", "room")(SEEN | {DICE: 0.25})
wrong("14.7", "dice in percent", "share", "between", "percent", "0 and 1", "100", "64", "held", "room")(
    SEEN | {DICE: 50}
)
wrong("14.7", "dice as a number of experts", "share", "between", "64", "128", "held", "room")(SEEN | {DICE: 64})
wrong("14.7", "dice never repeat", "64", "128", "half", "share", "held", "room")(SEEN | {DICE: 0.0})
wrong("14.7", "more room may hurt when the oldest leaves", "more room", "larger", "contains", "holds", "subset", "all")(
    SEEN | {OLDEST: True}
)
wrong("14.7", "more room never hurts", "first in", "more room", "order", "belady", "queue")(SEEN | {FIRST_IN: False})
wrong("14.7", "the two rules of the last questions exchanged", "more room", "first in", "oldest", "order", "holds")(
    SEEN | {OLDEST: True, FIRST_IN: False}
)
wrong("14.7", "cliff and newest both missed", *CLIFF, "newest", "stay")(SEEN | {LOOP: 0.99, NEWEST: False})
wrong("14.7", "everything by intuition", *CLIFF, "more room", "first in")(
    {LOOP: 0.99, NEWEST: False, DICE: 0.5, OLDEST: False, FIRST_IN: False}
)
wrong("14.7", "the number of hits of the newest, not whether", "true", "false", "share", "nearly", "yes")(
    SEEN | {NEWEST: 0.97}
)

right("14.7", "as it runs")(SEEN)
right("14.7", "ones and zeros")({LOOP: 0.0, NEWEST: 1, DICE: 0.5, OLDEST: 0, FIRST_IN: 1})
right("14.7", "values of NumPy")(
    {LOOP: np.int64(0), NEWEST: np.True_, DICE: np.float32(0.5), OLDEST: np.False_, FIRST_IN: np.bool_(True)}
)
right("14.7", "tensors")(
    {
        LOOP: torch.tensor(0),
        NEWEST: torch.tensor(True),
        DICE: torch.tensor(0.5),
        OLDEST: torch.tensor(False),
        FIRST_IN: torch.tensor(True),
    }
)
right("14.7", "Fractions, in another order")(dict(reversed((SEEN | {DICE: Fraction(64, 128)}).items())))
right("14.7", "the share that the cell measures, unrounded")(SEEN | {DICE: 0.49595})
