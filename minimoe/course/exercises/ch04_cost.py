"""Chapter 04, attention: the size of the cache, and heads switched off (04.6 and 04.7)."""

import math
from collections.abc import Callable
from itertools import combinations
from typing import Any

import torch
from einops import einsum, rearrange
from torch import Tensor

from minimoe.course.checker.exercise import Arguments, Case, Exercise

# 04.6 the cache ------------------------------------------------------------------------------------------------------


def cache_bytes_by_hand(layers: int, heads: int, kv_heads: int, head_dim: int, tokens: int, bytes_each: int) -> int:
    """One number after another: keys and values, of each layer, KV head, token and channel."""
    return sum(kv_heads * head_dim * tokens * bytes_each for _ in range(layers) for _ in ("keys", "values"))


def keys_only(layers: int, heads: int, kv_heads: int, head_dim: int, tokens: int, bytes_each: int) -> int:
    return layers * kv_heads * head_dim * tokens * bytes_each


def every_query_head(layers: int, heads: int, kv_heads: int, head_dim: int, tokens: int, bytes_each: int) -> int:
    return 2 * layers * heads * head_dim * tokens * bytes_each


def one_layer(layers: int, heads: int, kv_heads: int, head_dim: int, tokens: int, bytes_each: int) -> int:
    return 2 * kv_heads * head_dim * tokens * bytes_each


def one_kv_head(layers: int, heads: int, kv_heads: int, head_dim: int, tokens: int, bytes_each: int) -> int:
    return 2 * layers * head_dim * tokens * bytes_each


def head_dim_split(layers: int, heads: int, kv_heads: int, head_dim: int, tokens: int, bytes_each: int) -> float:
    return 2 * layers * kv_heads * (head_dim / heads) * tokens * bytes_each


def numbers_not_bytes(layers: int, heads: int, kv_heads: int, head_dim: int, tokens: int, bytes_each: int) -> int:
    return 2 * layers * kv_heads * head_dim * tokens


def per_token(layers: int, heads: int, kv_heads: int, head_dim: int, tokens: int, bytes_each: int) -> int:
    return 2 * layers * kv_heads * head_dim * bytes_each


def all_pairs(layers: int, heads: int, kv_heads: int, head_dim: int, tokens: int, bytes_each: int) -> int:
    return 2 * layers * kv_heads * head_dim * tokens * tokens * bytes_each


def keys_of_every_head(layers: int, heads: int, kv_heads: int, head_dim: int, tokens: int, bytes_each: int) -> int:
    return layers * heads * head_dim * tokens * bytes_each


def rows_without_channels(layers: int, heads: int, kv_heads: int, head_dim: int, tokens: int, bytes_each: int) -> int:
    return 2 * layers * kv_heads * tokens * bytes_each


def queries_too(layers: int, heads: int, kv_heads: int, head_dim: int, tokens: int, bytes_each: int) -> int:
    return layers * (heads + 2 * kv_heads) * head_dim * tokens * bytes_each


def one_of_both_kinds(layers: int, heads: int, kv_heads: int, head_dim: int, tokens: int, bytes_each: int) -> int:
    return layers * (heads + kv_heads) * head_dim * tokens * bytes_each


