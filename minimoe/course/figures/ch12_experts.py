"""The figures of chapter 12: atlases, distances with chance bands, histograms, ablations with controls."""

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise

import plotly.graph_objects as go
import torch
from plotly.subplots import make_subplots
from torch import Tensor

from minimoe.course.figures.boxes import draw_boxes
from minimoe.plotting import BLUE, GREEN, VERMILLION, Picture, finish
from minimoe.routing.explorer.static_picture import PUOR
from minimoe.routing.figures import rounded

REAL, CHANCE, MARK, THIRD = BLUE, "#A8A8A8", VERMILLION, GREEN
DIVERGING = [[index / (len(PUOR) - 1), f"#{colour}"] for index, colour in enumerate(PUOR)]  # grey in the middle
STEPS = ("text", "model", "trace", "a count", "chance", "a claim")


def claim_map() -> Picture:
    """The steps from a text to a claim about experts, with the step of this chapter highlighted."""
    figure = go.Figure()
    labels = ["against<br>chance" if step == "chance" else step for step in STEPS]
    draw_boxes(figure, labels, STEPS.index("chance"), MARK, size=13)
    figure.add_annotation(
        x=1.42, y=0.72, ax=1.42, ay=1.1, xref="x", yref="y", axref="x", ayref="y", arrowhead=2,
        text="hooks on the routers", font={"color": "#606060"},
    )  # fmt: skip
    figure.add_shape(
        type="path", path="M 3.42,0 L 3.42,-0.2 L 5.42,-0.2 L 5.42,0", line={"width": 1, "color": "#808080"}
    )
    figure.add_annotation(x=4.42, y=-0.3, text="the usual way", showarrow=False, font={"size": 11, "color": "#606060"})
    figure.update_xaxes(visible=False, range=[-0.1, 6])
    figure.update_yaxes(visible=False, range=[-0.42, 1.35])
    alt = f"From left to right: {', '.join(STEPS)}. This chapter is about the step that most people leave out: chance."
    picture = finish(figure, "Where we are: between a count and a claim", alt, height=230)
    figure.update_layout(margin={"l": 10, "r": 10, "t": 45, "b": 5})
    return picture


def logarithms(fold: Tensor) -> list[list[float | None]]:
    """log2 of the values, rounded; None for 0, an expert that was never selected."""
    return [[round(math.log2(value), 3) if value > 0 else None for value in row] for row in fold.tolist()]


def atlases(panels: Mapping[str, Tensor], title: str, says: str = "") -> Picture:
    """Heat maps of the fold over uniform, one panel (layer, expert) per name, with a common colour scale.

    Grey is uniform, orange more often, purple less often, white never selected. Expert numbers are specific to a
    layer, so columns cannot be compared across rows.
    """
    figure = make_subplots(
        rows=len(panels), cols=1, subplot_titles=list(panels), vertical_spacing=0.5 / (1 + len(panels)) ** 1.2
    )
    for row, fold in enumerate(panels.values(), start=1):
        layers, experts = fold.shape
        heatmap = go.Heatmap(
            z=logarithms(fold), x=list(range(experts)), y=[f"layer {layer}" for layer in range(layers)],
            customdata=rounded(fold), coloraxis="coloraxis", ygap=2,
            hovertemplate="%{y}, expert %{x}<br>%{customdata:.2f} times uniform<extra></extra>",
        )  # fmt: skip
        figure.add_trace(heatmap, row=row, col=1)
        figure.update_yaxes(autorange="reversed", showgrid=False, row=row, col=1)
        figure.update_xaxes(dtick=16, showgrid=False, zeroline=False, showticklabels=row == len(panels), row=row, col=1)
    figure.update_xaxes(title_text="expert number within its layer", row=len(panels), col=1)
    ticks = [-2, -1, 0, 1, 2]
    bar = {"title": {"text": "times<br>uniform"}, "tickvals": ticks, "ticktext": ["1/4", "1/2", "1", "2", "4"]}
    figure.update_layout(coloraxis={"colorscale": DIVERGING, "cmin": -2, "cmax": 2, "colorbar": bar})
    ranges = {name: f"{float(fold.min()):.2f} to {float(fold.max()):.2f}" for name, fold in panels.items()}
    summary = "; ".join(f"{name}: {span} times uniform" for name, span in ranges.items())
    picture = finish(figure, title, f"{title}. {summary}. {says}".strip(), height=110 + 125 * len(panels))
    figure.update_layout(margin={"l": 70, "r": 20, "t": 85, "b": 50})
    return picture


