"""A row of boxes, one per step, with the step of the current chapter highlighted."""

from collections.abc import Sequence

import plotly.graph_objects as go


def draw_boxes(
    figure: go.Figure, labels: Sequence[str], lit: int, colour: str, width: float = 0.84, size: int = 12
) -> None:
    """Draw box n at x = n to n + width and y = 0 to 0.7, with arrows between boxes; box `lit` has the fill `colour`."""
    for index, label in enumerate(labels):
        fill, ink = (colour, "white") if index == lit else ("#EFEFEF", "#202020")
        figure.add_shape(
            type="rect", x0=index, x1=index + width, y0=0, y1=0.7, fillcolor=fill, line={"width": 1, "color": "#808080"}
        )
        text = f"<b>{label}</b>" if index == lit else label
        figure.add_annotation(
            x=index + width / 2, y=0.35, text=text, showarrow=False, font={"color": ink, "size": size}
        )
        if index:
            figure.add_annotation(
                x=index, y=0.35, ax=index - 1 + width, ay=0.35, xref="x", yref="y", axref="x", ayref="y",
                showarrow=True, arrowhead=2, arrowsize=0.8, text="",
            )  # fmt: skip
