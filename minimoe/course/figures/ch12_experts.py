"""The figures of chapter 12: atlases, distances with chance bands, distributions, ablations with controls."""

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise

import plotly.graph_objects as go
import torch
from plotly.subplots import make_subplots
from torch import Tensor

from minimoe.course.figures.boxes import draw_boxes
from minimoe.figure_style import (
    BLUE,
    DOMAIN_COLOURS,
    GREEN,
    INK,
    MUTED,
    PART_COLOURS,
    TEXT_SIZE,
    VERMILLION,
    Picture,
    bars,
    finish,
    inside,
    label,
    reference_line,
    rounded,
    spread,
    text_width,
)
from minimoe.routing.explorer.static_picture import PUOR

REAL, CHANCE, MARK, THIRD = BLUE, "#A8A8A8", VERMILLION, GREEN
DIVERGING = [[index / (len(PUOR) - 1), f"#{colour}"] for index, colour in enumerate(PUOR)]  # grey in the middle
STEPS = ("text", "model", "trace", "a count", "chance", "a claim")
FIRST_TEXTS = 6  # that get a bar of their own


def claim_map() -> Picture:
    """The steps from a text to a claim about experts, with the step of this chapter highlighted."""
    figure = go.Figure()
    labels = ["against<br>chance" if step == "chance" else step for step in STEPS]
    draw_boxes(figure, labels, STEPS.index("chance"), PART_COLOURS["router"], size=13)
    figure.add_annotation(
        x=1.42, y=0.72, ax=1.42, ay=1.1, xref="x", yref="y", axref="x", ayref="y", arrowhead=2,
        text="hooks on the routers", font={"color": MUTED},
    )  # fmt: skip
    figure.add_shape(
        type="path", path="M 3.42,0 L 3.42,-0.2 L 5.42,-0.2 L 5.42,0", line={"width": 1, "color": "#808080"}
    )
    figure.add_annotation(
        x=4.42, y=-0.31, text="the usual shortcut", showarrow=False, font={"size": 12, "color": MUTED}
    )
    figure.update_xaxes(visible=False, range=[-0.1, 6])
    figure.update_yaxes(visible=False, range=[-0.45, 1.35])
    alt = f"From left to right: {', '.join(STEPS)}. This chapter is about the step that is usually left out: chance."
    picture = finish(figure, "Where we are: between a count and a claim", alt, height=240)
    figure.update_layout(margin={"l": 10, "r": 10, "t": 45, "b": 5})
    return picture


def logarithms(fold: Tensor) -> list[list[float | None]]:
    """log2 of the values, rounded; None for 0, an expert that was never selected."""
    return [[round(math.log2(value), 2) if value > 0 else None for value in row] for row in fold.tolist()]


def atlases(panels: Mapping[str, Tensor], title: str, subtitle: str = "") -> Picture:
    """Heat maps of the fold over uniform, one panel (layer, expert) per name, with a common colour scale.

    Grey is uniform, orange more often, purple less often, white never selected. Expert numbers are specific to a
    layer, so columns cannot be compared across rows.
    """
    rows = max(len(fold) for fold in panels.values())
    figure = make_subplots(
        rows=len(panels), cols=1, subplot_titles=list(panels), vertical_spacing=0.5 / (1 + len(panels)) ** 1.2
    )
    for row, fold in enumerate(panels.values(), start=1):
        layers, experts = fold.shape
        heatmap = go.Heatmap(
            z=logarithms(fold), x=list(range(experts)), y=[f"layer {layer}" for layer in range(layers)],
            customdata=[[round(value, 2) for value in line] for line in fold.tolist()], coloraxis="coloraxis", ygap=2,
            hovertemplate="%{y}, expert %{x}<br>%{customdata:.2f} times uniform<extra></extra>",
        )  # fmt: skip
        figure.add_trace(heatmap, row=row, col=1)
        figure.update_yaxes(autorange="reversed", showgrid=False, ticks="", row=row, col=1)
        figure.update_xaxes(dtick=16, showgrid=False, zeroline=False, showticklabels=row == len(panels), row=row, col=1)
    figure.update_xaxes(title_text="expert number within its layer", row=len(panels), col=1)
    bar = {
        "title": {"text": "times<br>uniform"}, "tickvals": [-2, -1, 0, 1, 2], "ticktext": ["1/4", "1/2", "1", "2", "4"],
        "thickness": 14,
    }  # fmt: skip
    figure.update_layout(coloraxis={"colorscale": DIVERGING, "cmin": -2, "cmax": 2, "colorbar": bar})
    ranges = {name: f"{float(fold.min()):.2f} to {float(fold.max()):.2f}" for name, fold in panels.items()}
    summary = "; ".join(f"{name}: {span} times uniform" for name, span in ranges.items())
    height = 110 + len(panels) * (45 + 20 * min(rows, 40))
    picture = finish(figure, title, f"{title}. {subtitle} {summary}.", height, subtitle)
    figure.update_layout(margin={"t": figure.layout.margin.t + 14}, height=figure.layout.height + 14)
    return picture