def distances(panels: Mapping[str, Mapping[str, Sequence[Tensor]]], title: str) -> Picture:
    """One panel per pair of domains, with lines by name: (value, low, high), each (layer).

    The value is drawn as a line with dots, the chance band from low to high as an area.
    """
    columns = min(3, len(panels))
    rows = math.ceil(len(panels) / columns)
    figure = make_subplots(
        rows=rows, cols=columns, subplot_titles=list(panels), shared_yaxes="all", vertical_spacing=0.2,
        horizontal_spacing=0.04,
    )  # fmt: skip
    summaries, styles = [], ((REAL, "solid"), (MARK, "dash"))
    for number, (pair, lines) in enumerate(panels.items()):
        row, column = number // columns + 1, number % columns + 1
        for (name, (value, low, high)), (colour, dash) in zip(lines.items(), styles, strict=False):
            layers = list(range(len(value)))
            figure.add_trace(
                go.Scatter(
                    x=layers + layers[::-1], y=rounded(high) + rounded(low)[::-1], fill="toself", mode="lines",
                    line={"width": 0}, fillcolor=faint(colour), hoverinfo="skip", showlegend=False,
                ),
                row=row, col=column,
            )  # fmt: skip
            figure.add_trace(
                go.Scatter(
                    x=layers, y=rounded(value), mode="lines+markers", line={"color": colour, "dash": dash}, name=name,
                    showlegend=number == 0,
                    hovertemplate="layer %{x}: %{y:.3f}<extra>" + f"{pair}, {name}" + "</extra>",
                ),
                row=row, col=column,
            )  # fmt: skip
            above = int((value > high).sum())
            summaries.append(
                f"{pair}, {name}: {float(value.min()):.3f} to {float(value.max()):.3f}, above chance in {above}"
            )
        figure.update_xaxes(dtick=1, showgrid=False, row=row, col=column)
    for column in range(1, columns + 1):
        figure.update_xaxes(title_text="layer", row=rows, col=column)
    for row in range(1, rows + 1):
        figure.update_yaxes(title_text="distance (of 1)", rangemode="tozero", row=row, col=1)
    picture = finish(figure, title, f"{title}. {'; '.join(summaries)} of the layers.", height=120 + 210 * rows)
    legend = {"orientation": "h", "x": 1, "xanchor": "right", "y": 1.08, "yanchor": "bottom"}
    figure.update_layout(margin={"l": 70, "r": 20, "t": 95, "b": 50}, showlegend=True, legend=legend)
    return picture


def faint(colour: str) -> str:
    """A "#rrggbb" colour as a translucent fill."""
    red, green, blue = (int(colour[start : start + 2], 16) for start in (1, 3, 5))
    return f"rgba({red}, {green}, {blue}, 0.22)"


