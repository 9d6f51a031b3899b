"""The figures of chapter 11 that show recorded runs: loads over the steps, losses, and what differs between recipes."""

import math
from collections.abc import Mapping, Sequence

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from minimoe.course.figures.boxes import draw_boxes
from minimoe.figure_style import (
    BLUE,
    INK,
    MUTED,
    ORANGE,
    PART_COLOURS,
    SEQUENTIAL,
    VERMILLION,
    Picture,
    finish,
    label,
    label_bars,
    label_ends,
    reference_line,
    rounded,
)
from minimoe.training.small.stored import DEAD, Run, dead_of, final_loss, held_out_of, load_of

MOST_DEAD = 45  # percent, the length of the scale
SEEDS = 0.1  # nats, the smallest length of a scale of losses: more than seeds of one recipe differ
STEPS = ("batch", "model", "two<br>losses", "gradient", "update")


def training_map() -> Picture:
    """One training step as a row of boxes, with the losses highlighted."""
    figure = go.Figure()
    draw_boxes(figure, STEPS, 2, PART_COLOURS["router"], width=0.84)
    figure.add_shape(type="path", path="M 4.42,0 L 4.42,-0.25 L 0.42,-0.25 L 0.42,-0.03", line={"color": "#808080"})
    figure.add_annotation(x=2.42, y=-0.36, text="the next step", showarrow=False, font={"size": 12, "color": MUTED})
    figure.update_xaxes(visible=False, range=[-0.1, 5])
    figure.update_yaxes(visible=False, range=[-0.5, 0.9])
    names = ", ".join(step.replace("<br>", " ") for step in STEPS)
    return finish(figure, "Where we are: one training step", f"A training step: {names}. The losses are lit.", 190)


def load_maps(runs: Mapping[str, Run], layer: int, title: str, subtitle: str, mark: int | None = None) -> Picture:
    """The load of every expert over the steps, one map a run. runs: name -> record; mark: a step with a line.

    Experts are sorted by their load at that step, by default at the end; the colour is the load as a multiple of an
    even share, up to 4.
    """
    figure = make_subplots(rows=len(runs), cols=1, subplot_titles=list(runs), vertical_spacing=0.16, shared_xaxes=True)
    for row, run in enumerate(runs.values(), 1):
        load = load_of(run)[:, layer]
        place = -1 if mark is None else run["step"].index(mark)
        load = load[:, load[place].argsort(stable=True)] * load.shape[-1]
        figure.add_trace(
            go.Heatmap(
                x=run["step"], z=[[round(x, 2) for x in line] for line in load.T.tolist()], zmin=0, zmax=4,
                colorscale=SEQUENTIAL, colorbar={
                    "title": {"text": "× even", "side": "top"}, "thickness": 12,
                    "tickvals": [0, 1, 2, 3, 4], "ticktext": ["0", "1", "2", "3", "≥ 4"],
                },
                showscale=row == 1, hovertemplate="step %{x}: %{z} times an even share<extra></extra>",
            ),
            row=row, col=1,
        )  # fmt: skip
        figure.update_yaxes(title_text="experts", showticklabels=False, ticks="", row=row, col=1)
        if mark is not None:
            figure.add_vline(x=mark, line={"color": "white", "width": 2, "dash": "dash"}, row=row, col=1)
    figure.update_xaxes(title_text="step", row=len(runs), col=1)
    for note in figure.layout.annotations:
        note.update(x=0, xanchor="left", font={"size": 13, "color": MUTED})
    alt = "; ".join(f"{name}: {int(dead_of(run)[-1, layer])} dead at the end" for name, run in runs.items())
    return finish(figure, title, f"{title}. {alt}.", 120 + 170 * len(runs), subtitle)


