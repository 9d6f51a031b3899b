"""Chapter 09, generation: append to a cache (09.1), one query and a half-empty cache (09.2), copies of rows (09.9)."""

from collections.abc import Callable
from typing import Any

import torch
from einops import einsum, rearrange, repeat
from torch import Tensor

from minimoe.course.checker.exercise import Arguments, Case, Exercise, Stage
from minimoe.model.cache import KVCache

# 09.1 append ----------------------------------------------------------------------------------------------------------

Stored = tuple[Tensor, Tensor, Tensor, Tensor]
Append = Callable[[Tensor, Tensor, int, Tensor, Tensor], Any]


def append_by_loops(keys: Tensor, values: Tensor, length: int, k: Tensor, v: Tensor) -> Stored:
    """One position after another. Returns what the answer returns, and what then stands in the cache."""
    keys, values = keys.clone(), values.clone()
    for place in range(k.shape[2]):
        for row in range(k.shape[0]):
            for head in range(k.shape[1]):
                keys[row, head, length + place] = k[row, head, place]
                values[row, head, length + place] = v[row, head, place]
    stop = length + k.shape[2]
    return keys[:, :, :stop].clone(), values[:, :, :stop].clone(), keys, values


def with_its_cache(answer: Append) -> Callable[..., Any]:
    """The answer as a function that leaves its arguments alone and also returns the cache that it has written to."""

    def both(keys: Tensor, values: Tensor, length: int, k: Tensor, v: Tensor) -> Any:
        keys, values = keys.clone(), values.clone()
        returned = answer(keys, values, length, k.clone(), v.clone())
        if not isinstance(returned, (tuple, list)) or len(returned) != 2:
            return returned
        return tuple(part.clone() if isinstance(part, Tensor) else part for part in (*returned, keys, values))

    return both


def draw_cache(batch: int, head: int, capacity: int, head_dim: int, length: int, position: int) -> Arguments:
    """A cache whose free places hold old numbers, as `torch.empty` would leave them."""

    def arguments(generator: torch.Generator) -> tuple[Any, ...]:
        keys, values = torch.randn(2, batch, head, capacity, head_dim, generator=generator)
        k, v = torch.randn(2, batch, head, position, head_dim, generator=generator)
        return keys, values, length, k, v

    return arguments


