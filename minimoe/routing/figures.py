"""Figures of routing: plotly figures that stay interactive without a kernel, each with a text alternative."""

from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go
import torch

from minimoe.plotting import BLUE, Picture, finish
from minimoe.routing.trace.trace import RoutingTrace


def token_texts(trace: RoutingTrace) -> list[str]:
    """A readable label for each token of the trace; incomplete characters are shown in hexadecimal."""
    return [readable(trace.token_bytes(index), int(token)) for index, token in enumerate(trace.tokens)]


def readable(content: bytes | None, token: int) -> str:
    """Spaces as middle dots, line breaks as arrows, incomplete characters in hexadecimal."""
    if content is None:
        return f"#{token}"
    try:
        text = content.decode()
    except UnicodeDecodeError:
        return "‹" + content.hex(" ") + "›"
    return text.replace("\n", "↵").replace(" ", "·") or f"#{token}"


def bars(names: Sequence[str], values: Sequence[float], title: str, unit: str, alt: str) -> Picture:
    """A horizontal bar chart with one value per name."""
    figure = go.Figure(go.Bar(x=list(values), y=list(names), orientation="h", marker={"color": BLUE}))
    figure.update_xaxes(title_text=unit)
    figure.update_yaxes(autorange="reversed")
    return finish(figure, title, alt, height=120 + 40 * len(names))


def rounded(tensor: torch.Tensor) -> Any:
    """Nested lists rounded to three decimals, so that stored figures are small and equal on every processor."""
    return [rounded(row) for row in tensor] if tensor.dim() else round(float(tensor), 3)
