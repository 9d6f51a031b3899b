"""How wrong numbers are related to the right ones: a factor, a shift, a rounding, one step too many.

A single call proves little, because any two numbers have a ratio. So a factor or a shift needs two calls with different
right numbers, or one of the few factors that mistakes have.
"""

import math
from collections.abc import Callable, Sequence
from fractions import Fraction

Pairs = Sequence[tuple[float, float]]  # (expected, got) for each call in which they differ

NATURAL = (2, 4, 8, 100, 1000, 1024, 10**6, 2**20, 10**9, 2**30)  # factors of units, directions, bytes and bits
MOST_TRIVIAL = 10  # whole numbers up to here are twice or half of another by accident
SLACK = 1e-5  # relative, in which a factor counts as a simple number: that of float32
LEAST_ALIKE = 3  # calls that must err in one direction before it is said


def number_relation(pairs: Pairs) -> str | None:
    """What all wrong numbers have in common with the right ones, as the end of a sentence; None if nothing is sure."""
    if not pairs or any(not math.isfinite(value) for pair in pairs for value in pair):
        return None
    return next((says for find in RELATIONS if (says := find(pairs))), None)


def varied(pairs: Pairs) -> bool:
    """Whether enough calls have different right numbers to trust a relation: two, or three of small numbers."""
    least = 3 if all(small(value) for pair in pairs for value in pair) else 2
    return len(pairs) >= least and len({expected for expected, _ in pairs}) > 1


def small(value: float) -> bool:
    """Whether a number is whole and small, so that a factor or a shift between two of them is no surprise."""
    return value == int(value) and abs(value) <= MOST_TRIVIAL


def all_equal(values: Sequence[float], others: Sequence[float]) -> bool:
    """Whether two lists of numbers are equal up to rounding."""
    return all(math.isclose(one, other, rel_tol=1e-6, abs_tol=1e-12) for one, other in zip(values, others, strict=True))


def one_number(pairs: Pairs) -> str | None:
    """The same number in every call; 0 is told in a single one, too."""
    values = {got for _, got in pairs}
    if values == {0}:
        return "is 0"
    return f"is {values.pop():g} in every call that is wrong" if len(values) == 1 and varied(pairs) else None


def factor(pairs: Pairs) -> str | None:
    """A constant factor."""
    expected, got = zip(*pairs, strict=True)
    if not all(expected):
        return None
    ratio = got[0] / expected[0]
    if not ratio or not all_equal(got, [ratio * value for value in expected]):
        return None
    if math.isclose(ratio, -1):
        return "has the wrong sign"
    natural = any(math.isclose(one, number) for one in (abs(ratio), 1 / abs(ratio)) for number in NATURAL)
    if varied(pairs) or (natural and not all(small(value) for value in expected)):
        return f"is {plain(ratio)} times the right one"
    return None


def shift(pairs: Pairs) -> str | None:
    """A constant that is added; in a single call, one too many or too few."""
    expected, got = zip(*pairs, strict=True)
    constant = got[0] - expected[0]
    if not all_equal(got, [value + constant for value in expected]):
        return None
    if not varied(pairs) and (abs(constant) != 1 or small(expected[0])):
        return None
    if abs(constant) == 1 and all(value == int(value) for value in expected):
        return "is one too many" if constant > 0 else "is one too few"
    return f"is the right one {'plus' if constant > 0 else 'minus'} {plain(abs(constant))}"


def rounded(pairs: Pairs) -> str | None:
    """Rounded to some digits after the point, or down or up to a whole number."""
    expected, got = zip(*pairs, strict=True)
    nearest = [round(value) for value in expected]
    for name, cut in (("down", math.floor), ("up", math.ceil)):
        values = [cut(value) for value in expected]
        if list(got) == values != nearest and varied(pairs) and all(abs(value) > 1 for value in expected):
            return f"is rounded {name} to a whole number"
    for digits in range(5):
        if list(got) == [round(value, digits) for value in expected] and any(got):
            where = f"to {digits} digits after the point" if digits else "to a whole number"
            return f"is rounded {where}"
    return None


FUNCTIONS: tuple[tuple[str, Callable[[float], float]], ...] = (
    ("1 divided by the right one", lambda value: 1 / value),
    ("1 minus the right one", lambda value: 1 - value),
    ("the square of the right one", lambda value: value * value),
    ("the square root of the right one", math.sqrt),
    ("the logarithm of the right one", math.log),
)


def transformed(pairs: Pairs) -> str | None:
    """A function of the right number: one step too many or too few."""
    expected, got = zip(*pairs, strict=True)
    if not varied(pairs) and all(value == int(value) for value in expected):
        return None
    for name, function in FUNCTIONS:
        try:
            values = [function(value) for value in expected]
        except (ValueError, ZeroDivisionError, OverflowError):
            continue
        if all_equal(got, values):
            return f"is {name}"
    return None


def one_sided(pairs: Pairs) -> str | None:
    """Always too small, or always too large."""
    if len({expected for expected, _ in pairs}) < LEAST_ALIKE:
        return None
    if all(got < expected for expected, got in pairs):
        return "is too small in every call that is wrong"
    return "is too large in every call that is wrong" if all(got > expected for expected, got in pairs) else None


RELATIONS: tuple[Callable[[Pairs], str | None], ...] = (
    one_number,
    factor,
    shift,
    rounded,
    transformed,
    one_sided,
)


def plain(value: float) -> str:
    """A factor or shift as text: a whole number, 1 over one, a fraction with a small denominator, or some digits."""
    if abs(value) < 1e-12:
        return f"{value:.3g}"
    if math.isclose(1 / value, round(1 / value), rel_tol=SLACK) and abs(value) < 0.75:
        whole = round(1 / value)
        return f"1/{whole:,}" if whole > 0 else f"-1/{-whole:,}"
    if math.isclose(value, round(value), rel_tol=SLACK) and round(value) not in (1, -1):
        return f"{round(value):,}"
    fraction = Fraction(value).limit_denominator(16)
    if math.isclose(value, fraction, rel_tol=SLACK) and (fraction not in (1, -1) or fraction == value):
        return str(fraction)
    return f"{value:.3g}" if abs(abs(value) - 1) > 0.01 else f"{value:.6g}"
