"""Chapter 14, the whole 235B: bounded reads (14.3), an LRU cache of experts (14.6) and its misses (14.7)."""

from collections import Counter, OrderedDict, deque
from collections.abc import Callable
from itertools import product
from typing import Any, NamedTuple

import torch
from torch import Tensor

from minimoe.checkpoint.safetensors.header import TensorEntry
from minimoe.checkpoint.safetensors.pread import PositionedFile
from minimoe.course.checker.exercise import Arguments, Case, Exercise
from minimoe.errors import ReadFailed
from minimoe.scale.streaming.expert_cache import ExpertCache

# 14.3 rows of one tensor, in bounded reads ---------------------------------------------------------------------------


class Recording:
    """A file in memory that keeps account of what is read from it, and ends where it ends."""

    def __init__(self, content: bytes):
        self.content = content
        self.size = len(content)
        self.bytes_read = self.largest = 0

    def read_into(self, destination: memoryview, offset: int) -> None:
        count = len(destination)
        if offset < 0 or offset + count > self.size:
            raise ReadFailed(f"the file ends at {self.size:,}, but bytes up to {offset + count:,} were asked for.")
        destination[:] = self.content[offset : offset + count]
        self.bytes_read += count
        self.largest = max(self.largest, count)

    def read(self, offset: int, count: int) -> bytes:
        buffer = bytearray(count)
        self.read_into(memoryview(buffer), offset)
        return bytes(buffer)


class RowsRead(NamedTuple):
    """What came of one call: the rows, how many bytes were read, and whether every single read kept to the bound."""

    rows: Any
    bytes_read: int
    no_read_above_most: bool


HEADER, TAIL = 56, 4096  # bytes before and after the tensor, which belong to other tensors


def as_reader(answer: Callable[..., Any]) -> Callable[..., RowsRead]:
    """The reader's function on a file that keeps account."""

    def read(rows: int, columns: int, start: int, stop: int, most: int) -> RowsRead:
        size = 2 * rows * columns
        generator = torch.Generator().manual_seed(rows * columns)
        values = torch.randint(1, 120, (HEADER + size + TAIL,), dtype=torch.uint8, generator=generator)
        file = Recording(bytes(values.tolist()))
        entry = TensorEntry("model.layers.0.self_attn.q_proj.weight", "BF16", (rows, columns), HEADER, size)
        found = answer(file, entry, start, stop, most)
        return RowsRead(found, file.bytes_read, file.largest <= most)

    return read


def as_bytes(rows: Tensor) -> memoryview:
    """The memory of a tensor as plain bytes."""
    return memoryview(rows.view(torch.uint8).numpy().data).cast("B")


def in_pieces(file: Any, entry: TensorEntry, start: int, stop: int, most: int) -> Tensor:
    """Right: straight into the result, at most `most` bytes at a time."""
    return with_mistakes()(file, entry, start, stop, most)


def with_mistakes(
    base: bool = True, width: int = 2, drop_last: bool = False, step: str = "most"
) -> Callable[[Any, TensorEntry, int, int, int], Tensor]:
    """`with_mistakes()` has none."""

    def read(file: Any, entry: TensorEntry, start: int, stop: int, most: int) -> Tensor:
        rows = torch.zeros(stop - start, entry.shape[1], dtype=torch.bfloat16)
        memory = as_bytes(rows)
        offset = (entry.start if base else 0) + start * entry.shape[1] * width
        piece = {"most": most, "all": len(memory), "row": 2 * entry.shape[1]}[step]
        for begin in range(0, len(memory) - (piece - 1 if drop_last else 0), piece):
            file.read_into(memory[begin : begin + piece], offset + begin)
        return rows

    return read


def whole_then_sliced(file: Any, entry: TensorEntry, start: int, stop: int, most: int) -> Tensor:
    return in_pieces(file, entry, 0, entry.shape[0], most)[start:stop].clone()


def full_pieces(file: Any, entry: TensorEntry, start: int, stop: int, most: int) -> Tensor:
    """Every read is `most` bytes, also the last; what is too much is thrown away."""
    wanted, buffer = 2 * (stop - start) * entry.shape[1], bytearray()
    for begin in range(0, wanted, most):
        buffer += file.read(entry.start + 2 * start * entry.shape[1] + begin, most)
    return torch.frombuffer(buffer[:wanted], dtype=torch.bfloat16).reshape(stop - start, -1)


def with_the_last_row(file: Any, entry: TensorEntry, start: int, stop: int, most: int) -> Tensor:
    return in_pieces(file, entry, start, min(stop + 1, entry.shape[0]), most)


