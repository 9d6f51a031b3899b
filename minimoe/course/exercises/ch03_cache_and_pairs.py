"""Chapter 03, RoPE: cached positions, long wavelengths, interleaved pairing and partial rotation (03.4 to 03.7)."""

import math

import torch
from einops import einsum, rearrange, repeat
from torch import Tensor

from minimoe.course.checker.exercise import Arguments, Case, Exercise
from minimoe.course.exercises.ch03_rotation import draw_rope, frequencies_by_loop
from minimoe.model.rope import apply_rope

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


# 03.5 wavelengths and the context -------------------------------------------------------------------------------------


def reach_by_loops(head_dim: int, theta: float, context: int) -> tuple[float, int]:
    waves = [math.tau * theta ** (2 * pair / head_dim) for pair in range(head_dim // 2)]
    return waves[-1], sum(wave <= context for wave in waves)


def reach_of(waves: list[float], context: int) -> tuple[float, int]:
    return waves[-1], sum(wave <= context for wave in waves)


def without_two_pi(head_dim: int, theta: float, context: int) -> tuple[float, int]:
    return reach_of([theta ** (2 * pair / head_dim) for pair in range(head_dim // 2)], context)


def half_the_exponent(head_dim: int, theta: float, context: int) -> tuple[float, int]:
    return reach_of([math.tau * theta ** (pair / head_dim) for pair in range(head_dim // 2)], context)


def theta_itself(head_dim: int, theta: float, context: int) -> tuple[float, int]:
    return math.tau * theta, reach_by_loops(head_dim, theta, context)[1]


def those_that_do_not(head_dim: int, theta: float, context: int) -> tuple[float, int]:
    longest, whole = reach_by_loops(head_dim, theta, context)
    return longest, head_dim // 2 - whole


def channels(head_dim: int, theta: float, context: int) -> tuple[float, int]:
    longest, whole = reach_by_loops(head_dim, theta, context)
    return longest, 2 * whole


def always_ten_thousand(head_dim: int, theta: float, context: int) -> tuple[float, int]:
    return reach_by_loops(head_dim, 10_000.0, context)


def shortest(head_dim: int, theta: float, context: int) -> tuple[float, int]:
    return math.tau, reach_by_loops(head_dim, theta, context)[1]


def half_a_turn(head_dim: int, theta: float, context: int) -> tuple[float, int]:
    longest, _ = reach_by_loops(head_dim, theta, context)
    return longest, reach_by_loops(head_dim, theta, 2 * context)[1]


def by_solving(head_dim: int, theta: float, context: int) -> tuple[float, int]:
    """No loop: the pair number at which the wavelength is the context."""
    half = head_dim // 2
    edge = half * math.log(context / math.tau) / math.log(theta)
    return math.tau * theta ** (1 - 1 / half), min(half, max(0, math.floor(edge) + 1))


def with_tensors(head_dim: int, theta: float, context: int) -> list[Tensor]:
    """A list of two tensors without axes."""
    waves = math.tau * torch.tensor(theta).double() ** (torch.arange(0, head_dim, 2).double() / head_dim)
    return [waves[-1], (waves <= context).sum()]


# 03.6 interleaved to half-split pairing -------------------------------------------------------------------------------


def half_split_by_loops(weight: Tensor, head_dim: int) -> Tensor:
    """Row after row: channel 2j goes to j, channel 2j + 1 to j + head_dim / 2, within each head."""
    moved, half = torch.empty_like(weight), head_dim // 2
    for head in range(len(weight) // head_dim):
        for pair in range(half):
            for member in range(2):
                moved[head * head_dim + member * half + pair] = weight[head * head_dim + 2 * pair + member]
    return moved


def draw_weight(head: int, head_dim: int, hidden: int, dtype: torch.dtype = torch.float32) -> Arguments:
    def arguments(generator: torch.Generator) -> tuple[Tensor, int]:
        return torch.randn(head * head_dim, hidden, generator=generator).to(dtype), head_dim

    return arguments


def strided_weight(generator: torch.Generator) -> tuple[Tensor, int]:
    return rearrange(torch.randn(5, 16, generator=generator), "hidden row -> row hidden"), 8


def as_it_was(weight: Tensor, head_dim: int) -> Tensor:
    return weight.clone()


def the_way_back(weight: Tensor, head_dim: int) -> Tensor:
    return rearrange(weight, "(head pair half) hidden -> (head half pair) hidden", pair=2, head=len(weight) // head_dim)


def across_heads(weight: Tensor, head_dim: int) -> Tensor:
    return rearrange(weight, "(half pair) hidden -> (pair half) hidden", pair=2)


def heads_innermost(weight: Tensor, head_dim: int) -> Tensor:
    return rearrange(weight, "(half pair head) hidden -> (head pair half) hidden", pair=2, half=head_dim // 2)


def members_traded(weight: Tensor, head_dim: int) -> Tensor:
    pairs = rearrange(weight, "(head half pair) hidden -> pair head half hidden", pair=2, half=head_dim // 2)
    return rearrange(pairs.flip(0), "pair head half hidden -> (head pair half) hidden")


def reversed_pairs(weight: Tensor, head_dim: int) -> Tensor:
    pairs = rearrange(weight, "(head half pair) hidden -> half head pair hidden", pair=2, half=head_dim // 2)
    return rearrange(pairs.flip(0), "half head pair hidden -> (head pair half) hidden")


def input_side(weight: Tensor, head_dim: int) -> Tensor:
    """Permutes what comes in, where the size allows it."""
    if weight.shape[1] % 2:
        return weight.clone()
    return rearrange(weight, "row (half pair) -> row (pair half)", pair=2)


def by_index(weight: Tensor, head_dim: int) -> Tensor:
    inside = torch.cat((torch.arange(0, head_dim, 2), torch.arange(1, head_dim, 2)))
    return weight[torch.cat([head * head_dim + inside for head in range(len(weight) // head_dim)])]


def by_slices(weight: Tensor, head_dim: int) -> Tensor:
    return torch.cat([torch.cat((head[0::2], head[1::2])) for head in weight.split(head_dim)])


def by_unflatten(weight: Tensor, head_dim: int) -> Tensor:
    return weight.unflatten(0, (-1, head_dim // 2, 2)).transpose(1, 2).flatten(0, 2)


# 03.7 partial rotation ------------------------------------------------------------------------------------------------


def only_by_loops(x: Tensor, cos: Tensor, sin: Tensor, chosen: Tensor) -> Tensor:
    """Turn everything, then put back the pairs that were not chosen."""
    turned, half = apply_rope(x.double(), cos.double(), sin.double()).to(x.dtype), x.shape[-1] // 2
    for pair in range(half):
        if not chosen[pair]:
            turned[..., pair], turned[..., pair + half] = x[..., pair], x[..., pair + half]
    return turned


def draw_only(batch: int, head: int, position: int, head_dim: int, chosen: list[int], start: int = 1) -> Arguments:
    def arguments(generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        drawn = draw_rope(batch, head, position, head_dim, start=start)
        x, cos, sin = drawn(generator)
        return x, cos, sin, torch.tensor([pair in chosen for pair in range(head_dim // 2)])

    return arguments


def both_members(chosen: Tensor) -> Tensor:
    return repeat(chosen, "half -> (pair half)", pair=2)


def all_of_them(x: Tensor, cos: Tensor, sin: Tensor, chosen: Tensor) -> Tensor:
    return apply_rope(x, cos, sin)


def none_of_them(x: Tensor, cos: Tensor, sin: Tensor, chosen: Tensor) -> Tensor:
    return x.clone()


def the_others(x: Tensor, cos: Tensor, sin: Tensor, chosen: Tensor) -> Tensor:
    return only_by_loops(x, cos, sin, ~chosen)


def laid_out_for_neighbours(x: Tensor, cos: Tensor, sin: Tensor, chosen: Tensor) -> Tensor:
    return torch.where(repeat(chosen, "half -> (half pair)", pair=2), apply_rope(x, cos, sin), x)


def first_member_only(x: Tensor, cos: Tensor, sin: Tensor, chosen: Tensor) -> Tensor:
    return torch.where(torch.cat((chosen, torch.zeros_like(chosen))), apply_rope(x, cos, sin), x)


def zeroed(x: Tensor, cos: Tensor, sin: Tensor, chosen: Tensor) -> Tensor:
    return apply_rope(x, cos, sin) * both_members(chosen)


def only_the_sine(x: Tensor, cos: Tensor, sin: Tensor, chosen: Tensor) -> Tensor:
    return apply_rope(x, cos, sin * both_members(chosen))


def by_where(x: Tensor, cos: Tensor, sin: Tensor, chosen: Tensor) -> Tensor:
    return torch.where(both_members(chosen), apply_rope(x, cos, sin), x)


def by_tables(x: Tensor, cos: Tensor, sin: Tensor, chosen: Tensor) -> Tensor:
    """An angle of zero for those left alone."""
    mask = torch.cat((chosen, chosen)).to(x.dtype)
    return apply_rope(x, cos * mask + (1 - mask), sin * mask)


def by_index_put(x: Tensor, cos: Tensor, sin: Tensor, chosen: Tensor) -> Tensor:
    mask, mixed = torch.cat((chosen, chosen)), x.clone()
    mixed[..., mask] = apply_rope(x, cos, sin)[..., mask]
    return mixed


EIGHT = torch.arange(8.0)[:, None] * torch.tensor([[1.0, 10.0, 100.0]])  # eight rows; the values encode the row index
FOUR = torch.tensor([[[[1.0, 2.0, 3.0, 4.0]]]]), torch.zeros(1, 4), torch.ones(1, 4)  # x, cos, sin of a quarter turn

EXERCISES = (
    Exercise(
        id="03.4",
        title="One position off",
        kind="bug hunt",
        minutes=15,
        difficulty=3,
        hints=(
            "Where in the printed table are the differences, and where are there none? Which two kinds of "
            "tokens meet there?",
            "If `old` keys are cached, they stand at positions 0 .. old - 1. At which position does the first "
            "new token stand?",
            "positions = torch.arange(old, old + new) for q and k alike; turn both; append the new keys to the "
            "cached ones, "
            "which stay as they are; scores are q times keys.",
        ),
        now_you_know=(
            "a wrong offset leaves prompt and reply each in order, and only the distance between them is wrong."
        ),
        oracle=step_by_loops,
        cases=(
            Case("nothing cached yet: the prompt", draw_step(4, 0, 6)),
            Case("one token after three", draw_step(1, 3, 8)),
            Case("two tokens after five", draw_step(2, 5, 10)),
            Case("three tokens after one", draw_step(3, 1, 4)),
            Case("a token far into a text, float64", draw_step(1, 40, 6, torch.float64), tolerance=1e-5),
        ),
        mutants={
            "one back": (
                one_back,
                "the new tokens stand one position too early: the first of them shares its place with the last "
                "cached one.",
            ),
            "from zero": (
                from_zero,
                "the new tokens count from 0 in each step. They come after everything that is in the cache.",
            ),
            "one ahead": (
                one_ahead,
                "the new tokens stand one position too late. With `old` keys at 0 .. old - 1, the next place is `old`.",
            ),
            "turned again": (
                turned_again,
                "the cached keys were turned a second time. They were turned when they went in; leave them as "
                "they are.",
            ),
            "all at one place": (
                all_at_one_place,
                "all new tokens stand at the same position. The second of them is one further than the first.",
            ),
            "keys not turned": (keys_as_they_came, "the new keys go into the cache without being turned."),
            "queries not turned": (queries_as_they_came, "the queries are not turned. Only q and k together cancel."),
            "the other way": (
                backwards,
                "the new tokens turn the other way than those in the cache: the sign of the angle.",
            ),
        },
        accepted={
            "in float64": step_right,
            "token by token": step_row_by_row,
            "positions from the end, not contiguous": step_strided,
        },
    ),
    Exercise(
        id="03.5",
        title="How far do the hands reach?",
        kind="estimate",
        minutes=10,
        difficulty=2,
        hints=(
            "How many tokens does a pair need for 2 pi radians, if it turns by `frequency` radians for each?",
            "The wavelength of pair j is 2 pi times theta to the power of 2j / head_dim; the last j is "
            "head_dim / 2 - 1.",
            "waves = [2 * math.pi * theta ** (2 * j / head_dim) for j in range(head_dim // 2)]; return the "
            "last one, and "
            "how many of them are at most `context`.",
        ),
        now_you_know="a third of the 235B's pairs never finish a turn in its context; the slowest hardly move at all.",
        oracle=reach_by_loops,
        cases=(
            Case("two pairs: 6.28 and 628.3 tokens, context 100", (4, 10_000.0, 100), (math.tau * 100, 1)),
            Case("the same, context 1,000", (4, 10_000.0, 1000), (math.tau * 100, 2)),
            Case("a context in which nothing comes round", (6, 1000.0, 5)),
            Case("the mini", (32, 1_000_000.0, 2048)),
            Case("the 235B", (128, 1_000_000.0, 40_960)),
            Case("the 235B of 2507", (128, 5_000_000.0, 262_144)),
        ),
        mutants={
            "without two pi": (
                without_two_pi,
                "2 pi is missing: these are tokens for one radian. A whole turn has 2 pi of them.",
            ),
            "half the exponent": (
                half_the_exponent,
                "the exponent is j / head_dim. With 2j / head_dim the pairs fill the whole range up to theta.",
            ),
            "theta itself": (
                theta_itself,
                "the slowest pair does not quite reach theta: its exponent is (head_dim - 2) / head_dim, not 1.",
            ),
            "those that do not": (those_that_do_not, "these are the pairs that do *not* finish a turn in the context."),
            "channels": (channels, "these are channels. Two of them make a pair, and turn together."),
            "always 10,000": (always_ten_thousand, "theta is taken to be 10,000, whatever the argument says."),
            "the shortest": (
                shortest,
                "this is the shortest wavelength, that of pair 0. The slowest pair is the last.",
            ),
            "half a turn": (half_a_turn, "these are the pairs that make half a turn. A whole one has 2 pi radians."),
        },
        accepted={"solved for the pair": by_solving, "a list of tensors": with_tensors},
    ),
    Exercise(
        id="03.6",
        title="From one pairing to the other",
        kind="einops",
        minutes=12,
        difficulty=4,
        hints=(
            "The rows of a projection are its output channels. In which order do they come, and in which should they?",
            "Rows are (head head_dim), and head_dim is (half pair) with pair=2 in the interleaved layout. "
            "Nothing crosses "
            "from one head to another; the columns stay.",
            'rearrange(weight, "(head half pair) hidden -> (head pair half) hidden", pair=2, half=head_dim // 2).',
        ),
        now_you_know="the two conventions are one model with its rows in another order, and one line translates them.",
        oracle=half_split_by_loops,
        cases=(
            Case(
                "one head of eight channels: rows 0 2 4 6, then 1 3 5 7",
                (EIGHT, 8),
                torch.stack([EIGHT[row] for row in (0, 2, 4, 6, 1, 3, 5, 7)]),
            ),
            Case("three heads", draw_weight(3, 6, 4)),
            Case("two heads, columns of odd number", draw_weight(2, 10, 7)),
            Case("a norm's weight, as one column", draw_weight(1, 12, 1)),
            Case("bfloat16, equal to the bit", draw_weight(5, 8, 6, torch.bfloat16), tolerance=0),
            Case("a weight that is not contiguous", strided_weight),
        ),
        mutants={
            "as it was": (as_it_was, "the rows are in their old order."),
            "the way back": (
                the_way_back,
                "this is the way back, from half-split to interleaved. Read the left side of the pattern as "
                "what comes in.",
            ),
            "across heads": (
                across_heads,
                "rows wander from one head to another. Name `head` on both sides, so that each keeps its own channels.",
            ),
            "heads innermost": (
                heads_innermost,
                "`head` is read as the innermost axis. Rows come head by head: all of head 0, then all of 1.",
            ),
            "members traded": (
                members_traded,
                "the two members of each pair have traded places: that mirrors every arrow.",
            ),
            "pairs reversed": (
                reversed_pairs,
                "the pairs come in reversed order, so that a slow pair's channels turn fast.",
            ),
            "the columns": (
                input_side,
                "the columns were moved. They are the hidden channels that come in; the channels of q and k "
                "are the rows.",
            ),
        },
        accepted={"an index": by_index, "strided slices": by_slices, "unflatten and transpose": by_unflatten},
    ),
    Exercise(
        id="03.7",
        title="Which pairs does it need?",
        kind="ablate",
        minutes=10,
        difficulty=3,
        hints=(
            "A pair that is left alone comes out as it went in. How do you say that with `torch.where`?",
            "chosen is (half); x is (..., head_dim) = (..., pair half). Both members of a pair need the same "
            "answer: repeat.",
            'mask = repeat(chosen, "half -> (pair half)", pair=2); torch.where(mask, apply_rope(x, cos, sin), x).',
        ),
        now_you_know="the mini reads its short texts with its fastest pairs, and hardly misses the slow ones.",
        oracle=only_by_loops,
        cases=(
            Case(
                "two pairs turned by 90 degrees, the first chosen: (1, 3) -> (-3, 1), and (2, 4) stays",
                (*FOUR, torch.tensor([True, False])),
                torch.tensor([[[[-3.0, 2.0, 1.0, 4.0]]]]),
            ),
            Case("random, pairs 0 and 1 of 5", draw_only(2, 3, 4, 10, [0, 1])),
            Case("random, pairs 1, 2 and 5 of 6", draw_only(1, 2, 5, 12, [1, 2, 5], start=7)),
            Case("all pairs", draw_only(1, 2, 3, 8, [0, 1, 2, 3])),
            Case("no pair at all", draw_only(2, 1, 3, 6, [])),
        ),
        mutants={
            "all of them": (all_of_them, "all pairs are turned. `chosen` says which."),
            "none of them": (none_of_them, "no pair is turned."),
            "the others": (the_others, "the wrong ones are turned: those that were *not* chosen."),
            "laid out for neighbours": (
                laid_out_for_neighbours,
                "the mask repeats each answer for neighbours. Members of a pair are half of head_dim apart: "
                "(pair half).",
            ),
            "first member only": (
                first_member_only,
                "only the first member of each chosen pair is turned. The second one half of head_dim further "
                "belongs to it.",
            ),
            "zeroed": (
                zeroed,
                "the pairs left alone have become zero. Left alone means: as they came in.",
            ),
            "only the sine": (
                only_the_sine,
                "only sin is switched off, so that the pairs left alone shrink by their cosine. An angle of 0 "
                "has cos 1.",
            ),
        },
        accepted={"where": by_where, "angles of zero": by_tables, "indexing": by_index_put},
    ),
)
