"""Chapter 17: the table of distances as a picture, and the widget in which a method and a pair are chosen."""

import math
from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go
import torch
from einops import rearrange
from torch import Tensor

from minimoe.course.figures.boxes import draw_boxes
from minimoe.course.figures.ch06_router import driven
from minimoe.course.long_context import yarn_config
from minimoe.figure_style import BLUE, INK, PART_COLOURS, VERMILLION, Picture, finish, tint
from minimoe.model.config import ModelConfig
from minimoe.model.dual_chunk import Chunks
from minimoe.model.rope import frequencies_and_scale

METHODS = ("plain RoPE", "scaled positions", "YaRN", "dual chunk")
STEPS = ("positions<br>of q and k", "distance", "angle of<br>each pair", "score", "softmax over<br>all keys")


def where_map() -> Picture:
    """From two positions to a weight, with the step of this chapter highlighted."""
    figure, colour = go.Figure(), PART_COLOURS["attention"]
    draw_boxes(figure, STEPS, 1, colour, size=11)
    figure.update_xaxes(visible=False, range=[-0.1, 5])
    figure.update_yaxes(visible=False, range=[-0.1, 0.8])
    steps = ", ".join(step.replace("<br>", " ") for step in STEPS)
    alt = f"Inside of attention: {steps}. This chapter changes the distance, and no weight."
    return finish(figure, "Where we are: between positions and angles", alt, 170)


def used_distances(method: str, config: ModelConfig, positions: Tensor, length: int, trained: int, pair: int) -> Tensor:
    """The distance (query, key) in float64 by which pair `pair` of a head is turned, for one of METHODS."""
    true = (rearrange(positions, "query -> query 1") - positions).double()
    factor = length / trained
    if method == "scaled positions":
        return true / factor
    if method == "YaRN":
        stretched, _ = frequencies_and_scale(yarn_config(config, factor, trained))
        plain, _ = frequencies_and_scale(config)
        return true * float(stretched[pair].double() / plain[pair].double())
    if method == "dual chunk":
        return Chunks(trained, trained // 8).distances(positions, positions).double()
    return true


def scale_at(trained: int, longest: float) -> list[list[Any]]:
    """A colour scale from 0 to `longest`: blue up to `trained`, vermillion beyond."""
    edge = min((trained + 0.5) / longest, 1.0)  # a distance of exactly `trained` is still blue
    blue = [[0, tint(BLUE, 0.08)], [edge, BLUE]]
    return blue if edge == 1 else [*blue, [edge, tint(VERMILLION, 0.35)], [1, VERMILLION]]


def distance_map(
    used: Tensor, positions: Sequence[int], frequency: float, trained: int, title: str, subtitle: str,
    chosen: tuple[int, int] | None = None,
) -> Picture:  # fmt: skip
    """The table of used distances; on hover, a pair's true and used distance and its angle.

    used: (query, key) for some positions. frequency: of the pair of channels whose angle is shown. chosen: the query
    and key whose cell is marked.
    """
    names = list(positions)
    table = [
        [round(float(value), 1) if key <= query else None for key, value in enumerate(row)]
        for query, row in enumerate(used.tolist())
    ]
    turns = [[round(float(value) * frequency / math.tau, 2) for value in row] for row in used.tolist()]
    true = [[query - key for key in names] for query in names]
    longest = float(names[-1])
    figure = go.Figure(
        go.Heatmap(
            z=table, x=names, y=names,
            customdata=[list(zip(*rows, strict=True)) for rows in zip(true, turns, strict=True)],
            colorscale=scale_at(trained, longest), zmin=0, zmax=longest, hoverongaps=False,
            colorbar={
                "title": {"text": "distance<br>used"}, "thickness": 12, "len": 0.9,
                "tickvals": [0, trained, round(longest)],
            },
            hovertemplate="query at %{y}, key at %{x}<br>true distance %{customdata[0]}<br>used distance %{z}<br>"
            "angle %{customdata[1]} turns<extra></extra>",
        )
    )  # fmt: skip
    if chosen is not None:
        figure.add_trace(
            go.Scatter(
                x=[chosen[1]], y=[chosen[0]], mode="markers", hoverinfo="skip",
                marker={"symbol": "square-open", "size": 13, "color": INK, "line": {"width": 3}},
            )
        )  # fmt: skip
    figure.update_xaxes(title_text="key", showgrid=False, zeroline=False, constrain="domain", dtick=256)
    figure.update_yaxes(
        title_text="query",
        autorange="reversed",
        showgrid=False,
        zeroline=False,
        scaleanchor="x",
        dtick=256,
        constrain="domain",
    )
    beyond = used.tril() > trained
    alt = f"{title}. {subtitle} A triangle of {len(names)} queries; {int(beyond.sum())} cells are beyond {trained}."
    return finish(figure, title, alt.replace("<br>", " "), 400, subtitle)


def share_beyond(used: Tensor, trained: int) -> float:
    """The share of the pairs, on and below the diagonal, whose used distance exceeds `trained`."""
    size = len(used)
    return float((used.tril() > trained).sum()) / (size * (size + 1) / 2)


def explore_distances(
    config: ModelConfig, label: str, length: int = 1024, trained: int = 256, method: str = "plain RoPE", step: int = 16
) -> Any:
    """The chapter's experiment: pick a method, a pair of channels, a query and a key; hover over the table."""
    from ipywidgets import Dropdown, IntSlider, Layout

    positions = torch.arange(0, length, step)
    frequencies, _ = frequencies_and_scale(config)

    def draw(method: str, pair: int, query: int, key: int) -> Picture:
        key = min(key, query)
        used = used_distances(method, config, positions, length, trained, pair)
        chosen = float(used[query // step, key // step])
        turned = chosen * float(frequencies[pair]) / math.tau
        title = f"{method}: {share_beyond(used, trained):.0%} of all pairs are used at a distance beyond {trained}"
        subtitle = (
            f"Query {query}, key {key}: {query - key} apart, used as {chosen:.4g}; "
            f"pair {pair} makes {turned:.2f} turns<br>({label}, every {step}th token)"
        )
        return distance_map(used, positions.tolist(), float(frequencies[pair]), trained, title, subtitle, (query, key))

    wide, style, last = Layout(width="330px"), {"description_width": "60px"}, int(positions[-1])
    return driven(
        draw,
        method=Dropdown(options=METHODS, value=method, description="method", style=style, layout=Layout(width="240px")),
        pair=Dropdown(
            options=list(range(len(frequencies))), value=min(5, len(frequencies) - 1), description="pair", style=style,
            layout=Layout(width="150px"),
        ),
        query=IntSlider(value=last, min=0, max=last, step=step, description="query at", layout=wide, style=style),
        key=IntSlider(value=step * 4, min=0, max=last, step=step, description="key at", layout=wide, style=style),
    )  # fmt: skip
