"""Named axes: read an einops pattern, its axes and their lengths."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod

from minimoe.errors import BadArgument

LARGEST = 400  # cells of a tensor that can still be drawn and read


@dataclass(frozen=True)
class Axis:
    """One axis of a tensor: one name, or several in parentheses, the outer one first."""

    names: tuple[str, ...]
    lengths: tuple[int, ...]

    @property
    def length(self) -> int:
        return prod(self.lengths)

    @property
    def inner(self) -> int:
        """Number of cells that share an index of the outer name: cells are drawn in groups of this size."""
        return prod(self.lengths[1:]) if len(self.names) > 1 else self.length

    @property
    def label(self) -> str:
        """The name and the length, such as "head 2" or "(head head_dim) 2 × 4"."""
        name = " ".join(self.names)
        size = " × ".join(map(str, self.lengths))
        return f"({name}) {size}" if len(self.names) > 1 else f"{name} {size}"


def read_axes(side: str, lengths: Mapping[str, int]) -> tuple[Axis, ...]:
    """The axes of one side of a pattern, such as "batch (head head_dim)".

    Raises BadArgument for a missing or unusable length, an axis named twice, parentheses that do not match, and more
    than four axes or LARGEST cells, which cannot be drawn legibly.
    """
    groups = re.findall(r"\(([^()]*)\)|(\S+)", side)
    rest = re.sub(r"\([^()]*\)", " ", side)
    if "(" in rest or ")" in rest:
        raise BadArgument(f'the parentheses of "{side}" do not match.')
    axes = []
    for inside, single in groups:
        names = tuple(inside.split()) if not single else (single,)
        bad = [name for name in names if not name.isidentifier()]
        if bad:
            raise BadArgument(f'"{bad[0]}" in "{side}" is no name of an axis; expected words such as "head".')
        missing = [name for name in names if name not in lengths]
        if missing:
            raise BadArgument(f'the axis "{missing[0]}" has no length; pass {missing[0]}=3, for example.')
        axes.append(Axis(names, tuple(lengths[name] for name in names)))
    check_axes(side, axes)
    return tuple(axes)


def check_axes(side: str, axes: Sequence[Axis]) -> None:
    """Raise BadArgument if these axes cannot be drawn."""
    names = [name for axis in axes for name in axis.names]
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise BadArgument(f'the axis "{twice[0]}" is in "{side}" twice.')
    for name, length in zip(names, [length for axis in axes for length in axis.lengths], strict=True):
        if type(length) is not int or length < 1:
            raise BadArgument(f"{name} is {length!r}, expected a positive integer.")
    cells = prod(axis.length for axis in axes)
    if len(axes) > 4 or cells > LARGEST:
        raise BadArgument(
            f'"{side}" has {len(axes)} axes and {cells:,} cells; at most 4 axes and {LARGEST} cells can be drawn. '
            "Choose smaller lengths: the picture is about the axes, not about the size."
        )


def read_pattern(pattern: str, inputs: int = 1) -> tuple[list[str], str]:
    """The input sides and the output side of a pattern. Raises BadArgument without exactly one "->"."""
    left, arrow, right = pattern.partition("->")
    sides = [side.strip() for side in left.split(",")]
    if not arrow or "->" in right or (inputs == 1 and len(sides) != 1) or not all(sides):
        raise BadArgument(f'"{pattern}" is no pattern; expected "axes of the input -> axes of the output".')
    return sides, right.strip()


def no_stranger(pattern: str, lengths: Mapping[str, int]) -> None:
    """Raise BadArgument for a length whose axis is not in the pattern: most likely a misspelt name."""
    known = set(re.findall(r"[^\s(),>-]+", pattern))
    strangers = [name for name in lengths if name not in known]
    if strangers:
        raise BadArgument(f'{strangers[0]} is no axis of "{pattern}"; its axes are {", ".join(sorted(known))}.')


def names_of(axes: Sequence[Axis]) -> list[str]:
    """All names of the axes, in order, parentheses opened."""
    return [name for axis in axes for name in axis.names]
