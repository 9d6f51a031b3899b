"""The family tree of routers in time, and how small a part of a model works on a token."""

from collections.abc import Sequence

import plotly.graph_objects as go

from minimoe.figure_style import BLUE, GREEN, INK, MUTED, ORANGE, PURPLE, VERMILLION, Picture, bars, finish
from minimoe.zoo.checkpoints import Checkpoint
from minimoe.zoo.history import Change

ROW = 27  # pixels
QWEN, DEEPSEEK = VERMILLION, BLUE
LINES = {"Qwen": QWEN, "DeepSeek": DEEPSEEK, "Loss-free": DEEPSEEK}


def year(when: str) -> float:
    """2024-07 as 2024.5."""
    years, months = when.split("-")
    return int(years) + (int(months) - 1) / 12


def colour(name: str) -> str:
    """Qwen's and DeepSeek's entries have colours; all others are grey."""
    return next((found for start, found in LINES.items() if name.startswith(start)), MUTED)


def family_tree(changes: Sequence[Change], title: str, subtitle: str = "") -> Picture:
    """One row a change, oldest first, at its date; a line leads from each entry to what it changes.

    Time before 2023 is compressed.
    """
    places = {change.name: (squeezed(year(change.when)), row) for row, change in enumerate(changes)}
    figure = go.Figure()
    for change in changes:
        x, row = places[change.name]
        for parent in change.after:
            px, prow = places[parent]
            path = f"M {px},{prow} L {px},{row - 0.45} Q {px},{row} {px + 0.12},{row} L {x},{row}"
            figure.add_shape(type="path", path=path, line={"color": "#B5B5B5", "width": 1.2}, layer="below")
    figure.add_trace(
        go.Scatter(
            x=[places[change.name][0] for change in changes], y=[places[change.name][1] for change in changes],
            mode="markers", marker={"size": 10, "color": [colour(change.name) for change in changes]},
            customdata=[[change.when, change.change, change.why or "not said"] for change in changes],
            hovertemplate="%{customdata[0]}: %{customdata[1]}<br>for: %{customdata[2]}<extra></extra>",
        )
    )  # fmt: skip
    for change in changes:
        x, row = places[change.name]
        figure.add_annotation(
            x=x, y=row, text=change.name, showarrow=False, xanchor="left", xshift=8, font={"color": INK, "size": 12},
            bgcolor="rgba(255,255,255,0.8)", borderpad=0,
        )  # fmt: skip
    years = [2017, 2020, 2023, 2024, 2025, 2026]
    figure.update_xaxes(
        tickvals=[squeezed(float(each)) for each in years], ticktext=[str(each) for each in years], tickangle=0,
        range=[squeezed(2017) - 0.1, squeezed(2026.6) + 1.25], side="top", zeroline=False, gridcolor="#EEEEEE",
    )  # fmt: skip
    figure.update_yaxes(visible=False, range=[len(changes) - 0.4, -0.7])
    alt = title + ". " + "; ".join(f"{change.when} {change.name}: {change.change}" for change in changes) + "."
    picture = finish(figure, title, alt, 110 + ROW * len(changes), subtitle)
    figure.update_layout(margin={"l": 12, "r": 12, "b": 12, "t": (figure.layout.margin.t or 60) + 22})
    return picture


def squeezed(when: float) -> float:
    """The place of a date: years before 2023 take a fifth of the room."""
    return when - 2023 if when >= 2023 else (when - 2023) / 5


def active_shares(models: Sequence[Checkpoint], lit: str, title: str, subtitle: str = "") -> Picture:
    """The share of the parameters that works on a token, oldest model first; `lit` has a colour of its own."""
    ordered = sorted(models, key=lambda each: each.released)
    shares = [100 * each.active / each.total for each in ordered]
    names = [f"{each.model}, {each.released[:4]}" for each in ordered]
    return bars(
        names, shares, title, f"{title}. " + "; ".join(f"{n}: {s:.1f}%" for n, s in zip(names, shares, strict=True)),
        subtitle=subtitle, form=".1f", unit="%", colours=[ORANGE if each.model == lit else BLUE for each in ordered],
    )  # fmt: skip


def signed(value: float) -> str:
    """Two decimals with a typographic minus, and no sign at zero."""
    return f"{value:.2f}".replace("-0.00", "0.00").replace("-", "−")


def agreement(
    before: Sequence[float], after: Sequence[float], numbers: Sequence[int], title: str, note: str
) -> Picture:
    """How alike the chosen experts answer, by layer: mean cosine before and after a common part is taken away."""
    figure = go.Figure()
    names = [f"layer {number}" for number in numbers]
    for name, values, tone in (("as they are", before, PURPLE), ("without the mean of all experts", after, GREEN)):
        figure.add_trace(
            go.Bar(
                x=names, y=[round(value, 3) for value in values], name=name, marker={"color": tone}, hoverinfo="skip",
                text=[signed(value) for value in values], textposition="outside",
                cliponaxis=False,
            )
        )  # fmt: skip
    figure.add_hline(y=0, line={"color": MUTED, "width": 1})
    figure.update_yaxes(visible=False, range=[min(-0.2 * max(before), 2 * min(after)), 1.25 * max(before)])
    figure.update_xaxes(showgrid=False)
    alt = f"{title}. " + "; ".join(
        f"{name}: {signed(one)}, then {signed(other)}"
        for name, one, other in zip(names, before, after, strict=True)
    )
    picture = finish(figure, title, alt, 300, note)
    below = {"orientation": "h", "x": 0, "y": -0.14, "yanchor": "top"}
    figure.update_layout(showlegend=True, legend=below, bargap=0.3, margin={"b": 80})
    return picture
