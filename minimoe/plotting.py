"""Common parts of all figures: pictures with a text alternative, the layout, colour-blind safe colours."""

from typing import Any

import plotly.graph_objects as go

# The palette of Okabe & Ito (2008), https://jfly.uni-koeln.de/color/
BLUE, SKY, GREEN, YELLOW = "#0072B2", "#56B4E9", "#009E73", "#F0E442"
ORANGE, VERMILLION, PURPLE, BLACK = "#E69F00", "#D55E00", "#CC79A7", "#000000"
DOMAIN_COLOURS = {"en": BLUE, "zh": PURPLE, "code": ORANGE, "math": GREEN}  # the same in every chapter
SEQUENTIAL = "Cividis"  # perceptually uniform, safe for red-green colour blindness
CONFIG = {"showSendToCloud": False, "displaylogo": False}
FONT = {"family": "Helvetica, Arial, 'Noto Sans CJK SC', sans-serif", "size": 13, "color": "#202020"}


class Picture:
    """A plotly figure with its text alternative.

    Jupyter renders `figure`, a plotly object; screen readers and viewers that cannot render it use the text `alt`.
    """

    def __init__(self, figure: go.Figure, alt: str):
        self.figure, self.alt = figure, alt

    def __repr__(self) -> str:
        return self.alt

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        drawing = self.figure.to_plotly_json() | {"config": CONFIG}
        return {"application/vnd.plotly.v1+json": plain(drawing), "text/plain": self.alt}


def plain(value: Any) -> Any:
    """`value` with tuples and arrays converted to lists, so that it serialises to the same JSON in every run."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if hasattr(value, "tolist"):
        return value.tolist()
    return [plain(item) for item in value] if isinstance(value, (list, tuple)) else value


def finish(figure: go.Figure, title: str, alt: str, height: int) -> Picture:
    """Apply the course's layout to a figure (white background, title, font) and attach its text alternative."""
    figure.update_layout(
        template="none", title={"text": title, "x": 0.02, "font": {"size": 16}}, font=FONT, height=height,
        showlegend=False,
        margin={"l": 100, "r": 20, "t": 60, "b": 60}, paper_bgcolor="white", plot_bgcolor="white",
    )  # fmt: skip
    return Picture(figure, alt)
