"""The figures of chapter 03: rotating arrows, wavelengths and context lengths, rounding errors of scores."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots
from torch import Tensor

from minimoe.course.figures.boxes import draw_boxes
from minimoe.course.figures.ch06_router import driven
from minimoe.model.config import ModelConfig
from minimoe.model.rope import frequencies_and_scale
from minimoe.plotting import BLUE, GREEN, PURPLE, VERMILLION, Picture, finish
from minimoe.routing.figures import bars

QUERY, KEY, PALE, THIRD = BLUE, VERMILLION, "#A8A8A8", GREEN  # Okabe & Ito: safe for colour-blind readers
FAMILY = (QUERY, KEY, THIRD, PURPLE, PALE)
STEPS = (
    "project<br>to q, k, v",
    "split<br>heads",
    "normalise<br>q and k",
    "turn<br>q and k",
    "attend",
    "project<br>back",
)


def attention_map() -> Picture:
    """The steps of an attention layer, left to right, with the step of this chapter highlighted."""
    figure = go.Figure()
    lit = next(index for index, step in enumerate(STEPS) if step.startswith("turn"))
    draw_boxes(figure, STEPS, lit, KEY)
    figure.add_annotation(
        x=3.42, y=0.72, ax=3.42, ay=1.1, xref="x", yref="y", axref="x", ayref="y", arrowhead=2,
        text="position -> angle", font={"color": KEY},
    )  # fmt: skip
    figure.add_shape(
        type="path", path="M 1.42,0 L 1.42,-0.2 L 4.42,-0.2 L 4.42,0", line={"width": 1, "color": "#808080"}
    )
    figure.add_annotation(
        x=2.9, y=-0.3, text="v goes round: it is never turned", showarrow=False, font={"size": 11, "color": "#606060"}
    )
    figure.update_xaxes(visible=False, range=[-0.1, 6])
    figure.update_yaxes(visible=False, range=[-0.42, 1.35])
    steps = ", ".join(step.replace("<br>", " ") for step in STEPS)
    alt = f"The attention of one layer, step by step: {steps}. This chapter is about turning q and k; v is left alone."
    picture = finish(figure, "Where we are: inside the attention of each layer", alt, height=240)
    figure.update_layout(margin={"l": 10, "r": 10, "t": 45, "b": 5})
    return picture


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
        font={"color": colour},
    )  # fmt: skip


def circle() -> go.Scatter:
    """A thin unit circle, the path of a rotating tip."""
    steps = [math.tau * step / 72 for step in range(73)]
    return go.Scatter(
        x=[round(math.cos(angle), 4) for angle in steps], y=[round(math.sin(angle), 4) for angle in steps],
        mode="lines", line={"color": "#DDDDDD", "width": 1}, hoverinfo="skip",
    )  # fmt: skip


def arrow_panels(q: Tensor, k: Tensor, frequency: float, places: Sequence[tuple[int, int]], title: str) -> Picture:
    """The same two arrows at several `places` (position of q, position of k), side by side, with their scores.

    All arrows are drawn with length 1; the scores use the true lengths.
    """
    scores = [score_of(q, k, frequency, m, n) for m, n in places]
    names = [f"q at {m}, k at {n}<br>score {score:.3f}" for (m, n), score in zip(places, scores, strict=True)]
    figure = make_subplots(rows=1, cols=len(places), subplot_titles=names)
    for column, (m, n) in enumerate(places, start=1):
        figure.add_trace(circle(), row=1, col=column)
        draw_arrow(figure, turned(q, frequency * m), "q", QUERY, column)
        draw_arrow(figure, turned(k, frequency * n), "k", KEY, column)
        square(figure, column)
    summary = "; ".join(f"q at {m}, k at {n}: {score:.2f}" for (m, n), score in zip(places, scores, strict=True))
    picture = finish(figure, title, f"{title}. Their score for each pair of positions: {summary}.", height=380)
    figure.update_layout(margin={"l": 40, "r": 10, "t": 110, "b": 50})
    return picture


def square(figure: go.Figure, column: int) -> None:
    """Set equal scales on both axes of a panel, so that a circle is round."""
    axis = "x" if column == 1 else f"x{column}"
    figure.update_xaxes(title_text="first channel", range=[-1.35, 1.35], zeroline=True, row=1, col=column)
    figure.update_xaxes(showgrid=False, zerolinecolor="#EEEEEE", showticklabels=False, row=1, col=column)
    figure.update_yaxes(range=[-1.35, 1.35], scaleanchor=axis, showgrid=False, row=1, col=column)
    figure.update_yaxes(zerolinecolor="#EEEEEE", showticklabels=False, row=1, col=column)
    if column == 1:
        figure.update_yaxes(title_text="second channel", row=1, col=1)


def arrows_and_curve(q: Tensor, k: Tensor, frequency: float, m: int, n: int, title: str, span: int = 64) -> Picture:
    """Left: q rotated to position m, k to n. Right: their score against the distance m - n, with a dot at this one."""
    score, distance = score_of(q, k, frequency, m, n), m - n
    figure = make_subplots(rows=1, cols=2, column_widths=[0.42, 0.58], horizontal_spacing=0.12)
    figure.add_trace(circle(), row=1, col=1)
    draw_arrow(figure, turned(q, frequency * m), "q", QUERY, 1)
    draw_arrow(figure, turned(k, frequency * n), "k", KEY, 1)
    square(figure, 1)
    distances = [step / 4 for step in range(-4 * span, 4 * span + 1)]
    curve = [round(score_of(q, k, frequency, step, 0), 4) for step in distances]
    figure.add_trace(
        go.Scatter(x=distances, y=curve, mode="lines", line={"color": PALE, "width": 2}, hoverinfo="skip"), row=1, col=2
    )
    dot = go.Scatter(
        x=[distance], y=[round(score, 4)], mode="markers", marker={"color": THIRD, "size": 13},
        hovertemplate="distance %{x}<br>score %{y:.3f}<extra></extra>",
    )  # fmt: skip
    figure.add_trace(dot, row=1, col=2)
    top = 1.15 * float(q.norm() * k.norm())
    figure.update_xaxes(title_text="distance: position of q minus position of k (tokens)", row=1, col=2)
    figure.update_yaxes(title_text="score of this pair (no unit)", range=[-top, top], row=1, col=2)
    degrees = (math.degrees(frequency * m) % 360, math.degrees(frequency * n) % 360)
    wave = math.tau / frequency
    says = (
        f"q at {m} is turned by {degrees[0]:.0f}°, k at {n} by {degrees[1]:.0f}°; distance {distance}, "
        f"<b>score {score:.3f}</b>; a whole turn takes {wave:,.1f} tokens"
    )
    alt = f"{title}. " + says.replace("<b>", "").replace("</b>", "").replace("°", " degrees") + "."
    picture = finish(figure, title, alt, height=390)
    figure.update_layout(
        title={"subtitle": {"text": says, "font": {"size": 13, "color": "#404040"}}},
        margin={"l": 50, "r": 20, "t": 90, "b": 55},
    )
    return picture


def explore_arrows(q: Tensor, k: Tensor, frequencies: Tensor, pair: int, m: int, n: int, label: str) -> Any:
    """The chapter's experiment: choose a pair of channels and two positions. q, k: (head_dim), before the rotation."""
    from ipywidgets import Dropdown, IntSlider, Layout

    half, wide = len(frequencies), Layout(width="290px")

    def draw(m: int, n: int, both: int, pair: int) -> Picture:
        title = f"Channels {pair} and {pair + half} of one q and one k ({label})"
        return arrows_and_curve(pair_of(q, pair), pair_of(k, pair), float(frequencies[pair]), m + both, n + both, title)

    return driven(
        draw,
        m=IntSlider(value=m, min=0, max=63, description="q at", layout=wide),
        n=IntSlider(value=n, min=0, max=63, description="k at", layout=wide),
        both=IntSlider(value=0, min=0, max=1000, description="move both", layout=wide),
        pair=Dropdown(options=list(range(half)), value=pair, description="pair", layout=Layout(width="170px")),
    )


