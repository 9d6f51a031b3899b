"""Two tensors, expected and got, side by side: as heat maps in HTML tables, and as plain text."""

from html import escape

import torch
from einops import rearrange
from torch import Tensor

from minimoe.figure_style import VERMILLION

MOST_ROWS, MOST_COLUMNS = 8, 10
DARK, BRIGHT = (0, 32, 77), (255, 233, 69)  # the two ends of Cividis, safe for red-green colour blindness


def around_first(wrong: Tensor, *tensors: Tensor) -> tuple[list[Tensor], str]:
    """A window of the last two axes, at most MOST_ROWS x MOST_COLUMNS, around the first True of `wrong`.

    Returns `wrong` and the tensors within the window, and the index of the window as text ("" if it is at the origin).
    """
    tensors = (wrong, *tensors)
    while tensors[0].dim() < 2:
        tensors = tuple(rearrange(tensor, "... -> 1 ...") for tensor in tensors)
    first = tensors[0].nonzero()[0].tolist()
    row, column = (max(0, index - most + 1) for index, most in zip(first[-2:], (MOST_ROWS, MOST_COLUMNS), strict=True))
    window = (*first[:-2], slice(row, row + MOST_ROWS), slice(column, column + MOST_COLUMNS))
    where = "[" + ", ".join([*map(str, first[:-2]), f"{row}:", f"{column}:"]) + "]"
    return [tensor[window] for tensor in tensors], where if first[:-2] or row or column else ""


def as_text(expected: Tensor, got: Tensor, wrong: Tensor) -> str:
    """Both tensors as text, with as many digits as show the difference; a star marks values that differ."""
    (wrong, expected, got), where = around_first(wrong, expected, got)
    digits = digits_needed(expected, got, wrong)
    lines = []
    for name, tensor, marks in (("expected", expected, torch.zeros_like(wrong)), ("got", got, wrong)):
        lines.append(f"{name}{where}:")
        for values, row in zip(tensor.tolist(), marks.tolist(), strict=True):
            cells = (
                f"{number(value, digits):>{digits + 4}s}{'*' if mark else ' '}"
                for value, mark in zip(values, row, strict=True)
            )
            lines.append("  " + " ".join(cells).rstrip())
    return "\n".join(lines)


def as_html(expected: Tensor, got: Tensor, wrong: Tensor) -> str:
    """Two heat maps with numbers and a common scale; differing values have a frame, visible without colour vision."""
    (wrong, expected, got), where = around_first(wrong, expected, got)
    both = torch.stack([expected.double(), got.double()])
    finite = both[both.isfinite()]
    low, high = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 1.0)
    digits = digits_needed(expected, got, wrong)
    left = heat_map(f"expected{where}", expected, torch.zeros_like(wrong), low, high, digits)
    right = heat_map(f"got{where}; a frame marks what differs", got, wrong, low, high, digits)
    return f'<div style="display: flex; gap: 2em; flex-wrap: wrap; align-items: flex-start">{left}{right}</div>'


def heat_map(name: str, tensor: Tensor, marked: Tensor, low: float, high: float, digits: int) -> str:
    """A heat map as an HTML table. Integers are not coloured: they are mostly names, such as expert numbers."""
    rows, plain = [], not tensor.is_floating_point()
    for values, marks in zip(tensor.tolist(), marked.tolist(), strict=True):
        cells = (
            cell(None if plain else float(value), mark, low, high, number(value, digits))
            for value, mark in zip(values, marks, strict=True)
        )
        rows.append(f"<tr>{''.join(cells)}</tr>")
    caption = f'<caption style="text-align: left; white-space: nowrap">{escape(name)}</caption>'
    return f'<table style="border-collapse: separate">{caption}{"".join(rows)}</table>'


def cell(value: float | None, mark: bool, low: float, high: float, text: str) -> str:
    """A table cell, coloured unless `value` is None, with a text colour that is readable on it."""
    paint = ""
    if value is not None:
        share = min(max((value - low) / ((high - low) or 1.0), 0.0), 1.0) if value == value else 0.0
        colour = ", ".join(str(round(d + share * (b - d))) for d, b in zip(DARK, BRIGHT, strict=True))
        paint = f"background: rgb({colour}); color: {'black' if share > 0.5 else 'white'}; "
    frame = VERMILLION if mark else "transparent"
    return f'<td style="{paint}border: 3px solid {frame}; text-align: right; min-width: 4em">{text}</td>'


def number(value: float | int | bool, digits: int = 4) -> str:
    """A number as text, floats with this many significant digits."""
    return str(value) if isinstance(value, (bool, int)) else f"{value:.{digits}g}"


def digits_needed(expected: Tensor, got: Tensor, wrong: Tensor) -> int:
    """The least number of significant digits, 4 or more, at which most of the differing values print differently."""
    pairs = list(zip(expected[wrong].tolist(), got[wrong].tolist(), strict=True))
    for digits in (4, 6, 8, 10, 12):
        differing = sum(number(one, digits) != number(other, digits) for one, other in pairs)
        if 2 * differing >= len(pairs):
            return digits
    return 17