def joined(file: Any, entry: TensorEntry, start: int, stop: int, most: int) -> Tensor:
    """Pieces of bytes, put together at the end."""
    begin, end = (entry.start + 2 * row * entry.shape[1] for row in (start, stop))
    pieces = [file.read(at, min(most, end - at)) for at in range(begin, end, most)]
    return torch.frombuffer(bytearray().join(pieces), dtype=torch.bfloat16).reshape(-1, entry.shape[1])


def through_scratch(file: Any, entry: TensorEntry, start: int, stop: int, most: int) -> Tensor:
    """One small buffer that is used again and again."""
    rows, scratch = torch.empty(stop - start, entry.shape[1], dtype=torch.bfloat16), memoryview(bytearray(most))
    memory, done = as_bytes(rows), 0
    while done < len(memory):
        part = scratch[: min(most, len(memory) - done)]
        file.read_into(part, entry.start + 2 * start * entry.shape[1] + done)
        memory[done : done + len(part)] = part
        done += len(part)
    return rows


# 14.6 a least-recently-used cache -------------------------------------------------------------------------------------


def hits_by_lists(wanted: list[int], room: int) -> list[bool]:
    """Slow: a list in the order of use, the oldest in front."""
    held: list[int] = []
    hits = []
    for expert in wanted:
        hits.append(expert in held)
        held = [other for other in held if other != expert] + [expert]
        held = held[-room:]
    return hits


def any_requests(experts: int, length: int, room: int) -> Arguments:
    """Requests with favourites: low numbers come more often."""

    def arguments(generator: torch.Generator) -> tuple[list[int], int]:
        draws = torch.randint(experts, (2, length), generator=generator).amin(dim=0)
        return draws.tolist(), room

    return arguments


def by_dictionary(wanted: list[int], room: int) -> list[bool]:
    held: OrderedDict[int, None] = OrderedDict()
    hits = []
    for expert in wanted:
        hits.append(expert in held)
        held[expert] = None
        held.move_to_end(expert)
        if len(held) > room:
            held.popitem(last=False)
    return hits


def by_clock(wanted: list[int], room: int) -> list[bool]:
    """When was each used last?"""
    last: dict[int, int] = {}
    hits = []
    for now, expert in enumerate(wanted):
        hits.append(expert in last)
        last[expert] = now
        if len(last) > room:
            del last[min(last, key=lambda each: last[each])]
    return hits


def first_in_first_out(wanted: list[int], room: int) -> list[bool]:
    held: deque[int] = deque(maxlen=room)
    hits = []
    for expert in wanted:
        hits.append(expert in held)
        if not hits[-1]:
            held.append(expert)
    return hits


def newest_leaves(wanted: list[int], room: int) -> list[bool]:
    held: list[int] = []
    hits = []
    for expert in wanted:
        hits.append(expert in held)
        held = [other for other in held if other != expert]
        held = [*(held[:-1] if len(held) == room else held), expert]
    return hits


def rarest_leaves(wanted: list[int], room: int) -> list[bool]:
    held: list[int] = []
    used: Counter[int] = Counter()
    hits = []
    for expert in wanted:
        hits.append(expert in held)
        used[expert] += 1
        if not hits[-1]:
            if len(held) == room:
                held.remove(min(held, key=lambda each: used[each]))
            held.append(expert)
    return hits


def all_leave(wanted: list[int], room: int) -> list[bool]:
    held: set[int] = set()
    hits = []
    for expert in wanted:
        hits.append(expert in held)
        if not hits[-1] and len(held) == room:
            held.clear()
        held.add(expert)
    return hits


def asked_too_late(wanted: list[int], room: int) -> list[bool]:
    """Whether it is held after it has come in."""
    return [True for _ in wanted]


def last_requests(wanted: list[int], room: int) -> list[bool]:
    """The last `room` requests are held, an expert twice if it was wanted twice."""
    return [expert in wanted[max(0, place - room) : place] for place, expert in enumerate(wanted)]


def leaves_at_a_hit(wanted: list[int], room: int) -> list[bool]:
    """When it is full, one leaves before every request, even if that finds its expert."""
    held: list[int] = []
    hits = []
    for expert in wanted:
        hits.append(expert in held)
        if len(held) == room:
            held.pop(0)
        held = [other for other in held if other != expert] + [expert]
    return hits


def lowest_leaves(wanted: list[int], room: int) -> list[bool]:
    held: set[int] = set()
    hits = []
    for expert in wanted:
        hits.append(expert in held)
        if not hits[-1] and len(held) == room:
            held.remove(min(held))
        held.add(expert)
    return hits


def never_full(wanted: list[int], room: int) -> list[bool]:
    return [expert in wanted[:place] for place, expert in enumerate(wanted)]


def first_ones_stay(wanted: list[int], room: int) -> list[bool]:
    held: list[int] = []
    hits = []
    for expert in wanted:
        hits.append(expert in held)
        if not hits[-1] and len(held) < room:
            held.append(expert)
    return hits


