"""Chapter 03, RoPE: positions of new tokens when earlier keys are cached (03.4)."""

import math
from collections.abc import Callable

import torch
from einops import einsum, rearrange, repeat
from torch import Tensor

from minimoe.course.checker.exercise import Arguments, Case, Exercise, Stage
from minimoe.course.exercises.ch03_frequencies import frequencies_by_loop

# 03.4 off-by-one positions with a cache -------------------------------------------------------------------------------

Step = tuple[Tensor, Tensor]


def turn(x: Tensor, positions: Tensor, frequencies: Tensor) -> Tensor:
    """x (position, head_dim), each row turned to its own position. Works in float64, returns x's dtype."""
    first, second = rearrange(x.double(), "position (pair half) -> pair position half", pair=2)
    angles = torch.outer(positions.double(), frequencies.double())
    turned = torch.complex(first, second) * torch.polar(torch.ones_like(angles), angles)
    return torch.cat((turned.real, turned.imag), dim=-1).to(x.dtype)


def meet(q: Tensor, keys: Tensor) -> Step:
    return einsum(q, keys, "query head_dim, key head_dim -> query key"), keys


def step_by_loops(q: Tensor, k: Tensor, cached: Tensor, frequencies: Tensor) -> Step:
    """One pair of numbers after another; a new token stands behind all that are cached."""
    old, half = len(cached), len(frequencies)

    def turned(row: Tensor, position: int) -> Tensor:
        a, b, found = row[:half].tolist(), row[half:].tolist(), row.clone()
        for pair, frequency in enumerate(frequencies.double().tolist()):
            angle = position * frequency
            found[pair] = a[pair] * math.cos(angle) - b[pair] * math.sin(angle)
            found[pair + half] = a[pair] * math.sin(angle) + b[pair] * math.cos(angle)
        return found

    keys = torch.stack([*cached, *(turned(row, old + place) for place, row in enumerate(k))])
    queries = [turned(row, old + place) for place, row in enumerate(q)]
    return torch.stack([torch.stack([query @ key for key in keys]) for query in queries]), keys


def step_at(q: Tensor, k: Tensor, cached: Tensor, frequencies: Tensor, start: int) -> Step:
    positions = torch.arange(start, start + len(q))
    return meet(turn(q, positions, frequencies), torch.cat((cached, turn(k, positions, frequencies))))


def one_back(q: Tensor, k: Tensor, cached: Tensor, frequencies: Tensor) -> Step:
    return step_at(q, k, cached, frequencies, max(len(cached) - 1, 0))


def from_zero(q: Tensor, k: Tensor, cached: Tensor, frequencies: Tensor) -> Step:
    return step_at(q, k, cached, frequencies, 0)


def one_ahead(q: Tensor, k: Tensor, cached: Tensor, frequencies: Tensor) -> Step:
    return step_at(q, k, cached, frequencies, len(cached) + 1)


def one_back_always(q: Tensor, k: Tensor, cached: Tensor, frequencies: Tensor) -> Step:
    """The bug without its `max`: at the prompt, too, everything is one position early."""
    return step_at(q, k, cached, frequencies, len(cached) - 1)


def one_ahead_of_a_cache(q: Tensor, k: Tensor, cached: Tensor, frequencies: Tensor) -> Step:
    return step_at(q, k, cached, frequencies, len(cached) + 1 if len(cached) else 0)


def behind_five(q: Tensor, k: Tensor, cached: Tensor, frequencies: Tensor) -> Step:
    """The length of the page's prompt."""
    return step_at(q, k, cached, frequencies, 5 if len(cached) else 0)


def from_the_last_place(q: Tensor, k: Tensor, cached: Tensor, frequencies: Tensor) -> Step:
    return step_at(q, k, cached, frequencies, len(cached) + len(q) - 1)


def behind_all(q: Tensor, k: Tensor, cached: Tensor, frequencies: Tensor) -> Step:
    return step_at(q, k, cached, frequencies, len(cached) + len(q))


def as_many_as_are_new(q: Tensor, k: Tensor, cached: Tensor, frequencies: Tensor) -> Step:
    return step_at(q, k, cached, frequencies, len(q))


def from_head_dim(q: Tensor, k: Tensor, cached: Tensor, frequencies: Tensor) -> Step:
    return step_at(q, k, cached, frequencies, cached.shape[-1])