def dead_and_loss(runs: Mapping[str, Run], title: str, subtitle: str, base: str = "") -> Picture:
    """Dead experts in percent of all, as bars, and the held-out loss at the end, as dots. runs: name -> record."""
    figure = make_subplots(
        rows=1, cols=2, shared_yaxes=True, horizontal_spacing=0.06,
        subplot_titles=("dead experts", "held-out loss, nats"),
    )  # fmt: skip
    names = list(runs)
    dead = [round(100 * float(dead_of(run)[-1].float().mean()) / load_of(run).shape[-1]) for run in runs.values()]
    losses = [final_loss(run) for run in runs.values()]
    colours = [BLUE if name == base else "#9CC3DE" for name in names]
    texts = ([f"{value} %" for value in dead], [f"{value:.2f}" for value in losses])
    figure.add_trace(
        go.Bar(
            x=dead, y=names, orientation="h", width=0.7, text=texts[0], textposition="outside", textangle=0,
            cliponaxis=False, hoverinfo="skip", marker={"color": colours},
        ),
        row=1, col=1,
    )  # fmt: skip
    figure.add_trace(
        go.Scatter(
            x=rounded(losses), y=names, mode="markers+text", text=[f"  {text}" for text in texts[1]],
            textposition="middle right", cliponaxis=False, hoverinfo="skip", marker={"color": colours, "size": 11},
        ),
        row=1, col=2,
    )  # fmt: skip
    figure.update_xaxes(visible=False, range=[-0.06 * MOST_DEAD, 1.5 * MOST_DEAD], row=1, col=1)
    room = max(max(losses) - min(losses), SEEDS)
    figure.update_xaxes(
        range=[min(losses) - 0.2 * room, min(losses) + 1.9 * room],
        showticklabels=False,
        showgrid=False,
        ticks="",
        row=1,
        col=2,
    )
    figure.update_yaxes(type="category", autorange="reversed", ticks="", showline=False)
    for note in figure.layout.annotations:
        note.update(font={"size": 13, "color": MUTED})
    pairs = zip(names, dead, losses, strict=True)
    alt = "; ".join(f"{name}: {share} % dead, loss {loss:.2f}" for name, share, loss in pairs)
    return finish(figure, title, f"{title}. {alt}.", 110 + 34 * len(names), subtitle)


def dots(groups: Mapping[str, Sequence[float]], title: str, subtitle: str, unit: str, form: str = ".2f") -> Picture:
    """One row of dots for each name, a dot for each seed, and the mean as a line with its number."""
    figure = go.Figure()
    names = list(groups)
    everything = [value for values in groups.values() for value in values]
    room = 0.25 * ((max(everything) - min(everything)) or 1)
    for n, (name, values) in enumerate(groups.items()):
        mean = sum(values) / len(values)
        figure.add_trace(
            go.Scatter(
                x=rounded(list(values)), y=[name] * len(values), mode="markers", hoverinfo="x",
                marker={"color": (BLUE, VERMILLION, ORANGE, MUTED)[n % 4], "size": 11, "opacity": 0.7},
            )
        )  # fmt: skip
        figure.add_trace(
            go.Scatter(
                x=rounded([mean]), y=[name], mode="markers+text", text=[f"mean {label(mean, form)}"], hoverinfo="skip",
                textposition="top center", marker={"symbol": "line-ns", "size": 14, "line": {"width": 2, "color": INK}},
            )
        )  # fmt: skip
    figure.update_xaxes(title_text=unit, range=[min(everything) - 0.4 * room, max(everything) + 0.4 * room])
    figure.update_yaxes(type="category", categoryorder="array", categoryarray=names[::-1], showgrid=False)
    figure.update_yaxes(range=[-0.7, len(names) - 0.4])
    alt = "; ".join(f"{name}: " + ", ".join(label(value, form) for value in values) for name, values in groups.items())
    return finish(figure, title, f"{title}. {alt}.", 110 + 56 * len(names), subtitle)


def race(
    curves: Mapping[str, Sequence[tuple[Sequence[float], Sequence[float]]]],
    axis: str,
    title: str,
    subtitle: str,
    highest: float | None = None,
) -> Picture:
    """Losses against steps or seconds. curves: name -> one (x, loss) for each seed; the first is named.

    highest: points with a larger loss are left out, so that the ends can be told apart.
    """
    figure = go.Figure()
    palette = dict(zip(curves, (BLUE, VERMILLION, ORANGE, MUTED), strict=False))
    for name, runs in curves.items():
        for n, run in enumerate(runs):
            points = [(x, loss) for x, loss in zip(*run, strict=True) if highest is None or loss <= highest]
            figure.add_trace(
                go.Scatter(
                    x=rounded([x for x, _ in points]), y=rounded([loss for _, loss in points]), mode="lines",
                    name=name if n == 0 else None,
                    line={"color": palette[name], "width": 2.5 if n == 0 else 1}, hoverinfo="skip",
                )
            )  # fmt: skip
    figure.update_xaxes(title_text=axis)
    figure.update_yaxes(title_text="held-out loss, nats per token")
    label_ends(figure, height=340)
    figure.update_layout(margin={"r": figure.layout.margin.r + 16})
    ends = "; ".join(f"{name}: {runs[0][1][-1]:.2f}" for name, runs in curves.items())
    return finish(figure, title, f"{title}. At the end: {ends}.", 340, subtitle)