# 14.7 predict: cache misses -------------------------------------------------------------------------------------------

# question -> (the correct prediction, the common wrong answer, the misconception behind it)
MISSES: dict[str, tuple[Any, Any, str]] = {
    "94 layers in turn, room for 93: share of hits": (
        0.0,
        0.99,
        "the oldest one leaves, and in a loop the oldest is exactly the one that is wanted next. It has just left.",
    ),
    "the same, but the newest leaves: nearly all are hits": (
        True,
        False,
        "if the newest leaves, the others stay, and in a loop nearly all of them are wanted again.",
    ),
    "dice over 128 experts, room for 64: share of hits": (
        0.5,
        0.25,
        "half of the experts are there, and dice ask for each alike: half of the requests find theirs.",
    ),
    "oldest leaves: more room can mean fewer hits": (
        False,
        True,
        "with more room the cache holds everything that the smaller one holds, and more. What hit before still hits.",
    ),
    "first in, first out: more room can mean fewer hits": (
        True,
        False,
        "a queue of another length throws out other experts, so the larger one may lack what the smaller one has "
        "(Belady 1969).",
    ),
}
REASONS = {
    "94 layers in turn, room for 93: share of hits": "After 93 requests the cache is full. Which layer leaves when the "
    "94th comes, and which one is wanted next?",
    "the same, but the newest leaves: nearly all are hits": "Play it with three layers and room for two. Which of the "
    "first two stays for good?",
    "dice over 128 experts, room for 64: share of hits": "Which share of the experts is there, and does a throw prefer "
    "any of them?",
    "oldest leaves: more room can mean fewer hits": "Compare what is held at one moment with room for 3 and for 4. Is "
    "one always part of the other?",
    "first in, first out: more room can mean fewer hits": "A hit doesn't change the order of this queue. So do the "
    "queues of two sizes stay in step?",
}
WAYS_TO_MISS = [way for way in product((False, True), repeat=len(MISSES)) if any(way)]


def predictions(wrong: tuple[bool, ...]) -> dict[str, Any]:
    """The right predictions, except for those questions where `wrong` is True."""
    return {question: answer[missed] for (question, answer), missed in zip(MISSES.items(), wrong, strict=True)}


def misread(wrong: tuple[bool, ...]) -> str:
    """The misconceptions behind wrong answers to these questions, one sentence each."""
    told = [
        f"{question}: {answer[2]}" for (question, answer), missed in zip(MISSES.items(), wrong, strict=True) if missed
    ]
    return "\n  ".join(told)


