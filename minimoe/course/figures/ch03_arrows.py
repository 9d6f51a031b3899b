"""Chapter 03: pairs of channels as arrows that turn, and the score of a head as a sum over its pairs."""

import math
from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go
import torch
from einops import einsum, rearrange
from plotly.subplots import make_subplots
from torch import Tensor

from minimoe import figure_style
from minimoe.course.figures.ch06_router import driven
from minimoe.figure_style import (
    BLUE,
    GREEN,
    INK,
    MUTED,
    SUBTITLE_SIZE,
    VERMILLION,
    Picture,
    hide_axes,
    label,
    spread,
    wrap,
)

QUERY, KEY, SCORE, FAINT = BLUE, VERMILLION, GREEN, "#B8B8B8"

BESIDE_FILES = 430  # pixels that a title has in a window of 900, beside the list of files


def finish(figure: go.Figure, title: str, alt: str, height: int, subtitle: str = "") -> Picture:
    """The course's layout, with the title and subtitle wrapped for a narrow window beside the list of files."""
    subtitle = wrap(subtitle, BESIDE_FILES, SUBTITLE_SIZE)
    return figure_style.finish(figure, wrap(title, BESIDE_FILES), alt, height, subtitle)


def pair_of(x: Tensor, pair: int) -> Tensor:
    """The two channels that are rotated together: (head_dim) -> (2)."""
    return x[[pair, pair + len(x) // 2]]


def turned(arrow: Tensor, angle: float) -> tuple[float, float]:
    """A pair of channels, (2), rotated counterclockwise by `angle` radians."""
    x, y = arrow.tolist()
    return x * math.cos(angle) - y * math.sin(angle), x * math.sin(angle) + y * math.cos(angle)


def score_of(q: Tensor, k: Tensor, frequency: float, m: float, n: float) -> float:
    """The contribution of a pair of channels to the score of a query at m and a key at n, before the scaling."""
    a, b = turned(q, frequency * m), turned(k, frequency * n)
    return a[0] * b[0] + a[1] * b[1]


def draw_arrow(figure: go.Figure, tip: tuple[float, float], name: str, colour: str, column: int) -> None:
    """Draw an arrow of length 1 from the centre of panel `column`, labelled at its tip."""
    length = math.hypot(*tip) or 1.0
    tip = tip[0] / length, tip[1] / length
    axis = "" if column == 1 else str(column)
    figure.add_annotation(
        x=tip[0], y=tip[1], ax=0, ay=0, xref=f"x{axis}", yref=f"y{axis}", axref=f"x{axis}", ayref=f"y{axis}",
        showarrow=True, arrowhead=2, arrowwidth=3, arrowcolor=colour, text="",
    )  # fmt: skip
    figure.add_annotation(
        x=1.2 * tip[0], y=1.2 * tip[1], xref=f"x{axis}", yref=f"y{axis}", text=f"<b>{name}</b>", showarrow=False,
        font={"color": colour, "size": 15},
    )  # fmt: skip


def draw_circle(figure: go.Figure, column: int) -> None:
    """The unit circle of a panel, the path of a rotating tip; both axes have one scale, so that it is round."""
    steps = [math.tau * step / 72 for step in range(73)]
    figure.add_trace(
        go.Scatter(
            x=[round(math.cos(angle), 4) for angle in steps], y=[round(math.sin(angle), 4) for angle in steps],
            mode="lines", line={"color": "#DDDDDD", "width": 1}, hoverinfo="skip",
        ), row=1, col=column,
    )  # fmt: skip
    axis = "x" if column == 1 else f"x{column}"
    hide_axes(figure, row=1, col=column)
    figure.update_xaxes(range=[-1.4, 1.4], constrain="domain", row=1, col=column)
    figure.update_yaxes(range=[-1.4, 1.4], scaleanchor=axis, constrain="domain", row=1, col=column)


def arrow_panels(
    q: Tensor, k: Tensor, frequency: float, places: Sequence[tuple[int, int]], title: str, subtitle: str
) -> Picture:
    """The same two arrows at several `places` (position of q, position of k), side by side, with their scores.

    All arrows are drawn with length 1; the scores use the true lengths.
    """
    scores = [score_of(q, k, frequency, m, n) for m, n in places]
    names = [
        f"q at {m}, k at {n}<br><b>score {label(score, '.2f')}</b>"
        for (m, n), score in zip(places, scores, strict=True)
    ]
    figure = make_subplots(rows=1, cols=len(places), subplot_titles=names, horizontal_spacing=0.02)
    figure.update_annotations(font={"size": 13, "color": INK}, yshift=2)
    for column, (m, n) in enumerate(places, start=1):
        draw_circle(figure, column)
        draw_arrow(figure, turned(q, frequency * m), "q", QUERY, column)
        draw_arrow(figure, turned(k, frequency * n), "k", KEY, column)
    summary = "; ".join(f"q at {m}, k at {n}: {score:.2f}" for (m, n), score in zip(places, scores, strict=True))
    picture = finish(figure, title, f"{title}. Score: {summary}.", height=280, subtitle=subtitle)
    top = picture.figure.layout.margin.t
    figure.update_layout(margin={"l": 10, "r": 10, "t": top + 30, "b": 10}, height=picture.figure.layout.height + 10)
    return picture


def arrows_and_curve(
    q: Tensor, k: Tensor, frequency: float, m: int, n: int, title: str, says: str, span: int = 48
) -> Picture:
    """Left: q rotated to position m, k to n. Right: their score against the distance m - n, with a dot at this one."""
    score, distance = score_of(q, k, frequency, m, n), m - n
    figure = make_subplots(rows=1, cols=2, column_widths=[0.36, 0.64], horizontal_spacing=0.12)
    draw_circle(figure, 1)
    draw_arrow(figure, turned(q, frequency * m), "q", QUERY, 1)
    draw_arrow(figure, turned(k, frequency * n), "k", KEY, 1)
    distances = [step / 4 for step in range(-4 * span, 4 * span + 1)]
    curve = [round(score_of(q, k, frequency, step, 0), 4) for step in distances]
    figure.add_trace(
        go.Scatter(x=distances, y=curve, mode="lines", line={"color": FAINT, "width": 2}, hoverinfo="skip"),
        row=1,
        col=2,
    )
    dot = go.Scatter(
        x=[distance], y=[round(score, 4)], mode="markers+text", marker={"color": SCORE, "size": 13},
        text=[f"<b>{label(score, '.3f')}</b>"], textposition="top center", textfont={"color": SCORE, "size": 14},
        cliponaxis=False, hoverinfo="skip",
    )  # fmt: skip
    figure.add_trace(dot, row=1, col=2)
    top = 1.25 * float(q.norm() * k.norm()) or 1.0
    figure.update_xaxes(title_text="distance in tokens (q's position − k's)", range=[-span, span], row=1, col=2)
    figure.update_yaxes(title_text="score of this pair", range=[-top, top], row=1, col=2)
    alt = f"{title}. {says.replace('<br>', '; ')}. Distance {distance}, score {score:.3f}."
    picture = finish(figure, title, alt, height=370, subtitle=says)
    figure.update_layout(margin={"l": 10})
    return picture


def explore_arrows(
    q: Tensor, k: Tensor, frequencies: Tensor, words: tuple[str, str], pair: int, m: int, n: int, label: str
) -> Any:
    """The chapter's experiment: choose a pair of channels and two positions. q, k: (head_dim), before the rotation.

    words: the tokens that q and k belong to.
    """
    from ipywidgets import Dropdown, IntSlider, Layout

    half, wide, style = len(frequencies), Layout(width="300px"), {"description_width": "40px"}
    names = [f"'{word.strip()}'" for word in words]

    def draw(m: int, n: int, pair: int, both: int) -> Picture:
        frequency = float(frequencies[pair])
        title = f"Pair {pair} of {half}: query of {names[0]}, key of {names[1]}"
        places = [
            f"{name} at {at} + {both} = {at + both}" if both else f"{name} at {at}" for name, at in (("q", m), ("k", n))
        ]
        degrees = [math.degrees(frequency * (at + both)) % 360 for at in (m, n)]
        says = (
            f"{places[0]}, turned by {degrees[0]:.0f}°; {places[1]}, by {degrees[1]:.0f}°<br>"
            f"distance {m - n}; a whole turn takes {math.tau / frequency:,.1f} tokens ({label})"
        )
        arrows = pair_of(q, pair), pair_of(k, pair)
        return arrows_and_curve(*arrows, frequency, m + both, n + both, title, says)

    return driven(
        draw,
        m=IntSlider(value=m, min=0, max=48, description="q at", layout=wide, style=style),
        n=IntSlider(value=n, min=0, max=48, description="k at", layout=wide, style=style),
        pair=Dropdown(
            options=list(range(half)), value=pair, description="pair", layout=Layout(width="130px"), style=style
        ),
        both=IntSlider(
            value=0, min=0, max=1000, description="move both by", layout=Layout(width="700px", max_width="96%"),
            style={"description_width": "110px"},
        ),
    )  # fmt: skip


# The sum over all pairs ----------------------------------------------------------------------------------------------


def score_by_pair(q: Tensor, k: Tensor, frequencies: Tensor, distances: Tensor) -> Tensor:
    """What each pair adds to the scaled score of a head at each distance, averaged over queries and earlier keys.

    q, k: (position, head_dim), before the rotation. Every query meets each key before it as if it stood `distance`
    tokens behind. Returns (pair, distance), in float64.
    """
    real, imaginary = (rearrange(x.double(), "position (pair half) -> pair position half", pair=2) for x in (q, k))
    queries, keys = torch.complex(*real), torch.complex(*imaginary)
    earlier = torch.ones(len(q), len(k)).tril(-1).to(queries.dtype)
    pattern = "query half, key half, query key -> half"
    mean = einsum(queries, keys.conj(), earlier, pattern) / earlier.sum() * q.shape[-1] ** -0.5
    angles = einsum(frequencies.double(), distances.double(), "half, position -> half position")
    return (rearrange(mean, "half -> half 1") * torch.polar(torch.ones_like(angles), angles)).real


def pair_sum(parts: Tensor, count: int, title: str, subtitle: str, lit: int) -> Picture:
    """The first `count` pairs' parts of a score against the distance, pair `lit` highlighted, and their sum.

    parts: (pair, distance).
    """
    figure, distances = go.Figure(), list(range(parts.shape[1]))
    total = parts[:count].sum(dim=0)
    for number, part in enumerate(parts[:count].tolist()):
        figure.add_trace(
            go.Scatter(
                x=distances, y=[round(value, 3) for value in part], mode="lines",
                line={"color": QUERY if number == lit else FAINT, "width": 2 if number == lit else 1},
                hovertemplate=f"pair {number} at distance %{{x}}: %{{y:.2f}}<extra></extra>",
            )
        )  # fmt: skip
    figure.add_trace(
        go.Scatter(
            x=distances, y=[round(value, 3) for value in total.tolist()], mode="lines",
            line={"color": SCORE, "width": 4}, hovertemplate="the sum at distance %{x}: %{y:.2f}<extra></extra>",
        )
    )  # fmt: skip
    best = int(total.argmax())
    figure.add_annotation(
        x=best, y=float(total[best]), text=f"<b>highest at {best}: {label(float(total[best]), '.1f')}</b>",
        ax=70, ay=-18, font={"color": SCORE, "size": 14}, arrowcolor=SCORE, arrowhead=2,
    )  # fmt: skip
    last, (lowest, highest) = len(distances) - 1, bounds(parts)
    ends = {"the sum": (float(total[-1]), SCORE)}
    if count > 1:
        ends[f"pair {lit}"] = float(parts[lit, -1]), QUERY
    places = spread([value * 280 / (highest - lowest) for value, _ in ends.values()], gap=18)
    for (name, (value, colour)), place in zip(ends.items(), places, strict=True):
        figure.add_annotation(
            x=last, y=value, text=name, showarrow=False, xanchor="left", xshift=8, font={"color": colour},
            yshift=round(place - value * 280 / (highest - lowest)),
        )  # fmt: skip
    figure.update_xaxes(title_text="distance in tokens: how far the key stands behind the query", range=[0, last])
    figure.update_yaxes(title_text="score, scaled as in attention", range=[lowest, highest], zerolinecolor=MUTED)
    alt = f"{title}. {subtitle.replace('<br>', ' ')} The sum of {count} pairs is highest at distance {best}."
    figure.update_layout(margin={"r": 80})
    return finish(figure, title, alt, height=400, subtitle=subtitle)


def bounds(parts: Tensor) -> tuple[float, float]:
    """One value axis for all numbers of pairs, so that the picture stands still while pairs are added."""
    sums = torch.cat((parts, parts.cumsum(dim=0)))
    low, high = float(sums.min()), float(sums.max())
    room = 0.12 * (high - low or 1.0)
    return low - room, high + room


def explore_sum(parts: Tensor, count: int, label: str) -> Any:
    """A slider for the number of pairs in the sum. parts: (pair, distance), from `score_by_pair`."""
    from ipywidgets import IntSlider, Layout

    def draw(count: int) -> Picture:
        best = int(parts[:count].sum(dim=0).argmax())
        title = f"{count} of {len(parts)} pairs: the score is highest at distance {best}"
        subtitle = f"Green: the sum; blue: the pair added last<br>({label})"
        return pair_sum(parts, count, title, subtitle, lit=count - 1)

    layout, style = Layout(width="500px", max_width="96%"), {"description_width": "80px"}
    return driven(
        draw, count=IntSlider(value=count, min=1, max=len(parts), description="pairs 1 to", layout=layout, style=style)
    )