def from_head_dim_with_a_cache(q: Tensor, k: Tensor, cached: Tensor, frequencies: Tensor) -> Step:
    return step_at(q, k, cached, frequencies, cached.shape[-1] if len(cached) else 0)


def with_cached(change: Callable[[Tensor], Tensor]) -> Callable[..., Step]:
    """The right step, with the cached keys turned to the positions that `change` makes of 0 .. old - 1."""

    def step(q: Tensor, k: Tensor, cached: Tensor, frequencies: Tensor) -> Step:
        return step_right(q, k, turn(cached, change(torch.arange(len(cached))), frequencies), frequencies)

    return step


def queries_turned(change: Callable[[Tensor], Tensor]) -> Callable[..., Step]:
    """The right keys, with the queries turned to the positions that `change` makes of the right ones."""

    def step(q: Tensor, k: Tensor, cached: Tensor, frequencies: Tensor) -> Step:
        positions = change(torch.arange(len(cached), len(cached) + len(q)))
        return meet(turn(q, positions, frequencies), step_right(q, k, cached, frequencies)[1])

    return step


def backwards(q: Tensor, k: Tensor, cached: Tensor, frequencies: Tensor) -> Step:
    return step_at(q, k, cached, -frequencies, len(cached))


def turned_again(q: Tensor, k: Tensor, cached: Tensor, frequencies: Tensor) -> Step:
    everything = torch.cat((cached, k))
    keys = turn(everything, torch.arange(len(everything)), frequencies)
    return meet(turn(q, torch.arange(len(cached), len(everything)), frequencies), keys)


def all_at_one_place(q: Tensor, k: Tensor, cached: Tensor, frequencies: Tensor) -> Step:
    positions = torch.full((len(q),), len(cached))
    return meet(turn(q, positions, frequencies), torch.cat((cached, turn(k, positions, frequencies))))


def keys_as_they_came(q: Tensor, k: Tensor, cached: Tensor, frequencies: Tensor) -> Step:
    positions = torch.arange(len(cached), len(cached) + len(q))
    return meet(turn(q, positions, frequencies), torch.cat((cached, k)))


def queries_as_they_came(q: Tensor, k: Tensor, cached: Tensor, frequencies: Tensor) -> Step:
    positions = torch.arange(len(cached), len(cached) + len(q))
    return meet(q, torch.cat((cached, turn(k, positions, frequencies))))


def keys_from_zero(q: Tensor, k: Tensor, cached: Tensor, frequencies: Tensor) -> Step:
    queries = turn(q, torch.arange(len(cached), len(cached) + len(q)), frequencies)
    return meet(queries, torch.cat((cached, turn(k, torch.arange(len(k)), frequencies))))


def queries_one_back(q: Tensor, k: Tensor, cached: Tensor, frequencies: Tensor) -> Step:
    _, keys = step_right(q, k, cached, frequencies)
    start = max(len(cached) - 1, 0)
    return meet(turn(q, torch.arange(start, start + len(q)), frequencies), keys)


def keys_one_back(q: Tensor, k: Tensor, cached: Tensor, frequencies: Tensor) -> Step:
    queries = turn(q, torch.arange(len(cached), len(cached) + len(q)), frequencies)
    return meet(queries, one_back(q, k, cached, frequencies)[1])


def new_keys_first(q: Tensor, k: Tensor, cached: Tensor, frequencies: Tensor) -> Step:
    _, keys = step_right(q, k, cached, frequencies)
    queries = turn(q, torch.arange(len(cached), len(keys)), frequencies)
    return meet(queries, torch.cat((keys[len(cached) :], keys[: len(cached)])))


def scaled(q: Tensor, k: Tensor, cached: Tensor, frequencies: Tensor) -> Step:
    scores, keys = step_right(q, k, cached, frequencies)
    return scores * q.shape[-1] ** -0.5, keys


def masked(q: Tensor, k: Tensor, cached: Tensor, frequencies: Tensor) -> Step:
    scores, keys = step_right(q, k, cached, frequencies)
    later = torch.arange(scores.shape[1]) > torch.arange(len(cached), scores.shape[1])[:, None]
    return scores.masked_fill(later, -torch.inf), keys