def histograms(
    groups: Mapping[str, Tensor], edges: Sequence[float], lines: Mapping[str, float], title: str, unit: str
) -> Picture:
    """Outlines of several distributions on one axis, each normalised to shares of its own values.

    Values beyond the edges count in the outermost bins. `lines`: values to mark, by name.
    """
    figure, summaries = go.Figure(), []
    cuts = torch.tensor(list(edges), dtype=torch.float64)
    middles = [round(float(a + b) / 2, 4) for a, b in pairwise(cuts)]
    for (name, values), colour in zip(groups.items(), (REAL, CHANCE, MARK, THIRD), strict=False):
        flat = values.double().flatten()
        inside = flat.clamp(float(cuts[0]), float(cuts[-1]) - 1e-9)
        shares = torch.histogram(inside, cuts).hist / len(flat)
        figure.add_trace(
            go.Scatter(
                x=middles, y=[round(float(share), 4) for share in shares], name=name, mode="lines", fill="tozeroy",
                line={"color": colour, "shape": "hvh"}, fillcolor=faint(colour),
                hovertemplate="around %{x:.2f}: %{y:.1%}<extra>" + name + "</extra>",
            )
        )  # fmt: skip
        summaries.append(f"{name}: middle {float(flat.median()):.2f}, largest {float(flat.max()):.2f}")
    for index, (name, value) in enumerate(lines.items()):
        figure.add_vline(x=value, line={"color": "#202020", "width": 1, "dash": "dash"})
        figure.add_annotation(
            x=value, y=0.98, yref="paper", xanchor=("left", "right")[index % 2], text=f" {name} ", showarrow=False
        )
    figure.update_xaxes(title_text=unit)
    figure.update_yaxes(title_text="share of the pairs", tickformat=".0%", rangemode="tozero")
    picture = finish(figure, title, f"{title}. {'; '.join(summaries)}.", height=360)
    figure.update_layout(showlegend=True, legend={"x": 0.99, "xanchor": "right", "y": 0.98}, margin={"l": 80})
    return picture


def pair_map(pmi: Tensor, order: Tensor, chance: float, title: str) -> Picture:
    """A map of (expert, expert) PMI, with rows and columns in `order` and an empty diagonal.

    Grey is `chance`, which is not 0.
    """
    sorted_pmi = pmi[order][:, order]
    numbers = order.tolist()
    z = [
        [None if i == j or not math.isfinite(value) else round(value, 1) for j, value in enumerate(row)]
        for i, row in enumerate(sorted_pmi.tolist())
    ]
    names = [f"E{expert}" for expert in numbers]
    heatmap = go.Heatmap(
        z=z, x=names, y=names, colorscale=DIVERGING, zmin=round(chance - 1.5, 3), zmax=round(chance + 1.5, 3),
        colorbar={"title": {"text": "PMI (nats)"}},
        hovertemplate="%{y} with %{x}<br>PMI %{z:.1f}<extra></extra>",
    )  # fmt: skip
    figure = go.Figure(heatmap)
    figure.update_xaxes(title_text="expert, in the order of the seriation")
    figure.update_yaxes(title_text="the same experts", autorange="reversed")
    for update in (figure.update_xaxes, figure.update_yaxes):
        update(showticklabels=False, ticks="", showgrid=False)
    off = pmi[~torch.eye(len(pmi), dtype=torch.bool)]
    off = off[off.isfinite()]
    alt = f"{title}. {len(off) // 2} pairs that occurred; PMI from {float(off.min()):.2f} to {float(off.max()):.2f}."
    picture = finish(figure, title, alt, height=480)
    figure.update_layout(margin={"l": 60, "r": 20, "t": 60, "b": 50})
    return picture


def best_of_many(
    counts: Tensor, measured: Tensor, sizes: Sequence[int], low: Tensor, high: Tensor, names: Sequence[str], title: str
) -> Picture:
    """The share of its best expert against the number of occurrences of each token id, with a chance band.

    counts, measured: (id), occurrences and share. sizes: occurrences at which chance was simulated; low, high: the
    interval that contains 95 % of these simulations.
    """
    band = list(sizes) + list(sizes)[::-1]
    figure = go.Figure()
    figure.add_trace(
        go.Scatter(
            x=band, y=rounded(high) + rounded(low)[::-1], fill="toself", mode="lines", line={"width": 0},
            fillcolor=faint("#606060"), name="the best of 128 under uniform routing", hoverinfo="skip",
        )
    )  # fmt: skip
    figure.add_trace(
        go.Scatter(
            x=counts.tolist(), y=rounded(measured), mode="markers", name="tokens of the trace", text=list(names),
            marker={"color": REAL, "size": 5, "opacity": 0.6},
            hovertemplate="%{text}, %{x} times<br>best expert: %{y:.0%}<extra></extra>",
        )
    )  # fmt: skip
    figure.update_xaxes(title_text="how often the token occurs (log scale)", type="log", dtick=1)
    figure.update_yaxes(title_text="share of its occurrences<br>that go to its best expert", tickformat=".0%")
    alt = (
        f"{title}. Under uniform routing a token seen {sizes[0]} times has a best expert with {float(low[0]):.0%} to "
        f"{float(high[0]):.0%} of it, one seen {sizes[-1]} times {float(low[-1]):.0%} to {float(high[-1]):.0%}."
    )
    picture = finish(figure, title, alt, height=380)
    legend = {"x": 0.99, "xanchor": "right", "y": 0.98}
    figure.update_layout(showlegend=True, legend=legend, margin={"l": 90})
    figure.update_yaxes(range=[0, 1.05])
    return picture


