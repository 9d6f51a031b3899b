"""Chapter 03, RoPE: from interleaved to half-split pairing, and rotating some pairs only (03.6 and 03.7)."""

from typing import Any

import torch
from einops import rearrange, repeat
from torch import Tensor

from minimoe.course.checker.exercise import Arguments, Case, Exercise
from minimoe.course.exercises.ch03_rotation import draw_rope, interleaved
from minimoe.model.rope import apply_rope

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


def as_given(weight: Tensor, head_dim: int) -> Tensor:
    """The function on the page, which is to be rewritten with one einops pattern."""
    heads = weight.shape[0] // head_dim
    return weight.view(heads, head_dim // 2, 2, -1).transpose(1, 2).reshape(heads * head_dim, -1)


def pasted(answer: Any) -> str | None:
    """A complaint if the answer is the function on the page, whatever its name."""
    code, given = getattr(answer, "__code__", None), as_given.__code__
    if code is not None and (code.co_code, code.co_names) == (given.co_code, given.co_names):
        return "this is the function from the page. Its result is right; write it as one einops pattern"
    return None


def as_it_was(weight: Tensor, head_dim: int) -> Tensor:
    return weight.clone()


def the_way_back(weight: Tensor, head_dim: int) -> Tensor:
    return rearrange(weight, "(head pair half) hidden -> (head half pair) hidden", pair=2, head=len(weight) // head_dim)


def across_heads(weight: Tensor, head_dim: int) -> Tensor:
    return rearrange(weight, "(half pair) hidden -> (pair half) hidden", pair=2)


def heads_innermost(weight: Tensor, head_dim: int) -> Tensor:
    return rearrange(weight, "(half pair head) hidden -> (head pair half) hidden", pair=2, half=head_dim // 2)


def heads_mixed(weight: Tensor, head_dim: int) -> Tensor:
    return rearrange(weight, "(head half pair) hidden -> (pair half head) hidden", pair=2, half=head_dim // 2)


def heads_put_inside(weight: Tensor, head_dim: int) -> Tensor:
    return rearrange(weight, "(head half pair) hidden -> (half pair head) hidden", pair=2, half=head_dim // 2)


def members_traded(weight: Tensor, head_dim: int) -> Tensor:
    pairs = rearrange(weight, "(head half pair) hidden -> pair head half hidden", pair=2, half=head_dim // 2)
    return rearrange(pairs.flip(0), "pair head half hidden -> (head pair half) hidden")


def reversed_pairs(weight: Tensor, head_dim: int) -> Tensor:
    pairs = rearrange(weight, "(head half pair) hidden -> half head pair hidden", pair=2, half=head_dim // 2)
    return rearrange(pairs.flip(0), "half head pair hidden -> (head pair half) hidden")


def input_side(weight: Tensor, head_dim: int) -> Tensor:
    """Permutes what comes in."""
    return torch.cat((weight[:, ::2], weight[:, 1::2]), dim=1)


def half_of_each_half(weight: Tensor, head_dim: int) -> Tensor:
    return rearrange(weight, "(head half pair) hidden -> (head pair half) hidden", pair=2, half=head_dim // 4)


def second_negated(weight: Tensor, head_dim: int) -> Tensor:
    first, second = rearrange(weight, "(head half pair) hidden -> pair head half hidden", pair=2, half=head_dim // 2)
    return rearrange([first, -second], "pair head half hidden -> (head pair half) hidden")


def first_twice(weight: Tensor, head_dim: int) -> Tensor:
    first, _ = rearrange(weight, "(head half pair) hidden -> pair head half hidden", pair=2, half=head_dim // 2)
    return repeat(first, "head half hidden -> (head pair half) hidden", pair=2)


def first_head_only(weight: Tensor, head_dim: int) -> Tensor:
    return torch.cat((by_slices(weight[:head_dim], head_dim), weight[head_dim:]))


def reversed_channels(weight: Tensor, head_dim: int) -> Tensor:
    heads = rearrange(weight, "(head channel) hidden -> head channel hidden", channel=head_dim)
    return rearrange(heads.flip(1), "head channel hidden -> (head channel) hidden")


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


def draw_only(
    batch: int, head: int, position: int, head_dim: int, chosen: list[int], start: int = 1,
    dtype: torch.dtype = torch.float32,
) -> Arguments:  # fmt: skip
    def arguments(generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        drawn = draw_rope(batch, head, position, head_dim, dtype, start=start)
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


def only_the_cosine(x: Tensor, cos: Tensor, sin: Tensor, chosen: Tensor) -> Tensor:
    return apply_rope(x, torch.where(both_members(chosen), cos, 1.0), sin)


def second_member_only(x: Tensor, cos: Tensor, sin: Tensor, chosen: Tensor) -> Tensor:
    return torch.where(torch.cat((torch.zeros_like(chosen), chosen)), apply_rope(x, cos, sin), x)


def always_float32(x: Tensor, cos: Tensor, sin: Tensor, chosen: Tensor) -> Tensor:
    return by_where(x, cos, sin, chosen).float()


def quarter_turned(x: Tensor, cos: Tensor, sin: Tensor, chosen: Tensor) -> Tensor:
    mask = both_members(chosen)
    return apply_rope(x, torch.where(mask, cos, 0.0), torch.where(mask, sin, 1.0))


def all_if_any(x: Tensor, cos: Tensor, sin: Tensor, chosen: Tensor) -> Tensor:
    return apply_rope(x, cos, sin) if chosen.any() else x


def as_many_of_the_fastest(x: Tensor, cos: Tensor, sin: Tensor, chosen: Tensor) -> Tensor:
    return by_where(x, cos, sin, torch.arange(len(chosen)) < chosen.sum())


def first_row_for_the_others(x: Tensor, cos: Tensor, sin: Tensor, chosen: Tensor) -> Tensor:
    """The first row of the tables, as if it were position 0."""
    mask = both_members(chosen)
    return apply_rope(x, torch.where(mask, cos, cos[:1]), torch.where(mask, sin, sin[:1]))


def turned_back(x: Tensor, cos: Tensor, sin: Tensor, chosen: Tensor) -> Tensor:
    return by_where(x, cos, -sin, chosen)


def added_to_x(x: Tensor, cos: Tensor, sin: Tensor, chosen: Tensor) -> Tensor:
    return x + zeroed(x, cos, sin, chosen)


def neighbours_paired(x: Tensor, cos: Tensor, sin: Tensor, chosen: Tensor) -> Tensor:
    mask = repeat(chosen, "half -> (half pair)", pair=2)
    return torch.where(mask, interleaved(x, cos, sin), x)


def the_next_pair(x: Tensor, cos: Tensor, sin: Tensor, chosen: Tensor) -> Tensor:
    return by_where(x, cos, sin, chosen.roll(1))


def chosen_in_front(x: Tensor, cos: Tensor, sin: Tensor, chosen: Tensor) -> Tensor:
    mask = both_members(chosen)
    return torch.cat((apply_rope(x, cos, sin)[..., mask], x[..., ~mask]), dim=-1)


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
        id="03.6",
        title="From one pairing to the other",
        kind="einops",
        minutes=12,
        difficulty=4,
        hints=(
            "The rows of a projection are its output channels. In which order do they come, and in which should they?",
            "Rows are (head head_dim), and in the interleaved layout head_dim is (half pair) with pair=2. Nothing "
            "moves from one head to another, and the columns stay.",
            'rearrange(weight, "(head half pair) hidden -> (head pair half) hidden", pair=2, half=head_dim // 2).',
        ),
        now_you_know="the two conventions are one model with its rows in another order, and one line converts them.",
        oracle=half_split_by_loops,
        cases=(
            Case(
                "one head of eight channels: rows 0 2 4 6, then 1 3 5 7",
                (EIGHT, 8),
                torch.stack([EIGHT[row] for row in (0, 2, 4, 6, 1, 3, 5, 7)]),
            ),
            Case("three heads", draw_weight(3, 6, 4)),
            Case("two heads, an odd number of columns", draw_weight(2, 10, 7)),
            Case("a norm's weight, as one column", draw_weight(1, 12, 1)),
            Case("bfloat16, equal to the bit", draw_weight(5, 8, 6, torch.bfloat16), tolerance=0),
            Case("a weight that is not contiguous", strided_weight),
        ),
        given=as_given,
        also=pasted,
        mutants={
            "as it was": (as_it_was, "the rows are in their old order."),
            "the way back": (
                the_way_back,
                "this is the way back, from half-split to interleaved. The left side of the pattern describes what "
                "comes in.",
            ),
            "across heads": (
                across_heads,
                "rows move from one head to another. Name `head` on both sides, so that each keeps its own channels.",
            ),
            "heads innermost": (
                heads_innermost,
                "`head` is read as the innermost axis. Rows come head by head: all of head 0, then all of head 1.",
            ),
            "heads put innermost": (
                heads_mixed,
                "`head` has become the innermost axis of the result. It stays outermost: all of head 0, then head 1.",
            ),
            "heads put inside, order kept": (
                heads_put_inside,
                "`head` has become the innermost axis of the result, and the pairs are still neighbours.",
            ),
            "members traded": (
                members_traded,
                "the two channels of each pair are swapped, which mirrors every arrow.",
            ),
            "pairs reversed": (
                reversed_pairs,
                "the pairs are in reversed order, so the channels of a slow pair turn fast.",
            ),
            "the columns": (
                input_side,
                "the columns were moved. They are the hidden channels that come in; the channels of q and k are the "
                "rows.",
            ),
            "half of each half": (
                half_of_each_half,
                "half is head_dim / 4 here, so each half of a head is sorted on its own. A head has head_dim / 2 "
                "pairs.",
            ),
            "second negated": (
                second_negated,
                "the second channels have a minus. The rotation does that; the weights only change places.",
            ),
            "first twice": (first_twice, "the even rows stand in both halves. The second half is for the odd rows."),
            "first head only": (first_head_only, "only the first head has changed. Every head has the same layout."),
            "reversed channels": (
                reversed_channels,
                "the channels of each head are reversed. Even ones come first, then odd ones, both in rising order.",
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
            "chosen is (half); x is (..., head_dim) = (..., pair half). Both channels of a pair need the same answer: "
            "repeat.",
            'mask = repeat(chosen, "half -> (pair half)", pair=2); torch.where(mask, apply_rope(x, cos, sin), x).',
        ),
        now_you_know="the mini reads its short texts with a few fast pairs and hardly misses the slow ones.",
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
            Case("one position", draw_only(1, 2, 1, 4, [1], start=3)),
            Case("bfloat16 in, bfloat16 out", draw_only(1, 2, 3, 8, [0, 3], dtype=torch.bfloat16), tolerance=0.03),
        ),
        mutants={
            "all of them": (all_of_them, "all pairs are turned. `chosen` says which ones should be."),
            "none of them": (none_of_them, "no pair is turned."),
            "the others": (the_others, "the wrong pairs are turned: those that were *not* chosen."),
            "laid out for neighbours": (
                laid_out_for_neighbours,
                "the mask repeats each answer for neighbours. The channels of a pair are half of head_dim apart: "
                "(pair half).",
            ),
            "first member only": (
                first_member_only,
                "only the first channel of each chosen pair is turned. Its partner is half of head_dim further on.",
            ),
            "second member only": (
                second_member_only,
                "only the second channel of each chosen pair is turned. Its partner is in the first half of head_dim.",
            ),
            "zeroed": (
                zeroed,
                "the pairs that are not chosen have become zero. They should come out as they went in.",
            ),
            "only the sine": (
                only_the_sine,
                "only sin is switched off, so the other pairs shrink by their cosine. An angle of 0 has cos 1.",
            ),
            "only the cosine": (
                only_the_cosine,
                "only cos is switched off. An angle of 0 has cos 1 and sin 0.",
            ),
            "a quarter turn": (
                quarter_turned,
                "the other pairs are turned by 90 degrees. An angle of 0 has cos 1 and sin 0, not the reverse.",
            ),
            "all if any": (
                all_if_any,
                "one chosen pair turns all of them. Each pair has an answer of its own in `chosen`.",
            ),
            "as many of the fastest": (
                as_many_of_the_fastest,
                "as many pairs are turned as are chosen, but always the fastest. `chosen` says which ones.",
            ),
            "first row for the others": (
                first_row_for_the_others,
                "the other pairs are turned by the first row of cos and sin. That row is the first position of this "
                "call, not position 0, where cos is 1 and sin is 0.",
            ),
            "turned back": (
                turned_back,
                "the right pairs are turned, but the other way: the sign of sin is wrong.",
            ),
            "added": (
                added_to_x,
                "the chosen pairs are turned and then added to x. A turned pair replaces the old one.",
            ),
            "neighbours paired": (
                neighbours_paired,
                "neighbours are paired: 0 with 1, 2 with 3. Channel j belongs to channel j + head_dim / 2.",
            ),
            "the next pair": (the_next_pair, "each answer is taken for the next pair: `chosen` is shifted by one."),
            "chosen in front": (
                chosen_in_front,
                "the chosen channels have moved to the front. Every channel stays at its place.",
            ),
            "left in float32": (always_float32, "the result is float32 although x isn't. Keep the model's dtype."),
        },
        accepted={"where": by_where, "angles of zero": by_tables, "indexing": by_index_put},
    ),
)