def pair_of(x: Tensor, pair: int) -> Tensor:
    """The two channels that are rotated together: (head_dim) -> (2)."""
    return x[[pair, pair + len(x) // 2]]


def wavelength_curves(configs: Mapping[str, ModelConfig], contexts: Mapping[str, int], title: str) -> Picture:
    """The wavelength of each pair, in tokens per full rotation, with context lengths as dashed lines."""
    figure, summaries = go.Figure(), []
    for (name, config), colour in zip(configs.items(), FAMILY, strict=False):
        waves = (math.tau / frequencies_and_scale(config)[0].double()).tolist()
        half = len(waves)
        dots = {"symbol": "circle-open", "size": 11} if half < 64 else {"size": 5}  # so that dots do not overlap
        figure.add_trace(
            go.Scatter(
                x=[round(pair / half, 4) for pair in range(half)], y=[float(f"{wave:.4g}") for wave in waves],
                customdata=list(range(half)), name=f"{name}: theta {config.rope_theta:,.0f}", mode="lines+markers",
                line={"color": colour, "width": 1}, marker=dots | {"color": colour},
                hovertemplate="pair %{customdata}: %{y:,.0f} tokens<extra>" + name + "</extra>",
            )
        )  # fmt: skip
        summaries.append(f"{name} from {waves[0]:.1f} to {waves[-1]:,.0f}")
    for name, length in contexts.items():
        figure.add_hline(y=length, line={"color": "#202020", "width": 1, "dash": "dash"})
        figure.add_annotation(
            x=0.0, y=math.log10(length), xanchor="left", yanchor="bottom", text=f"{name}: {length:,}", showarrow=False,
            font={"size": 11},
        )  # fmt: skip
    figure.update_xaxes(title_text="pair number divided by head_dim / 2", range=[-0.02, 1.02])
    figure.update_yaxes(title_text="tokens for a whole turn (log scale)", type="log", dtick=1)
    picture = finish(figure, title, f"{title}. Tokens for a whole turn: {'; '.join(summaries)}.", height=460)
    figure.update_layout(showlegend=True, legend={"x": 1, "xanchor": "right", "y": 0.02, "yanchor": "bottom"})
    return picture


def shift_errors(shifts: Sequence[int], errors: Mapping[str, Sequence[float]], title: str) -> Picture:
    """The change of scores when q and k are shifted together, for rotary tables rounded at different stages."""
    figure = go.Figure()
    for (name, values), colour in zip(errors.items(), FAMILY, strict=False):
        figure.add_trace(
            go.Scatter(
                x=list(shifts), y=[float(f"{value:.2g}") for value in values], name=name, mode="lines+markers",
                line={"color": colour}, hovertemplate="moved by %{x}: %{y:.1e}<extra>" + name + "</extra>",
            )
        )  # fmt: skip
    figure.update_xaxes(title_text="both moved by (tokens, log scale)", type="log", dtick=1)
    figure.update_yaxes(
        title_text="largest change of a score<br>(no unit, log scale)", type="log", exponentformat="power", dtick=1
    )
    last = {name: values[-1] for name, values in errors.items()}
    summary = "; ".join(f"{name}: {'below 0.01' if value < 0.01 else f'{value:.2f}'}" for name, value in last.items())
    alt = f"{title}. Largest change of a score after a move by {shifts[-1]:,}: {summary}."
    picture = finish(figure, title, alt, height=380)
    above = {"orientation": "h", "x": 1, "xanchor": "right", "y": 1, "yanchor": "bottom"}
    figure.update_layout(showlegend=True, legend=above, margin={"l": 100, "r": 20, "t": 90, "b": 60})
    return picture


def loss_bars(losses: Mapping[str, float], title: str) -> Picture:
    """One bar per variant: next-token loss in nats per token."""
    summary = ", ".join(f"{name} {loss:.1f}" for name, loss in losses.items())
    values = [round(loss, 2) for loss in losses.values()]
    alt = f"{title}: {summary} nats per token."
    picture = bars(list(losses), values, title, "next-token loss (nats per token)", alt)
    picture.figure.update_traces(text=[f"{value:.2f}" for value in values], textposition="auto")
    picture.figure.update_layout(margin={"l": 240})
    return picture


def stretch_curve(plain: Tensor, stretched: Tensor, original: int, title: str) -> Picture:
    """The factor by which YaRN lengthens the wavelength of each pair. plain, stretched: (pair) radians per token."""
    times, turns = (plain / stretched).tolist(), (original * plain / math.tau).tolist()
    kept = sum(time < 1.001 for time in times)
    full = sum(time > 0.999 * max(times) for time in times)
    figure = go.Figure(
        go.Scatter(
            x=list(range(len(times))), y=[round(time, 3) for time in times], mode="lines+markers",
            customdata=[float(f"{turn:.3g}") for turn in turns], line={"color": QUERY},
            hovertemplate="pair %{x}: %{y:.2f} times as long<br>%{customdata} turns in the original context"
            "<extra></extra>",
        )
    )  # fmt: skip
    figure.add_vrect(x0=-0.5, x1=kept - 0.5, fillcolor=THIRD, opacity=0.12, line={"width": 0})
    figure.add_vrect(x0=len(times) - full - 0.5, x1=len(times) - 0.5, fillcolor=KEY, opacity=0.12, line={"width": 0})
    for x, text in ((kept / 2, "kept"), (len(times) - full / 2, "stretched in full")):
        figure.add_annotation(x=x, y=1.02, yref="paper", yanchor="bottom", text=text, showarrow=False)
    figure.update_xaxes(title_text="pair number (fast to slow)", range=[-0.5, len(times) - 0.5], showgrid=False)
    figure.update_yaxes(title_text="times the old wavelength", rangemode="tozero")
    alt = f"{title}. Of {len(times)} pairs {kept} are kept, {full} stretched in full, the others in between."
    picture = finish(figure, title, alt, height=330)
    figure.update_layout(margin={"t": 80})
    return picture
