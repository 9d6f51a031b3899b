"""Tensors with named axes as pictures: one tensor, a change of its shape, and what meets what in an einsum.

Every picture shows what einops computed: in `draw_rearrange` where each number came from, in `draw_einsum` real
products and sums. Lengths are passed by name; small ones (2 to 6) read best.

    draw_tensor("token hidden", token=3, hidden=4)
    draw_rearrange("token (head head_dim) -> head token head_dim", token=3, head=2, head_dim=4)
    draw_einsum("token hidden, expert hidden -> token expert", token=3, hidden=4, expert=5)
"""

from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any

import einops
import numpy as np

from minimoe.course.figures.tensor_axes import Axis, names_of, no_stranger, read_axes, read_pattern
from minimoe.course.figures.tensor_layout import Layout, fit, fits, one_below_another, side_by_side
from minimoe.course.figures.tensor_sheet import Sheet
from minimoe.errors import BadArgument
from minimoe.figure_style import BLUE, GREEN, INK, MUTED, PALE, PURPLE, VERMILLION, Picture, tint, tinted_ink

# The palette "light" of Paul Tol, https://personal.sron.nl/~pault/: black text is legible on each
LIGHT = ("#77AADD", "#EE8866", "#EEDD88", "#44BB99", "#FFAABB", "#99DDFF", "#BBCC33", "#AAAA00")
MONO = "font-family:Menlo,Consolas,'DejaVu Sans Mono',monospace"


def draw_tensor(
    axes: str,
    *,
    values: Any = None,
    colour: str = "",
    lit: Mapping[str, int] | None = None,
    title: str = "",
    subtitle: str = "",
    alt: str = "",
    **lengths: int,
) -> Picture:
    """One tensor: rows and columns are its last two axes, blocks side by side and below one another the others.

    axes: such as "batch position hidden", at most four. values: the numbers or short texts in the cells, in the shape
    of the tensor; without them each cell shows its place in memory, 0 first. colour: the axis by which cells are
    coloured (default: the first). lit: {"head": 1} greys out all other cells. Raises BadArgument for axes that cannot
    be drawn.
    """
    no_stranger(axes, lengths)
    read = read_axes(axes, lengths)
    shape = tuple(axis.length for axis in read)
    shown = np.arange(prod(shape)).reshape(shape) if values is None else np.asarray(values, dtype=object)
    if shown.shape != shape:
        raise BadArgument(f'values has the shape {shown.shape}, expected {shape} for "{axes}".')
    names = names_of(read)
    known("colour", colour, names)
    for name in lit or {}:
        known("lit", name, names)
    paint = Paint(read, colour or (names[0] if names else ""))
    sheet, layout = Sheet(), fit([read])[0]
    for index in layout.indices():
        place = named_index(read, index)
        on = all(place[name] == number for name, number in (lit or {}).items())
        draw_cell(sheet, layout, (0, 0), index, paint.of(place) if on else PALE, str(shown[index]))
    layout.draw_labels(sheet, 0, 0, paint.names())
    says = alt or f"A tensor with the axes {spoken(read)}."
    return sheet.picture(layout.width, layout.height, title or axes, says, subtitle)


def draw_rearrange(
    pattern: str,
    *,
    colour: str = "",
    reduction: str = "sum",
    title: str = "",
    subtitle: str = "",
    alt: str = "",
    **lengths: int,
) -> Picture:
    """A tensor before and after an einops pattern: the numbers and colours show where each element came from.

    An axis that is on the right only is a `repeat`, one that is on the left only a `reduce`, whose cells show which
    elements were combined by `reduction` ("sum", "mean", "max"). colour: the axis by which cells are coloured (default:
    one that moves). Raises BadArgument for a pattern that cannot be drawn.
    """
    no_stranger(pattern, lengths)
    (left,), right = read_pattern(pattern)
    before, after = read_axes(left, lengths), read_axes(right, lengths)
    sources = where_from(pattern, before, after, lengths)
    lost = [name for name in names_of(before) if name not in names_of(after)]
    new = [name for name in names_of(after) if name not in names_of(before)]
    known("colour", colour, names_of(before))
    paint = Paint(before, colour or moving(before, after, lost))
    verb = f"reduce, {reduction}" if lost else "repeat" if new else "rearrange"

    upright = len(after) == 1 and len(before) > 1 and after[0].names == before[-2].names
    layouts = fit([before, after], upright={1} if upright else set())
    sheet = Sheet()
    corners, width, height = side_by_side(layouts) if fits(layouts) else one_below_another(layouts)
    say = teller(sources, layouts[1].cell)
    places = {number: named_index(before, index) for number, index in enumerate(layouts[0].indices())}
    for number, index in enumerate(layouts[0].indices()):
        draw_cell(sheet, layouts[0], corners[0], index, paint.of(places[number]), str(number))
    for index, origins in zip(layouts[1].indices(), sources, strict=True):
        fill = blend([paint.of(places[origin]) for origin in origins])
        draw_cell(sheet, layouts[1], corners[1], index, fill, say(origins))
    for layout, (x, y) in zip(layouts, corners, strict=True):
        layout.draw_labels(sheet, x, y, paint.names())
    draw_arrow(sheet, layouts, corners, verb)
    says = alt or f"{verb}: {spoken(before)} becomes {spoken(after)}. {example(layouts[1], sources, places)}"
    code = f'<span style="{MONO}">{pattern}</span>'
    return sheet.picture(width, height, title or code, says, subtitle or (code if title else ""))