def beside_controls(rows: Mapping[str, tuple[float, Sequence[float]]], title: str, unit: str) -> Picture:
    """One row per target (a diamond) with its controls (dots, staggered vertically)."""
    figure, summaries = go.Figure(), []
    names = list(rows)
    for row, (name, (target, controls)) in enumerate(rows.items()):
        heights = [round(row + 0.28 * ((index % 5) - 2) / 2, 3) for index in range(len(controls))]
        figure.add_trace(
            go.Scatter(
                x=[round(value, 4) for value in controls], y=heights, mode="markers", name="matched random experts",
                showlegend=row == 0, marker={"color": CHANCE, "size": 7, "line": {"width": 1, "color": "#707070"}},
                hovertemplate="%{x:.4f}<extra>a control of " + name + "</extra>",
            )
        )  # fmt: skip
        figure.add_trace(
            go.Scatter(
                x=[round(target, 4)], y=[row], mode="markers", name="the expert itself", showlegend=row == 0,
                marker={"color": MARK, "size": 13, "symbol": "diamond"},
                hovertemplate="%{x:.4f}<extra>" + name + "</extra>",
            )
        )  # fmt: skip
        above = sum(value >= target for value in controls)
        summaries.append(f"{name}: {target:+.3f}, {above} of {len(controls)} controls at least as much")
    figure.add_vline(x=0, line={"color": "#202020", "width": 1, "dash": "dot"})
    figure.update_xaxes(title_text=unit)
    figure.update_yaxes(
        tickvals=list(range(len(names))), ticktext=names, range=[len(names) - 0.45, -0.55], showgrid=False
    )
    picture = finish(figure, title, f"{title}. {'; '.join(summaries)}.", height=150 + 70 * len(rows))
    legend = {"orientation": "h", "x": 1, "xanchor": "right", "y": 1, "yanchor": "bottom"}
    figure.update_layout(showlegend=True, legend=legend, margin={"l": 170, "r": 20, "t": 85, "b": 55})
    return picture


def ranked(values: Tensor, marked: Sequence[int], layer: int, title: str, unit: str) -> Picture:
    """One bar per expert of a layer, sorted by value; the experts in `marked` are coloured and labelled."""
    order = values.argsort(descending=True).tolist()
    colours = [MARK if expert in marked else CHANCE for expert in order]
    names = [f"L{layer}·E{expert}" for expert in order]
    bar = go.Bar(
        x=list(range(1, len(order) + 1)), y=[round(float(values[expert]), 4) for expert in order], text=None,
        marker={"color": colours, "line": {"width": 0}}, customdata=names,
        hovertemplate="%{customdata}, rank %{x}<br>%{y:.4f}<extra></extra>",
    )  # fmt: skip
    figure = go.Figure(bar)
    for expert in marked:
        rank, value = order.index(expert) + 1, float(values[expert])
        figure.add_annotation(x=rank, y=value, text=f"L{layer}·E{expert}", showarrow=True, ax=35, ay=-12)
    figure.update_layout(bargap=0.15)
    figure.update_xaxes(title_text="rank of the expert (hover for its name)", showgrid=False, range=[0, len(order) + 1])
    figure.update_yaxes(title_text=unit)
    middle = float(values.median())
    alt = f"{title}. {len(order)} bars: largest {names[0]} {float(values.max()):+.3f}, middle {middle:+.4f}."
    picture = finish(figure, title, alt, height=340)
    figure.update_layout(margin={"l": 80, "r": 20, "t": 60, "b": 55})
    return picture