def heads_of_a_group(layers: int, heads: int, kv_heads: int, head_dim: int, tokens: int, bytes_each: int) -> int:
    return 2 * layers * (heads // kv_heads) * head_dim * tokens * bytes_each


def all_scores(layers: int, heads: int, kv_heads: int, head_dim: int, tokens: int, bytes_each: int) -> int:
    return layers * heads * tokens * tokens * bytes_each


def without_the_last(layers: int, heads: int, kv_heads: int, head_dim: int, tokens: int, bytes_each: int) -> int:
    return 2 * layers * kv_heads * head_dim * (tokens - 1) * bytes_each


def in_units(unit: float, whole: bool = False) -> Callable[..., float]:
    """The cache in larger units than bytes, with or without digits after the point."""
    return lambda *sizes: round(as_product(*sizes) / unit) if whole else as_product(*sizes) / unit


# Factors of the product done differently, of which answers often have two. name -> (the factor, what it is)
FACTORS: dict[str, tuple[int, Callable[..., float], str]] = {
    "keys only": (0, lambda *sizes: 1, "the values are missing"),
    "three tensors": (0, lambda *sizes: 3, "three tensors are counted, while only keys and values are kept"),
    "one layer": (1, lambda *sizes: 1, "only one layer is counted"),
    "query heads": (2, lambda layers, heads, kv_heads, *_: heads, "the query heads are counted"),
    "both kinds of heads": (
        2,
        lambda layers, heads, kv_heads, *_: heads + kv_heads,
        "query heads and key/value heads are added up, while only the latter are kept",
    ),
    "heads of a group": (
        2,
        lambda layers, heads, kv_heads, *_: heads // kv_heads,
        "the size of a group, heads // kv_heads, is in the place of kv_heads",
    ),
    "one head": (2, lambda *sizes: 1, "only one key/value head is counted"),
    "without head_dim": (3, lambda *sizes: 1, "head_dim is missing"),
    "one token": (4, lambda *sizes: 1, "only one token is counted"),
    "numbers": (5, lambda *sizes: 1, "numbers are counted, not bytes"),
}


AS_ONE = {("keys only", "query heads"), ("keys only", "both kinds of heads")}  # mutants of their own


def with_factors(*others: tuple[int, Callable[..., float]]) -> Callable[..., float]:
    """The product of 2, layers, kv_heads, head_dim, tokens and bytes_each, with some of the factors replaced."""

    def answer(layers: int, heads: int, kv_heads: int, head_dim: int, tokens: int, bytes_each: int) -> float:
        factors: list[float] = [2, layers, kv_heads, head_dim, tokens, bytes_each]
        for place, factor in others:
            factors[place] = factor(layers, heads, kv_heads, head_dim, tokens, bytes_each)
        return math.prod(factors)

    return answer


def two_wrong_factors() -> dict[str, tuple[Any, str]]:
    """Mutants of the cache's size in which two factors are wrong."""
    return {
        f"{name} and {second}": (with_factors((place, one), (other_place, other)), f"two things: {says}; and {also}.")
        for (name, (place, one, says)), (second, (other_place, other, also)) in combinations(FACTORS.items(), 2)
        if place != other_place and (name, second) not in AS_ONE
    }


LARGER = {"kB": 1e3, "KiB": 2**10, "MB": 1e6, "MiB": 2**20, "GB": 1e9, "GiB": 2**30}


def as_product(layers: int, heads: int, kv_heads: int, head_dim: int, tokens: int, bytes_each: int) -> int:
    return 2 * layers * kv_heads * head_dim * tokens * bytes_each


def from_shapes(layers: int, heads: int, kv_heads: int, head_dim: int, tokens: int, bytes_each: int) -> int:
    shape = torch.Size((2, layers, 1, kv_heads, tokens, head_dim))
    return shape.numel() * bytes_each


# 04.7 heads switched off ---------------------------------------------------------------------------------------------


def off_by_loops(context: Tensor, off: Tensor) -> Tensor:
    """A copy in which every head that is True in `off` is filled with zeros."""
    kept = context.clone()
    for head in range(context.shape[1]):
        if off[head]:
            kept[:, head] = 0
    return kept


def draw_heads(
    batch: int, head: int, query: int, head_dim: int, off: list[int], dtype: torch.dtype = torch.float32
) -> Arguments:
    def arguments(generator: torch.Generator) -> tuple[Tensor, Tensor]:
        context = torch.randn(batch, head, query, head_dim, generator=generator).to(dtype)
        return context, torch.tensor([number in off for number in range(head)])

    return arguments


def the_others(context: Tensor, off: Tensor) -> Tensor:
    return off_by_loops(context, ~off)


def nothing_off(context: Tensor, off: Tensor) -> Tensor:
    return context.clone()


def all_off(context: Tensor, off: Tensor) -> Tensor:
    return torch.zeros_like(context)


def rescaled(context: Tensor, off: Tensor) -> Tensor:
    return off_by_loops(context, off) * len(off) / max(1, int((~off).sum()))


def taken_out(context: Tensor, off: Tensor) -> Tensor:
    return context[:, ~off]


def averaged(context: Tensor, off: Tensor) -> Tensor:
    means = context.float().mean(dim=2, keepdim=True).to(context.dtype)
    return torch.where(off[:, None, None], means, context)


def wrong_axis(context: Tensor, off: Tensor) -> Tensor:
    """The first queries instead of heads, as far as there are any."""
    queries = torch.zeros(context.shape[2], dtype=torch.bool)
    length = min(len(off), len(queries))
    queries[:length] = off[:length]
    return context * ~queries[:, None]


def filled(value: float) -> Callable[[Tensor, Tensor], Tensor]:
    """The heads that are off hold this value."""
    return lambda context, off: context.masked_fill(rearrange(off, "head -> head 1 1"), value)


def bools_as_numbers(context: Tensor, off: Tensor) -> Tensor:
    """False and True became the heads number 0 and 1."""
    kept = context.clone()
    kept[:, off.long()] = 0
    return kept


def as_many(context: Tensor, off: Tensor) -> Tensor:
    return off_by_loops(context, torch.arange(len(off)) < off.sum())


def only_the_first(context: Tensor, off: Tensor) -> Tensor:
    """The first head that is off, and no other."""
    return off_by_loops(context, off & (off.cumsum(0) == 1))


def by_argmax(context: Tensor, off: Tensor) -> Tensor:
    """The first head that is off, and head 0 where none is."""
    return off_by_loops(context, torch.arange(len(off)) == off.int().argmax())


def only_the_last(context: Tensor, off: Tensor) -> Tensor:
    return off_by_loops(context, off & (off.cumsum(0) == off.sum()))


def in_one_place(axis: int, index: int) -> Callable[[Tensor, Tensor], Tensor]:
    """The heads are off in one text (axis 0) or for one query (axis 2) only."""

    def answer(context: Tensor, off: Tensor) -> Tensor:
        kept, zeros = context.clone(), off_by_loops(context, off)
        kept.select(axis, index).copy_(zeros.select(axis, index))
        return kept

    return answer


def only_channels(context: Tensor, off: Tensor) -> Tensor:
    """The first channels instead of heads, as far as there are any."""
    channels = torch.zeros(context.shape[3], dtype=torch.bool)
    length = min(len(off), len(channels))
    channels[:length] = off[:length]
    return context * ~channels


def as_the_others(context: Tensor, off: Tensor) -> Tensor:
    """The heads that are off hold the mean of those that are not."""
    if bool(off.all()):
        return torch.zeros_like(context)
    mean = context[:, ~off].float().mean(dim=1, keepdim=True).to(context.dtype)
    return torch.where(rearrange(off, "head -> head 1 1"), mean, context)


def first_channel(context: Tensor, off: Tensor) -> Tensor:
    kept = context.clone()
    kept[..., 0] = off_by_loops(context, off)[..., 0]
    return kept


def by_where(context: Tensor, off: Tensor) -> Tensor:
    return torch.where(rearrange(off, "head -> head 1 1"), torch.zeros_like(context), context)


def by_product(context: Tensor, off: Tensor) -> Tensor:
    return einsum(context, (~off).to(context.dtype), "batch head query head_dim, head -> batch head query head_dim")


def by_index(context: Tensor, off: Tensor) -> Tensor:
    result = context.clone()
    result[:, off] = 0.0
    return result


def by_stack(context: Tensor, off: Tensor) -> Tensor:
    return torch.stack([head * (not gone) for head, gone in zip(context.unbind(1), off.tolist(), strict=True)], dim=1)


EXERCISES = (
    Exercise(
        id="04.6",
        title="Estimate, then measure: the cache",
        kind="estimate",
        minutes=10,
        difficulty=2,
        hints=(
            "What is kept of every earlier token, in each layer?",
            "A key and a value for each key/value head, each with head_dim numbers.",
            "2 * layers * kv_heads * head_dim * tokens * bytes_each.",
        ),
        now_you_know="the cache grows with the tokens, the layers and the key/value heads; query heads are free.",
        oracle=cache_bytes_by_hand,
        cases=(
            Case("one layer, one head of four channels, three tokens, 2 bytes: 48", (1, 1, 1, 4, 3, 2), 48),
            Case("eight query heads share two", (3, 8, 2, 16, 5, 2)),
            Case("float32", (2, 6, 3, 8, 7, 4)),
            Case("a long text in 1 byte each", (5, 4, 4, 32, 1000, 1)),
            Case("no tokens yet", (4, 8, 2, 16, 0, 2)),
        ),
        mutants={
            "keys only": (keys_only, "the values are missing: two tensors are kept, keys and values."),
            "every query head": (
                every_query_head,
                "you counted the query heads. Only key/value heads are kept, which is the point of grouping.",
            ),
            "one layer": (one_layer, "that is one layer. Each layer keeps its own keys and values."),
            "one head": (one_kv_head, "that is one key/value head. Each of them is kept."),
            "head_dim divided": (
                head_dim_split,
                "head_dim was divided by the number of heads. It is already the size of one head.",
            ),
            "numbers": (numbers_not_bytes, "these are numbers, not bytes: each takes bytes_each."),
            "one token": (per_token, "that is a single token."),
            "all pairs": (
                all_pairs,
                "tokens is squared. There is a score for each pair, but it is not kept; the cache has a row per token.",
            ),
            "both kinds of heads": (
                with_factors((2, lambda layers, heads, kv_heads, *_: heads + kv_heads)),
                "query heads and key/value heads are added up. Only key/value heads are kept.",
            ),
            "every earlier token": (
                with_factors((4, lambda *sizes: sizes[4] * (sizes[4] + 1) / 2)),
                "the sizes of the cache at every token were added up. It is one cache that grows: count it at the end.",
            ),
            "heads plus channels": (
                lambda layers, heads, kv_heads, head_dim, tokens, bytes_each: (
                    2 * layers * (kv_heads + head_dim) * tokens * bytes_each
                ),
                "kv_heads and head_dim are added. Each head has head_dim numbers: multiply them.",
            ),
            "one layer less": (
                with_factors((1, lambda *sizes: sizes[0] - 1)),
                "one layer is missing. Every layer has attention, the first and the last too.",
            ),
            "heads times heads": (
                with_factors((2, lambda layers, heads, kv_heads, *_: heads * kv_heads)),
                "query heads and key/value heads are multiplied. Only key/value heads are kept.",
            ),
            "saved twice": (
                with_factors((2, lambda layers, heads, kv_heads, *_: kv_heads * kv_heads / heads)),
                "the size is divided by the number of heads that share one. kv_heads is already the smaller number.",
            ),
            "all scores": (
                all_scores,
                "these are the scores, one for each pair of tokens and each query head. They are not kept; the cache "
                "has a key and a value of head_dim numbers per token.",
            ),
            "keys of every query head": (
                keys_of_every_head,
                "you counted one tensor, of all query heads. Two are kept, keys and values, of the key/value heads.",
            ),
            "without head_dim": (
                rows_without_channels,
                "head_dim is missing: a key is not one number but head_dim of them.",
            ),
            "queries too": (
                queries_too,
                "you counted the queries as well. A query is used once, so only keys and values are kept.",
            ),
            "three tensors": (
                lambda *sizes: 3 * keys_only(*sizes),
                "you counted three tensors. A query is used once, so only keys and values are kept.",
            ),
            "one of both kinds": (
                one_of_both_kinds,
                "one of the two tensors is counted with all query heads. Keys and values both have kv_heads.",
            ),
            "heads of a group": (
                heads_of_a_group,
                "heads // kv_heads is the size of a group: how many share one. Kept are the kv_heads themselves.",
            ),
            "without the last": (
                without_the_last,
                "one token is missing. The last one leaves a key and a value, too, for those that follow.",
            ),
            "bits": (lambda *sizes: 8 * as_product(*sizes), "these are bits. bytes_each already counts in bytes."),
            "twice": (
                lambda *sizes: 2 * as_product(*sizes),
                "this is twice as much. Keys and values are two tensors, and the factor 2 stands for them already.",
            ),
            **{
                f"in {unit}": (in_units(size), f"that is in {unit}. The exercise asks for bytes.")
                for unit, size in LARGER.items()
            },
            **{
                f"in {unit}, rounded": (
                    in_units(LARGER[unit.split()[0]], whole=True),
                    f"that is in {unit}, rounded to a whole number. The exercise asks for bytes.",
                )
                for unit in ("kB", "KiB", "MB or MiB", "GB or GiB")
            },
            **two_wrong_factors(),
        },
        accepted={"a product": as_product, "the shape of a tensor": from_shapes},
    ),
    Exercise(
        id="04.7",
        title="Ablate: how many heads can go?",
        kind="ablate",
        minutes=15,
        difficulty=3,
        hints=(
            "Each head leaves head_dim numbers per token. Switched off, it leaves zeros.",
            "context is (batch, head, query, head_dim), off is (head). Give `off` three more axes, or index with it.",
            'torch.where(rearrange(off, "head -> head 1 1"), torch.zeros_like(context), context).',
        ),
        now_you_know="most heads of the mini can go one at a time; a few of them, and all together, cannot.",
        oracle=off_by_loops,
        cases=(
            Case(
                "two heads, the first is off",
                (torch.tensor([[[[1.0, 2.0]], [[3.0, 4.0]]]]), torch.tensor([True, False])),
                torch.tensor([[[[0.0, 0.0]], [[3.0, 4.0]]]]),
            ),
            Case("heads 1 and 4 of 6", draw_heads(2, 6, 3, 4, [1, 4])),
            Case("none is off", draw_heads(1, 3, 2, 5, [])),
            Case("all are off", draw_heads(1, 3, 2, 5, [0, 1, 2])),
            Case("bfloat16, equal to the bit", draw_heads(1, 4, 3, 6, [2], torch.bfloat16), tolerance=0),
        ),
        mutants={
            "the others": (the_others, "the wrong heads are off: those that are False."),
            "none": (nothing_off, "no head is off."),
            "all": (all_off, "all heads are off."),
            "rescaled": (
                rescaled,
                "the remaining heads were made larger, as dropout does in training. Leave them as they are.",
            ),
            "averaged": (averaged, "the heads were replaced by their mean over the text. Switched off, they are zero."),
            "the wrong axis": (
                wrong_axis,
                "queries are switched off instead of heads. `off` belongs to the head axis.",
            ),
            "channels": (
                only_channels,
                "channels are switched off instead of heads: without new axes, `off` meets the last one.",
            ),
            "-inf": (
                filled(-torch.inf),
                "the heads hold -inf. That is for scores before a softmax; what a head found is replaced by zeros.",
            ),
            "nan": (filled(torch.nan), "the heads hold nan. Switched off, they are zero."),
            "ones": (filled(1.0), "the heads hold ones. Switched off, they are zero."),
            "bools as numbers": (
                bools_as_numbers,
                "False and True were taken for the heads number 0 and 1. Index with the bool tensor itself, not with "
                "off.int() or off.long().",
            ),
            "halved": (
                lambda context, off: torch.where(rearrange(off, "head -> head 1 1"), context / 2, context),
                "the heads are half as large. Switched off, they are zero.",
            ),
            "other sign": (
                lambda context, off: torch.where(rearrange(off, "head -> head 1 1"), -context, context),
                "the heads have the other sign. Switched off, they are zero.",
            ),
            "as the others": (
                as_the_others,
                "the heads were replaced by the mean of the other heads. Switched off, they are zero.",
            ),
            "first channel": (first_channel, "only the first channel of each head is off. All head_dim of them go."),
            "shifted": (
                lambda context, off: off_by_loops(context, off.roll(1)),
                "each head that is off is one too far. Entry n of `off` is head number n, counted from 0.",
            ),
            "reversed": (
                lambda context, off: off_by_loops(context, off.flip(0)),
                "`off` is read from its end. Entry n is head number n.",
            ),
            "as many at the end": (
                lambda context, off: off_by_loops(context, torch.arange(len(off)) >= len(off) - off.sum()),
                "the last heads are off, as many as there are True values. Which ones matters, not only how many.",
            ),
            "as many": (
                as_many,
                "the first heads are off, as many as there are True values. Which ones matters, not only how many.",
            ),
            "all if any": (
                lambda context, off: context * (~off).all(),
                "all heads are off as soon as one of them is. Each has its own entry in `off`.",
            ),
            "only the first": (only_the_first, "only the first of the heads that are True is off. There can be more."),
            "argmax": (
                by_argmax,
                "argmax gives one head: the first that is True, and head 0 if none is. There can be more, or none.",
            ),
            "only the last": (only_the_last, "only the last of the heads that are True is off. There can be more."),
            "one text": (in_one_place(0, 0), "the heads are off in the first text of the batch only."),
            "the last text": (in_one_place(0, -1), "the heads are off in the last text of the batch only."),
            "one query": (in_one_place(2, 0), "the heads are off for the first query only."),
            "the last query": (in_one_place(2, -1), "the heads are off for the last query only."),
        },
        accepted={"where": by_where, "an einsum": by_product, "an index": by_index, "head by head": by_stack},
    ),
)
