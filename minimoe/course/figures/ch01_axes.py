"""Chapter 01, first half: four small pictures, and puzzles that one einops pattern solves."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import einops
import plotly.graph_objects as go
import torch
from plotly.subplots import make_subplots
from torch import Tensor

from minimoe.errors import BadArgument
from minimoe.figure_style import BLUE, GREEN, INK, MUTED, ORANGE, PURPLE, Picture, finish

GLYPHS = (
    ("#.....#.", "##...##.", "#.#.#.#.", "#..#..#.", "#.....#.", "#.....#.", "#.....#.", "........"),
    ("..###...", ".#...#..", "#.....#.", "#.....#.", "#.....#.", ".#...#..", "..###...", "........"),
    ("######..", "#.......", "#.......", "####....", "#.......", "#.......", "######..", "........"),
    ("...##...", "...##...", "...##...", "...##...", "...##...", "........", "...##...", "........"),
)
INKS = ("#FFFFFF", BLUE, ORANGE, GREEN, PURPLE)  # paper, then one colour a picture


def four_pictures() -> Tensor:
    """The letters M, O, E and an exclamation mark: (picture, row, column) float32, 0 for paper, 1 to 4 for ink."""
    letters = [[[float(mark == "#") for mark in line] for line in glyph] for glyph in GLYPHS]
    return torch.tensor(letters) * torch.arange(1.0, 5.0)[:, None, None]


@dataclass(frozen=True)
class Puzzle:
    """A picture to be made of the four by one pattern. solution: as `apply` reads it."""

    name: str
    solution: str


PUZZLES = (
    Puzzle("side by side", "picture row column -> row (picture column)"),
    Puzzle("lying on their sides", "picture row column -> column (picture row)"),
    Puzzle("a square of four", "(down right) row column -> (down row) (right column), down=2"),
    Puzzle("all on top of each other", "picture row column -> row column"),
    Puzzle("half the size, in a column", "picture (row two) (column deux) -> (picture row) column, two=2, deux=2"),
)


def apply(pictures: Tensor, text: str) -> Tensor:
    """The result of a pattern with lengths behind it, such as "(a b) row column -> (a row) (b column), a=2".

    Axes that are missing on the right are reduced to their largest value. Raises BadArgument, with what einops says.
    """
    pattern, *lengths = text.split(",")
    if pattern.count("->") != 1:
        raise BadArgument("the pattern needs one arrow: axes before -> axes after")
    try:
        sizes = {name.strip(): int(size) for name, size in (part.split("=") for part in lengths)}
    except ValueError as error:
        raise BadArgument("behind the pattern, lengths are written as name=number, with commas between them") from error
    before, after = (set(re.findall(r"[a-z_]\w*", side)) for side in pattern.split("->"))
    try:
        if before - after:
            return einops.reduce(pictures, pattern, "max", **sizes)
        return einops.repeat(pictures, pattern, **sizes)
    except einops.EinopsError as error:
        says = str(error).splitlines()[-1].strip()
        raise BadArgument(f"einops can't use this pattern. It says: {says}") from error


def draw_into(figure: go.Figure, picture: Tensor, column: int) -> None:
    """One picture as cells, rows downwards; brightness does not matter, only the colour of the ink."""
    figure.add_trace(
        go.Heatmap(
            z=[[int(value) for value in row] for row in picture.tolist()], zmin=-0.5, zmax=4.5, showscale=False,
            colorscale=[[round(edge / 5, 1), ink] for place, ink in enumerate(INKS) for edge in (place, place + 1)],
            xgap=1, ygap=1, hovertemplate="row %{y}, column %{x}<extra></extra>",
        ),
        1, column,
    )  # fmt: skip
    rows, columns = picture.shape
    name = "" if column == 1 else str(column)
    figure.update_xaxes(visible=False, range=[-0.5, columns - 0.5], row=1, col=column)
    figure.update_yaxes(
        visible=False, range=[rows - 0.5, -0.5], scaleanchor=f"x{name}", constrain="domain", row=1, col=column
    )
    figure.layout[f"xaxis{name}"].constrain = "domain"


def show(pictures: Mapping[str, Tensor], title: str, subtitle: str = "", height: int = 300) -> Picture:
    """Pictures (row, column) beside each other, each with its name. Raises BadArgument for another number of axes."""
    for name, picture in pictures.items():
        if picture.dim() != 2:
            raise BadArgument(f"{name!r} has {picture.dim()} axes, expected two, row and column.")
    figure = make_subplots(1, len(pictures), subplot_titles=list(pictures), horizontal_spacing=0.06)
    for column, picture in enumerate(pictures.values(), start=1):
        draw_into(figure, picture, column)
    shapes = ", ".join(f"{name}: {' × '.join(map(str, picture.shape))}" for name, picture in pictures.items())
    done = finish(figure, title, f"{title}. {shapes}.", height, subtitle)
    for note in done.figure.layout.annotations:
        note.font = {"size": 12, "color": INK}
    done.figure.update_layout(margin={"l": 12, "r": 12, "b": 12, "t": (done.figure.layout.margin.t or 60) + 24})
    return done


def explore_puzzles(pictures: Tensor, puzzles: Sequence[Puzzle] = PUZZLES) -> Any:
    """Choose a puzzle and type a pattern: yours stands beside the target."""
    from ipywidgets import HTML, Dropdown, HBox, Layout, Output, Text, VBox

    choice = Dropdown(options=[puzzle.name for puzzle in puzzles], description="puzzle", layout=Layout(width="280px"))
    pattern = Text(
        value="picture row column -> (picture row) column", description="pattern", continuous_update=False,
        layout=Layout(width="640px", max_width="98%"),
    )  # fmt: skip
    verdict, screen = HTML(), Output(layout=Layout(min_height="300px"))

    def redraw(*_: Any) -> None:
        puzzle = next(puzzle for puzzle in puzzles if puzzle.name == choice.value)
        target = apply(pictures, puzzle.solution)
        shown = {"target": target}
        try:
            mine = apply(pictures, pattern.value)
            if mine.dim() != 2:
                raise BadArgument(f"the result has {mine.dim()} axes, and a picture has two")
            shown["yours"] = mine
            same = mine.shape == target.shape and bool((mine == target).all())
            says = "<b>That is it.</b>" if same else "Not yet: compare the two."
        except BadArgument as error:
            says = f"{escape(str(error))}"
        verdict.value = f"<span style='color:{MUTED if 'Not yet' in says else INK}'>{says}</span>"
        drawing = show(shown, f"The puzzle: {puzzle.name}")
        bundle = drawing._repr_mimebundle_()
        screen.outputs = ({"output_type": "display_data", "metadata": {}, "data": bundle},)

    for control in (choice, pattern):
        control.observe(redraw, names="value")
    redraw()
    return VBox([HBox([choice]), pattern, verdict, screen])
