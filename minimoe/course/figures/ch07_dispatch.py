"""Chapter 07: where the experts are in the model, and small batches drawn as coloured rows that travel."""

from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go
import torch
from einops import rearrange
from torch import Tensor

from minimoe.course.figures.boxes import draw_boxes
from minimoe.figure_style import (
    BLUE,
    GREEN,
    INK,
    MUTED,
    ORANGE,
    PALE,
    PART_COLOURS,
    PURPLE,
    SKY,
    VERMILLION,
    Picture,
    finish,
    hide_axes,
    ink_on,
    tint,
)

STEPS = ("router", "dispatch", "compute", "combine", "add to<br>the token")
LIT = ("dispatch", "compute", "combine")
COLOURS = (BLUE, ORANGE, GREEN, VERMILLION, PURPLE, SKY)  # of six experts
COLUMNS = ("token", "copy", "sort", "compute", "unsort", "combine")


def experts_map() -> Picture:
    """The second half of a layer as boxes, with the three steps of this chapter highlighted."""
    figure, colour = go.Figure(), PART_COLOURS["experts"]
    draw_boxes(figure, STEPS, -1, colour)
    for step in LIT:
        at = STEPS.index(step)
        figure.layout.shapes[at].fillcolor = colour
        figure.layout.annotations[2 * at - 1].update(text=f"<b>{step}</b>", font={"color": ink_on(colour)})
    figure.update_xaxes(visible=False, range=[-0.1, len(STEPS)])
    figure.update_yaxes(visible=False, range=[-0.15, 0.85])
    steps = ", ".join(STEPS).replace("<br>", " ")
    alt = f"The second half of a layer: {steps}. This chapter is about {', '.join(LIT)}."
    picture = finish(figure, "Where we are: after the router's choice", alt, height=160)
    figure.update_layout(margin={"l": 10, "r": 10, "t": 45, "b": 5})
    return picture


def cells(
    experts: Tensor,
    num_experts: int,
    words: Sequence[str],
    title: str,
    subtitle: str,
    everything: bool = False,
    by_expert: bool = True,
) -> Picture:
    """Which pairs of token and expert are computed: one row for each token, one column for each expert.

    experts: (token, slot). Chosen pairs have the colour of their expert. everything: the other pairs are computed, too,
    and thrown away. Otherwise the numbers say in which order: expert by expert, or (by_expert False) token by token.
    """
    tokens, chosen = len(experts), torch.zeros(len(experts), num_experts, dtype=torch.long).scatter(1, experts, 1)
    ranks = order_of_cells(chosen, by_expert).tolist()
    marks = Marks()
    for token, row in enumerate(chosen.tolist()):
        for expert, used in enumerate(row):
            fill = COLOURS[expert] if used else "#C8C8C8" if everything else "#FFFFFF"
            edge = "#FFFFFF" if used or everything else PALE
            text = ("" if used else "wasted") if everything else str(ranks[token][expert] or "")
            marks.box(expert, token, 1, 1, fill, text, edge=edge, ink=None if used else MUTED)
        marks.write(-0.1, token + 0.5, words[token], size=12, xanchor="right")
    for expert in range(num_experts):
        marks.write(expert + 0.5, -0.15, f"E{expert}", 13, yanchor="bottom", colour=COLOURS[expert])
    figure = marks.figure(x=[-1.6, num_experts + 0.1], y=[tokens + 0.1, -0.9])
    computed = tokens * num_experts if everything else int(chosen.sum())
    alt = f"{title}. {tokens} tokens, {num_experts} experts: {computed} pairs computed, {int(chosen.sum())} used."
    return finish(hide_axes(figure), title, alt, 340, subtitle)