def append_at(start: Callable[[int, int, int], int], upto: Callable[[int, int, int], int | None]) -> Append:
    """Write at `start`, return what is before `upto`; both of (length, position, capacity)."""

    def append(keys: Tensor, values: Tensor, length: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        size = (length, k.shape[2], keys.shape[2])
        place = start(*size)
        keys[:, :, place : place + k.shape[2]] = k
        values[:, :, place : place + k.shape[2]] = v
        return keys[:, :, : upto(*size)], values[:, :, : upto(*size)]

    return append


append_right = append_at(lambda length, new, capacity: length, lambda length, new, capacity: length + new)


def joined(keys: Tensor, values: Tensor, length: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the right thing and stores nothing."""
    return torch.cat((keys[:, :, :length], k), dim=2), torch.cat((values[:, :, :length], v), dim=2)


def only_the_new(keys: Tensor, values: Tensor, length: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    append_right(keys, values, length, k, v)
    return k, v


def values_of_keys(keys: Tensor, values: Tensor, length: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    return append_right(keys, values, length, k, k)


def crossed(keys: Tensor, values: Tensor, length: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    return append_right(keys, values, length, v, k)


def values_first(keys: Tensor, values: Tensor, length: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    return append_right(keys, values, length, k, v)[::-1]


def keys_alone(keys: Tensor, values: Tensor, length: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    append_right(keys, values.clone(), length, k, v)
    stop = length + k.shape[2]
    return keys[:, :, :stop], values[:, :, :stop]


def first_row_alone(keys: Tensor, values: Tensor, length: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    append_right(keys[:1], values[:1], length, k[:1], v[:1])
    stop = length + k.shape[2]
    return keys[:, :, :stop], values[:, :, :stop]


def last_of_the_new(keys: Tensor, values: Tensor, length: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    return append_right(keys, values, length, k[:, :, -1:], v[:, :, -1:])


def reversed_order(keys: Tensor, values: Tensor, length: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    return append_right(keys, values, length, k.flip(2), v.flip(2))


def added(keys: Tensor, values: Tensor, length: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    stop = length + k.shape[2]
    keys[:, :, length:stop] += k
    values[:, :, length:stop] += v
    return keys[:, :, :stop], values[:, :, :stop]


def one_too_late(keys: Tensor, values: Tensor, length: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """As far as there is room."""
    stop = length + k.shape[2]
    room = keys[:, :, length + 1 : stop + 1].shape[2]
    keys[:, :, length + 1 : stop + 1] = k[:, :, :room]
    values[:, :, length + 1 : stop + 1] = v[:, :, :room]
    return keys[:, :, :stop], values[:, :, :stop]


def by_copy(keys: Tensor, values: Tensor, length: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """narrow and copy_, and copies returned."""
    found = []
    for stored, new in ((keys, k), (values, v)):
        stored.narrow(2, length, new.shape[2]).copy_(new)
        found.append(stored.narrow(2, 0, length + new.shape[2]).clone())
    return found[0], found[1]


def by_index(keys: Tensor, values: Tensor, length: int, k: Tensor, v: Tensor) -> list[Tensor]:
    for place in range(k.shape[2]):
        keys[..., length + place, :] = k[..., place, :]
        values[..., length + place, :] = v[..., place, :]
    return [keys[..., : length + k.shape[2], :], values[..., : length + k.shape[2], :]]


# 09.2 one query, a half-empty cache -----------------------------------------------------------------------------------


def attend_one_by_loops(q: Tensor, keys: Tensor, values: Tensor, length: int) -> Tensor:
    """Head after head, key after key; softmax written out."""
    result = torch.zeros_like(q)
    for head in range(len(q)):
        scores = [float(q[head] @ keys[head, place]) * q.shape[-1] ** -0.5 for place in range(length)]
        powers = [torch.tensor(score - max(scores)).exp().item() for score in scores]
        for place, power in enumerate(powers):
            result[head] += power / sum(powers) * values[head, place]
    return result


def draw_query(head: int, capacity: int, head_dim: int, length: int, behind: float | None = None) -> Arguments:
    """Free places hold numbers that look like keys and values, or `behind`."""

    def arguments(generator: torch.Generator) -> tuple[Any, ...]:
        q = 2 * torch.randn(head, head_dim, generator=generator)
        stored = torch.randn(2, head, capacity, head_dim, generator=generator)
        if behind is not None:
            stored[:, :, length:] = behind
        return q, *stored, length

    return arguments


def attend_one(
    q: Tensor, keys: Tensor, values: Tensor, length: int, *, first: int = 0, stop: int | None = None,
    scale: float | None = None, hidden: float = -torch.inf, over: int = -1, late: bool = False, cut: bool = True,
) -> Tensor:  # fmt: skip
    """Attention of one query to the places first .. stop - 1, with one bug or another. cut: no values of the others."""
    scores = einsum(q, keys, "head head_dim, head key head_dim -> head key")
    scores = scores * (q.shape[-1] ** -0.5 if scale is None else scale)
    place = torch.arange(keys.shape[1])
    free = (place < first) | (place >= (length if stop is None else stop))
    weights = scores.softmax(over).masked_fill(free, 0) if late else scores.masked_fill(free, hidden).softmax(over)
    if cut and hidden == -torch.inf:
        values = values.masked_fill(rearrange(free, "key -> key 1"), 0)
    return einsum(weights, values, "head key, head key head_dim -> head head_dim")


def by_slicing(q: Tensor, keys: Tensor, values: Tensor, length: int) -> Tensor:
    scores = torch.einsum("hd,hkd->hk", q, keys[:, :length]) / q.shape[-1] ** 0.5
    return torch.einsum("hk,hkd->hd", torch.softmax(scores, dim=1), values[:, :length])


def by_torch(q: Tensor, keys: Tensor, values: Tensor, length: int) -> Tensor:
    attend = torch.nn.functional.scaled_dot_product_attention
    return attend(q[:, None], keys[:, :length], values[:, :length])[:, 0]


# 09.9 einops: copies of rows ------------------------------------------------------------------------------------------


def given_copies(keys: Tensor, copies: int) -> Tensor:
    """The code on the page, which is right."""
    batch, head, position, head_dim = keys.shape
    spread = keys[:, None].expand(batch, copies, head, position, head_dim)
    return spread.reshape(batch * copies, head, position, head_dim)


def copies_by_loops(keys: Tensor, copies: int) -> Tensor:
    return torch.stack([row for row in keys for _ in range(copies)])


def draw_rows(batch: int, head: int, position: int, head_dim: int, copies: int) -> Arguments:
    def arguments(generator: torch.Generator) -> tuple[Any, ...]:
        return torch.randn(batch, head, position, head_dim, generator=generator), copies

    return arguments


EXERCISES = (
    Exercise(
        id="09.1",
        title="Append to the cache",
        kind="fill in",
        minutes=8,
        difficulty=2,
        hints=(
            "Where is the first free place? And where is the first place that is free afterwards?",
            "k and v have `position` new places on axis 2. They go to length .. length + position - 1 of keys and "
            "values, and what is returned ends there, too.",
            "stop = length + k.shape[2]; keys[:, :, length:stop] = k; the same with v; return keys[:, :, :stop] and "
            "values[:, :, :stop].",
        ),
        now_you_know="a cache is a rectangle with a length, and appending is one assignment for keys and one for "
        "values.",
        oracle=append_by_loops,
        prepare=with_its_cache,
        parts={
            "the returned keys": lambda result: result[0],
            "the returned values": lambda result: result[1],
            "the keys in the cache": lambda result: result[2],
            "the values in the cache": lambda result: result[3],
        },
        teaches=KVCache.append,
        cases=(
            Case("one new token after two", draw_cache(1, 1, 4, 2, length=2, position=1)),
            Case("an empty cache, a prompt of three", draw_cache(1, 2, 5, 4, length=0, position=3)),
            Case("a chunk of two after three, a batch of two", draw_cache(2, 3, 8, 4, length=3, position=2)),
            Case("the cache is full afterwards", draw_cache(1, 2, 6, 3, length=4, position=2)),
        ),
        mutants={
            "stores nothing": (
                joined,
                "what is returned is right, but nothing is stored. The next token will not find it: write into keys "
                "and values.",
            ),
            "only the new": (
                only_the_new,
                "it is stored, but only the new ones are returned. The query attends to all so far.",
            ),
            "the whole capacity": (
                append_at(lambda length, new, capacity: length, lambda length, new, capacity: None),
                "the whole rectangle is returned, with the free places, which hold old numbers. Return what is filled.",
            ),
            "without the new": (
                append_at(lambda length, new, capacity: length, lambda length, new, capacity: length),
                "what is returned ends before the new ones. A token attends to itself, too.",
            ),
            "one place too early": (
                append_at(lambda length, new, capacity: max(0, length - 1), lambda length, new, capacity: length + new),
                "the new ones overwrite the last of the old. The first free place is number length.",
            ),
            "at the front": (
                append_at(lambda length, new, capacity: 0, lambda length, new, capacity: length + new),
                "the new ones are written to place 0, over the beginning of the text.",
            ),
            "at the end": (
                append_at(lambda length, new, capacity: capacity - new, lambda length, new, capacity: length + new),
                "the new ones are written to the end of the rectangle. They belong behind the filled part.",
            ),
            "behind the whole rectangle": (
                lambda keys, values, length, k, v: (torch.cat((keys, k), dim=2), torch.cat((values, v), dim=2)),
                "the new ones are put behind the whole rectangle, free places included, and nothing is stored. Write "
                "them into the first free places.",
            ),
            "one place returned": (
                append_at(lambda length, new, capacity: length, lambda length, new, capacity: length + 1),
                "what is returned ends after one new token. A chunk has several.",
            ),
            "keys as values": (values_of_keys, "k is stored twice, and v never."),
            "crossed": (crossed, "v is stored with the keys and k with the values."),
            "values first": (values_first, "keys and values are returned in the wrong order."),
            "keys alone": (keys_alone, "the keys are stored, the values aren't."),
            "one row": (first_row_alone, "only the first row of the batch is written."),
            "the last of the chunk": (
                last_of_the_new,
                "of a chunk, only the last token is stored, in the place of all. Each has a place of its own.",
            ),
            "added": (
                added,
                "the new ones are added to the old numbers in the free places. Assign them: = in place of +=.",
            ),
            "one place too late": (one_too_late, "one place stays free in front of the new ones. Begin at length."),
            "reversed": (reversed_order, "the new ones are stored in reversed order."),
        },
        accepted={"slices": append_right, "narrow and copies": by_copy, "place by place, a list": by_index},
    ),
    Exercise(
        id="09.2",
        title="One query, a half-empty cache",
        kind="fill in",
        minutes=10,
        difficulty=2,
        hints=(
            "Which of the places of the cache may the query see? Is the newest token among them?",
            "scores (head, key) for all places or for the first `length` of them; softmax over the keys that are "
            "filled; then a mixture of their values.",
            'scores = einsum(q, keys[:, :length], "head head_dim, head key head_dim -> head key") * head_dim**-0.5; '
            "softmax over the last axis; einsum with values[:, :length].",
        ),
        now_you_know="one query needs no causal triangle: it sees everything that is filled, itself included.",
        oracle=attend_one_by_loops,
        cases=(
            Case(
                "one head; the second of two filled places",
                (
                    torch.tensor([[1.0, 0.0, 0.0, 0.0]]),
                    torch.tensor([[[0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0], [9.0, 0.0, 0.0, 0.0]]]),
                    torch.tensor([[[2.0, 0.0, 0.0, 0.0], [0.0, 4.0, 0.0, 0.0], [7.0, 7.0, 7.0, 7.0]]]),
                    2,
                ),
                torch.tensor([[1.0, 2.0, 0.0, 0.0]]),
            ),
            Case("three heads, five of nine places", draw_query(3, 9, 4, 5)),
            Case("a full cache", draw_query(2, 6, 8, 6)),
            Case("only the token itself", draw_query(4, 5, 3, 1)),
            Case("the memory behind holds nan", draw_query(2, 7, 4, 3, behind=torch.nan)),
        ),
        mutants={
            "everything": (
                lambda q, keys, values, length: attend_one(q, keys, values, length, stop=keys.shape[1]),
                "the free places are attended to as well. They hold old numbers: stop at length.",
            ),
            "without itself": (
                lambda q, keys, values, length: by_slicing(q, keys, values, length - 1),
                "the newest key is left out. A token attends to itself.",
            ),
            "without itself, at least one": (
                lambda q, keys, values, length: by_slicing(q, keys, values, max(length - 1, 1)),
                "the newest key is left out. A token attends to itself.",
            ),
            "nan behind": (
                lambda q, keys, values, length: attend_one(q, keys, values, length, cut=False),
                "free places have a weight of 0, but their values are still multiplied by it, and 0 times nan is nan. "
                "Free memory may hold nan: take values[:, :length].",
            ),
            "one too many": (
                lambda q, keys, values, length: attend_one(q, keys, values, length, stop=length + 1),
                "one free place is attended to: the filled places are 0 to length - 1.",
            ),
            "a triangle from the first key": (
                lambda q, keys, values, length: attend_one(q, keys, values, length, stop=1),
                "the query sees the first key only, as in the first row of a causal triangle. It is the *last* token.",
            ),
            "the same over all values": (
                lambda q, keys, values, length: attend_one(q, keys, values, length, stop=1, cut=False),
                "the query sees the first key only, as in the first row of a causal triangle. It is the *last* token.",
            ),
            "only itself": (
                lambda q, keys, values, length: attend_one(q, keys, values, length, first=length - 1),
                "the query sees its own key only. The cache is there to see the earlier ones.",
            ),
            "hidden as zero": (
                lambda q, keys, values, length: attend_one(q, keys, values, length, hidden=0.0),
                "scores of free places are set to 0, and the softmax gives 0 a weight. Set them to -inf, or leave "
                "them out.",
            ),
            "mask after the softmax": (
                lambda q, keys, values, length: attend_one(q, keys, values, length, late=True),
                "the free places are taken out after the softmax, so the weights of the others do not sum to 1.",
            ),
            "no scale": (
                lambda q, keys, values, length: attend_one(q, keys, values, length, scale=1.0),
                "the scores are not scaled. Multiply them by head_dim**-0.5.",
            ),
            "head_dim without a root": (
                lambda q, keys, values, length: attend_one(q, keys, values, length, scale=1 / q.shape[-1]),
                "the scores are divided by head_dim, not by its root.",
            ),
            "the root of the length": (
                lambda q, keys, values, length: attend_one(q, keys, values, length, scale=length**-0.5),
                "the scores are divided by the root of the number of keys. A score sums head_dim products.",
            ),
            "softmax over the heads": (
                lambda q, keys, values, length: attend_one(q, keys, values, length, over=0, late=True),
                "the softmax runs over the heads. Each head has weights of its own over the keys: the last axis.",
            ),
            "the mean": (
                lambda q, keys, values, length: values[:, :length].mean(dim=1),
                "this is the plain mean of the values. The query decides how much each counts.",
            ),
            "no softmax": (
                lambda q, keys, values, length: torch.einsum(
                    "hk,hkd->hd",
                    torch.einsum("hd,hkd->hk", q, keys[:, :length]) * q.shape[-1] ** -0.5,
                    values[:, :length],
                ),
                "the scores are used as weights without a softmax.",
            ),
            "multiplied by the root": (
                lambda q, keys, values, length: attend_one(q, keys, values, length, scale=q.shape[-1] ** 0.5),
                "the scores are multiplied by the root of head_dim, not divided.",
            ),
            "the best key only": (
                lambda q, keys, values, length: attend_one(q, keys, values, length, scale=1e6),
                "only the value of the best key is taken. Attention mixes the values of all of them.",
            ),
            "the last places": (
                lambda q, keys, values, length: by_slicing(q, keys[:, -length:], values[:, -length:], length),
                "the *last* places of the rectangle are attended to. It is filled from the front.",
            ),
            "keys mixed": (
                lambda q, keys, values, length: attend_one(q, keys, keys, length),
                "the *keys* are mixed. The weights belong to the values.",
            ),
        },
        accepted={"a mask of both": attend_one, "slices, torch's einsum": by_slicing, "the fused kernel": by_torch},
        stages=(
            Stage(
                "",
                lambda q, keys, values, length: rearrange(by_slicing(q, keys, values, length), "head dim -> dim head"),
                "has its two axes swapped",
            ),
        ),
    ),
    Exercise(
        id="09.9",
        title="Ten worlds: copies of rows",
        kind="einops",
        minutes=6,
        difficulty=2,
        hints=(
            "Which axis is new, and where does it end up? Are the copies of one text neighbours?",
            "batch head position head_dim -> (batch copy) head position head_dim. What does the order inside the "
            "parentheses say?",
            'repeat(keys, "batch head position head_dim -> (batch copy) head position head_dim", copy=copies).',
        ),
        now_you_know="in (batch copy) the last name runs fastest: all copies of the first text, then of the second.",
        oracle=copies_by_loops,
        given=given_copies,
        cases=(
            Case(
                "two texts, two copies",
                (torch.tensor([[[[1.0]]], [[[2.0]]]]), 2),
                torch.tensor([[[[1.0]]], [[[1.0]]], [[[2.0]]], [[[2.0]]]]),
            ),
            Case("one text, three copies", draw_rows(1, 2, 4, 5, 3)),
            Case("three texts, four copies", draw_rows(3, 2, 5, 6, 4)),
            Case("a single copy", draw_rows(3, 1, 2, 4, 1)),
        ),
        mutants={
            "text after text": (
                lambda keys, copies: repeat(
                    keys, "batch head position dim -> (copy batch) head position dim", copy=copies
                ),
                "the whole batch is copied again and again: 0 1 0 1. The copies of one text should be neighbours: "
                "0 0 1 1.",
            ),
            "copied heads": (
                lambda keys, copies: repeat(
                    keys, "batch head position dim -> batch (head copy) position dim", copy=copies
                ),
                "the heads are copied, inside each text. A new world is a new row of the batch.",
            ),
            "copied positions": (
                lambda keys, copies: repeat(
                    keys, "batch head position dim -> batch head (position copy) dim", copy=copies
                ),
                "each position is copied, so the texts get longer. A new world is a new row of the batch.",
            ),
            "an axis of its own": (
                lambda keys, copies: repeat(
                    keys, "batch head position dim -> batch copy head position dim", copy=copies
                ),
                "the copies have an axis of their own. A batch has one axis for all rows: (batch copy).",
            ),
            "one copy more": (
                lambda keys, copies: keys.repeat_interleave(copies + 1, dim=0),
                "there is one copy too many: copies is the number of rows that each text gets in the end.",
            ),
            "not copied": (lambda keys, copies: keys.clone(), "the rows are as they were: copies isn't used."),
            "the first text only": (
                lambda keys, copies: keys[:1].repeat_interleave(len(keys) * copies, dim=0),
                "all rows are copies of the first text.",
            ),
            "heads and positions swapped": (
                lambda keys, copies: repeat(
                    keys, "batch head position dim -> (batch copy) position head dim", copy=copies
                ),
                "head and position are swapped.",
            ),
        },
        accepted={
            "repeat": lambda keys, copies: repeat(
                keys, "batch head position dim -> (batch copy) head position dim", copy=copies
            ),
            "repeat_interleave": lambda keys, copies: keys.repeat_interleave(copies, dim=0),
            "stack and rearrange": lambda keys, copies: rearrange(
                [keys] * copies, "copy batch head position dim -> (batch copy) head position dim"
            ),
        },
    ),
)
