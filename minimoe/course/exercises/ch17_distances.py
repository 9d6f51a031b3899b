"""Chapter 17, a million tokens: the distances of dual chunk attention (17.1), and YaRN's frequencies (17.2)."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from minimoe.course.checker.exercise import Case, Exercise, Stage

# 17.1 distances -------------------------------------------------------------------------------------------------------

Distances = Callable[[int, int, int], Tensor]
Pair = Callable[[int, int, int, int], int]  # query, key, chunk_size, local_size


def table_of(pair: Pair, causal: bool = True) -> Distances:
    """The function that fills a table with the distance of each pair; 0 where the key comes after the query."""

    def distances(length: int, chunk_size: int, local_size: int) -> Tensor:
        rows = [
            [pair(query, key, chunk_size, local_size) if key <= query or not causal else 0 for key in range(length)]
            for query in range(length)
        ]
        return torch.tensor(rows, dtype=torch.int64).reshape(length, length)

    return distances


def three_cases(
    before: Callable[[int, int, int], int] = lambda place, stride, chunk: min(place + stride, chunk),
    older: Callable[[int, int, int], int] = lambda place, stride, chunk: min(2 * stride - 1, chunk),
    stride_of: Callable[[int, int], int] = lambda chunk, local: chunk - local,
    key_place: Callable[[int, int], int] = lambda key, stride: key % stride,
) -> Pair:
    """The rule of the three cases, with some of its parts done differently. before, older: of place, stride, chunk."""

    def pair(query: int, key: int, chunk_size: int, local_size: int) -> int:
        stride = stride_of(chunk_size, local_size)
        place, apart = query % stride, query // stride - key // stride
        if apart == 0:
            return place - key_place(key, stride)
        position = before(place, stride, chunk_size) if apart == 1 else older(place, stride, chunk_size)
        return position - key_place(key, stride)

    return pair


distances_by_loops = table_of(three_cases())


def by_broadcasting(length: int, chunk_size: int, local_size: int) -> Tensor:
    """All pairs at once."""
    position, stride = torch.arange(length), chunk_size - local_size
    place, apart = position % stride, (position // stride)[:, None] - position // stride
    moved = torch.where(apart == 1, (place + stride).clamp(max=chunk_size)[:, None], min(2 * stride - 1, chunk_size))
    return (torch.where(apart == 0, place[:, None], moved) - place).tril()


def row_by_row(length: int, chunk_size: int, local_size: int) -> Tensor:
    """One query after another, with slices of the keys."""
    found, stride = torch.zeros(length, length, dtype=torch.int64), chunk_size - local_size
    for query in range(length):
        start = query - query % stride
        for first, last, position in (
            (start, query + 1, query % stride),
            (max(start - stride, 0), start, min(query % stride + stride, chunk_size)),
            (0, max(start - stride, 0), min(2 * stride - 1, chunk_size)),
        ):
            found[query, first:last] = position - torch.arange(first, last) % stride
    return found


def as_true(length: int, chunk_size: int, local_size: int) -> Tensor:
    position = torch.arange(length)
    return (position[:, None] - position).tril()


def shrunk(length: int, chunk_size: int, local_size: int) -> Tensor:
    return as_true(length, chunk_size, local_size) * chunk_size // max(length, chunk_size)


# 17.2 YaRN ------------------------------------------------------------------------------------------------------------

Stretched = tuple[Tensor, float]
Yarn = Callable[[int, float, float, int], Stretched]


def yarn_by_loops(head_dim: int, theta: float, factor: float, original: int) -> Stretched:
    """One pair after another, in Python's floats."""
    half, frequencies = head_dim // 2, []
    low, high = (half * math.log(original / (turns * math.tau)) / math.log(theta) for turns in (32, 1))
    first, last = max(math.floor(low), 0), min(math.ceil(high), head_dim - 1)
    for pair in range(half):
        plain = theta ** (-2 * pair / head_dim)
        ramp = min(max((pair - first) / ((last - first) or 0.001), 0.0), 1.0)
        frequencies.append(plain * (1 - ramp) + plain / factor * ramp)
    return torch.tensor(frequencies, dtype=torch.float32), 0.1 * math.log(factor) + 1


