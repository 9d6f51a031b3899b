"""What a chat template may spend: a budget of steps, which bounds its time, and of bytes, which bounds its memory.

Both are counted, not measured with a clock, so a template is accepted or stopped alike on every machine. Costs are
upper bounds and are paid before the work is done. That a value was short to write does not make it small: a list of two
equal lists of two equal lists ... prints exponentially long. Whatever reads a value pays for all that it would see.
"""

import re
import threading
from collections.abc import MappingView, Sized
from sys import getsizeof
from typing import Any

NUMBER_BITS = 4_096  # no chat template counts further, and the arithmetic of longer numbers takes quadratic time
BYTES_PER_STEP = 1_024  # a processor copies or compares about this much while Python takes one step
POINTER, SMALL_TEXT = 8, 128  # bytes of an entry in a list; of an entry and a new short str that it points to

# The template of Qwen3 takes about 70 steps a message and makes less than 10 times the bytes of the conversation. The
# limits are far beyond that: a template may look through all messages at every message.
STEPS, STEPS_PER_VALUE = 500_000, 1_000
SIZE, SIZE_PER_BYTE = 64_000_000, 64

PADDING = {"center", "ljust", "rjust", "zfill"}
MULTIPLYING = {"expandtabs", "indent", "batch", "slice", "round"}
SPLITTING = {"split", "rsplit", "splitlines"}
STRIPPING = {"strip", "lstrip", "rstrip", "trim"}


class TemplateStopped(Exception):
    """A template has spent its budget. No template can catch it."""


class Budget(threading.local):
    """What one rendering may still spend; every thread has its own."""

    steps = 0
    size = 0
    last_read: tuple[Any, Any] = (None, None)  # the data that the template looked at last: in what, and at which key

    def begin(self, given: Any) -> int:
        """Fill the budget for a rendering of `given`, the caller's own data, and return the size of these in bytes."""
        self.last_read = (None, None)
        self.steps, self.size = 1 << 60, 1 << 60
        size = self.read(given)
        values = (1 << 60) - self.steps
        self.steps, self.size = STEPS + STEPS_PER_VALUE * values, SIZE + SIZE_PER_BYTE * size
        return size

    def spend(self, steps: int = 1, size: int = 0) -> None:
        """Pay for `steps` and for `size` bytes. Raises TemplateStopped."""
        self.steps -= steps
        self.size -= size
        if self.steps < 0:
            raise TemplateStopped("it takes too many steps: a loop or a macro that hardly ends")
        if self.size < 0:
            raise TemplateStopped("it makes too much text, or too large a list")

    def read(self, *values: Any) -> int:
        """Pay for a look at everything in `values` and return its size in bytes, equal parts counted each time."""
        total, rest = 0, list(values)
        while rest:
            value = rest.pop()
            size = getsizeof(value)
            if isinstance(value, str):
                pass
            elif isinstance(value, dict):
                self.spend(len(value))
                rest.extend(value.keys())
                rest.extend(value.values())
            elif isinstance(value, list | tuple | set | frozenset | MappingView):
                self.spend(len(value))
                rest.extend(iter(value))  # type: ignore[arg-type]  # every view can be gone through
            elif isinstance(value, int):
                check_number(value)
            elif isinstance(value, range):
                size = SMALL_TEXT * len(value)
            total += size
            self.spend(1 + size // BYTES_PER_STEP)
        return total

    def walk(self, value: Any) -> None:
        """Pay for going through a list, or the characters of a str, without a look into what they are."""
        count = len(value) if isinstance(value, Sized) else 0
        self.spend(1 + count // 16, (SMALL_TEXT if isinstance(value, str) else POINTER) * count)

    def pay_for_call(self, name: str, values: list[Any]) -> None:
        """Pay for a filter or a method: `values` are what it works on, then its arguments."""
        size = self.read(*values)
        self.spend(size=growth(name, size, values))
        if name in SPLITTING:
            self.spend(size=SMALL_TEXT * pieces(values))
        if name in STRIPPING and len(values) > 1:  # every character is looked for in the argument
            self.spend(len(str(values[0])) * len(str(values[1])) // BYTES_PER_STEP)
        if name == "sum":  # adding up lists copies the sum each time
            self.spend(size * (len(values[0]) if isinstance(values[0], Sized) else 1) // BYTES_PER_STEP)


def check_number(value: int) -> None:
    """Raise TemplateStopped for a number too long to compute with."""
    if value.bit_length() > NUMBER_BITS:
        raise TemplateStopped(f"it computes with a number of more than {NUMBER_BITS} bits")


def pieces(values: list[Any]) -> int:
    """How many parts a text has at most when it is cut at a text, or at white space."""
    text, cut = str(values[0]), values[1] if len(values) > 1 else None
    return text.count(cut) + 1 if isinstance(cut, str) and cut else len(text) // 2 + 1


def growth(name: str, size: int, values: list[Any]) -> int:
    """Bytes that `name` may add to the `size` of its `values`; 0 if it makes at most a few times what it is given."""
    numbers = [abs(value) for value in values[1:] if isinstance(value, int)]
    texts = [str(value) for value in values[:3] if name == "replace"]
    if name == "replace" and len(texts) == 3:  # either may be the old text: a filter takes them by name, in any order
        text, one, other = texts
        return 4 * max(text.count(one) * len(other), text.count(other) * len(one))
    if name == "join":
        longest = max((len(value) for value in values if isinstance(value, str)), default=0)
        return 4 * longest * max((len(value) for value in values if isinstance(value, Sized)), default=0)
    if name in PADDING:
        return 4 * sum(numbers)
    if name in MULTIPLYING:
        for factor in [*numbers, *(len(value) for value in values[1:] if isinstance(value, str))]:
            size *= max(factor, 1)
        return size
    if name in ("format", "format_map"):
        return format_growth(str(values[0]), size)
    return 0


def format_growth(text: str, size: int) -> int:
    """Bytes that formatting may make: every field can show all values, and a number in `text` can be a width."""
    if "%*" in text or re.search(r"%[^a-zA-Z%]*\*|\{[^{}]*\{", text):
        raise TemplateStopped("it formats a value in a width that is itself a value")
    widths = sum(int(digits[:10]) for digits in re.findall(r"\d+", text))
    return (text.count("%") + text.count("{")) * size + 4 * widths


def operator_growth(operator: str, left: Any, right: Any, budget: Budget) -> None:
    """Pay for `left operator right`. Raises TemplateStopped."""
    for value in (left, right):
        if isinstance(value, int):
            check_number(value)
    if operator == "**" and isinstance(left, int) and isinstance(right, int):
        check_number(1 << min(left.bit_length() * max(right, 0), NUMBER_BITS + 1))
    elif operator == "*":
        for value, times in ((left, right), (right, left)):
            if isinstance(value, str | list | tuple) and isinstance(times, int):
                budget.spend(size=(getsizeof(value) - getsizeof(type(value)())) * max(times, 0))
    elif operator == "%" and isinstance(left, str):
        budget.pay_for_call("format", [left, right])
    elif operator == "+":
        budget.spend(size=sum(getsizeof(value) for value in (left, right) if isinstance(value, str | list | tuple)))
