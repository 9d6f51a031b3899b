"""The budget of a chat template: a number of steps, which bounds its time, and of bytes, which bounds its memory.

Both are counted, not measured with a clock, so a template is accepted or stopped equally on every machine. Costs are
upper bounds and are charged before the work is done. A short expression can have a large value: a list of two equal
lists of two equal lists ... prints exponentially long. Reading a value is therefore charged by its expanded size.
"""

import re
import threading
from collections.abc import MappingView, Sized
from sys import getsizeof
from typing import Any

NUMBER_BITS = 4_096  # more than any chat template needs; the arithmetic of longer numbers takes quadratic time
BYTES_PER_STEP = 1_024  # about what a processor copies or compares during one Python step
POINTER, SMALL_TEXT = 8, 128  # bytes of a list entry; of an entry with a new short str

# The template of Qwen3 takes about 70 steps per message and creates less than 10 times the bytes of the conversation.
# The limits are far higher: a template may iterate over all messages for every message.
STEPS, STEPS_PER_VALUE = 500_000, 1_000
SIZE, SIZE_PER_BYTE = 64_000_000, 64

PADDING = {"center", "ljust", "rjust", "zfill"}
MULTIPLYING = {"expandtabs", "indent", "batch", "slice", "round"}
SPLITTING = {"split", "rsplit", "splitlines"}
STRIPPING = {"strip", "lstrip", "rstrip", "trim"}


class TemplateStopped(Exception):
    """A template exceeded its budget. Templates cannot catch this exception."""


class Budget(threading.local):
    """The remaining budget of one rendering, separate for each thread."""

    steps = 0
    size = 0
    last_read: tuple[Any, Any] = (None, None)  # container and key of the template's last access

    def begin(self, data: Any) -> int:
        """Set the budget for a rendering of `data`, the caller's own, and return the size of `data` in bytes."""
        self.last_read = (None, None)
        self.steps, self.size = 1 << 60, 1 << 60
        size = self.read(data)
        values = (1 << 60) - self.steps
        self.steps, self.size = STEPS + STEPS_PER_VALUE * values, SIZE + SIZE_PER_BYTE * size
        return size

    def spend(self, steps: int = 1, size: int = 0) -> None:
        """Charge `steps` and `size` bytes. Raises TemplateStopped."""
        self.steps -= steps
        self.size -= size
        if self.steps < 0:
            raise TemplateStopped("it takes too many steps: a loop or a macro runs for too long")
        if self.size < 0:
            raise TemplateStopped("it creates too much text, or too large a list")

    def read(self, *values: Any) -> int:
        """Charge for reading all of `values`, and return the expanded size in bytes (shared parts count each time)."""
        total, pending = 0, list(values)
        while pending:
            value = pending.pop()
            size = getsizeof(value)
            if isinstance(value, str):
                pass
            elif isinstance(value, dict):
                self.spend(len(value))
                pending.extend(value.keys())
                pending.extend(value.values())
            elif isinstance(value, list | tuple | set | frozenset | MappingView):
                self.spend(len(value))
                pending.extend(iter(value))  # type: ignore[arg-type]  # every view is iterable
            elif isinstance(value, int):
                check_number(value)
            elif isinstance(value, range):
                size = SMALL_TEXT * len(value)
            total += size
            self.spend(1 + size // BYTES_PER_STEP)
        return total

    def walk(self, value: Any) -> None:
        """Charge for iterating over a list, or the characters of a str, without reading the items."""
        count = len(value) if isinstance(value, Sized) else 0
        self.spend(1 + count // 16, (SMALL_TEXT if isinstance(value, str) else POINTER) * count)

    def charge_call(self, name: str, values: list[Any]) -> None:
        """Charge for a filter or a method. `values`: its object or input, then its arguments."""
        size = self.read(*values)
        self.spend(size=growth(name, size, values))
        if name in SPLITTING:
            self.spend(size=SMALL_TEXT * split_count(values))
        if name in STRIPPING and len(values) > 1:  # every character is searched in the argument
            self.spend(len(str(values[0])) * len(str(values[1])) // BYTES_PER_STEP)
        if name == "sum":  # a sum of lists is copied at each addition
            self.spend(size * (len(values[0]) if isinstance(values[0], Sized) else 1) // BYTES_PER_STEP)


def check_number(value: int) -> None:
    """Raise TemplateStopped for a number with more than NUMBER_BITS bits."""
    if value.bit_length() > NUMBER_BITS:
        raise TemplateStopped(f"it computes with a number of more than {NUMBER_BITS} bits")


def split_count(values: list[Any]) -> int:
    """Upper bound on the number of parts of a text that is split at a separator, or at white space."""
    text, separator = str(values[0]), values[1] if len(values) > 1 else None
    return text.count(separator) + 1 if isinstance(separator, str) and separator else len(text) // 2 + 1


def growth(name: str, size: int, values: list[Any]) -> int:
    """Bytes that `name` may add to the `size` of its `values`; 0 if the result is at most a few times larger."""
    numbers = [abs(value) for value in values[1:] if isinstance(value, int)]
    texts = [str(value) for value in values[:3] if name == "replace"]
    if name == "replace" and len(texts) == 3:  # either may be the old text: keyword arguments have any order
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
    """Bytes that formatting may create: every field can print all values, any number in `text` can be a width."""
    if "%*" in text or re.search(r"%[^a-zA-Z%]*\*|\{[^{}]*\{", text):
        raise TemplateStopped("it formats a value with a width that is itself a value")
    widths = sum(int(digits[:10]) for digits in re.findall(r"\d+", text))
    return (text.count("%") + text.count("{")) * size + 4 * widths


def operator_growth(operator: str, left: Any, right: Any, budget: Budget) -> None:
    """Charge for `left operator right`. Raises TemplateStopped."""
    for value in (left, right):
        if isinstance(value, int):
            check_number(value)
    if operator == "**" and isinstance(left, int) and isinstance(right, int):
        check_number(1 << min(left.bit_length() * max(right, 0), NUMBER_BITS + 1))
    elif operator == "*":
        for value, count in ((left, right), (right, left)):
            if isinstance(value, str | list | tuple) and isinstance(count, int):
                budget.spend(size=(getsizeof(value) - getsizeof(type(value)())) * max(count, 0))
    elif operator == "%" and isinstance(left, str):
        budget.charge_call("format", [left, right])
    elif operator == "+":
        budget.spend(size=sum(getsizeof(value) for value in (left, right) if isinstance(value, str | list | tuple)))
