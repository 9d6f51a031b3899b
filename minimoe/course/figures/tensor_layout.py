"""Where the cells of a tensor stand on a sheet, with the brackets that name its axes, and several tensors together."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

from minimoe.course.figures.tensor_axes import Axis
from minimoe.course.figures.tensor_sheet import WIDTH, Sheet
from minimoe.figure_style import text_width

SIZES = (36, 32, 28, 24, 20)  # pixels of a cell; the largest that fits is used
GROUP_GAP = 6  # between the groups of an axis with several names
BLOCK_GAP = 22  # between blocks
BRACKET = 24  # from the cells to the far side of a bracket with its label
CAPTION = 20  # the caption of a block
ARROW = 100  # between two tensors


@dataclass
class Layout:
    """A tensor on the sheet: the corner of each cell by its index, and the size with all labels."""

    axes: tuple[Axis, ...]
    cell: float
    upright: bool = False  # a single axis from top to bottom
    beside: bool = True  # the blocks of three axes stand side by side

    def __post_init__(self) -> None:
        count = len(self.axes)
        self.columns = self.axes[-1] if count and not self.upright else None
        self.rows = self.axes[-2] if count > 1 else self.axes[0] if self.upright else None
        self.down = self.axes[0] if count == 4 or (count == 3 and not self.beside) else None
        self.right = self.axes[-3] if count == 4 or (count == 3 and self.beside) else None
        self.block_width, self.block_height = extent(self.columns, self.cell), extent(self.rows, self.cell)
        self.turned = self.down is None or text_width(plain_caption(self.down)) <= self.block_height
        aside = (
            CAPTION if self.turned or not self.down else 18 + max(map(text_width, (f"{n} 0" for n in self.down.names)))
        )
        self.left = (BRACKET if self.rows else 0) + (aside if self.down else 0)
        self.top = (BRACKET if self.columns else 0) + (CAPTION if self.right else 0)
        if self.rows and text_width(self.rows.label) > self.block_height:  # the label stands upright beside the bracket
            self.left += max(text_width(part) for part in split_label(self.rows)) - 10
        self.pitch_x, self.pitch_y = self.block_width + BLOCK_GAP, self.block_height + BLOCK_GAP
        if self.right and self.right.length > 1:  # captions side by side need room, too
            self.pitch_x = max(self.pitch_x, text_width(plain_caption(self.right)) + 14)
        cells = self.pitch_x * (self.right.length - 1) + self.block_width if self.right else self.block_width
        named = text_width(self.columns.label) if self.columns else 0
        self.width = self.left + max(cells, named)
        self.height = self.top + extent_of(self.down, self.block_height)

    def corner(self, index: Sequence[int]) -> tuple[float, float]:
        """The upper left corner of the cell with this index, relative to that of the layout."""
        places = dict(zip(map(id, self.axes), index, strict=True))
        x = self.left + step(self.columns, places, self.cell)
        y = self.top + step(self.rows, places, self.cell)
        x += places[id(self.right)] * self.pitch_x if self.right else 0
        y += places[id(self.down)] * self.pitch_y if self.down else 0
        return x, y

    def indices(self) -> list[tuple[int, ...]]:
        """All indices, the last axis fastest."""
        return list(product(*(range(axis.length) for axis in self.axes)))

    def draw_labels(self, sheet: Sheet, x: float, y: float, colours: Mapping[str, str]) -> None:
        """Brackets with the names of the axes; colours: of names that are coloured, or of one of their indices."""
        if self.columns:
            left, above = x + self.left, y + self.top - 6
            sheet.bracket(left, above, left + self.block_width - 2, above)
            middle = left + self.block_width / 2
            fits = text_width(self.columns.label) <= self.block_width + 40
            anchor, at = ("center", middle) if fits and len(self.axes) > 0 and middle > 50 else ("left", left)
            if text_width(self.columns.label) > self.block_width:
                anchor, at = "left", left
            sheet.word(at, above - 10, coloured(self.columns, colours), anchor=anchor)
        if self.rows:
            side, above = x + self.left - 6, y + self.top
            sheet.bracket(side, above, side, above + self.block_height - 2)
            middle = above + self.block_height / 2
            if text_width(self.rows.label) > self.block_height:
                sheet.word(side - 6, middle, coloured(self.rows, colours, "<br>"), anchor="right")
            else:
                sheet.word(side - 10, middle, coloured(self.rows, colours), turned=True)
        self.draw_captions(sheet, x, y, colours)

    def draw_captions(self, sheet: Sheet, x: float, y: float, colours: Mapping[str, str]) -> None:
        """The name and index of each block."""
        for number in range(self.right.length if self.right else 0):
            middle = x + self.left + number * self.pitch_x + self.block_width / 2
            sheet.word(middle, y + 8, caption(self.right, number, colours))
        for number in range(self.down.length if self.down else 0):
            middle = y + self.top + number * self.pitch_y + self.block_height / 2
            text = caption(self.down, number, colours, ", " if self.turned else "<br>")
            sheet.word(
                x + 8 * self.turned, middle, text, turned=self.turned, anchor="center" if self.turned else "left"
            )


def plain_caption(axis: Axis) -> str:
    """The caption of the first block without colours."""
    return caption(axis, 0, {})


def caption(axis: Axis | None, number: int, colours: Mapping[str, str], between: str = ", ") -> str:
    """The caption of block `number`, such as "head 1", or "group 0, head 1"."""
    assert axis is not None
    parts = []
    for name, length in reversed(list(zip(axis.names, axis.lengths, strict=True))):
        parts.append(f"{paint(name, colours)} {number % length}")
        number //= length
    return between.join(reversed(parts))


def coloured(axis: Axis, colours: Mapping[str, str], gap: str = " ") -> str:
    """The label of an axis with its coloured names."""
    name, size = split_label(axis)
    for part in axis.names:
        name = name.replace(part, paint(part, colours)) if len(axis.names) == 1 else name
    if len(axis.names) > 1:
        name = "(" + " ".join(paint(part, colours) for part in axis.names) + ")"
    return f"{name}{gap}{size}"


def paint(name: str, colours: Mapping[str, str]) -> str:
    """The name, bold and in its colour if it has one."""
    return f"<b><span style='color:{colours[name]}'>{name}</span></b>" if name in colours else name


def split_label(axis: Axis) -> tuple[str, str]:
    """The name and the length of an axis as two texts."""
    name, size = " ".join(axis.names), " × ".join(map(str, axis.lengths))
    return (f"({name})" if len(axis.names) > 1 else name), size


def extent(axis: Axis | None, cell: float) -> float:
    """Pixels along an axis of cells; one cell without an axis."""
    return axis.length * cell + (axis.length // axis.inner - 1) * GROUP_GAP if axis else cell


def extent_of(axis: Axis | None, block: float) -> float:
    """Pixels along an axis of blocks."""
    return axis.length * (block + BLOCK_GAP) - BLOCK_GAP if axis else block


def step(axis: Axis | None, places: Mapping[int, int], cell: float) -> float:
    """Distance of a cell from the first along one axis."""
    if axis is None:
        return 0
    place = places[id(axis)]
    return place * cell + place // axis.inner * GROUP_GAP


def fit(tensors: Sequence[tuple[Axis, ...]], between: float = ARROW, upright: set[int] | None = None) -> list[Layout]:
    """Layouts with the largest cells with which all tensors stand beside one another, or else the smallest."""
    found: list[tuple[tuple[float, ...], list[Layout]]] = []
    for cell, *beside in product(SIZES, *[(True, False) if len(axes) == 3 else (True,) for axes in tensors]):
        layouts = [
            Layout(axes, cell, upright=number in (upright or ()), beside=bool(side))
            for number, (axes, side) in enumerate(zip(tensors, beside, strict=True))
        ]
        width = sum(layout.width for layout in layouts) + between * (len(layouts) - 1)
        height = max(layout.height for layout in layouts)
        turns = turned_blocks(layouts) if cell >= SIZES[2] else 1  # small cells are worse than a turned axis
        found.append(((max(0, width - WIDTH), height > 420, turns, -cell, height), layouts))
    return min(found, key=lambda item: item[0])[1]


def turned_blocks(layouts: Sequence[Layout]) -> int:
    """Number of axes that stand side by side in one tensor and one below another in the next."""
    right = {name for layout in layouts if layout.right for name in layout.right.names}
    down = {name for layout in layouts if layout.down for name in layout.down.names}
    return len(right & down)


def fits(layouts: Sequence[Layout]) -> bool:
    """Whether two tensors with an arrow between them stand beside one another."""
    return sum(layout.width for layout in layouts) + ARROW <= WIDTH


def side_by_side(layouts: Sequence[Layout], between: float = ARROW) -> tuple[list[tuple[float, float]], float, float]:
    """The corners of tensors in a row, their cells centred at one height; width and height of all."""
    above = max(layout.top + (layout.height - layout.top) / 2 for layout in layouts)
    corners, x = [], 0.0
    for layout in layouts:
        corners.append((x, above - layout.top - (layout.height - layout.top) / 2))
        x += layout.width + between
    return corners, x - between, max(y + layout.height for (_, y), layout in zip(corners, layouts, strict=True))


def one_below_another(layouts: Sequence[Layout]) -> tuple[list[tuple[float, float]], float, float]:
    """The corners of tensors in a column."""
    corners, y = [], 0.0
    for layout in layouts:
        corners.append((0.0, y))
        y += layout.height + 50
    return corners, max(layout.width for layout in layouts), y - 50