def order_of_cells(chosen: Tensor, by_expert: bool) -> Tensor:
    """When each chosen cell is computed, from 1, and 0 for the others. chosen: (token, expert) of 0 and 1."""
    first = rearrange(chosen, "token expert -> expert token") if by_expert else chosen
    ranks = torch.zeros_like(first)
    ranks[first > 0] = torch.arange(1, int(chosen.sum()) + 1)
    return rearrange(ranks, "expert token -> token expert") if by_expert else ranks


class Marks:
    """Boxes and words, collected and given to plotly at once: one by one it takes seconds."""

    def __init__(self) -> None:
        self.shapes: list[dict[str, Any]] = []
        self.notes: list[dict[str, Any]] = []

    def box(
        self, x: float, y: float, wide: float, high: float, fill: str, text: str = "", size: int = 11,
        edge: str = "#FFFFFF", ink: str | None = None,
    ) -> None:  # fmt: skip
        """A box with a word in its middle; ink: its colour, by default the one with the higher contrast."""
        line = {"width": 1, "color": edge}
        place = {"x0": x, "x1": x + wide, "y0": y, "y1": y + high}
        self.shapes.append({"type": "rect", "fillcolor": fill, "line": line, **place})
        if text:
            self.write(x + wide / 2, y + high / 2, text, size, colour=ink or ink_on(fill))

    def write(self, x: float, y: float, text: str, size: int, colour: str = INK, **where: Any) -> None:
        """A word at a place."""
        font = {"size": size, "color": colour}
        self.notes.append({"x": x, "y": y, "text": text, "showarrow": False, "font": font, **where})

    def figure(self, x: Sequence[float], y: Sequence[float], traces: Sequence[Any] = ()) -> go.Figure:
        """The figure with these ranges, and curves below the marks."""
        layout = {"shapes": self.shapes, "annotations": self.notes, "xaxis": {"range": x}, "yaxis": {"range": y}}
        return go.Figure(list(traces), layout)


def journey(experts: Tensor, num_experts: int, words: Sequence[str], title: str, subtitle: str) -> Picture:
    """The way of every row through the grouped engine: copied, sorted by expert, computed, put back, added up.

    experts: (token, slot).
    """
    tokens, slots = experts.shape
    assignments = rearrange(experts, "token slot -> (token slot)")
    unsorted, by_expert = list(range(len(assignments))), assignments.argsort(stable=True).argsort().tolist()
    places = [unsorted, unsorted, by_expert, by_expert, unsorted, unsorted]  # of each assignment, for each of COLUMNS
    marks, wide = Marks(), 0.62
    for column, name in enumerate(COLUMNS):
        marks.write(column + wide / 2, -0.3, f"<b>{name}</b>", 12, yanchor="bottom")
        if name in ("token", "combine"):
            for token, word in enumerate(words):
                marks.box(column, slots * token + 0.06, wide, slots - 0.12, PALE, word, edge="#B0B0B0")
            continue
        for expert, place in zip(assignments.tolist(), places[column], strict=True):
            fill = COLOURS[expert] if name in ("compute", "unsort") else tint(COLOURS[expert], 0.35)
            marks.box(column, place, wide, 1, fill, f"E{expert}", size=10)
    write_offsets(marks, assignments, num_experts, COLUMNS.index("sort"))
    lines = [threads(assignments, places, expert, wide) for expert in range(num_experts)]
    figure = marks.figure([-0.05, len(COLUMNS) - 1 + wide + 0.05], [len(assignments) + 0.2, -2], lines)
    counts = enumerate(assignments.bincount(minlength=num_experts).tolist())
    alt = (
        f"{title}. {tokens} tokens of {slots} slots become {len(assignments)} rows, which are sorted by expert "
        f"({', '.join(f'E{expert}: {count}' for expert, count in counts)}), computed, put back and added up."
    )
    return finish(hide_axes(figure), title, alt, 470, subtitle)


