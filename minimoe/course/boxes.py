"""The row of boxes with which a chapter says where it stands: one step after the other, and one of them lit."""

from collections.abc import Sequence

import plotly.graph_objects as go


def draw_boxes(
    figure: go.Figure, labels: Sequence[str], lit: int, colour: str, width: float = 0.84, size: int = 12
) -> None:
    """Box number n stands at x = n to n + width, y = 0 to 0.7, with an arrow to the next; box `lit` in `colour`."""
    for place, label in enumerate(labels):
        fill, ink = (colour, "white") if place == lit else ("#EFEFEF", "#202020")
        figure.add_shape(
            type="rect", x0=place, x1=place + width, y0=0, y1=0.7, fillcolor=fill, line={"width": 1, "color": "#808080"}
        )
        text = f"<b>{label}</b>" if place == lit else label
        figure.add_annotation(
            x=place + width / 2, y=0.35, text=text, showarrow=False, font={"color": ink, "size": size}
        )
        if place:
            figure.add_annotation(
                x=place, y=0.35, ax=place - 1 + width, ay=0.35, xref="x", yref="y", axref="x", ayref="y",
                showarrow=True, arrowhead=2, arrowsize=0.8, text="",
            )  # fmt: skip
