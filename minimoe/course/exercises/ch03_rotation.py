"""Chapter 03, RoPE: frequencies, the rotation, and predictions (03.1 to 03.3). 03.4 onward: ch03_cache_and_pairs.py."""

import math

import torch
from einops import rearrange, repeat
from torch import Tensor

from minimoe.course.checker.exercise import Arguments, Case, Exercise
from minimoe.model.rope import apply_rope, frequencies_and_scale

# 03.1 inverse frequencies ---------------------------------------------------------------------------------------------


def frequencies_by_loop(head_dim: int, theta: float) -> Tensor:
    """One pair after another, in double precision."""
    return torch.tensor([1.0 / theta ** (2 * pair / head_dim) for pair in range(head_dim // 2)], dtype=torch.float32)


def powers(exponents: Tensor, theta: float) -> Tensor:
    return (theta ** -exponents.double()).float()


def without_the_two(head_dim: int, theta: float) -> Tensor:
    return powers(torch.arange(head_dim // 2) / head_dim, theta)


def wavelengths(head_dim: int, theta: float) -> Tensor:
    return math.tau / frequencies_by_loop(head_dim, theta)


def periods(head_dim: int, theta: float) -> Tensor:
    return 1.0 / frequencies_by_loop(head_dim, theta)


def turns_for_a_token(head_dim: int, theta: float) -> Tensor:
    return frequencies_by_loop(head_dim, theta) / math.tau


def classic_theta(head_dim: int, theta: float) -> Tensor:
    return frequencies_by_loop(head_dim, 10_000.0)


def up_to_theta(head_dim: int, theta: float) -> Tensor:
    return powers(torch.linspace(0, 1, head_dim // 2), theta)


def slow_first(head_dim: int, theta: float) -> Tensor:
    return frequencies_by_loop(head_dim, theta).flip(0)


def counted_from_one(head_dim: int, theta: float) -> Tensor:
    return powers(torch.arange(2, head_dim + 2, 2) / head_dim, theta)


def one_for_each_channel(head_dim: int, theta: float) -> Tensor:
    return repeat(frequencies_by_loop(head_dim, theta), "half -> (pair half)", pair=2)


def one_for_all(head_dim: int, theta: float) -> Tensor:
    return torch.ones(head_dim // 2)


def by_logarithm(head_dim: int, theta: float) -> Tensor:
    return torch.exp(-math.log(theta) * torch.arange(0, head_dim, 2, dtype=torch.float64) / head_dim).float()


def by_repeated_division(head_dim: int, theta: float) -> Tensor:
    found = [1.0]
    while len(found) < head_dim // 2:
        found.append(found[-1] / theta ** (2 / head_dim))
    return torch.tensor(found)


def by_linspace(head_dim: int, theta: float) -> Tensor:
    return theta ** -torch.linspace(0, 1, head_dim // 2 + 1)[:-1]


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


def with_other(number: int) -> dict[str, bool]:
    """The truth, with the answer to one question turned round."""
    question = list(TRUTH)[number]
    return TRUTH | {question: not TRUTH[question]}


EXERCISES = (
    Exercise(
        id="03.1",
        title="The frequencies",
        kind="fill in",
        minutes=8,
        difficulty=1,
        hints=(
            "There is one frequency for each pair, so head_dim / 2 of them. The first is 1: one radian for each token.",
            "An axis of length head_dim // 2, float32. Pair j has theta to the power of -2j / head_dim; "
            "torch.arange(0, head_dim, 2) is 2j.",
            "exponents = torch.arange(0, head_dim, 2) / head_dim; return 1 / theta ** exponents, in float32.",
        ),
        now_you_know=(
            "each pair turns by a constant fraction more slowly than the one before it: a clock with many hands."
        ),
        teaches=frequencies_and_scale,
        oracle=frequencies_by_loop,
        cases=(
            Case("four channels, two pairs: one radian, and a hundredth", (4, 10_000.0), torch.tensor([1.0, 0.01])),
            Case(
                "eight channels, by hand: each ten times as slow", (8, 10_000.0), torch.tensor([1.0, 0.1, 0.01, 0.001])
            ),
            Case("another theta", (6, 1000.0), torch.tensor([1.0, 0.1, 0.01])),
            Case("the mini's sizes", (32, 1_000_000.0)),
            Case("the 235B's sizes", (128, 1_000_000)),
            Case("one pair alone", (2, 500.0), torch.tensor([1.0])),
        ),
        mutants={
            "j for 2j": (
                without_the_two,
                "the exponent is j / head_dim. It is 2j / head_dim, so that the pairs fill the whole range up "
                "to theta.",
            ),
            "wavelengths": (
                wavelengths,
                "these are wavelengths: tokens for a whole turn. A frequency says how many radians for one token.",
            ),
            "periods": (
                periods,
                "the exponent has the wrong sign: these numbers grow. They are tokens for each radian; take 1 "
                "divided by them.",
            ),
            "turns": (
                turns_for_a_token,
                "these are whole turns for each token. cos and sin want radians, so there is no 2 pi here.",
            ),
            "the classic theta": (
                classic_theta,
                "theta is always 10,000. Take the argument: in this family it is a hundred to a thousand times larger.",
            ),
            "up to theta": (
                up_to_theta,
                "the last pair reaches 1 / theta itself. The steps are 2 / head_dim wide, so the last one "
                "stays one step below.",
            ),
            "slow first": (slow_first, "the order is turned round: pair 0 is the fastest, and turns by 1 radian."),
            "counted from one": (
                counted_from_one,
                "the pairs are counted from 1. Pair 0 has exponent 0, so its frequency is 1.",
            ),
            "one for each channel": (
                one_for_each_channel,
                "there is one number for each channel. The two channels of a pair share one: head_dim / 2 numbers.",
            ),
            "one for all": (
                one_for_all,
                "all pairs turn equally fast. Then nothing could tell a distance from one that is a turn longer.",
            ),
        },
        accepted={
            "by logarithm, in float64": by_logarithm,
            "by repeated division": by_repeated_division,
            "by linspace": by_linspace,
        },
    ),
    Exercise(
        id="03.2",
        title="Turn every pair",
        kind="fill in",
        minutes=12,
        difficulty=3,
        hints=(
            "Channel j and channel j + head_dim / 2 are one arrow. Which einops pattern cuts head_dim into "
            "these two halves?",
            '"batch head position (pair half) -> pair batch head position half" gives two tensors. cos and sin are '
            "(position, head_dim) and hold each angle twice, so they fit x as they are.",
            "first, second = the two halves; quarter_turn = cat((-second, first), dim=-1); "
            "return x * cos + quarter_turn * sin.",
        ),
        now_you_know="position enters a 235-billion-parameter model through six lines without a single parameter.",
        teaches=apply_rope,
        oracle=rotate_by_loops,
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
            Case("float64", draw_rope(1, 2, 4, 6, torch.float64, start=2)),
            Case("bfloat16 in, bfloat16 out", draw_rope(2, 1, 4, 16, torch.bfloat16, start=1), tolerance=0.03),
        ),
        mutants={
            "interleaved": (
                interleaved,
                "neighbours are paired: 0 with 1, 2 with 3. These weights pair channel j with channel j + "
                "head_dim / 2.",
            ),
            "neighbours, with the tables of halves": (
                neighbours_with_half_split_tables,
                "the quarter turn pairs neighbours, while cos and sin are laid out for halves. Pair j with j + "
                "head_dim / 2.",
            ),
            "the other way": (
                the_other_way,
                "the arrows turn the other way. The quarter turn of (a, b) is (-b, a): the minus stands before "
                "the second.",
            ),
            "cos and sin traded": (traded, "cos and sin have traded places: at position 0 nothing may change."),
            "one angle for all pairs": (
                one_angle_for_all,
                "all pairs turn by the angle of pair 0. Each column of cos and sin belongs to a channel of its own.",
            ),
            "no minus": (
                no_minus,
                "the minus is missing. Without it the arrow is mirrored and stretched, and its length changes.",
            ),
            "minus twice": (
                minus_twice,
                "both halves have a minus. The quarter turn of (a, b) is (-b, a): one of the two keeps its sign.",
            ),
            "halves not traded": (
                halves_not_traded,
                "the halves have not traded places: the quarter turn of (a, b) is (-b, a), not (-a, b).",
            ),
            "first half only": (
                first_half_only,
                "only the first half of the channels has changed. Both members of a pair move when the arrow turns.",
            ),
            "first position for all": (
                first_position_for_all,
                "all positions turn by the angle of the first one. cos and sin have a row for each position.",
            ),
            "added": (
                added,
                "the turned arrows were added to the old ones. A rotation takes their place and leaves their length.",
            ),
            "left in float32": (
                in_float32,
                "the result is float32 although x is not. Queries and keys go on in the model's dtype.",
            ),
        },
        accepted={
            "complex numbers, in float64": by_complex_numbers,
            "plain slices": by_slices,
            "roll and a sign": by_roll,
            "two-by-two matrices, not contiguous": by_matrices,
        },
    ),
    Exercise(
        id="03.3",
        title="What moves the score?",
        kind="predict",
        minutes=8,
        difficulty=2,
        hints=(
            "Think of two hands of a clock. Which of these six acts changes the angle *between* them?",
            "The score of a pair is a dot product: two lengths and the cosine of the angle between, which is "
            "(m - n) times the frequency plus a constant.",
            "Equal moves cancel; trading places turns m - n into n - m; a rotation leaves lengths alone; v "
            "meets no other "
            "turned vector; rounding does not follow algebra.",
        ),
        now_you_know="a score sees m - n and nothing else of m and n, up to what the rounding of the table adds.",
        expected=TRUTH,
        mutants={
            "moves count": (
                with_other(0),
                "both moved by the same amount: the angle between them stays, and so does the score.",
            ),
            "order does not count": (
                with_other(1),
                "trading positions turns the distance into its negative. The cosine of *constant + distance* "
                "is not the "
                "same then: before and after differ.",
            ),
            "lengths change": (with_other(2), "a rotation changes no length. That is why the norm may come before it."),
            "zero is special": (
                with_other(3),
                "position 0 is nothing special. At equal positions the turns cancel, wherever that is.",
            ),
            "v may be turned": (
                with_other(4),
                "v is summed, not multiplied with another turned vector, so its turn does not cancel. The output would "
                "carry absolute positions.",
            ),
            "rounding follows algebra": (
                with_other(5),
                "cos and sin of other positions are rounded otherwise. In algebra the scores are equal, in "
                "bfloat16 nearly.",
            ),
        },
        accepted={
            "in another order": dict(reversed(list(TRUTH.items()))),
            "as it stands": dict(TRUTH),
        },
    ),
)