def travel(experts: Tensor, num_experts: int, words: Sequence[str], title: str, subtitle: str) -> Picture:
    """The same rows as squares that move from column to column; a slider in the picture, which needs no kernel.

    experts: (token, slot).
    """
    assignments, (tokens, slots) = rearrange(experts, "token slot -> (token slot)"), experts.shape
    unsorted, by_expert = list(range(len(assignments))), assignments.argsort(stable=True).argsort().tolist()
    middle = [slots * (row // slots) + (slots - 1) / 2 for row in unsorted]  # of the token, with its slots in a line
    # Of each assignment, for each of COLUMNS
    places: list[Sequence[float]] = [middle, unsorted, by_expert, by_expert, unsorted, middle]
    beside = [0.24 * (row % slots - (slots - 1) / 2) for row in unsorted]
    marks, frames = Marks(), []
    for column, (name, place) in enumerate(zip(COLUMNS, places, strict=True)):
        marks.write(column, -1, f"<b>{name}</b>", 12, yanchor="bottom")
        at = [column + aside * (place is middle) for aside in beside]
        frames.append(go.Frame(data=[squares(assignments, at, place, column >= COLUMNS.index("compute"))], name=name))
    for token, word in enumerate(words):
        marks.write(-0.45, slots * token + (slots - 1) / 2, word, 11, xanchor="right")
    figure = marks.figure([-1.3, len(COLUMNS) - 0.6], [len(assignments) - 0.3, -2.5], frames[0].data)
    figure.frames = frames
    move = {"mode": "immediate", "frame": {"duration": 900, "redraw": False}, "transition": {"duration": 900}}
    steps = [{"label": name, "method": "animate", "args": [[name], move]} for name in COLUMNS]
    figure.update_layout(sliders=[{"steps": steps, "active": 0, "currentvalue": {"visible": False}, "pad": {"t": 5}}])
    counts = enumerate(assignments.bincount(minlength=num_experts).tolist())
    alt = (
        f"{title}. A slider moves the {len(assignments)} rows of {tokens} tokens through {', '.join(COLUMNS)}. Rows of "
        f"each expert: {', '.join(f'E{expert}: {count}' for expert, count in counts)}."
    )
    picture = finish(hide_axes(figure), title, alt, 590, subtitle)
    figure.update_layout(margin={"b": 70})
    return picture


def squares(assignments: Tensor, x: Sequence[float], y: Sequence[float], done: bool) -> go.Scatter:
    """The rows as squares in the colour of their expert, pale until they are computed."""
    fills = [COLOURS[expert] if done else tint(COLOURS[expert], 0.35) for expert in assignments.tolist()]
    return go.Scatter(
        x=x, y=y, mode="markers+text", text=[f"E{expert}" for expert in assignments.tolist()], hoverinfo="skip",
        textfont={"size": 9, "color": [ink_on(fill) for fill in fills]},
        marker={"symbol": "square", "size": 16, "color": fills},
    )  # fmt: skip


def threads(assignments: Tensor, places: Sequence[Sequence[int]], expert: int, wide: float) -> go.Scatter:
    """The lines between the boxes of all rows of one expert, from column to column."""
    xs: list[float | None] = []
    ys: list[float | None] = []
    for row in (assignments == expert).nonzero().flatten().tolist():
        for column in range(len(places) - 1):
            xs += [column + wide, column + 1, None]
            ys += [places[column][row] + 0.5, places[column + 1][row] + 0.5, None]
    line = {"color": COLOURS[expert], "width": 1.5}
    return go.Scatter(x=xs, y=ys, mode="lines", line=line, opacity=0.6, hoverinfo="skip")


def write_offsets(marks: Marks, assignments: Tensor, num_experts: int, x: float) -> None:
    """Left of the sorted rows, the number of the row at which each group ends."""
    for end in sorted(set(assignments.bincount(minlength=num_experts).cumsum(0).tolist())):
        marks.write(x - 0.02, end, str(end), 11, colour=MUTED, xanchor="right", bgcolor="white", borderpad=0)
