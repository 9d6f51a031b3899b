"""Chapter 03, RoPE: the rotation, and predictions about scores (03.2 and 03.3)."""

from typing import Any

import torch
from einops import rearrange, repeat
from torch import Tensor

from minimoe.course.checker.exercise import Arguments, Case, Exercise, Stage
from minimoe.course.exercises.ch03_frequencies import frequencies_by_loop
from minimoe.model.rope import apply_rope

# 03.2 the rotation ----------------------------------------------------------------------------------------------------


def rotate_by_loops(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """One arrow after another, each multiplied by a complex number."""
    half, turned = x.shape[-1] // 2, x.clone().double()
    for place in torch.cartesian_prod(*(torch.arange(size) for size in (*x.shape[:3], half))).tolist():
        batch, head, position, pair = place
        row = x[batch, head, position].double()
        turn = complex(cos[position, pair].item(), sin[position, pair].item())
        arrow = complex(row[pair].item(), row[pair + half].item()) * turn
        turned[batch, head, position, pair], turned[batch, head, position, pair + half] = arrow.real, arrow.imag
    return turned.to(x.dtype)


def draw_rope(
    batch: int, head: int, position: int, head_dim: int, dtype: torch.dtype = torch.float32, start: int = 0,
    scale: float = 1.0, strided: bool = False,
) -> Arguments:  # fmt: skip
    """Random x and true tables for the positions from `start` on."""

    def arguments(generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        x = torch.randn(batch, position, head, head_dim, generator=generator).to(dtype)
        x = rearrange(x, "batch position head head_dim -> batch head position head_dim")
        places = torch.arange(start, start + position, dtype=torch.float64)
        angles = torch.outer(places, frequencies_by_loop(head_dim, 10_000.0).double())
        angles = repeat(angles, "position half -> position (pair half)", pair=2)
        return x if strided else x.contiguous(), (angles.cos() * scale).to(dtype), (angles.sin() * scale).to(dtype)

    return arguments


def halves(x: Tensor) -> tuple[Tensor, Tensor]:
    first, second = rearrange(x, "batch head position (pair half) -> pair batch head position half", pair=2)
    return first, second


LOST_DIGITS = (
    "the rotation is computed in float32 although x is float64, so half of its digits are lost. Compute in x's dtype, "
    "or in float64."
)


def interleaved(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Neighbours are paired, each pair at its own speed."""
    first, second = rearrange(x, "batch head position (half pair) -> pair batch head position half", pair=2)
    cos, sin = cos[:, : first.shape[-1]], sin[:, : first.shape[-1]]
    turned = [first * cos - second * sin, second * cos + first * sin]
    return rearrange(turned, "pair batch head position half -> batch head position (half pair)")


def neighbours_with_half_split_tables(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    first, second = rearrange(x, "batch head position (half pair) -> pair batch head position half", pair=2)
    quarter = rearrange([-second, first], "pair batch head position half -> batch head position (half pair)")
    return x * cos + quarter * sin


def the_other_way(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    return apply_rope(x, cos, -sin)


def traded(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    return apply_rope(x, sin, cos)


def one_angle_for_all(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    return apply_rope(x, cos[:, :1], sin[:, :1])


def no_minus(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    first, second = halves(x)
    return x * cos + torch.cat((second, first), dim=-1) * sin


def minus_twice(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    first, second = halves(x)
    return x * cos - torch.cat((second, first), dim=-1) * sin


def halves_not_traded(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    first, second = halves(x)
    return x * cos + torch.cat((-first, second), dim=-1) * sin


def first_half_only(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    half = x.shape[-1] // 2
    return torch.cat((apply_rope(x, cos, sin)[..., :half], x[..., half:]), dim=-1)


def first_position_for_all(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    return apply_rope(x, cos[:1], sin[:1])


def added(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    return x + apply_rope(x, cos, sin)


def in_float32(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    return apply_rope(x.float(), cos.float(), sin.float())


def computed_in_float32(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    return apply_rope(x.float(), cos.float(), sin.float()).to(x.dtype)


def loses_digits(answer: Any) -> str | None:
    """A complaint if the answer is right in float32 only, although x is float64."""
    x, cos, sin = draw_rope(1, 2, 4, 6, torch.float64, start=2)(torch.Generator().manual_seed(0))
    error = float((answer(x, cos, sin) - rotate_by_loops(x, cos, sin)).abs().max())
    lost = 1e-12 < error < 1e-4  # a larger error is another mistake
    return "x is float64, but the result has the precision of float32" if lost else None


def cut_for_neighbours(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Neighbours are taken apart, and the results put together as halves."""
    first, second = rearrange(x, "batch head position (half pair) -> pair batch head position half", pair=2)
    return x * cos + torch.cat((-second, first), dim=-1) * sin


def neighbours_left_as_halves(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Neighbours are rotated correctly, and the results put together as halves."""
    first, second = rearrange(x, "batch head position (half pair) -> pair batch head position half", pair=2)
    cos, sin = cos[:, : first.shape[-1]], sin[:, : first.shape[-1]]
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)


def written_as_neighbours(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Halves are rotated correctly, and the results put together as neighbours."""
    turned = rearrange(
        apply_rope(x, cos, sin), "batch head position (pair half) -> batch head position half pair", pair=2
    )
    return rearrange(turned, "batch head position half pair -> batch head position (half pair)")


def halves_come_out_exchanged(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    return torch.cat(halves(apply_rope(x, cos, sin))[::-1], dim=-1)


def tables_of_neighbours(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """cos[:, ::2] as the cosines of the pairs."""
    cos, sin = (repeat(table[:, ::2], "position half -> position (pair half)", pair=2) for table in (cos, sin))
    return apply_rope(x, cos, sin)


def cosine_of_the_cosine(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    return apply_rope(x, cos.cos(), sin.sin())


def mirrored(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Channel j is paired with the j-th from the end."""
    first, second = halves(x.flip(-1))
    return x * cos + torch.cat((-first, second), dim=-1) * sin


def overwritten(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """The first half is overwritten before the second is computed from it."""
    first, second = halves(x)
    c, s = (table[:, : first.shape[-1]] for table in (cos, sin))
    first = first * c - second * s
    return torch.cat((first, second * c + first * s), dim=-1)


def cosine_only(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    return x * cos


def no_quarter_turn(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    return x * cos + x * sin


def a_half_each(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    first, second = halves(x)
    return torch.cat((first * cos[:, : first.shape[-1]], second * sin[:, : first.shape[-1]]), dim=-1)


def by_complex_numbers(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    first, second = (half.double() for half in halves(x))
    turned = torch.complex(first, second) * torch.complex(cos.double(), sin.double())[:, : first.shape[-1]]
    return torch.cat((turned.real, turned.imag), dim=-1).to(x.dtype)


def by_slices(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    half = x.shape[-1] // 2
    a, b, c, s = x[..., :half], x[..., half:], cos[..., :half], sin[..., :half]
    return torch.cat((a * c - b * s, b * c + a * s), dim=-1)


def by_roll(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """The quarter turn as a shift by half of head_dim, and a sign for each channel."""
    half = x.shape[-1] // 2
    sign = torch.where(torch.arange(x.shape[-1]) < half, -1, 1).to(x.dtype)
    return x * cos + x.roll(half, dims=-1) * sign * sin


def by_matrices(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """A two-by-two matrix for each position and pair, and a result that is not contiguous."""
    c, s = (table[:, : x.shape[-1] // 2] for table in (cos, sin))
    matrix = torch.stack((torch.stack((c, -s)), torch.stack((s, c))))  # (out, into, position, half)
    arrows = rearrange(x, "batch head position (pair half) -> pair batch head position half", pair=2)
    turned = torch.einsum("oiph,ibnph->obnph", matrix, arrows)
    return rearrange(turned, "pair batch head position half -> batch head position (pair half)")


QUARTER = (torch.tensor([[0.0, 0.0, 0.0, 0.0]]), torch.tensor([[1.0, 1.0, 1.0, 1.0]]))  # cos and sin of 90 degrees
EIGHTH = (
    torch.tensor([[1.0, 0.6, 1.0, 0.6], [0.6, 0.8, 0.6, 0.8]]),
    torch.tensor([[0.0, 0.8, 0.0, 0.8], [0.8, -0.6, 0.8, -0.6]]),
)

# 03.3 predictions -----------------------------------------------------------------------------------------------------

TRUTH = {
    "both moved by 1,000: another score": False,
    "q and k trade positions: another score": True,
    "turned q has another length": False,
    "both at position 0, then both at 7: another score": False,
    "v turned like k: the output still knows distances alone": False,
    "table rounded to bfloat16, both moved by 1,000: equal to the last digit": False,
}


REASONS = {
    "both moved by 1,000: another score": "A dot product depends on the angle between two arrows. Which of them turns, "
    "and by how much, when both move?",
    "q and k trade positions: another score": "The angle between the arrows is a constant, given by their contents, "
    "plus the distance times the frequency. What happens to each of the two?",
    "turned q has another length": "Which lengths does a rotation change?",
    "both at position 0, then both at 7: another score": "Compare the distances m - n of the two situations.",
    "v turned like k: the output still knows distances alone": "The turns of q and k cancel down to a distance because "
    "the two meet in a dot product. What does v meet?",
    "table rounded to bfloat16, both moved by 1,000: equal to the last digit": "The cosines of 5 and of 1,005 are "
    "different numbers. Are they rounded by the same amount?",
}


def with_other(number: int) -> dict[str, bool]:
    """The truth, with the answer to one question reversed."""
    question = list(TRUTH)[number]
    return TRUTH | {question: not TRUTH[question]}


EXERCISES = (
    Exercise(
        id="03.2",
        title="Turn every pair",
        kind="fill in",
        minutes=12,
        difficulty=3,
        hints=(
            "Channel j and channel j + head_dim / 2 form one arrow. Which einops pattern cuts head_dim into these two "
            "halves?",
            '"batch head position (pair half) -> pair batch head position half" gives two tensors. cos and sin are '
            "(position, head_dim) and hold each angle twice, so they fit x as they are.",
            "first, second = the two halves; quarter_turn = cat((-second, first), dim=-1); "
            "return x * cos + quarter_turn * sin.",
        ),
        now_you_know="position enters a 235-billion-parameter model through three lines without a single parameter.",
        teaches=apply_rope,
        oracle=rotate_by_loops,
        also=loses_digits,
        cases=(
            Case(
                "two pairs, (1, 3) and (2, 4), turned by 90 degrees: (-3, 1) and (-4, 2)",
                (torch.tensor([[[[1.0, 2.0, 3.0, 4.0]]]]), *QUARTER),
                torch.tensor([[[[-3.0, -4.0, 1.0, 2.0]]]]),
            ),
            Case(
                "two positions, two pairs, four angles, by hand",
                (torch.tensor([[[[1.0, 1.0, 0.0, 0.0], [0.0, 1.0, 1.0, 0.0]]]]), *EIGHTH),
                torch.tensor([[[[1.0, 0.6, 0.0, 0.8], [-0.8, 0.8, 0.6, -0.6]]]]),
            ),
            Case("random arrows, positions from 0", draw_rope(2, 3, 5, 8)),
            Case("positions from 1,000", draw_rope(1, 2, 3, 12, start=1000)),
            Case("one position, as in a decode step", draw_rope(3, 2, 1, 6, start=7)),
            Case("tables that YaRN has scaled", draw_rope(1, 4, 3, 10, start=3, scale=1.1386)),
            Case("x that is not contiguous in memory", draw_rope(2, 5, 3, 14, start=2, strided=True)),
            Case("bfloat16 in, bfloat16 out", draw_rope(2, 1, 4, 16, torch.bfloat16, start=1), tolerance=0.03),
        ),
        mutants={
            "interleaved": (
                interleaved,
                "neighbours are paired: 0 with 1, 2 with 3. These weights pair channel j with j + head_dim / 2.",
            ),
            "neighbours, with the tables of halves": (
                neighbours_with_half_split_tables,
                "the quarter turn pairs neighbours, while cos and sin are laid out for halves. Pair j with "
                "j + head_dim / 2.",
            ),
            "cut for neighbours": (
                cut_for_neighbours,
                "x is cut into neighbours, (half pair), but put together again as halves. Cut it as (pair half).",
            ),
            "neighbours left as halves": (
                neighbours_left_as_halves,
                "x is cut into neighbours, (half pair), but the result is put together as halves. Cut it as "
                "(pair half).",
            ),
            "written as neighbours": (
                written_as_neighbours,
                "the arrows are right, but the result is put together as neighbours. Put the halves behind each other: "
                "cat, or (pair half).",
            ),
            "halves come out exchanged": (
                halves_come_out_exchanged,
                "the arrows are right, but the two halves of the result are exchanged. first * cos - second * sin "
                "comes first.",
            ),
            "tables of neighbours": (
                tables_of_neighbours,
                "every second column of cos and sin is used. They repeat the angles half by half, so the first "
                "head_dim / 2 columns hold each of them once.",
            ),
            "cosine of the cosine": (
                cosine_of_the_cosine,
                "cos and sin are applied to the tables once more. The arguments are cosines and sines already, not "
                "angles.",
            ),
            "mirrored": (
                mirrored,
                "flip pairs channel j with the j-th from the end. Its partner is channel j + head_dim / 2.",
            ),
            "the other way": (
                the_other_way,
                "the arrows turn the other way. The quarter turn of (a, b) is (-b, a): the minus belongs to the second "
                "half.",
            ),
            "cos and sin traded": (traded, "cos and sin are swapped: at position 0 nothing may change."),
            "one angle for all pairs": (
                one_angle_for_all,
                "all pairs turn by the angle of pair 0. cos and sin have a column for each channel.",
            ),
            "no minus": (
                no_minus,
                "the minus is missing. Without it the arrow is mirrored and stretched, and its length changes.",
            ),
            "minus twice": (
                minus_twice,
                "both halves have a minus. The quarter turn of (a, b) is (-b, a): only one of the two has a minus.",
            ),
            "halves not traded": (
                halves_not_traded,
                "the halves aren't swapped: the quarter turn of (a, b) is (-b, a), not (-a, b).",
            ),
            "cosine only": (cosine_only, "the result is x * cos. The quarter turn times sin is missing."),
            "no quarter turn": (
                no_quarter_turn,
                "sin is multiplied with x itself. It belongs to the quarter turn of x, (-second, first).",
            ),
            "a half each": (
                a_half_each,
                "the first half is multiplied with cos and the second with sin. Both halves of the result need both.",
            ),
            "first half only": (
                first_half_only,
                "only the first half of the channels has changed. Both channels of a pair change when the arrow turns.",
            ),
            "overwritten": (
                overwritten,
                "the first half was overwritten before the second was computed from it. Keep the old one until then.",
            ),
            "first position for all": (
                first_position_for_all,
                "all positions turn by the angle of the first one. cos and sin have a row for each position.",
            ),
            "added": (
                added,
                "the turned arrows were added to the old ones. A rotation replaces them and keeps their length.",
            ),
            "left in float32": (
                in_float32,
                "the result is float32 although x isn't. Queries and keys stay in the model's dtype.",
            ),
            "computed in float32": (computed_in_float32, LOST_DIGITS),
        },
        accepted={
            "complex numbers, in float64": by_complex_numbers,
            "plain slices": by_slices,
            "roll and a sign": by_roll,
            "two-by-two matrices, not contiguous": by_matrices,
        },
        stages=(
            Stage("", lambda x, cos, sin: x.clone(), "is x, not turned at all"),
            Stage(
                "",
                lambda x, cos, sin: the_other_way(x, 0 * cos, -sin),
                "is the quarter turn times sin; x * cos is missing",
            ),
        ),
    ),
    Exercise(
        id="03.3",
        title="What moves the score?",
        kind="predict",
        minutes=8,
        difficulty=2,
        hints=(
            "Think of two hands of a clock. Which of these six changes the angle *between* them?",
            "The score of a pair is a dot product: two lengths and the cosine of the angle between the arrows, which "
            "is (m - n) times the frequency plus a constant.",
            "Equal moves cancel; swapping positions turns m - n into n - m; a rotation keeps lengths; v meets no other "
            "turned vector; rounding doesn't follow algebra.",
        ),
        now_you_know="a score sees m - n and nothing else of m and n, up to the rounding of the table.",
        expected=TRUTH,
        reasons=REASONS,
        mutants={
            "moves count": (
                with_other(0),
                "when both move by the same amount, the angle between them stays, and so does the score.",
            ),
            "order does not count": (
                with_other(1),
                "swapping positions makes the distance negative. The cosine of a constant plus the distance is then "
                "another one: before and after differ.",
            ),
            "lengths change": (with_other(2), "a rotation changes no length. That is why the norm can come before it."),
            "zero is special": (
                with_other(3),
                "position 0 isn't special. At equal positions the two turns cancel, wherever that is.",
            ),
            "v may be turned": (
                with_other(4),
                "v is summed, not multiplied with another turned vector, so its turn doesn't cancel. The output would "
                "carry absolute positions.",
            ),
            "rounding follows algebra": (
                with_other(5),
                "at other positions, cos and sin are rounded by other amounts. The scores are equal in algebra, and "
                "nearly equal in bfloat16.",
            ),
        },
        accepted={
            "in another order": dict(reversed(list(TRUTH.items()))),
            "as it stands": dict(TRUTH),
        },
    ),
)