def plain_frequencies(head_dim: int, theta: float, factor: float, original: int) -> Tensor:
    return torch.tensor([theta ** (-2 * pair / head_dim) for pair in range(head_dim // 2)])


def all_slowed(head_dim: int, theta: float, factor: float, original: int) -> Tensor:
    return plain_frequencies(head_dim, theta, factor, original) / factor


def with_ramp(
    ends: Callable[[float, float], tuple[float, float]] = lambda low, high: (math.floor(low), math.ceil(high)),
    turns: tuple[float, float] = (32, 1),
    mix: Callable[[Tensor, Tensor, Tensor], Tensor] = lambda plain, slow, ramp: plain * (1 - ramp) + slow * ramp,
    length: Callable[[int, float], float] = lambda original, factor: original,
    scale: Callable[[float], float] = lambda factor: 0.1 * math.log(factor) + 1,
    exponent: float = 2.0,
    circle: float = math.tau,
) -> Yarn:
    """YaRN as tensors, with some of its parts done differently. mix: of plain and slowed frequencies and the ramp."""

    def yarn(head_dim: int, theta: float, factor: float, original: int) -> Stretched:
        half = head_dim // 2
        pair = torch.arange(half, dtype=torch.float64)
        plain = theta ** (-exponent * pair / head_dim)
        tokens = length(original, factor)
        low, high = (half * math.log(tokens / (turn * circle)) / math.log(theta) for turn in turns)
        low, high = ends(low, high)
        low, high = max(low, 0), min(high, head_dim - 1)
        ramp = ((pair - low) / ((high - low) or 0.001)).clamp(0, 1)
        return mix(plain, plain / factor, ramp).float(), scale(factor)

    return yarn


def keep_scale(frequencies: Callable[[int, float, float, int], Tensor]) -> Yarn:
    return lambda *sizes: (frequencies(*sizes), yarn_by_loops(*sizes)[1])


def interpolated_periods(plain: Tensor, slow: Tensor, ramp: Tensor) -> Tensor:
    return 1 / ((1 - ramp) / plain + ramp / slow)


EXERCISES = (
    Exercise(
        id="17.1",
        title="The distances of dual chunk attention",
        kind="fill in",
        minutes=15,
        difficulty=3,
        hints=(
            "Take one pair first. In which chunk is the query, in which the key, and where in their chunks do they "
            "stand?",
            "stride = chunk_size - local_size; the chunk of a position is position // stride, its place is "
            "position % stride. The table has one row for each query.",
            "Position of the query: its place in its own chunk; min(place + stride, chunk_size) for the chunk before; "
            "min(2 * stride - 1, chunk_size) for older ones. Subtract the place of the key. Then fill the part above "
            "the diagonal with 0.",
        ),
        now_you_know="three positions for a query and one for a key are enough to keep every distance within "
        "chunk_size.",
        oracle=distances_by_loops,
        cases=(
            Case(
                "five tokens in chunks of two",
                (5, 3, 1),
                torch.tensor([[0, 0, 0, 0, 0], [1, 0, 0, 0, 0], [2, 1, 0, 0, 0], [3, 2, 1, 0, 0], [3, 2, 2, 1, 0]]),
            ),
            Case("a text of one chunk keeps its distances", (6, 10, 3)),
            Case("three chunks and a rest", (31, 12, 4)),
            Case("many short chunks", (40, 7, 2)),
            Case("no local tokens", (23, 6, 0)),
            Case("local tokens for most of a chunk", (29, 9, 6)),
            Case("a single token", (1, 4, 1)),
        ),
        stages=(
            Stage("", as_true, "are the true ones: plain RoPE"),
            Stage(
                "",
                lambda length, chunk, local: as_true(length, chunk, local).clamp(max=chunk),
                "are the true ones, cut off at chunk_size",
            ),
            Stage("", lambda *sizes: distances_by_loops(*sizes).T, "have queries and keys exchanged"),
        ),
        mutants={
            "true": (as_true, "these are the true distances, so a long text still reaches distances above chunk_size."),
            "cut off": (
                table_of(lambda query, key, chunk, local: min(query - key, chunk)),
                "true distances are cut off at chunk_size. That would need a rotation for each pair; here a query has "
                "three positions.",
            ),
            "not limited": (
                table_of(three_cases(before=lambda place, stride, chunk: place + stride)),
                "the query's position for the chunk before is not limited: place + stride can exceed chunk_size.",
            ),
            "older like before": (
                table_of(three_cases(older=lambda place, stride, chunk: min(place + stride, chunk))),
                "older chunks are treated like the one before. Seen from an older chunk, every query stands at the "
                "same position, the last.",
            ),
            "older not limited": (
                table_of(three_cases(older=lambda place, stride, chunk: 2 * stride - 1)),
                "the position for older chunks is not limited to chunk_size.",
            ),
            "older always chunk_size": (
                table_of(three_cases(older=lambda place, stride, chunk: chunk)),
                "the position for older chunks is always chunk_size. If local_size is more than half of it, no query "
                "gets that far: the last position is 2 * stride - 1.",
            ),
            "older constant distance": (
                table_of(
                    lambda query, key, chunk, local: (
                        min(2 * (chunk - local) - 1, chunk)
                        if query // (chunk - local) - key // (chunk - local) > 1
                        else three_cases()(query, key, chunk, local)
                    )
                ),
                "keys of older chunks all get the same distance. The query stands still, the keys keep their places: "
                "subtract them.",
            ),
            "chunks of chunk_size": (
                table_of(three_cases(stride_of=lambda chunk, local: chunk)),
                "the text is divided into chunks of chunk_size. They have chunk_size - local_size tokens, so that "
                "neighbours across a border can keep their distance.",
            ),
            "chunk_size added": (
                table_of(three_cases(before=lambda place, stride, chunk: min(place + chunk, chunk))),
                "for the chunk before, the query is moved by chunk_size. One chunk has chunk_size - local_size tokens: "
                "move it by that.",
            ),
            "stride plus one": (
                table_of(three_cases(stride_of=lambda chunk, local: chunk - local + 1)),
                "the chunks have one token too many: they have chunk_size - local_size.",
            ),
            "limit at chunk_size - 1": (
                table_of(
                    three_cases(
                        before=lambda place, stride, chunk: min(place + stride, chunk - 1),
                        older=lambda place, stride, chunk: min(2 * stride - 1, chunk - 1),
                    )
                ),
                "the limit is chunk_size - 1. The largest distance that is used is chunk_size itself.",
            ),
            "older 2 * stride": (
                table_of(three_cases(older=lambda place, stride, chunk: min(2 * stride, chunk))),
                "the last position that a query has for the chunk before is 2 * stride - 1, as its last place is "
                "stride - 1.",
            ),
            "keys not numbered anew": (
                table_of(three_cases(key_place=lambda key, stride: key)),
                "the keys keep their positions in the whole text. They are counted within their chunk, as the queries "
                "are.",
            ),
            "remainders of distances": (
                table_of(lambda query, key, chunk, local: (query - key) % (chunk - local)),
                "the remainder is taken of the distance. Positions are counted within chunks; a remainder of the "
                "distance makes far keys look like neighbours.",
            ),
            "shrunk": (shrunk, "all distances are shrunk by the same factor: those are scaled positions."),
            "not causal": (
                table_of(three_cases(), causal=False),
                "above the diagonal there are distances. A key after its query is not attended to: fill in 0.",
            ),
            "exchanged": (
                lambda *sizes: distances_by_loops(*sizes).T.contiguous(),
                "queries and keys are exchanged: each row is one query.",
            ),
            "own chunk alone": (
                table_of(
                    lambda query, key, chunk, local: (
                        query - key if query // (chunk - local) == key // (chunk - local) else chunk
                    )
                ),
                "every key of an earlier chunk gets the distance chunk_size. Neighbours across a border would look far "
                "apart.",
            ),
        },
        accepted={"broadcasting": by_broadcasting, "row by row": row_by_row},
    ),
    Exercise(
        id="17.2",
        title="YaRN from memory",
        kind="fill in",
        minutes=15,
        difficulty=4,
        hints=(
            "Three kinds of pairs: which stay as they are, which are slowed by the whole factor, and what happens "
            "between them?",
            "All tensors are (head_dim / 2). plain = theta ** (-2 * pair / head_dim); ramp goes from 0 for fast pairs "
            "to 1 for slow ones.",
            "low and high are half * log(original / (turns * 2 pi)) / log(theta) for 32 turns and 1 turn, rounded down "
            "and up, and limited to 0 .. head_dim - 1. ramp = ((pair - low) / (high - low)).clamp(0, 1). Mix: "
            "plain * (1 - ramp) + plain / factor * ramp. Scale: 0.1 * log(factor) + 1.",
        ),
        now_you_know="YaRN is one ramp between two lists of frequencies, and one number for the scores.",
        oracle=yarn_by_loops,
        cases=(
            Case("a small head, twice the length", (8, 100.0, 2.0, 64)),
            Case("the mini, 16 times its training rows", (32, 1e6, 16.0, 256)),
            Case("the 235B, four times 32,768", (128, 1e6, 4.0, 32768)),
            Case("another theta", (64, 1e4, 8.0, 4096)),
            Case("a factor with a fraction", (24, 5e5, 2.5, 3000)),
            Case("factor 1 changes nothing", (16, 1e4, 1.0, 512)),
        ),
        parts={"the frequencies": lambda result: result[0], "the scale": lambda result: result[1]},
        stages=(
            Stage("the frequencies", plain_frequencies, "are those of plain RoPE"),
            Stage("the frequencies", all_slowed, "are all slowed by the factor: scaled positions"),
            Stage(
                "the frequencies",
                lambda *sizes: 1 / yarn_by_loops(*sizes)[0],
                "are periods: tokens per radian instead of radians per token",
            ),
            Stage("the scale", lambda d, theta, factor, n: 0.1 * math.log(factor), "lacks the 1"),
            Stage("the scale", lambda d, theta, factor, n: factor, "is the factor itself"),
            Stage("the scale", lambda *sizes: yarn_by_loops(*sizes)[1] ** 2, "is that of a score: the square"),
        ),
        mutants={
            "plain": (keep_scale(plain_frequencies), "the frequencies are those of plain RoPE: no pair is slowed."),
            "all slowed": (
                keep_scale(all_slowed),
                "all pairs are slowed by the factor: scaled positions. The fast pairs must stay, because they measure "
                "small distances.",
            ),
            "reversed": (
                with_ramp(mix=lambda plain, slow, ramp: plain * ramp + slow * (1 - ramp)),
                "the ramp is reversed: the fast pairs are slowed and the slow ones kept.",
            ),
            "no ramp": (
                with_ramp(mix=lambda plain, slow, ramp: torch.where(ramp > 0, slow, plain)),
                "there is no ramp: all pairs after the first number are slowed by the whole factor.",
            ),
            "turns exchanged": (
                with_ramp(turns=(1, 32)),
                "32 turns and 1 turn are exchanged. Pairs with many turns stay, those with few are slowed.",
            ),
            "half is all": (
                with_ramp(ends=lambda low, high: (math.floor(2 * low), math.ceil(2 * high))),
                "the numbers of the two pairs are twice as large: `half` is head_dim / 2.",
            ),
            "faster": (
                with_ramp(mix=lambda plain, slow, ramp: plain * (1 - ramp) + plain * plain / slow * ramp),
                "the slow pairs are multiplied by the factor. They have to turn more slowly: divide.",
            ),
            "ramp in periods": (
                with_ramp(mix=interpolated_periods),
                "the ramp mixes periods. It is linear in the frequencies.",
            ),
            "no rounding": (
                with_ramp(ends=lambda low, high: (low, high)),
                "the ends of the ramp are not rounded: the first down, the last up.",
            ),
            "rounded to the nearest": (
                with_ramp(ends=lambda low, high: (round(low), round(high))),
                "the ends of the ramp are rounded to the nearest pair: the first is rounded down, the last up.",
            ),
            "a step": (
                with_ramp(mix=lambda plain, slow, ramp: torch.where(ramp < 0.5, plain, slow)),
                "the pairs change at a step. Between the two ends the frequencies are mixed.",
            ),
            "new length": (
                with_ramp(length=lambda original, factor: original * factor),
                "turns are counted in the new length. What counts is what a pair did within the original one.",
            ),
            "radians": (
                with_ramp(circle=1.0),
                "turns are counted in radians: a whole turn is 2 pi of them.",
            ),
            "half exponent": (
                with_ramp(exponent=1.0),
                "the exponent is pair / head_dim. There are head_dim / 2 pairs, so it is 2 * pair / head_dim.",
            ),
            "other turns": (
                with_ramp(turns=(16, 1)),
                "a pair counts as fast from 16 turns on. In YaRN it is 32.",
            ),
            "without the one": (
                with_ramp(scale=lambda factor: 0.1 * math.log(factor)),
                "the scale lacks the 1: it is 0.1 * log(factor) + 1.",
            ),
            "no scale": (
                with_ramp(scale=lambda factor: 1.0),
                "the scale is 1. With more keys the softmax gets flatter; 0.1 * log(factor) + 1 makes up for it.",
            ),
            "decimal logarithm": (
                with_ramp(scale=lambda factor: 0.1 * math.log10(factor) + 1),
                "the scale has the decimal logarithm in it: it is the natural one.",
            ),
            "binary logarithm": (
                with_ramp(scale=lambda factor: 0.1 * math.log2(factor) + 1),
                "the scale has the logarithm to base 2 in it: it is the natural one.",
            ),
            "squared scale": (
                with_ramp(scale=lambda factor: (0.1 * math.log(factor) + 1) ** 2),
                "the scale is that of a score. It is multiplied to cos and sin of q and of k, so it is squared there "
                "by itself.",
            ),
            "plain and no scale": (
                lambda *sizes: (plain_frequencies(*sizes), 1.0),
                "this is plain RoPE: no pair is slowed, and the scale is 1.",
            ),
            "scaled positions": (
                lambda *sizes: (all_slowed(*sizes), 1.0),
                "all pairs are slowed by the factor, and the scale is 1: scaled positions.",
            ),
        },
        accepted={
            "tensors": with_ramp(),
            "a ramp of what is kept": with_ramp(mix=lambda plain, slow, ramp: slow + (plain - slow) * (1 - ramp)),
        },
    ),
)
