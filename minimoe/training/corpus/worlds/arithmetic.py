"""Arithmetic: problems with written working and result.

The working proceeds digit by digit from the right and repeats the partial result, so that each line depends on only a
few digits and a carry. This is why thinking helps a model with four layers.
"""

import math
from dataclasses import dataclass
from random import Random


@dataclass(frozen=True)
class Problem:
    """A sum of two or more numbers, a difference or a product of two, with its result and the working as text."""

    numbers: tuple[int, ...]
    sign: str

    @property
    def text(self) -> str:
        return f" {self.sign} ".join(map(str, self.numbers))

    @property
    def result(self) -> int:
        if self.sign == "-":
            return self.numbers[0] - self.numbers[1]
        return sum(self.numbers) if self.sign == "+" else math.prod(self.numbers)

    @property
    def key(self) -> str:
        """The identity of a problem; addition and multiplication ignore the order of the numbers."""
        return self.sign.join(map(str, self.numbers if self.sign == "-" else sorted(self.numbers)))

    @property
    def working(self) -> str:
        """The lines of written addition, subtraction or multiplication by one digit."""
        if len(self.numbers) > 2:
            return "\n".join(long_addition(self.numbers))
        steps = {"+": column_addition, "-": column_subtraction, "*": column_multiplication}[self.sign](*self.numbers)
        return "\n".join(steps)


def digits_from_the_right(number: int, length: int) -> list[int]:
    """The decimal digits, ones first, padded with zeros to `length`."""
    return [number // 10**place % 10 for place in range(length)]


def column_addition(left: int, right: int) -> list[str]:
    """Lines such as "7+5+0=12, carry 1: 2" for two numbers; the last line has the whole sum after its colon."""
    length = max(len(str(left)), len(str(right)))
    lines, carry, done = [], 0, ""
    for a, b in zip(digits_from_the_right(left, length), digits_from_the_right(right, length), strict=True):
        total = a + b + carry
        done = str(total % 10) + done
        lines.append(f"{a}+{b}+{carry}={total}, carry {total // 10}: {done}")
        carry = total // 10
    if carry:
        lines.append(f"carry {carry}: {carry}{done}")
    return lines


def long_addition(numbers: tuple[int, ...]) -> list[str]:
    """Lines such as "7+5=12, 12+9=21, carry 2: 1" for three or more numbers; the carry is added first."""
    length = max(len(str(number)) for number in numbers)
    columns = zip(*(digits_from_the_right(number, length) for number in numbers), strict=True)
    lines, carry, done = [], 0, ""
    for column in columns:
        steps, total = [], carry
        for digit in column:
            steps.append(f"{total}+{digit}={total + digit}")
            total += digit
        done = str(total % 10) + done
        carry = total // 10
        lines.append(f"{', '.join(steps)}, carry {carry}: {done}")
    if carry:
        lines.append(f"carry {carry}: {carry}{done}")
    return lines


def column_subtraction(left: int, right: int) -> list[str]:
    """Lines such as "13-5-0=8, borrow 1: 8", for left >= right; leading zeros are removed at the end."""
    length = len(str(left))
    lines, borrow, done = [], 0, ""
    for a, b in zip(digits_from_the_right(left, length), digits_from_the_right(right, length), strict=True):
        top = a + 10 if a - b - borrow < 0 else a
        digit = top - b - borrow
        done = str(digit) + done
        lines.append(f"{top}-{b}-{borrow}={digit}, borrow {int(top > a)}: {done}")
        borrow = int(top > a)
    if done != str(int(done)):
        lines.append(f"drop zeros: {int(done)}")
    return lines


def column_multiplication(left: int, right: int) -> list[str]:
    """Lines such as "7*6+0=42, carry 4: 2"; `right` has one digit."""
    lines, carry, done = [], 0, ""
    for a in digits_from_the_right(left, len(str(left))):
        total = a * right + carry
        done = str(total % 10) + done
        lines.append(f"{a}*{right}+{carry}={total}, carry {total // 10}: {done}")
        carry = total // 10
    if carry:
        lines.append(f"carry {carry}: {carry}{done}")
    return lines


def number_of(rng: Random, digits: int) -> int:
    """A random number with exactly this many digits."""
    return rng.randint(10 ** (digits - 1), 10**digits - 1)


def problem(rng: Random) -> Problem:
    """With probability 1/2 a sum of two numbers with two to six digits, otherwise one of the other three kinds."""
    kind = rng.random()
    if kind < 0.5:
        digits = rng.choice((2, 3, 4, 5, 6, 6))
        return Problem(
            (number_of(rng, digits), number_of(rng, digits if rng.random() < 0.8 else max(2, digits - 1))), "+"
        )
    if kind < 0.8:
        digits = rng.choice((2, 3, 4, 4))
        return Problem(tuple(number_of(rng, digits) for _ in range(rng.choice((3, 4, 4)))), "+")
    if kind < 0.9:
        low, high = sorted((number_of(rng, rng.choice((2, 3))), number_of(rng, rng.choice((2, 3, 3)))))
        return Problem((high, low), "-")
    return Problem((number_of(rng, rng.choice((2, 2, 3))), rng.randint(2, 9)), "*")


def word_problem(rng: Random, who: tuple[str, str], noun: tuple[str, str, str]) -> tuple[str, str]:
    """A word problem in English and Chinese. `who` and `noun` = (plural, Chinese, measure) are from the lexicon."""
    name, chinese = who
    things, things_zh, measure = noun
    a, b = rng.randint(3, 60), rng.randint(2, 39)
    if rng.random() < 0.5:
        return (
            f"{name} has {a} {things} and buys {b} more. {a} + {b} = {a + b}. Now {name} has {a + b} {things}.",
            f"{chinese}有{a}{measure}{things_zh}，又买了{b}{measure}。{a} + {b} = {a + b}。现在{chinese}有{a + b}{measure}{things_zh}。",
        )
    a, b = a + b + 1, b
    return (
        f"{name} has {a} {things} and sells {b}. {a} - {b} = {a - b}. Now {name} has {a - b} {things}.",
        f"{chinese}有{a}{measure}{things_zh}，卖了{b}{measure}。{a} - {b} = {a - b}。现在{chinese}有{a - b}{measure}{things_zh}。",
    )
