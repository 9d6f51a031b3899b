"""The sheet on which cells, brackets and words are drawn.

Distances are in pixels, y downwards. The sheet keeps its scale where there is room, and shrinks in a narrow window.
"""

from dataclasses import dataclass, field

import plotly.graph_objects as go

from minimoe.figure_style import INK, MUTED, NARROWEST, Picture, finish, headline, hide_axes, ink_on

WIDTH = NARROWEST  # wider drawings are arranged in a column, or shrink


@dataclass
class Sheet:
    """Rectangles by colour, words and lines, all in pixels."""

    cells: dict[str, list[tuple[float, float, float]]] = field(default_factory=dict)
    frames: list[tuple[float, float, float]] = field(default_factory=list)
    words: list[dict[str, object]] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    numbers: list[tuple[float, float, str, str, int]] = field(default_factory=list)

    def cell(self, x: float, y: float, size: float, colour: str, text: str = "") -> None:
        """A square with its upper left corner at (x, y) and text in its middle, smaller if it has several lines."""
        self.cells.setdefault(colour, []).append((x, y, size))
        if text:
            font = 9 if "+" in text else max(8, min(12, int(size * 0.36)))
            self.numbers.append((x + size / 2, y + size / 2, text, ink_on(colour), font))

    def frame(self, x: float, y: float, size: float) -> None:
        """A dark outline around a cell."""
        self.frames.append((x, y, size))

    def word(
        self, x: float, y: float, text: str, colour: str = INK, size: int = 13, turned: bool = False,
        anchor: str = "center",
    ) -> None:  # fmt: skip
        """Text with its middle at y, and its left end, middle or right end at x."""
        self.words.append(
            dict(x=x, y=-y, text=text, font={"color": colour, "size": size}, textangle=-90 if turned else 0,
                 xanchor=anchor, yanchor="middle", showarrow=False, align=anchor)
        )  # fmt: skip

    def arrow(self, x0: float, y0: float, x1: float, y1: float) -> None:
        """An arrow from (x0, y0) to (x1, y1)."""
        self.words.append(
            dict(x=x1, y=-y1, ax=x0, ay=-y0, xref="x", yref="y", axref="x", ayref="y", text="", showarrow=True,
                 arrowhead=2, arrowwidth=1.5, arrowcolor=MUTED)
        )  # fmt: skip

    def bracket(self, x0: float, y0: float, x1: float, y1: float) -> None:
        """A line along one side of the cells with a small hook at each end, pointing at them."""
        if y0 == y1:
            self.lines.append(f"M{x0:g},{-y0 - 4:g}V{-y0:g}H{x1:g}V{-y0 - 4:g}")
        else:
            self.lines.append(f"M{x0 + 4:g},{-y0:g}H{x0:g}V{-y1:g}H{x0 + 4:g}")

    def picture(self, width: float, height: float, title: str, alt: str, subtitle: str) -> Picture:
        """The finished figure, in the house style."""
        figure = go.Figure(
            [
                go.Scatter(
                    x=[n[0] for n in group], y=[-n[1] for n in group], text=[n[2] for n in group], mode="text",
                    textfont={"color": colour, "size": size}, hoverinfo="skip", cliponaxis=False,
                )
                for colour, size in sorted({n[3:] for n in self.numbers})
                for group in [[n for n in self.numbers if n[3:] == (colour, size)]]
            ]
        )  # fmt: skip
        paths = [
            {"path": "".join(square(*cell) for cell in cells), "fillcolor": colour, "line": {"width": 0}}
            for colour, cells in self.cells.items()
        ]
        paths += [{"path": line, "line": {"color": MUTED, "width": 1}} for line in self.lines]
        if self.frames:
            outlines = "".join(square(*cell) for cell in self.frames)
            paths.append({"path": outlines, "line": {"color": INK, "width": 2}})
        figure.update_layout(
            shapes=[{"type": "path", "layer": "below", **path} for path in paths], annotations=self.words,
            dragmode=False, margin={"l": 20, "r": 20, "b": 14},
        )  # fmt: skip
        hide_axes(figure)
        figure.update_xaxes(range=[0, max(width, WIDTH)], constrain="domain", constraintoward="left", fixedrange=True)
        figure.update_yaxes(
            range=[-height, 0], scaleanchor="x", constrain="domain", constraintoward="top", fixedrange=True
        )
        picture = finish(figure, title, alt, height=round(height) + 60 + 14, subtitle=subtitle)
        spare = (
            figure.layout.margin.t - headline(title, subtitle)[1] - 26
        )  # the labels above the cells keep their distance
        height = figure.layout.height - spare
        figure.update_layout(
            margin={"b": 14, "t": figure.layout.margin.t - spare}, height=height, title={"y": 1 - 28 / height}
        )
        return picture


def square(x: float, y: float, size: float) -> str:
    """The SVG path of a square."""
    return f"M{x:g},{-y:g}H{x + size:g}V{-y - size:g}H{x:g}Z"  # plotly has no relative commands
