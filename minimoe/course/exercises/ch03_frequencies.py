"""Chapter 03, RoPE: frequencies and wavelengths (03.1 and 03.5)."""

import math

import torch
from einops import repeat
from torch import Tensor

from minimoe.course.checker.exercise import Case, Exercise, Stage
from minimoe.model.rope import frequencies_and_scale

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


def twice_the_exponent(head_dim: int, theta: float) -> Tensor:
    return powers(torch.arange(0, head_dim, 2) / (head_dim // 2), theta)


def odd_exponents(head_dim: int, theta: float) -> Tensor:
    return powers(torch.arange(1, head_dim, 2) / head_dim, theta)


def every_exponent(head_dim: int, theta: float) -> Tensor:
    return powers(torch.arange(head_dim) / head_dim, theta)


def without_theta(head_dim: int, theta: float) -> Tensor:
    return torch.exp(-torch.arange(0, head_dim, 2) / head_dim)


def evenly_spaced(head_dim: int, theta: float) -> Tensor:
    return torch.linspace(1, 1 / theta, head_dim // 2)


def power_before_division(head_dim: int, theta: float) -> Tensor:
    return theta ** -torch.arange(0, head_dim, 2).float() / head_dim


def square_before_product(head_dim: int, theta: float) -> Tensor:
    return theta**-2 * torch.arange(head_dim // 2) / head_dim


def up_to_the_last_channel(head_dim: int, theta: float) -> Tensor:
    return powers(torch.arange(0, head_dim, 2) / (head_dim - 1), theta)


def base_and_divisor_exchanged(head_dim: int, theta: float) -> Tensor:
    return powers(torch.arange(0, head_dim, 2) / theta, head_dim)


def other_logarithm(head_dim: int, theta: float) -> Tensor:
    return torch.exp(-math.log10(theta) * torch.arange(0, head_dim, 2) / head_dim)


def in_bfloat16(head_dim: int, theta: float) -> Tensor:
    return (theta ** -(torch.arange(0, head_dim, 2).bfloat16() / head_dim)).float()


def in_float64(head_dim: int, theta: float) -> Tensor:
    return theta ** -(torch.arange(0, head_dim, 2, dtype=torch.float64) / head_dim)


def by_logarithm(head_dim: int, theta: float) -> Tensor:
    return torch.exp(-math.log(theta) * torch.arange(0, head_dim, 2, dtype=torch.float64) / head_dim).float()


def by_repeated_division(head_dim: int, theta: float) -> Tensor:
    found = [1.0]
    while len(found) < head_dim // 2:
        found.append(found[-1] / theta ** (2 / head_dim))
    return torch.tensor(found)


def by_linspace(head_dim: int, theta: float) -> Tensor:
    return theta ** -torch.linspace(0, 1, head_dim // 2 + 1)[:-1]


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


def as_frequencies(head_dim: int, theta: float, context: int) -> tuple[float, int]:
    return reach_of([theta ** (-2 * pair / head_dim) for pair in range(head_dim // 2)], context)


def every_channel(head_dim: int, theta: float, context: int) -> tuple[float, int]:
    return reach_of([math.tau * theta ** (2 * channel / head_dim) for channel in range(head_dim)], context)


def inverse_waves(head_dim: int, theta: float, context: int) -> tuple[float, int]:
    return reach_of([math.tau * theta ** (-2 * pair / head_dim) for pair in range(head_dim // 2)], context)


def a_share(head_dim: int, theta: float, context: int) -> tuple[float, float]:
    longest, whole = reach_by_loops(head_dim, theta, context)
    return longest, whole / (head_dim // 2)


def count_first(head_dim: int, theta: float, context: int) -> tuple[int, float]:
    longest, whole = reach_by_loops(head_dim, theta, context)
    return whole, longest


def waves_of(head_dim: int, theta: float) -> list[float]:
    return [math.tau * theta ** (2 * pair / head_dim) for pair in range(head_dim // 2)]


def in_half_turns(head_dim: int, theta: float, context: int) -> tuple[float, int]:
    return reach_of([wave / 2 for wave in waves_of(head_dim, theta)], context)


def in_degrees(head_dim: int, theta: float, context: int) -> tuple[float, int]:
    return reach_of([wave / math.tau * 360 for wave in waves_of(head_dim, theta)], context)


def counted_without_two_pi(head_dim: int, theta: float, context: int) -> tuple[float, int]:
    longest, _ = reach_by_loops(head_dim, theta, context)
    return longest, without_two_pi(head_dim, theta, context)[1]


def slowest_as_frequency(head_dim: int, theta: float, context: int) -> tuple[float, int]:
    return theta ** (2 / head_dim - 1), reach_by_loops(head_dim, theta, context)[1]


def numbered_from_one(head_dim: int, theta: float, context: int) -> tuple[float, int]:
    return reach_of([math.tau * theta ** (2 * pair / head_dim) for pair in range(1, head_dim // 2 + 1)], context)


def turns_of_the_slowest(head_dim: int, theta: float, context: int) -> tuple[float, float]:
    longest, _ = reach_by_loops(head_dim, theta, context)
    return longest, context / longest


def turns_of_all(head_dim: int, theta: float, context: int) -> tuple[float, int]:
    longest, _ = reach_by_loops(head_dim, theta, context)
    return longest, int(sum(context / wave for wave in waves_of(head_dim, theta)))


def two_turns(head_dim: int, theta: float, context: int) -> tuple[float, int]:
    longest, _ = reach_by_loops(head_dim, theta, context)
    return longest, reach_by_loops(head_dim, theta, context // 2)[1]


def solved(head_dim: int, theta: float, context: int) -> float:
    """The pair number, not always whole, at which the wavelength is the context."""
    return head_dim / 2 * math.log(context / math.tau) / math.log(theta)


def without_a_limit(head_dim: int, theta: float, context: int) -> tuple[float, int]:
    return waves_of(head_dim, theta)[-1], math.floor(solved(head_dim, theta, context)) + 1


def without_pair_zero(head_dim: int, theta: float, context: int) -> tuple[float, int]:
    return waves_of(head_dim, theta)[-1], min(math.floor(solved(head_dim, theta, context)), head_dim // 2)


def by_solving(head_dim: int, theta: float, context: int) -> tuple[float, int]:
    """No loop: the pair number at which the wavelength is the context."""
    half = head_dim // 2
    edge = half * math.log(context / math.tau) / math.log(theta)
    return math.tau * theta ** (1 - 1 / half), min(half, max(0, math.floor(edge) + 1))


def with_tensors(head_dim: int, theta: float, context: int) -> list[Tensor]:
    """A list of two tensors without axes."""
    waves = math.tau * torch.tensor(theta).double() ** (torch.arange(0, head_dim, 2).double() / head_dim)
    return [waves[-1], (waves <= context).sum()]


EXERCISES = (
    Exercise(
        id="03.1",
        title="The frequencies",
        kind="fill in",
        minutes=8,
        difficulty=1,
        hints=(
            "There is one frequency per pair, so head_dim / 2 of them. The first is 1: one radian per token.",
            "The result has one axis of length head_dim // 2, in float32. Pair j has theta to the power of "
            "-2j / head_dim, and torch.arange(0, head_dim, 2) is 2j.",
            "exponents = torch.arange(0, head_dim, 2) / head_dim; return 1 / theta ** exponents, in float32.",
        ),
        now_you_know="each pair is slower than the one before it by the same factor, like the hands of a clock.",
        teaches=frequencies_and_scale,
        oracle=frequencies_by_loop,
        cases=(
            Case("four channels, two pairs: one radian, and a hundredth", (4, 10_000.0), torch.tensor([1.0, 0.01])),
            Case(
                "eight channels, by hand: each pair ten times as slow as the one before",
                (8, 10_000.0),
                torch.tensor([1.0, 0.1, 0.01, 0.001]),
            ),
            Case("another theta", (6, 1000.0), torch.tensor([1.0, 0.1, 0.01])),
            Case("the mini's sizes", (32, 1_000_000.0)),
            Case("the 235B's sizes", (128, 1_000_000)),
            Case("one pair alone", (2, 500.0), torch.tensor([1.0])),
        ),
        mutants={
            "j for 2j": (
                without_the_two,
                "the exponent is j / head_dim. It should be 2j / head_dim, so that the pairs fill the whole range up "
                "to theta.",
            ),
            "4j for 2j": (
                twice_the_exponent,
                "the exponent is 2j / (head_dim / 2), twice as large as it should be. Divide 2j by head_dim.",
            ),
            "wavelengths": (
                wavelengths,
                "these are wavelengths, in tokens per turn. A frequency is in radians per token.",
            ),
            "periods": (
                periods,
                "the exponent has the wrong sign, so these are tokens per radian. Take 1 divided by them.",
            ),
            "turns": (
                turns_for_a_token,
                "these are turns per token. cos and sin take radians, so there is no 2 pi here.",
            ),
            "the classic theta": (
                classic_theta,
                "theta is fixed at 10,000. Use the argument: Qwen3 models have a value 100 to 1,000 times as large.",
            ),
            "up to theta": (
                up_to_theta,
                "the last pair reaches 1 / theta. The exponents grow in steps of 2 / head_dim, so the last one is one "
                "step short of 1.",
            ),
            "slow first": (slow_first, "the order is reversed: pair 0 is the fastest and turns by 1 radian per token."),
            "counted from one": (
                counted_from_one,
                "the pairs are counted from 1. Pair 0 has exponent 0, so its frequency is 1.",
            ),
            "one for each channel": (
                one_for_each_channel,
                "there is one number per channel. The two channels of a pair share one, so there are head_dim / 2.",
            ),
            "one for all": (
                one_for_all,
                "all pairs turn at the same speed. Then a distance looks like the same distance plus one turn.",
            ),
            "odd exponents": (
                odd_exponents,
                "the exponents are (2j + 1) / head_dim. They begin at 0: pair 0 turns by 1 radian per token.",
            ),
            "an exponent for each channel": (
                every_exponent,
                "there is one exponent per channel. Only every second one belongs to a pair: 0, 2, 4, ...",
            ),
            "without theta": (without_theta, "these are powers of e. The base is theta."),
            "evenly spaced": (
                evenly_spaced,
                "the frequencies are evenly spaced. Their *exponents* are: each pair is slower than the one before it "
                "by the same factor.",
            ),
            "power before division": (
                power_before_division,
                "the power is taken first and then divided by head_dim. The division belongs to the exponent, so it "
                "needs brackets.",
            ),
            "square before product": (
                square_before_product,
                "theta to the power of -2 is multiplied by j / head_dim. All of it is one exponent, so it needs "
                "brackets.",
            ),
            "up to the last channel": (
                up_to_the_last_channel,
                "the exponents are divided by head_dim - 1. Divide 2j by head_dim.",
            ),
            "base and divisor exchanged": (
                base_and_divisor_exchanged,
                "theta and head_dim are exchanged: theta is the base, head_dim divides the exponent.",
            ),
            "another logarithm": (
                other_logarithm,
                "exp needs the natural logarithm of theta. With log10 the slow pairs turn too fast.",
            ),
            "in bfloat16": (
                in_bfloat16,
                "the powers are computed in bfloat16, which has 8 significant bits, and cast too late. Compute in "
                "float32.",
            ),
            "in float64": (
                in_float64,
                "the numbers are right, but their dtype isn't float32, which the docstring promises.",
            ),
        },
        accepted={
            "by logarithm, in float64": by_logarithm,
            "by repeated division": by_repeated_division,
            "by linspace": by_linspace,
        },
        stages=(
            Stage(
                "", lambda head_dim, theta: torch.arange(0, head_dim, 2) / head_dim, "holds the exponents 2j / head_dim"
            ),
        ),
    ),
    Exercise(
        id="03.5",
        title="How far do the hands reach?",
        kind="estimate",
        minutes=10,
        difficulty=2,
        hints=(
            "How many tokens does a pair need for 2 pi radians, if it turns by `frequency` radians per token?",
            "The wavelength of pair j is 2 pi times theta to the power of 2j / head_dim; the last j is "
            "head_dim / 2 - 1.",
            "waves = [2 * math.pi * theta ** (2 * j / head_dim) for j in range(head_dim // 2)]; return the last one, "
            "and how many of them are at most `context`.",
        ),
        now_you_know="a third of the 235B's pairs never finish a turn in its context; the slowest hardly move at all.",
        oracle=reach_by_loops,
        cases=(
            Case("two pairs, 6.28 and 628.3 tokens, context 100", (4, 10_000.0, 100), (math.tau * 100, 1)),
            Case("the same, context 1,000", (4, 10_000.0, 1000), (math.tau * 100, 2)),
            Case("a context in which even the slowest pair turns many times", (4, 10_000.0, 1_000_000)),
            Case("a context too short for any turn", (6, 1000.0, 5)),
            Case("one pair alone", (2, 1000.0, 7)),
            Case("the mini", (32, 1_000_000.0, 2048)),
            Case("the 235B", (128, 1_000_000.0, 40_960)),
            Case("the 235B of 2507", (128, 5_000_000.0, 262_144)),
        ),
        parts={
            "the turn of the slowest pair": lambda result: result[0],
            "the pair count": lambda result: result[1],
        },
        mutants={
            "without two pi": (
                without_two_pi,
                "2 pi is missing: these are tokens per radian, and a whole turn has 2 pi radians.",
            ),
            "half the exponent": (
                half_the_exponent,
                "the exponent is j / head_dim. With 2j / head_dim the pairs fill the whole range up to theta.",
            ),
            "theta itself": (
                theta_itself,
                "the slowest pair doesn't quite reach theta: its exponent is (head_dim - 2) / head_dim, not 1.",
            ),
            "those that do not": (
                those_that_do_not,
                "this counts the pairs that do *not* finish a turn in the context.",
            ),
            "channels": (channels, "this counts channels. Two of them make a pair and turn together."),
            "always 10,000": (always_ten_thousand, "theta is fixed at 10,000, whatever the argument says."),
            "the shortest": (
                shortest,
                "this is the shortest wavelength, that of pair 0. The slowest pair is the last.",
            ),
            "half a turn": (half_a_turn, "this counts the pairs that make half a turn. A whole turn has 2 pi radians."),
            "frequencies": (
                as_frequencies,
                "these are frequencies, in radians per token. A wavelength is 2 pi divided by the frequency.",
            ),
            "inverse waves": (
                inverse_waves,
                "the sign of the exponent is wrong: 2 pi divided by the frequency is 2 pi times theta to the power of "
                "+2j / head_dim.",
            ),
            "a share": (a_share, "the second number is the share of the pairs. The exercise asks for their number."),
            "one for each channel": (
                every_channel,
                "there is one wavelength per channel. Two channels make a pair, so j runs up to head_dim / 2 - 1.",
            ),
            "in half turns": (in_half_turns, "half a turn is taken for a whole one: it has 2 pi radians, not pi."),
            "in degrees": (in_degrees, "a turn is counted as 360. The frequencies are in radians: a turn has 2 pi."),
            "counted without two pi": (
                counted_without_two_pi,
                "the first number is right; in the count, 2 pi is missing, so that pairs count that turn by 1 radian.",
            ),
            "the slowest as a frequency": (
                slowest_as_frequency,
                "the first number is the radians per token of the slowest pair. Divide 2 pi by it.",
            ),
            "numbered from one": (
                numbered_from_one,
                "the pairs are numbered from 1. Pair 0 is the fastest, and the slowest has the number "
                "head_dim / 2 - 1.",
            ),
            "turns of the slowest": (
                turns_of_the_slowest,
                "the second number is how often the slowest pair turns. The exercise asks how many pairs turn at "
                "least once.",
            ),
            "turns of all": (
                turns_of_all,
                "the second number is the sum of all turns. The exercise asks how many pairs make at least one.",
            ),
            "two turns": (two_turns, "the second number counts pairs that make two turns. One whole turn is enough."),
            "without a limit": (
                without_a_limit,
                "the solved equation counts more pairs than there are. A head has head_dim / 2.",
            ),
            "without pair zero": (
                without_pair_zero,
                "the solved equation gives the number of the last pair that turns. Counted from pair 0, there is one "
                "more.",
            ),
            "count first": (count_first, "the two numbers are in the other order: first the tokens, then the pairs."),
        },
        accepted={"solved for the pair": by_solving, "a list of tensors": with_tensors},
    ),
)
