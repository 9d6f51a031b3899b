"""Figures of chapter 09 on passes and time: the loop of generation, which pairs are computed when, time per token."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from minimoe.course.figures.boxes import draw_boxes
from minimoe.figure_style import (
    BLUE,
    GREEN,
    INK,
    MUTED,
    ORANGE,
    PALE,
    SKY,
    VERMILLION,
    Picture,
    finish,
    ink_on,
    label_ends,
    tint,
    wrap,
)
from minimoe.paths import find

STEPS = ("text<br>so far", "model", "logits of<br>the last<br>token", "sampler", "one new<br>token")
PREFILL, DECODE = BLUE, ORANGE
PASSES = (BLUE, SKY, GREEN)  # of a prompt that is read in chunks


def loop_map() -> Picture:
    """The loop that writes a text, with the arrow that leads back from the new token to the text."""
    figure = go.Figure()
    draw_boxes(figure, STEPS, 1, PREFILL, size=12)
    path = "M 4.42,0 L 4.42,-0.3 L 0.42,-0.3 L 0.42,-0.02"
    figure.add_shape(type="path", path=path, line={"width": 1, "color": "#808080"})
    figure.add_annotation(
        x=0.42, y=0, ax=0.42, ay=-0.2, xref="x", yref="y", axref="x", ayref="y", showarrow=True, arrowhead=2, text=""
    )
    figure.add_annotation(x=2.42, y=-0.45, text="append, and once more", showarrow=False, font={"color": MUTED})
    figure.update_xaxes(visible=False, range=[-0.05, 4.95])
    figure.update_yaxes(visible=False, range=[-0.6, 0.8])
    alt = "A loop: the text so far goes through the model; the sampler turns the logits of the last token into one new "
    return finish(figure, "Where we are: around the model", alt + "token, which is appended to the text.", 230)


def pair_table(size: int, values: Sequence[int]) -> list[list[int | None]]:
    """(query, key): the value of the query's row on and below the diagonal, None above it."""
    return [[values[query] if key <= query else None for key in range(size)] for query in range(size)]


def add_triangle(
    figure: go.Figure, column: int, values: Sequence[int], colours: Mapping[int, str], texts: bool = True
) -> None:
    """A causal triangle in panel `column`: a cell for each pair of query and key, in the colour of its row's value."""
    size, keys = len(values), sorted(colours)
    place = {value: rank for rank, value in enumerate(keys)}
    table = pair_table(size, [place[value] for value in values])
    scale = [[edge, colours[value]] for value, rank in place.items() for edge in edges(rank, len(keys))]
    figure.add_trace(
        go.Heatmap(
            z=table, colorscale=scale, zmin=-0.5, zmax=len(keys) - 0.5, showscale=False, xgap=2, ygap=2,
            hoverinfo="skip",
        ), row=1, col=column,
    )  # fmt: skip
    axis = "" if column == 1 else str(column)
    numbers = [
        {
            "x": key, "y": query, "xref": f"x{axis}", "yref": f"y{axis}", "text": str(value), "showarrow": False,
            "font": {"size": 11, "color": ink_on(colours[value])},
        }
        for query, value in enumerate(values if texts else [])
        for key in range(query + 1)
    ]  # fmt: skip
    figure.layout.annotations += tuple(numbers)  # one by one it takes a second


def edges(rank: int, count: int) -> tuple[float, float]:
    """Where a colour begins and ends on a plotly colour scale of `count` equal parts."""
    return rank / count, (rank + 1) / count