def distances(panels: Mapping[str, Mapping[str, Sequence[Tensor]]], title: str, subtitle: str = "") -> Picture:
    """One panel per pair of domains, with lines by name: (value, low, high), each (layer).

    The value is drawn as a line with dots, the chance band from low to high as an area. The lines are named at the
    right of the first row; their colours are the same in all panels.
    """
    columns = min(3, len(panels))
    rows = math.ceil(len(panels) / columns)
    figure = make_subplots(
        rows=rows, cols=columns, subplot_titles=list(panels), shared_yaxes="all", vertical_spacing=0.2,
        horizontal_spacing=0.04,
    )  # fmt: skip
    styles = ((REAL, "solid"), (MARK, "dash"))
    summaries, highest = [], 1.3 * max(float(value.max()) for lines in panels.values() for value, *_ in lines.values())
    for number, (pair, lines) in enumerate(panels.items()):
        row, column = number // columns + 1, number % columns + 1
        for (name, (value, low, high)), (colour, dash) in zip(lines.items(), styles, strict=False):
            layers = list(range(len(value)))
            figure.add_trace(
                go.Scatter(
                    x=layers + layers[::-1], y=rounded(high) + rounded(low)[::-1], fill="toself", mode="lines",
                    line={"width": 0}, fillcolor=faint(colour), hoverinfo="skip",
                ),
                row=row, col=column,
            )  # fmt: skip
            figure.add_trace(
                go.Scatter(
                    x=layers, y=rounded(value), mode="lines+markers", line={"color": colour, "dash": dash}, name=name,
                    hovertemplate="layer %{x}: %{y:.3f}<extra>" + f"{pair}, {name}" + "</extra>",
                ),
                row=row, col=column,
            )  # fmt: skip
            above = int((value > high).sum())
            summaries.append(
                f"{pair}, {name}: {float(value.min()):.3f} to {float(value.max()):.3f}, above chance in {above}"
            )
        last = max(1, len(value) - 1)
        step = max(1, len(value) // 6)
        figure.update_xaxes(dtick=step, range=[-0.05 * last, 1.05 * last], showgrid=False, row=row, col=column)
        figure.update_yaxes(range=[0, highest], row=row, col=column)
    name_lines(figure, columns, list(panels.values())[columns - 1], [colour for colour, _ in styles], 130 / highest)
    for column in range(1, columns + 1):
        figure.update_xaxes(title_text="layer", row=rows, col=column)
    for row in range(1, rows + 1):
        figure.update_yaxes(title_text="distance (of 1)", row=row, col=1)
    figure.for_each_annotation(lambda note: note.update(font={"size": TEXT_SIZE}), selector={"xref": "paper"})
    alt = f"{title}. {subtitle} {'; '.join(summaries)} of the layers."
    picture = finish(figure, title, alt, 120 + 190 * rows, subtitle)
    figure.update_layout(margin={"t": figure.layout.margin.t + 14}, height=figure.layout.height + 14)
    return picture


def name_lines(
    figure: go.Figure, panel: int, lines: Mapping[str, Sequence[Tensor]], colours: Sequence[str], scale: float
) -> None:
    """Write the names of the lines, and "chance" for the highest band, to the right of a panel in the top row.

    scale: pixels per unit of the value axis.
    """
    number = "" if panel == 1 else str(panel)
    ends = {
        name: (float(value[-1]), colour) for (name, (value, *_)), colour in zip(lines.items(), colours, strict=False)
    }
    ends["chance"] = (max(float(band[-1] + low[-1]) / 2 for _, low, band in lines.values()), MUTED)
    last = len(next(iter(lines.values()))[0]) - 1
    placed = spread([value * scale for value, _ in ends.values()], gap=TEXT_SIZE + 3)
    placed = inside(placed, scale * figure.layout[f"yaxis{number}"].range[1], margin=TEXT_SIZE / 2)
    for (name, (value, colour)), at in zip(ends.items(), placed, strict=True):
        figure.add_annotation(
            x=last, y=value, xref=f"x{number}", yref=f"y{number}", xanchor="left", xshift=10, text=name,
            yshift=round(at - value * scale), showarrow=False, font={"color": colour},
        )  # fmt: skip
    figure.update_layout(margin={"r": round(max(text_width(name) for name in ends)) + 22})


def faint(colour: str) -> str:
    """A "#rrggbb" colour as a translucent fill."""
    red, green, blue = (int(colour[start : start + 2], 16) for start in (1, 3, 5))
    return f"rgba({red}, {green}, {blue}, 0.22)"


def histograms(
    groups: Mapping[str, Tensor],
    edges: Sequence[float],
    lines: Mapping[str, float],
    title: str,
    unit: str,
    subtitle: str = "",
    places: Sequence[float] = (),
) -> Picture:
    """Outlines of several distributions on one axis, each normalised to shares of its own values.

    Values beyond the edges count in the outermost bins; NaN is left out. lines: values to mark, by name. places: the
    value at which the name of each group is written; by default at its median.
    """
    figure, summaries = go.Figure(), []
    cuts = torch.tensor(list(edges), dtype=torch.float64)
    middles = [round(float(a + b) / 2, 4) for a, b in pairwise(cuts)]
    for number, ((name, values), colour) in enumerate(zip(groups.items(), (REAL, CHANCE, MARK, THIRD), strict=False)):
        flat = values.double().flatten()
        flat = flat[~flat.isnan()]
        clamped = flat.clamp(float(cuts[0]), float(cuts[-1]) - 1e-9)
        shares = torch.histogram(clamped, cuts).hist / len(flat)
        figure.add_trace(
            go.Scatter(
                x=middles, y=[round(float(share), 4) for share in shares], name=name, mode="lines", fill="tozeroy",
                line={"color": colour, "shape": "hvh"}, fillcolor=faint(colour),
                hovertemplate="around %{x:.2f}: %{y:.1%}<extra>" + name + "</extra>",
            )
        )  # fmt: skip
        at = places[number] if number < len(places) else float(flat.median())
        nearest = min(range(len(middles)), key=lambda bin: abs(middles[bin] - at))
        figure.add_annotation(
            x=middles[nearest], y=float(shares[nearest]), text=name, xanchor="left" if at >= 0 else "right",
            yanchor="bottom", ax=14 if at >= 0 else -14, ay=-16, arrowcolor=colour,
            font={"color": "#606060" if colour == CHANCE else colour},
        )  # fmt: skip
        summaries.append(f"{name}: middle {float(flat.median()):.2f}, largest {float(flat.max()):.2f}")
    for name, value in lines.items():
        reference_line(figure, value, name, axis="x")
    figure.update_xaxes(title_text=unit, range=[edges[0], edges[-1]])
    figure.update_yaxes(title_text="share of the pairs", tickformat=".0%", rangemode="tozero", nticks=5)
    picture = finish(figure, title, f"{title}. {subtitle} {'; '.join(summaries)}.", 380, subtitle)
    figure.update_layout(margin={"t": figure.layout.margin.t + 20}, height=figure.layout.height + 20)
    return picture


def pair_map(pmi: Tensor, order: Tensor, chance: float, title: str, subtitle: str = "") -> Picture:
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
    low, high = round(chance - 1.5, 3), round(chance + 1.5, 3)
    heatmap = go.Heatmap(
        z=z, x=names, y=names, colorscale=DIVERGING, zmin=low, zmax=high,
        colorbar={"title": {"text": "PMI (nats)"}, "thickness": 14, "tickvals": [low, round(chance, 3), high],
                  "ticktext": [label(low, ".1f"), f"{label(chance, '.2f')} chance", label(high, ".1f")]},
        hovertemplate="%{y} with %{x}<br>PMI %{z:.1f}<extra></extra>",
    )  # fmt: skip
    figure = go.Figure(heatmap)
    figure.update_xaxes(title_text="experts, those selected together side by side")
    figure.update_yaxes(title_text="the same experts", autorange="reversed")
    for update in (figure.update_xaxes, figure.update_yaxes):
        update(showticklabels=False, ticks="", showgrid=False)
    off = pmi[~torch.eye(len(pmi), dtype=torch.bool)]
    off = off[off.isfinite()]
    alt = f"{title}. {len(off) // 2} pairs that occurred; PMI from {float(off.min()):.2f} to {float(off.max()):.2f}."
    picture = finish(figure, title, alt, 480, subtitle)
    figure.update_layout(margin={"l": 45})
    return picture


def best_of_many(
    counts: Tensor,
    measured: Tensor,
    sizes: Sequence[int],
    low: Tensor,
    high: Tensor,
    names: Sequence[str],
    title: str,
    subtitle: str = "",
) -> Picture:
    """The share of its best expert against the number of occurrences of each token id, with a chance band.

    counts, measured: (id), occurrences and share. sizes: occurrences at which chance was simulated; low, high: the
    interval that contains 95 % of these simulations. The most frequent tokens are named.
    """
    band = list(sizes) + list(sizes)[::-1]
    figure = go.Figure()
    figure.add_trace(
        go.Scatter(
            x=band, y=rounded(high) + rounded(low)[::-1], fill="toself", mode="lines", line={"width": 0},
            fillcolor=faint("#606060"), hoverinfo="skip",
        )
    )  # fmt: skip
    figure.add_trace(
        go.Scatter(
            x=counts.tolist(), y=rounded(measured), mode="markers", text=list(names),
            marker={"color": REAL, "size": 5, "opacity": 0.6},
            hovertemplate="%{text}, %{x} times<br>best expert: %{y:.0%}<extra></extra>",
        )
    )  # fmt: skip
    named = [index for index in counts.argsort(descending=True).tolist() if any(map(str.isalnum, names[index]))]
    for index in named[:6]:
        figure.add_annotation(
            x=math.log10(int(counts[index])), y=float(measured[index]), text=names[index],
            showarrow=False, yshift=10, font={"size": 12, "color": REAL},
        )  # fmt: skip
    middle = len(sizes) // 2
    figure.add_annotation(
        x=math.log10(sizes[middle]), y=float(low[middle] + high[middle]) / 2, text="dice", showarrow=False,
        font={"color": INK},
    )  # fmt: skip
    figure.update_xaxes(
        title_text="how often the token occurs (logarithmic)", type="log", tickvals=list(sizes),
        ticktext=[f"{size:,}" for size in sizes],
    )  # fmt: skip
    figure.update_yaxes(title_text="share that goes to<br>the best expert", tickformat=".0%", range=[0, 1.05])
    alt = (
        f"{title}. {subtitle} Under uniform routing a token seen {sizes[0]} times has a best expert with "
        f"{float(low[0]):.0%} to {float(high[0]):.0%} of it, one seen {sizes[-1]} times {float(low[-1]):.0%} to "
        f"{float(high[-1]):.0%}."
    )
    return finish(figure, title, alt, 400, subtitle)


def beside_controls(
    rows: Mapping[str, tuple[float, Sequence[float]]], title: str, unit: str, subtitle: str = ""
) -> Picture:
    """One row per target (a diamond with its value) with its controls (dots, staggered vertically)."""
    figure, summaries = go.Figure(), []
    names = list(rows)
    for row, (name, (target, controls)) in enumerate(rows.items()):
        heights = [round(row + 0.28 * ((index % 5) - 2) / 2, 3) for index in range(len(controls))]
        figure.add_trace(
            go.Scatter(
                x=[round(value, 4) for value in controls], y=heights, mode="markers",
                marker={"color": CHANCE, "size": 8, "line": {"width": 1, "color": "#707070"}},
                hovertemplate="%{x:.4f}<extra>a control of " + name + "</extra>",
            )
        )  # fmt: skip
        figure.add_trace(
            go.Scatter(
                x=[round(target, 4)], y=[row], mode="markers+text", text=[f"{name} {label(target, '+.3f')}"],
                textposition="top center", textfont={"color": MARK, "size": TEXT_SIZE}, cliponaxis=False,
                marker={"color": MARK, "size": 13, "symbol": "diamond"},
                hovertemplate="%{x:.4f}<extra>" + name + "</extra>",
            )
        )  # fmt: skip
        above = sum(value >= target for value in controls)
        summaries.append(f"{name}: {target:+.3f}, {above} of {len(controls)} controls at least as much")
        if controls:
            figure.add_annotation(
                x=max(controls), y=row, text=f"{len(controls)} random experts<br>of about the same load",
                showarrow=False, xanchor="left", xshift=12, align="left", font={"color": MUTED},
            )  # fmt: skip
    reference_line(figure, 0, "no effect", axis="x")
    figure.update_xaxes(title_text=unit, showgrid=False)
    figure.update_yaxes(visible=False, range=[len(names) - 0.45, -0.75])
    return finish(figure, title, f"{title}. {'; '.join(summaries)}.", 150 + 80 * len(rows), subtitle)


def ranked(
    values: Tensor, marked: Sequence[int], layer: int, title: str, unit: str, subtitle: str = "", line: float = 0.0
) -> Picture:
    """One bar per expert of a layer, sorted by value; the experts in `marked` are coloured and labelled.

    line: a value to mark with a dashed line, if it is not 0.
    """
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
        figure.add_annotation(
            x=rank, y=value, text=f"L{layer}·E{expert} {label(value, '+.3f')}", showarrow=False, xanchor="left",
            xshift=8, yanchor="top", font={"color": MARK},
        )  # fmt: skip
    if line:
        reference_line(figure, line, f"{line:g} {unit.split()[0]}")
        figure.layout.annotations[-1].update(xanchor="right", x=1)
    figure.update_layout(bargap=0.15)
    figure.update_xaxes(title_text="rank of the expert (hover for its name)", showgrid=False, range=[0, len(order) + 1])
    figure.update_yaxes(title_text=unit, nticks=6)
    middle = float(values.median())
    alt = f"{title}. {len(order)} bars: largest {names[0]} {float(values.max()):+.3f}, middle {middle:+.4f}."
    return finish(figure, title, alt, 340, subtitle)


def damage_by_text(damage: Tensor, names: Sequence[str], title: str, subtitle: str = "") -> Picture:
    """Summed damage of each text in nats, (document), the largest first; the small ones share the last bar."""
    order = damage.argsort(descending=True).tolist()
    first, others = order[:FIRST_TEXTS], order[FIRST_TEXTS:]
    labels = [names[text] for text in first] + ([f"the other {len(others)} together"] if others else [])
    values = [float(damage[text]) for text in first] + ([float(damage[others].sum())] if others else [])
    colours = [DOMAIN_COLOURS.get(names[text].split()[0], REAL) for text in first] + [CHANCE] * bool(others)
    summary = ", ".join(f"{name} {label(value, '.1f')}" for name, value in zip(labels, values, strict=True))
    rounded_values = [round(value, 1) + 0.0 for value in values]
    return bars(
        labels, rounded_values, title, f"{title}. {summary} nats.", subtitle=subtitle, form=".1f", colours=colours
    )


def mean_bars(values: Mapping[str, float], chance: str, title: str, subtitle: str = "") -> Picture:
    """Means by name, one bar each; the bar named `chance` is grey."""
    colours = [CHANCE if name == chance else REAL for name in values]
    summary = ", ".join(f"{name} {value:.1f}" for name, value in values.items())
    return bars(
        list(values), [round(value, 2) for value in values.values()], title, f"{title}. {summary}.",
        subtitle=subtitle, form=".1f", colours=colours,
    )  # fmt: skip