def lead(steps: Sequence[int], ahead: Sequence[float], title: str, subtitle: str, names: tuple[str, str]) -> Picture:
    """By how much the first of two models is ahead, in nats, against the step; below zero, the second is."""
    colours = [BLUE if value > 0 else VERMILLION for value in ahead]
    figure = go.Figure(go.Bar(x=list(steps), y=rounded(list(ahead)), marker={"color": colours}, hoverinfo="x+y"))
    figure.add_hline(y=0, line={"color": INK, "width": 1})
    size = max(map(abs, ahead))
    for name, side, y, colour in zip(names, ("right", "left"), (size, -size), (BLUE, VERMILLION), strict=True):
        figure.add_annotation(
            x=float(side == "right"), xref="paper", y=0.85 * y, text=f"{name} ahead", showarrow=False, xanchor=side,
            font={"color": colour},
        )  # fmt: skip
    figure.update_xaxes(title_text="step")
    figure.update_yaxes(title_text="difference of the losses, nats", range=[-1.1 * size, 1.1 * size])
    alt = ", ".join(f"step {step}: {value:+.3f}" for step, value in zip(steps, ahead, strict=True))
    return finish(figure, title, f"{title}. {names[0]} ahead by {alt}.", 320, subtitle)


def curve_of(run: Run, seconds: float | None = None) -> tuple[list[float], list[float]]:
    """(x, held-out losses) of a run, x in steps, or in seconds of processor time if those of a step are given."""
    steps, losses = held_out_of(run)
    return [float(step) * (seconds or 1.0) for step in steps], losses


def growing(curves: Mapping[str, tuple[Sequence[int], Sequence[float]]], title: str, subtitle: str, unit: str,
            chance: float | None = None) -> Picture:  # fmt: skip
    """Shares over the steps of a run, on a logarithmic axis of steps. curves: name -> (steps, values)."""
    figure = go.Figure()
    shades = (BLUE, ORANGE, "#117733", INK) if len(curves) > 2 else (BLUE, VERMILLION)
    for colour, (name, (steps, values)) in zip(shades, curves.items(), strict=False):
        figure.add_trace(
            go.Scatter(
                x=list(steps), y=rounded(list(values)), mode="lines+markers", name=name, line={"color": colour},
                hovertemplate="step %{x}: %{y}<extra>" + name + "</extra>",
            )
        )  # fmt: skip
    steps = next(iter(curves.values()))[0]
    span = [-0.1, math.log10(1.15 * max(steps))]
    figure.update_xaxes(title_text="step (log scale)", type="log", tickvals=[1, 10, 100, 1000], range=span)
    figure.update_yaxes(title_text=unit, rangemode="tozero")
    if chance is not None:
        reference_line(figure, chance, f"by chance: {chance:g}")
        figure.layout.annotations[-1].update(x=1, xanchor="right")  # the curves begin near it
    label_ends(figure, height=340)
    figure.update_layout(margin={"r": figure.layout.margin.r + 16})
    alt = "; ".join(f"{name}: from {values[0]:.2f} to {values[-1]:.2f}" for name, (_, values) in curves.items())
    return finish(figure, title, f"{title}. {alt}.", 340, subtitle)


def powers(values: Mapping[str, float], title: str, subtitle: str) -> Picture:
    """Bars on a logarithmic scale, labelled with powers of ten. values: name -> operations."""
    figure = go.Figure(
        go.Bar(
            x=[round(math.log10(value), 2) for value in values.values()],
            y=list(values), orientation="h", width=0.7, marker={"color": BLUE},
        )
    )  # fmt: skip
    figure.update_yaxes(type="category", autorange="reversed", ticks="", showline=False)
    texts = [f"{value:.0e}".replace("e+", " · 10^") for value in values.values()]
    label_bars(figure, texts=[scientific(value) for value in values.values()])
    alt = "; ".join(f"{name}: {text}" for name, text in zip(values, texts, strict=True))
    return finish(figure, title, f"{title}. {alt}.", 90 + 34 * len(values), subtitle)


def scientific(value: float) -> str:
    """A number as "1.4 · 10<sup>14</sup>"."""
    digits, exponent = f"{value:.1e}".split("e")
    return f"{digits} · 10<sup>{int(exponent)}</sup>"


def bars_of_load(load: Sequence[float], title: str, subtitle: str) -> Picture:
    """The load of each expert as a multiple of an even share; dead ones are named. load: (expert), shares."""
    times = [round(value * len(load), 2) for value in load]
    colours = [VERMILLION if value < DEAD else BLUE for value in times]
    figure = go.Figure(go.Bar(x=list(range(len(load))), y=times, marker={"color": colours}))
    figure.update_xaxes(title_text="expert", dtick=1)
    figure.update_yaxes(title_text="times an even share", rangemode="tozero")
    reference_line(figure, 1, "even")
    return finish(figure, title, f"{title}: " + ", ".join(map(str, times)), 300, subtitle)