def twice_the_matrix(prompt: int, new: int, title: str) -> Picture:
    """How often each pair of query and key is computed for `new` tokens after a prompt, without and with a cache."""
    size = prompt + new - 1  # the last new token is never fed back
    without = [new - max(0, query - prompt + 1) for query in range(size)]
    passes = [1 + max(0, query - prompt + 1) for query in range(size)]
    figure = make_subplots(cols=2, horizontal_spacing=0.1)
    add_triangle(figure, 1, without, {n: tint(VERMILLION, 0.15 + 0.75 * n / new) for n in range(1, new + 1)})
    add_triangle(figure, 2, passes, {n: PREFILL if n == 1 else DECODE for n in range(1, new + 1)})
    with_title = ("without a cache:<br>how often it is computed", "with a cache:<br>in which pass it is computed")
    for column, text in enumerate(with_title, 1):
        figure.add_annotation(
            x=0, y=1.02, xref=f"x{column if column > 1 else ''} domain", yref="paper", xanchor="left",
            yanchor="bottom", text=text, showarrow=False, align="left", font={"size": 12, "color": INK},
        )  # fmt: skip
        figure.update_xaxes(
            title_text="key", showticklabels=False, ticks="", showgrid=False, zeroline=False, col=column
        )
        figure.update_yaxes(
            title_text="query" if column == 1 else "", showticklabels=False, ticks="", autorange="reversed",
            showgrid=False, zeroline=False, col=column,
        )  # fmt: skip
    subtitle = f"{prompt} tokens of prompt, {new} new ones. Blue: prefill, one pass. Orange: decode, one pass a row."
    counts = (sum(n * (query + 1) for query, n in enumerate(without)), size * (size + 1) // 2)
    alt = f"{title}. Two triangles of {size} queries. Without a cache {counts[0]} pairs are computed, with one "
    picture = finish(figure, title, f"{alt}{counts[1]}.", 300, subtitle)
    figure.update_layout(margin={"t": (figure.layout.margin.t or 0) + 34}, height=figure.layout.height + 34)
    return picture


def chunk_matrix(prompt: int, new: int, chunk: int, title: str) -> Picture:
    """The same triangle for a prompt that is read in chunks: the pass that computes each row."""
    size, chunks = prompt + new - 1, -(-prompt // chunk)
    passes = [query // chunk + 1 if query < prompt else chunks + query - prompt + 1 for query in range(size)]
    colours = {n: PASSES[(n - 1) % len(PASSES)] if n <= chunks else DECODE for n in set(passes)}
    figure = make_subplots(cols=1)
    add_triangle(figure, 1, passes, colours)
    figure.update_xaxes(
        title_text="key", showticklabels=False, ticks="", showgrid=False, zeroline=False, constrain="domain"
    )
    figure.update_yaxes(
        title_text="query", showticklabels=False, ticks="", autorange="reversed", showgrid=False, zeroline=False,
        scaleanchor="x",
    )  # fmt: skip
    subtitle = f"The number of the pass. {prompt} tokens of prompt in chunks of {chunk}, then single tokens (orange)."
    return finish(figure, title, f"{title}. {chunks} passes for the prompt, then {new - 1} of one row.", 300, subtitle)


def benchmark() -> dict[str, Any]:
    """The committed benchmark of decoding: seconds of one token, with and without a cache, by position."""
    measured: dict[str, Any] = json.loads((find("data/benchmarks") / "decode.json").read_text(encoding="utf-8"))
    return measured


def seconds_by_position(measured: Mapping[str, Any], cache: bool, compiled: bool = False) -> dict[int, float]:
    """position -> seconds of one token of the mini in float32 on one thread, in rising order."""
    wanted = {"model": "mini", "dtype": "float32", "threads": 1, "cache": cache, "compiled": compiled}
    rows = [row for row in measured["rows"] if all(row[key] == value for key, value in wanted.items())]
    return {row["position"]: row["seconds"] for row in sorted(rows, key=lambda row: row["position"])}


def time_curves(measured: Mapping[str, Any], title: str) -> Picture:
    """Milliseconds of one token by the number of tokens before it: without a cache, with one, and compiled."""
    figure = go.Figure()
    said = []
    kinds = {
        "without<br>a cache": (False, False),
        "with<br>a cache": (True, False),
        "the same,<br>compiled": (True, True),
    }
    for (name, kind), colour in zip(kinds.items(), (VERMILLION, BLUE, GREEN), strict=True):
        times = {place: 1000 * seconds for place, seconds in seconds_by_position(measured, *kind).items()}
        figure.add_trace(
            go.Scatter(
                x=list(times), y=[round(value, 3) for value in times.values()], mode="lines+markers", name=name,
                line={"color": colour}, hovertemplate="%{x:,} tokens before it: %{y:.2f} ms<extra></extra>",
            )
        )  # fmt: skip
        said.append(f"{name.replace('<br>', ' ')} {min(times.values()):.1f} to {max(times.values()):.1f} ms")
    places = list(seconds_by_position(measured, True))
    figure.update_xaxes(
        title_text="tokens before it (log scale)", type="log", tickvals=places, ticktext=[f"{n:,}" for n in places]
    )
    figure.update_yaxes(
        title_text="milliseconds (log scale)", type="log", tickvals=[0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000]
    )
    label_ends(figure, height=320)
    machine = f"{measured['processor']}, one thread, float32, torch {measured['torch']}, {measured['date']}"
    busy = " on a busy machine" if measured["busy"] else ""
    subtitle = f"Time of one token of the mini, measured once{busy}: {machine}."
    return finish(figure, title, f"{title}. {'; '.join(said)}.", 320, subtitle)


def stacked(rows: Mapping[str, Sequence[float]], parts: Sequence[str], title: str, subtitle: str) -> Picture:
    """Horizontal bars of several parts, with the sum at the end. rows: name -> gigabytes of each part."""
    figure = go.Figure()
    for number, (part, colour) in enumerate(zip(parts, (PALE, SKY, ORANGE), strict=False)):
        figure.add_trace(
            go.Bar(
                x=[values[number] for values in rows.values()], y=list(rows), orientation="h", name=part, width=0.6,
                marker={"color": colour, "line": {"color": "#808080", "width": 1}},
                hovertemplate="%{x:,.1f} GB " + part + "<extra></extra>",
            )
        )  # fmt: skip
    sums = {name: sum(values) for name, values in rows.items()}
    for name, total in sums.items():
        figure.add_annotation(x=total, y=name, text=f"{total:.1f} GB", showarrow=False, xanchor="left", xshift=6)
    figure.update_xaxes(visible=False, range=[0, 1.25 * max(sums.values())])
    figure.update_yaxes(type="category", autorange="reversed", ticks="", showline=False)
    said = "; ".join(f"{name}: {total:.1f} GB" for name, total in sums.items())
    picture = finish(figure, title, f"{title}. {said}.", 130 + 42 * len(rows), wrap(subtitle))
    legend = {"orientation": "h", "x": 0, "y": 0, "yanchor": "top", "traceorder": "normal"}
    figure.update_layout(barmode="stack", showlegend=True, legend=legend, margin={"b": 50})
    return picture