def as_given(q: Tensor, k: Tensor, cached: Tensor, frequencies: Tensor) -> Step:
    """The function on the page, which is to be repaired."""
    last = max(len(cached) - 1, 0)
    positions = torch.arange(last, last + len(q))
    keys = torch.cat((cached, turn_in_float32(k, positions, frequencies)))
    return einsum(turn_in_float32(q, positions, frequencies), keys, "query head_dim, key head_dim -> query key"), keys


def turn_in_float32(x: Tensor, positions: Tensor, frequencies: Tensor) -> Tensor:
    """The page's `turn`: x (position, head_dim), each row turned to its own position."""
    angles = rearrange(positions, "position -> position 1") * frequencies
    cos, sin = (repeat(part, "position half -> position (pair half)", pair=2) for part in (angles.cos(), angles.sin()))
    first, second = rearrange(x, "position (pair half) -> pair position half", pair=2)
    return x * cos + torch.cat((-second, first), dim=-1) * sin


def step_right(q: Tensor, k: Tensor, cached: Tensor, frequencies: Tensor) -> Step:
    return step_at(q, k, cached, frequencies, len(cached))


def step_row_by_row(q: Tensor, k: Tensor, cached: Tensor, frequencies: Tensor) -> Step:
    """Each new token in a step of its own, and a plain matrix product."""
    keys, queries = cached, []
    for query, key in zip(q, k, strict=True):
        here = torch.tensor([len(keys)])
        queries.append(turn(query[None], here, frequencies))
        keys = torch.cat((keys, turn(key[None], here, frequencies)))
    return torch.cat(queries) @ keys.T, keys


def step_strided(q: Tensor, k: Tensor, cached: Tensor, frequencies: Tensor) -> Step:
    """Positions counted from the end, results not contiguous."""
    total = len(cached) + len(k)
    positions = torch.arange(total)[total - len(k) :]
    keys = torch.cat((cached.T, turn(k, positions, frequencies).T), dim=1).T
    return (keys @ turn(q, positions, frequencies).T).T, keys