EXERCISES = (
    Exercise(
        id="14.3",
        title="The bounded reader",
        kind="fill in",
        minutes=15,
        difficulty=3,
        hints=(
            "In the file the rows of a matrix lie one behind the other. So the wanted rows are one run of bytes: where "
            "does it begin, and how long is it?",
            "A row takes 2 · columns bytes. The run begins at entry.start + start · (2 · columns) and has "
            "(stop - start) · 2 · columns bytes. Make the result first; `memory` is its bytes.",
            "for begin in range(0, len(memory), most): file.read_into(memory[begin : begin + most], offset + begin). "
            "The last slice is shorter by itself.",
        ),
        now_you_know="the 235B is loaded like this: straight into place, in pieces of any size that you can afford.",
        teaches=PositionedFile.read_into,
        prepare=as_reader,
        oracle=as_reader(in_pieces),
        parts={
            "the rows": lambda result: result.rows,
            "the number of bytes read": lambda result: result.bytes_read,
            "the size of single reads": lambda result: result.no_read_above_most,
        },
        cases=(
            Case("2 rows of 3, read whole, with room for all", (2, 3, 0, 2, 100)),
            Case("row 1 of 4", (4, 3, 1, 2, 100)),
            Case("5 rows in pieces of 16 bytes: the last piece is shorter", (7, 5, 1, 6, 16)),
            Case("a row is larger than a piece", (6, 40, 2, 5, 32)),
            Case("many rows, up to the last", (64, 24, 40, 64, 128)),
        ),
        mutants={
            "all, then a slice": (
                whole_then_sliced,
                "the whole tensor is read and then sliced. For one of eight ranks that is eight times too much.",
            ),
            "in one go": (
                with_mistakes(step="all"),
                "a single read is larger than `most` bytes: all rows at once, or pieces counted in values.",
            ),
            "a row at a time": (
                with_mistakes(step="row"),
                "a row is read at a time. A row may be larger than `most`, or so small that reads become too many.",
            ),
            "without the header": (
                with_mistakes(base=False),
                "the tensor is read from the beginning of the file. entry.start says where it lies.",
            ),
            "values for bytes": (
                with_mistakes(width=1),
                "the place of the first row is counted in values. A bfloat16 takes two bytes.",
            ),
            "the last piece": (
                with_mistakes(drop_last=True),
                "the last piece is left out where it is not a full one.",
            ),
            "full pieces": (
                full_pieces,
                "the last read is as long as the others, so it also takes bytes of another tensor.",
            ),
            "one row more": (with_the_last_row, "stop itself is read too. Ranges are half open: stop is not in it."),
        },
        accepted={"pieces, joined": joined, "a buffer used again": through_scratch},
    ),
    Exercise(
        id="14.6",
        title="The cache of experts",
        kind="fill in",
        minutes=12,
        difficulty=2,
        hints=(
            "Two things happen at a hit: it is counted, and the expert becomes the one used last.",
            "wanted: a list of expert numbers -> a list of the same length, True where the expert was there already. "
            "An OrderedDict keeps an order; move_to_end changes it.",
            "For each expert: note whether it is held; put it at the end, even if it was there; if there are more than "
            "`room` now, the one in front leaves: popitem(last=False).",
        ),
        now_you_know="a budget in bytes and the order of use are all that a laptop needs to stream the 235B.",
        teaches=ExpertCache,
        oracle=hits_by_lists,
        cases=(
            Case("room for two, by hand", ([1, 2, 1, 3, 1, 2], 2), [False, False, True, False, True, False]),
            Case("room for one", ([4, 4, 5, 4], 1), [False, True, False, False]),
            Case("twelve experts, room for four", any_requests(12, 60, 4)),
            Case("many requests, room for twenty of 64", any_requests(64, 400, 20)),
            Case("room for all", any_requests(9, 40, 9)),
        ),
        mutants={
            "first in, first out": (
                first_in_first_out,
                "the one that came first leaves, even if it was used a moment ago. A hit must count as a use.",
            ),
            "the newest leaves": (
                newest_leaves,
                "the newest leaves, the one used last. It should be the one whose last use is longest ago.",
            ),
            "the rarest leaves": (
                rarest_leaves,
                "the one that was used least often leaves. Asked for is the one whose last use is longest ago.",
            ),
            "never full": (never_full, "nothing ever leaves: that is a cache without a budget."),
            "the first ones stay": (first_ones_stay, "when it is full, nothing new comes in. Make room instead."),
            "all leave": (
                all_leave,
                "when it is full, all experts leave at once. Only the one whose last use is longest ago should leave.",
            ),
            "asked too late": (
                asked_too_late,
                "everything is a hit. Ask whether the expert is held before it is put in: after that it always is.",
            ),
            "the last requests": (
                last_requests,
                "the last `room` requests are held, repeats included, so an expert wanted twice takes two places. Hold "
                "`room` different experts: at a hit, move the one that is there.",
            ),
            "one leaves at a hit": (
                leaves_at_a_hit,
                "one leaves at every request once it is full, even at a hit. Only a miss needs room.",
            ),
            "the lowest number leaves": (
                lowest_leaves,
                "the expert with the lowest number leaves. It should be the one whose last use is longest ago.",
            ),
            "one less": (
                lambda wanted, room: hits_by_lists(wanted, max(1, room - 1)),
                "it holds one less than there is room for. One should leave only when there would be more than `room`.",
            ),
            "one more": (
                lambda wanted, room: hits_by_lists(wanted, room + 1),
                "it holds one more than there is room for. Compare the number held, with the new one, to `room`.",
            ),
            "misses for hits": (
                lambda wanted, room: [not hit for hit in hits_by_lists(wanted, room)],
                "misses and hits have changed places: True is a hit.",
            ),
        },
        accepted={"OrderedDict": by_dictionary, "by the time of use": by_clock},
    ),
    Exercise(
        id="14.7",
        title="Who misses?",
        kind="predict",
        minutes=10,
        difficulty=3,
        hints=(
            "Take three layers and room for two, and play it through with a pencil.",
            "0 1 2 0 1 2 ...: after 0 and 1 the cache is full. When 2 comes, the oldest leaves. Which one is that, and "
            "which is wanted next?",
            "In the loop, the oldest is always the next one wanted; the newest is wanted last of all. Dice: the share "
            "of experts that are there. For the last two, ask whether the smaller cache's content is always part of "
            "the larger one's: with 'oldest leaves' it is.",
        ),
        now_you_know="how good a cache is depends on the order of requests; in a loop the usual rule is the worst.",
        reasons=REASONS,
        expected={question: answer[0] for question, answer in MISSES.items()},
        mutants={
            ", ".join(question for question, missed in zip(MISSES, way, strict=True) if missed): (
                predictions(way),
                misread(way),
            )
            for way in WAYS_TO_MISS
        },
        accepted={
            "in another order": dict(reversed([(question, answer[0]) for question, answer in MISSES.items()])),
            "whole numbers": {q: int(a[0]) if a[0] == 0.0 and a[0] is not False else a[0] for q, a in MISSES.items()},
        },
    ),
)