def draw_einsum(
    pattern: str,
    *,
    at: Mapping[str, int] | None = None,
    title: str = "",
    subtitle: str = "",
    alt: str = "",
    **lengths: int,
) -> Picture:
    """The tensors that an einsum multiplies, and the result, with one element of the result followed back.

    Axes that are summed are red, each axis that is kept has its own colour. at: the element, such as {"token": 1,
    "expert": 2} (default: near the middle); its factors are shaded by the index of the summed axes, so that equal
    shades are multiplied. All numbers are real: small integers, and their einsum. Raises BadArgument for a pattern
    that cannot be drawn, one with parentheses among them, because an einsum takes none.
    """
    no_stranger(pattern, lengths)
    lefts, right = read_pattern(pattern, inputs=2)
    operands, result = [read_axes(left, lengths) for left in lefts], read_axes(right, lengths)
    if any(len(axis.names) > 1 for axes in (*operands, result) for axis in axes):
        raise BadArgument(f'"{pattern}" has parentheses, which an einsum does not take; rearrange before or after it.')
    kept = names_of(result)
    summed = list(dict.fromkeys(name for axes in operands for name in names_of(axes) if name not in kept))
    for name in at or {}:
        known("at", name, kept)
    here = {name: lengths[name] // 2 for name in kept} | dict(at or {})
    for name, number in here.items():
        if not 0 <= number < lengths[name]:
            raise BadArgument(f"at has {name} {number}, expected 0 to {lengths[name] - 1}.")
    tensors: list[Any] = [digits(tuple(axis.length for axis in axes), seed) for seed, axes in enumerate(operands)]
    einsum: Any = einops.einsum  # its annotations count the operands one by one
    computed = einsum(*tensors, pattern)

    colours = dict(zip(kept, KEPT, strict=False)) | dict.fromkeys(summed, VERMILLION)
    layouts = fit([*operands, result], between=OPERATOR)
    corners, width, height = side_by_side(layouts, OPERATOR)
    sheet = Sheet()
    shades = prod(lengths[name] for name in summed)
    for layout, axes, tensor, corner in zip(layouts, operands, tensors, corners, strict=False):
        for index in layout.indices():
            place = named_index(axes, index)
            on = all(place.get(name, number) == number for name, number in here.items())
            fill = PALE
            if on:
                rank = flat({name: place.get(name, 0) for name in summed}, lengths)
                fill = tint(VERMILLION, 0.75 - 0.5 * rank / max(1, shades - 1))
            draw_cell(sheet, layout, corner, index, fill, str(tensor[index]))
    for index in layouts[-1].indices():
        on = named_index(result, index) == here
        draw_cell(sheet, layouts[-1], corners[-1], index, INK if on else PALE, str(computed[index]))
    for layout, (x, y) in zip(layouts, corners, strict=True):
        layout.draw_labels(sheet, x, y, colours)
    draw_signs(sheet, layouts, corners)
    line = written_out(operands, tensors, here, summed, lengths, computed)
    sheet.word(0, height + 26, line, size=14, anchor="left")
    says = alt or einsum_in_words(operands, result, summed)
    code = f'<span style="{MONO}">{pattern}</span>'
    return sheet.picture(width, height + 40, title or code, says, subtitle or (code if title else ""))


KEPT = (BLUE, GREEN, PURPLE, tinted_ink("#E69F00"))
OPERATOR = 44  # between two tensors with a sign


# Cells and colours ---------------------------------------------------------------------------------------------------


class Paint:
    """The colour of a cell: the hue from one axis, paler along the innermost other axis."""

    def __init__(self, axes: Sequence[Axis], name: str):
        self.name = name
        self.lengths = {part: size for axis in axes for part, size in zip(axis.names, axis.lengths, strict=True)}
        others = [part for part in self.lengths if part != name and self.lengths[part] > 1]
        self.shade = others[-1] if others else ""

    def of(self, place: Mapping[str, int]) -> str:
        """The fill of the element at this index."""
        hue = LIGHT[place[self.name] % len(LIGHT)] if self.name else LIGHT[0]
        if not self.shade:
            return hue
        return tint(hue, 1 - 0.6 * place[self.shade] / (self.lengths[self.shade] - 1))

    def names(self) -> dict[str, str]:
        """The colours of names in labels: the axis that gives the hue is emphasised."""
        return {self.name: INK} if self.name else {}


def draw_cell(
    sheet: Sheet,
    layout: Layout,
    corner: tuple[float, float],
    index: tuple[int, ...],
    colour: str,
    text: str,
) -> None:
    """One cell of a tensor, two pixels smaller than its place."""
    x, y = layout.corner(index)
    sheet.cell(corner[0] + x, corner[1] + y, layout.cell - 2, colour, text)


def blend(colours: Sequence[str]) -> str:
    """The mean of some colours; that of one colour is the colour itself."""
    channels = [[int(colour[i : i + 2], 16) for colour in colours] for i in (1, 3, 5)]
    return "#" + "".join(f"{round(sum(channel) / len(channel)):02X}" for channel in channels)


def teller(sources: Sequence[Sequence[int]], cell: float) -> Callable[[Sequence[int]], str]:
    """How a cell names the elements that it comes from: all in full, or, if one is too long, all by their number."""
    written = [in_cell(origins, cell) for origins in sources]
    if all(written):
        return lambda origins: in_cell(origins, cell)
    return lambda origins: f"Σ {len(origins)}"


def in_cell(origins: Sequence[int], cell: float) -> str:
    """ "0+4+8" in one line or, in small print, up to three; empty if that is too long."""
    if len(origins) == 1:
        return str(origins[0])
    letters, lines = int(cell / 5.8), [""]
    for part in [f"{number}+" for number in origins[:-1]] + [str(origins[-1])]:
        if len(lines[-1] + part) > letters:
            lines.append("")
        lines[-1] += part
    return "<br>".join(lines) if len(lines) <= 3 else ""


def moving(before: Sequence[Axis], after: Sequence[Axis], lost: Sequence[str]) -> str:
    """The axis to colour by: one that is kept, that of a group that is split or joined first."""
    old, kept = names_of(before), [name for name in names_of(before) if name not in lost]
    grouped = [name for axis in (*before, *after) if len(axis.names) > 1 for name in axis.names if name in kept]
    moved = [name for name in kept if name in names_of(after) and old.index(name) != names_of(after).index(name)]
    return (grouped or moved or kept or old or [""])[0]


def known(argument: str, name: str, names: Sequence[str]) -> None:
    """Raise BadArgument if `name` is given and no axis."""
    if name and name not in names:
        raise BadArgument(f'{argument} names the axis "{name}", expected one of {", ".join(names)}.')


# What einops computes ------------------------------------------------------------------------------------------------


def where_from(
    pattern: str, before: Sequence[Axis], after: Sequence[Axis], lengths: Mapping[str, int]
) -> list[list[int]]:
    """For each cell of the result, in order, the cells of the input that it is made of; from einops itself."""
    shape = [axis.length for axis in before]
    count = prod(shape)
    marks = np.eye(count, dtype=np.int64).reshape(count, *shape)  # one tensor for each cell, with a 1 there
    left, right = pattern.split("->")
    wide = f"origin {left.strip()} -> origin {right.strip()}"
    old, new = set(names_of(before)), set(names_of(after))
    try:
        if old - new:
            moved = einops.reduce(marks, wide, "sum", **lengths)
        else:
            moved = einops.repeat(marks, wide, **lengths)  # without a new axis it rearranges
    except einops.EinopsError as error:
        raise BadArgument(f'einops refuses "{pattern}": {str(error).strip().splitlines()[-1]}') from error
    return [np.flatnonzero(column).tolist() for column in moved.reshape(count, -1).T]


def digits(shape: tuple[int, ...], seed: int) -> np.ndarray:
    """Small integers, 1 to 4, as operands whose sums can be checked in the head."""
    return np.random.default_rng(seed + 3).integers(1, 5, shape)


def named_index(axes: Sequence[Axis], index: Sequence[int]) -> dict[str, int]:
    """The index of every single name, from the index of each axis."""
    place: dict[str, int] = {}
    for axis, number in zip(axes, index, strict=True):
        place |= zip(axis.names, (int(part) for part in np.unravel_index(number, axis.lengths)), strict=True)
    return place


def flat(place: Mapping[str, int], lengths: Mapping[str, int]) -> int:
    """One number for an index of several axes, the last fastest."""
    number = 0
    for name, index in place.items():
        number = number * lengths[name] + index
    return number


# Signs and words -----------------------------------------------------------------------------------------------------


def draw_arrow(sheet: Sheet, layouts: Sequence[Layout], corners: Sequence[tuple[float, float]], verb: str) -> None:
    """An arrow from the first tensor to the second, with the name of the operation."""
    (x0, y0), (x1, y1) = corners
    if x1 > x0:
        start, end = x0 + layouts[0].width + 14, x1 - 10
        y = y0 + layouts[0].top + (layouts[0].height - layouts[0].top) / 2
        sheet.arrow(start, y, end, y)
        sheet.word((start + end) / 2, y - 12, verb, MUTED, size=12)
    else:
        x = x0 + layouts[0].left + 30
        sheet.arrow(x, y0 + layouts[0].height + 8, x, y1 - 4)
        sheet.word(x + 12, (y0 + layouts[0].height + y1) / 2, verb, MUTED, size=12, anchor="left")


def draw_signs(sheet: Sheet, layouts: Sequence[Layout], corners: Sequence[tuple[float, float]]) -> None:
    """A multiplication sign between the operands, an equals sign before the result."""
    for number, (layout, (x, y)) in enumerate(zip(layouts[:-1], corners, strict=False)):
        middle = y + layout.top + (layout.height - layout.top) / 2
        sheet.word(x + layout.width + OPERATOR / 2 - 4, middle, "=" if number == len(layouts) - 2 else "×", size=22)


def spoken(axes: Sequence[Axis]) -> str:
    """The axes with their lengths, for a text alternative."""
    return ", ".join(axis.label for axis in axes) or "none (one number)"


def example(layout: Layout, sources: Sequence[Sequence[int]], places: Mapping[int, Mapping[str, int]]) -> str:
    """One element that moved, as a sentence."""
    number = len(sources) // 2
    origins = " and ".join(map(str, sources[number]))
    index = named_index(layout.axes, layout.indices()[number])
    return f"For example, element {origins} of the input is at {pairs(index)} of the result."


def pairs(place: Mapping[str, int]) -> str:
    """An index as words: "head 1, token 0"."""
    return ", ".join(f"{name} {number}" for name, number in place.items()) or "its only place"


def einsum_in_words(operands: Sequence[Sequence[Axis]], result: Sequence[Axis], summed: Sequence[str]) -> str:
    """The text alternative of `draw_einsum`."""
    inputs = " times ".join(f"({spoken(axes)})" for axes in operands)
    over = f"summed over {' and '.join(summed)}" if summed else "without a sum"
    return f"{inputs}, {over}, is ({spoken(result)})."


def written_out(
    operands: Sequence[Sequence[Axis]],
    tensors: Sequence[np.ndarray],
    here: Mapping[str, int],
    summed: Sequence[str],
    lengths: Mapping[str, int],
    computed: np.ndarray,
) -> str:
    """The computation of one element of the result with its numbers: "token 1, expert 2:  2·1 + 0·3 = 2"."""
    terms = []
    for index in np.ndindex(*(lengths[name] for name in summed)):
        place = dict(here) | dict(zip(summed, index, strict=True))
        factors = [
            tensor[tuple(place[axis.names[0]] for axis in axes)] for axes, tensor in zip(operands, tensors, strict=True)
        ]
        terms.append("·".join(map(str, factors)))
    value = computed[tuple(here.values())]
    shown = " + ".join(terms) if len(terms) <= 8 else " + ".join(terms[:6]) + f" + … ({len(terms)} terms)"
    return f"<b>{pairs(here)}:</b>  {shown} = <b>{value}</b>"
