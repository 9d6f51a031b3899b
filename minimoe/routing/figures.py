"""Figures of routing: plotly figures that stay interactive without a kernel, each with a text alternative."""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any
from unicodedata import east_asian_width

import plotly.graph_objects as go
import torch
from plotly.subplots import make_subplots

from minimoe.errors import BadArgument
from minimoe.plotting import BLUE, SEQUENTIAL, VERMILLION, Picture, finish
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


def expert_map(trace: RoutingTrace, token: int = 0, title: str = "Which experts were selected?") -> Picture:
    """A strip of tokens, and below it a map of layers x experts for the token selected by the slider.

    The strip is coloured by the selected experts' share of the router's softmax, averaged over layers; the map by the
    weight of each selected expert's output. A grey square is an expert that was not selected and did no work.
    Raises BadArgument if `token` is out of range.
    """
    texts = token_texts(trace)
    if not 0 <= token < len(texts):
        raise BadArgument(f"token is {token}, but the trace contains tokens 0..{len(texts) - 1}.")
    layers, experts = trace.layers.tolist(), trace.metadata["num_experts"]
    held = trace.probabilities.sum(-1).mean(0)
    maps = [weight_map(trace, index, experts) for index in range(len(texts))]
    largest = math.ceil(10 * float(trace.weights.max())) / 10
    edges = [0.0]
    for text in texts:
        edges.append(edges[-1] + printed_width(text))
    middles = [(left + right) / 2 for left, right in pairwise(edges)]
    labels = [f"{index} {text}" for index, text in enumerate(texts)]

    figure = make_subplots(rows=2, cols=1, row_heights=[0.16, 0.84], vertical_spacing=0.24)
    strip = go.Heatmap(
        z=[rounded(held)], x=edges, y=[0], text=[texts], texttemplate="%{text}",
        colorscale=SEQUENTIAL, showscale=False,
        hovertemplate="%{text}<br>the selected experts hold %{z:.0%} of the softmax<extra></extra>",
    )  # fmt: skip
    current = go.Scatter(
        x=[middles[token]], y=[-0.75], mode="markers", marker=marker(), hoverinfo="skip", cliponaxis=False
    )
    chosen = go.Heatmap(
        z=maps[token], y=[f"layer {n}" for n in layers], x=list(range(experts)),
        colorscale=SEQUENTIAL, zmin=0, zmax=largest, xgap=1, ygap=3,
        colorbar={"title": {"text": "weight"}, "len": 0.75, "y": 0.35},
        hovertemplate="%{y}, expert %{x}<br>weight %{z:.3f}<extra></extra>",
    )  # fmt: skip
    idle = go.Heatmap(
        z=[[0] * experts for _ in layers], y=chosen.y, x=chosen.x, xgap=1, ygap=3,
        colorscale=[[0, "#ebebeb"], [1, "#ebebeb"]], showscale=False, hoverinfo="skip",
    )  # fmt: skip
    figure.add_trace(strip, row=1, col=1).add_trace(current, row=1, col=1)
    figure.add_trace(idle, row=2, col=1).add_trace(chosen, row=2, col=1)
    figure.frames = [
        go.Frame(
            name=str(n),
            data=[go.Scatter(x=[middles[n]], y=[-0.75], marker=marker()), go.Heatmap(z=maps[n])],
            traces=[1, 3],
        )
        for n in range(len(texts))
    ]
    figure.update_xaxes(
        title_text="tokens, in order (colour: share of the softmax held by the selected experts)", row=1, col=1
    )
    figure.update_xaxes(showticklabels=False, showgrid=False, zeroline=False, row=1, col=1)
    figure.update_yaxes(visible=False, range=[-1.1, 0.5], row=1, col=1)
    figure.update_xaxes(
        title_text="expert number within its layer (a grey square was not selected)",
        dtick=16,
        showgrid=False,
        zeroline=False,
        row=2,
        col=1,
    )
    figure.update_yaxes(autorange="reversed", showgrid=False, row=2, col=1)
    figure.update_layout(sliders=[slider(labels, token)])
    label = trace.metadata.get("label") or "weights not labelled"
    return finish(figure, f"{title} ({label})", describe(trace, token), height=450)


def printed_width(text: str) -> float:
    """Approximate width of a label, in Latin letters; a Chinese character counts as two."""
    return 1.2 + sum(2 if east_asian_width(character) in "WF" else 1 for character in text)


def weight_map(trace: RoutingTrace, token: int, experts: int) -> list[list[float | None]]:
    """(layer, expert) weights of one token; None where the expert was not selected."""
    rows: list[list[float | None]] = [[None] * experts for _ in trace.layers]
    for row, ids, weights in zip(rows, trace.experts[:, token].tolist(), rounded(trace.weights[:, token]), strict=True):
        for expert, weight in zip(ids, weights, strict=True):
            row[expert] = weight
    return rows


def describe(trace: RoutingTrace, token: int) -> str:
    """The text alternative of `expert_map` for one token."""
    text, slots = token_texts(trace)[token], trace.experts.shape[-1]
    strongest = [
        f"layer {n}: {ids[0]}" for n, ids in zip(trace.layers.tolist(), trace.experts[:, token].tolist(), strict=True)
    ]
    return (
        f"Token {token} ({text}) of {len(trace)}: "
        f"{slots} of {trace.metadata['num_experts']} experts selected in each layer; "
        f"the one with the largest weight in {', '.join(strongest)}."
    )


def bars(names: Sequence[str], values: Sequence[float], title: str, unit: str, alt: str) -> Picture:
    """A horizontal bar chart with one value per name."""
    figure = go.Figure(go.Bar(x=list(values), y=list(names), orientation="h", marker={"color": BLUE}))
    figure.update_xaxes(title_text=unit)
    figure.update_yaxes(autorange="reversed")
    return finish(figure, title, alt, height=120 + 40 * len(names))


def slider(labels: list[str], active: int) -> dict[str, Any]:
    """A native plotly slider that switches between frames; it works without a kernel."""
    move = {"mode": "immediate", "frame": {"duration": 0, "redraw": True}, "transition": {"duration": 0}}
    steps = [{"method": "animate", "label": label, "args": [[str(n)], move]} for n, label in enumerate(labels)]
    return {
        "active": active,
        "currentvalue": {"prefix": "token "},
        "pad": {"t": 60},
        "steps": steps,
        "ticklen": 4,
        "minorticklen": 0,
    }


def marker() -> dict[str, Any]:
    """The triangle that marks the token selected by the slider."""
    return {"symbol": "triangle-up", "size": 14, "color": VERMILLION}


def rounded(tensor: torch.Tensor) -> Any:
    """Nested lists rounded to three decimals, so that stored figures are small and equal on every processor."""
    return [rounded(row) for row in tensor] if tensor.dim() else round(float(tensor), 3)
