"""Chapter 02: how the residual stream grows, and what a norm makes of one hidden vector."""

from collections.abc import Callable, Mapping
from typing import Any

import plotly.graph_objects as go
import torch
from torch import Tensor

from minimoe.course.figures.ch06_router import driven
from minimoe.figure_style import BLUE, INK, MUTED, PART_COLOURS, VERMILLION, Picture, finish, label_ends, rounded

COLOUR = PART_COLOURS["norm"]
Norm = Callable[[Tensor, Tensor, float], Tensor]


def stream_curves(sizes: Mapping[str, Tensor], title: str, subtitle: str) -> Picture:
    """The size of the residual stream after each part of the model: least, middle and largest of all tokens.

    sizes: name of a part -> (token) root mean square of the hidden state after it.
    """
    names = list(sizes)
    curves = {
        "largest": [float(size.max()) for size in sizes.values()],
        "middle": [float(size.median()) for size in sizes.values()],
        "least": [float(size.min()) for size in sizes.values()],
    }
    figure = go.Figure()
    for (name, values), colour in zip(curves.items(), (VERMILLION, BLUE, MUTED), strict=True):
        figure.add_trace(
            go.Scatter(
                x=list(range(len(names))), y=[float(f"{value:.3g}") for value in values], name=name,
                mode="lines+markers", cliponaxis=False, line={"color": colour},
                hovertemplate="%{y}<extra>" + name + "</extra>",
            )
        )  # fmt: skip
    figure.update_xaxes(tickvals=list(range(len(names))), ticktext=names, showgrid=False)
    figure.update_yaxes(title_text="root mean square (log scale)", type="log", dtick=1)
    label_ends(figure, height=340)
    middle = ", ".join(f"{name}: {value:.2g}" for name, value in zip(names, curves["middle"], strict=True))
    return finish(figure, title, f"{title}. Middle of all tokens: {middle}.", 340, subtitle)


def channel_bars(before: Tensor, after: Tensor, title: str, subtitle: str) -> Picture:
    """One hidden vector as bars, as the next part of the model receives it; a line shows it at scale 1. (hidden)."""
    figure = go.Figure(
        [
            go.Bar(
                x=list(range(len(after))), y=rounded(after.float()), marker={"color": COLOUR, "line": {"width": 0}},
                hovertemplate="channel %{x}: %{y}<extra></extra>",
            ),
            go.Scatter(
                x=list(range(len(before))), y=rounded(before.float()), mode="lines",
                line={"color": INK, "width": 1, "shape": "hvh"}, hoverinfo="skip",
            ),
        ]
    )  # fmt: skip
    figure.update_layout(bargap=0)
    figure.update_xaxes(title_text="channel", showgrid=False)
    figure.update_yaxes(title_text="what the router reads")
    return finish(figure, title, f"{title}. {subtitle}", 320, subtitle)


def explore_norm(
    hidden: Tensor, weight: Tensor, eps: float, gate: Tensor, top_k: int, norms: Mapping[str, Norm], label: str
) -> Any:
    """Scale one hidden vector, change the norm, and see what reaches the router and which experts change.

    hidden: (hidden), before the norm. weight: that of the norm. gate: (expert, hidden), the router's matrix.
    """
    from ipywidgets import Checkbox, Dropdown, FloatLogSlider, Layout

    chosen = experts(norm_of(hidden, weight, eps, norms), gate, top_k)

    def draw(scale: float, norm: str, weighted: bool, dtype: str) -> Picture:
        x = (scale * hidden).to(getattr(torch, dtype))
        used = weight if weighted else torch.ones_like(weight)
        after = norms[norm](x, used.to(x.dtype), eps)
        now = experts(after.float(), gate, top_k)
        kept = len(chosen & now)
        size = float(after.float().pow(2).mean().sqrt())
        title = f"{kept} of {top_k} experts stay: {norm}, times {scale:.3g}"
        says = f"Size of what arrives: {size:.3g} ({label}). Line: as it is in the model."
        return channel_bars(norm_of(hidden, weight, eps, norms), after, title, says)

    style = {"description_width": "60px"}
    return driven(
        draw,
        scale=FloatLogSlider(
            value=1, min=-5, max=5, step=0.25, description="times", layout=Layout(width="320px"), style=style
        ),
        norm=Dropdown(options=list(norms), description="norm", layout=Layout(width="190px"), style=style),
        weighted=Checkbox(value=True, description="weight", indent=False, layout=Layout(width="90px")),
        dtype=Dropdown(
            options=["float32", "bfloat16", "float16"], description="dtype", layout=Layout(width="180px"), style=style
        ),
    )


def norm_of(hidden: Tensor, weight: Tensor, eps: float, norms: Mapping[str, Norm]) -> Tensor:
    """What the first of the norms makes of a hidden vector."""
    return next(iter(norms.values()))(hidden, weight, eps)


def experts(hidden: Tensor, gate: Tensor, top_k: int) -> set[int]:
    """The experts that a router chooses for one hidden vector; none if it is not finite."""
    scores = gate.float() @ hidden
    return set(scores.topk(top_k).indices.tolist()) if bool(scores.isfinite().all()) else set()