def draw_step(new: int, old: int, head_dim: int, dtype: torch.dtype = torch.float32) -> Arguments:
    """Random q and k, and a cache of keys that have been turned already."""

    def arguments(generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        frequencies = frequencies_by_loop(head_dim, 10_000.0)
        q, k = (torch.randn(new, head_dim, generator=generator).to(dtype) for _ in range(2))
        cached = torch.randn(old, head_dim, generator=generator).to(dtype)
        return q, k, turn(cached, torch.arange(old), frequencies), frequencies

    return arguments


EXERCISES = (
    Exercise(
        id="03.4",
        title="One position off",
        kind="bug hunt",
        minutes=15,
        difficulty=3,
        hints=(
            "Where in the printed table are the differences, and where are there none? Which two kinds of tokens meet "
            "there?",
            "If `old` keys are cached, they are at positions 0 .. old - 1. At which position is the first new token?",
            "positions = torch.arange(old, old + new) for q and k alike; turn both; append the new keys to the cached "
            "ones, which stay as they are; the scores are q times keys.",
        ),
        now_you_know="a wrong offset keeps the order within prompt and reply; only the distance between them is wrong.",
        oracle=step_by_loops,
        cases=(
            Case("nothing cached yet: the prompt", draw_step(4, 0, 6)),
            Case("one token after three", draw_step(1, 3, 8)),
            Case("two tokens after five", draw_step(2, 5, 10)),
            Case("three tokens after one", draw_step(3, 1, 4)),
            Case("a token farther into a text", draw_step(1, 20, 6)),
        ),
        parts={"the scores": lambda result: result[0], "the keys": lambda result: result[1]},
        given=as_given,
        mutants={
            "one back": (
                one_back,
                "the new tokens are one position too early: the first of them shares its place with the last cached "
                "one.",
            ),
            "from zero": (
                from_zero,
                "the new tokens count from 0 in each step. They come after everything that is in the cache.",
            ),
            "one ahead": (
                one_ahead,
                "the new tokens are one position too late. With `old` keys at 0 .. old - 1, the next place is `old`.",
            ),
            "one back always": (
                one_back_always,
                "everything is one position too early, the prompt too: its first token stands at -1.",
            ),
            "one ahead of a cache": (
                one_ahead_of_a_cache,
                "after a prompt, the new tokens are one position too late. With `old` keys at 0 .. old - 1, the next "
                "place is `old`.",
            ),
            "behind five": (
                behind_five,
                "with a cache, the new tokens begin at position 5, the length of the page's prompt. They begin at the "
                "number of cached keys, which grows.",
            ),
            "from the last place": (
                from_the_last_place,
                "the first new token is at the position of the last one. It comes directly after the cached ones.",
            ),
            "behind all": (
                behind_all,
                "the new tokens are counted twice: they begin at old + new. The first one is at position `old`.",
            ),
            "as many as are new": (
                as_many_as_are_new,
                "the positions begin at the number of new tokens. They begin at the number of cached ones.",
            ),
            "from head_dim": (
                from_head_dim,
                "the positions begin at head_dim: the length of the wrong axis. The cached keys are the rows of "
                "`cached`.",
            ),
            "from head_dim, with a cache": (
                from_head_dim_with_a_cache,
                "with a cache, the positions begin at head_dim: the length of the wrong axis. The cached keys are the "
                "rows of `cached`.",
            ),
            "cached moved on": (
                with_cached(torch.ones_like),
                "the cached keys are turned by one more position. They stay where they are; only new ones are turned.",
            ),
            "cached turned back": (
                with_cached(torch.neg),
                "the cached keys are turned back to position 0. They were turned on their way in; leave them as they "
                "are.",
            ),
            "queries from zero": (
                queries_turned(lambda positions: positions - positions[0]),
                "the new keys are in the right place, but the queries count from 0. Both need the same positions.",
            ),
            "queries turned back": (
                queries_turned(torch.neg),
                "the queries turn in the opposite direction to the keys: the sign of their angle is wrong.",
            ),
            "keys from zero": (
                keys_from_zero,
                "the queries are in the right place, but the new keys count from 0. Both need the same positions.",
            ),
            "queries one back": (
                queries_one_back,
                "the new keys are in the right place, but the queries are one position too early.",
            ),
            "keys one back": (
                keys_one_back,
                "the queries are in the right place, but the new keys are one position too early.",
            ),
            "turned again": (
                turned_again,
                "the cached keys were turned a second time. They were turned on their way in; leave them as they are.",
            ),
            "all at one place": (
                all_at_one_place,
                "all new tokens are at the same position. The second of them is one further than the first.",
            ),
            "keys not turned": (keys_as_they_came, "the new keys go into the cache without being turned."),
            "queries not turned": (
                queries_as_they_came,
                "the queries aren't turned. Positions reduce to a distance only if both q and k are.",
            ),
            "the other way": (
                backwards,
                "the new tokens turn in the opposite direction to the cached ones: the sign of the angle is wrong.",
            ),
            "new keys first": (
                new_keys_first,
                "the new keys come before the cached ones. In the text, the cached ones come first.",
            ),
            "scaled": (
                scaled,
                "the scores are divided by the square root of head_dim. That step comes later; return plain products.",
            ),
            "masked": (
                masked,
                "the scores of later keys are masked. That step comes later; return the products of all of them.",
            ),
        },
        accepted={
            "in float64": step_right,
            "token by token": step_row_by_row,
            "positions from the end, not contiguous": step_strided,
        },
        stages=(
            Stage("the keys", lambda q, k, cached, frequencies: torch.cat((cached, k)), "are those before the turn"),
            Stage("the keys", lambda q, k, cached, frequencies: cached, "are the cached ones, without the new ones"),
            Stage(
                "the keys",
                lambda q, k, cached, frequencies: step_right(q, k, cached, frequencies)[1][len(cached) :],
                "are the new ones alone; the next step needs the cached ones, too",
            ),
            Stage(
                "the scores",
                lambda q, k, cached, frequencies: step_right(q, k, cached, frequencies)[0][:, len(cached) :],
                "are those with the new keys alone; a query meets the cached ones, too",
            ),
            Stage(
                "the scores",
                lambda q, k, cached, frequencies: step_right(q, k, cached, frequencies)[0].T,
                "have a row for each key; a row belongs to a query",
            ),
            Stage(
                "the scores",
                lambda q, k, cached, frequencies: queries_as_they_came(q, k, cached, frequencies)[0],
                "are those of queries that were not turned",
            ),
            Stage(
                "the scores",
                lambda q, k, cached, frequencies: keys_as_they_came(q, k, cached, frequencies)[0],
                "are those with new keys that were not turned",
            ),
        ),
    ),
)
