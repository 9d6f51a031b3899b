"""One token through all layers as a plotly figure: what viewers without the widget see.

A figure of few numbers has a slider over the tokens, which works without a kernel; a larger one shows a single token.
"""

from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go

from minimoe.errors import BadArgument
from minimoe.figure_style import BLUE, INK, NARROW, PALE, SKY, TOP, Picture, finish, text_width
from minimoe.routing.token_view.labels import token_labels
from minimoe.routing.trace.trace import RoutingTrace

LINE = 28  # pixels of a line of text
MOST_LINES = 8
WIDTH = NARROW - 120  # pixels of a line of text in a narrow window
ROWS = 330  # pixels of all layers together, if they fit
FAN_ROW = 22  # rows lower than this show one line instead of a fan
MOST_NUMBERS = 60_000  # in the frames of the slider


@dataclass(frozen=True)
class Strip:
    """The text in lines: for each token its left and right end in pixels, its line, and its label."""

    left: list[float]
    right: list[float]
    line: list[int]
    labels: list[str]

    def box(self, token: int) -> tuple[list[float], list[float]]:
        """The corners of a token's box: x and y."""
        left, right, line = self.left[token], self.right[token], self.line[token]
        return [left, right, right, left, left], [line - 0.42, line - 0.42, line + 0.42, line + 0.42, line - 0.42]


def token_picture(trace: RoutingTrace, token: int, mark: str = "") -> Picture:
    """The selected experts of one token in every layer, joined by its path; above them the text.

    mark: stored in the layout, so that a widget can find this figure and take its place. Raises BadArgument if the
    trace has no such token.
    """
    if not 0 <= token < len(trace):
        raise BadArgument(f"token is {token}, but the text has tokens 0..{len(trace) - 1}.")
    layers, tokens, slots = trace.experts.shape
    experts = int(trace.metadata["num_experts"])
    strip = lay_out(trace)
    numbers = tokens * layers * (4 * slots + 1)
    moving = tokens > 1 and numbers <= MOST_NUMBERS and max(strip.line) < MOST_LINES
    first = 0 if max(strip.line) < MOST_LINES else max(0, strip.line[token] - MOST_LINES // 2)
    shown = [t for t in range(tokens) if first <= strip.line[t] < first + MOST_LINES]
    row = max(5.0, min(40.0, ROWS / layers))
    drawing = Drawing(trace, row)

    figure = go.Figure([*text_traces(strip, shown, token), *drawing.traces(token)])
    heights = LINE * (1 + max(strip.line[t] for t in shown) - first), 34, row * layers
    top, gap, bottom = (height / sum(heights) for height in heights)
    bottom_line = max(strip.line[t] for t in shown) + 0.6
    figure.update_layout(
        xaxis={"visible": False, "range": [0, WIDTH], "fixedrange": True},
        yaxis={"visible": False, "range": [bottom_line, first - 0.6], "domain": [1 - top, 1], "fixedrange": True},
        xaxis2={"anchor": "y2", "range": [-1, experts - 0.3], "showgrid": False, "zeroline": False, "ticks": "",
                "dtick": axis_step(experts), "title": {"text": "number of the expert in its layer"}},
        yaxis2={"anchor": "x2", "range": [layers - 0.5, -0.5], "domain": [0, bottom], "showgrid": False,
                "zeroline": False, "ticks": "", **layer_ticks(trace.layers.tolist(), row)},
        meta={"minimoe": mark},
    )  # fmt: skip
    if moving:
        figure.frames = [drawing.frame(strip, t) for t in range(tokens)]
        figure.update_layout(sliders=[slider([f"{t} {label}" for t, label in enumerate(strip.labels)], token)])
    height = round(TOP + sum(heights) + 60 + (70 if moving else 0))
    title = f"Each layer selects {slots} of {experts} experts for a token"
    if not moving:
        title = f"“{strip.labels[token]}”: each layer selects {slots} of {experts} experts"
    subtitle = trace.title + ("; a larger dot has a larger weight" if trace.has_weights else "")
    picture = finish(figure, title, describe(trace, token), height, subtitle)
    if moving:
        picture.figure.update_layout(margin={"b": 120})
    return picture


def lay_out(trace: RoutingTrace) -> Strip:
    """The tokens in lines of WIDTH pixels; a sequence and a line break begin a new one."""
    labels, sequences = token_labels(trace), trace.sequences.tolist()
    strip = Strip([], [], [], labels)
    at, line = 0.0, 0
    for token, label in enumerate(labels):
        wide = min(WIDTH, text_width(label, 13) + 10)
        fresh = token > 0 and (sequences[token] != sequences[token - 1] or "⏎" in labels[token - 1])
        if fresh or at + wide > WIDTH:
            at, line = 0.0, line + 1
        strip.left.append(round(at, 1))
        strip.right.append(round(at + wide, 1))
        strip.line.append(line)
        at += wide + 2
    return strip


def text_traces(strip: Strip, shown: list[int], token: int) -> list[go.Scatter]:
    """The boxes of the tokens, the box of the current one, and the labels."""
    xs: list[float | None] = []
    ys: list[float | None] = []
    for t in shown:
        x, y = strip.box(t)
        xs += [*x, None]
        ys += [*y, None]
    x, y = strip.box(token)
    plain = {"mode": "lines", "fill": "toself", "hoverinfo": "skip", "line": {"width": 0}}
    return [
        go.Scatter(x=xs, y=ys, fillcolor="#F1F3F5", **plain),
        go.Scatter(x=x, y=y, fillcolor=SKY, **plain),
        go.Scatter(
            x=[(strip.left[t] + strip.right[t]) / 2 for t in shown], y=[strip.line[t] for t in shown], mode="text",
            text=[strip.labels[t] for t in shown], textfont={"size": 13, "color": INK}, hoverinfo="skip",
        ),
    ]  # fmt: skip


class Drawing:
    """The lower part: a row of experts for each layer, the lights of one token, and its path."""

    def __init__(self, trace: RoutingTrace, row: float):
        self.layers, _, self.slots = trace.experts.shape
        self.experts = int(trace.metadata["num_experts"])
        self.ids = trace.experts.tolist()
        self.row = row
        weights = trace.weights if trace.has_weights else None
        most = float(weights.max()) if weights is not None else 1.0
        largest = max(4.5, min(row * 0.8, 20.0))
        smallest = min(largest, max(3.6, largest * 0.26))
        self.sizes = None if weights is None else (smallest + (largest - smallest) * (weights / most).sqrt()).tolist()
        self.size = (smallest + largest) / 2

    def traces(self, token: int) -> list[go.Scatter]:
        """The idle experts, the path and the lights."""
        rows = range(self.layers)
        own = {"xaxis": "x2", "yaxis": "y2"}
        dots = self.row >= FAN_ROW  # else a band for each layer
        columns = range(self.experts) if dots else [0, self.experts - 1, None]
        idle = go.Scatter(
            x=[column for _ in rows for column in columns], y=[row for row in rows for _ in columns],
            mode="markers" if dots else "lines",
            marker={"size": 2.5, "color": "#B9C0C7"}, line={"width": max(1.0, self.row * 0.5), "color": PALE},
            hoverinfo="skip", **own,
        )  # fmt: skip
        x, y = self.path(token)
        path = go.Scatter(
            x=x, y=y, mode="lines", fill="none", line={"width": 1, "color": BLUE}, opacity=0.6, hoverinfo="skip", **own
        )
        lights = go.Scatter(
            x=self.chosen(token), y=[row for row in rows for _ in range(self.slots)], mode="markers",
            marker={"size": self.marker_sizes(token), "color": BLUE, "opacity": 0.9,
                    "line": {"width": 0.5, "color": "white"}},
            hovertemplate="layer %{y}, expert %{x}<extra></extra>", **own,
        )  # fmt: skip
        return [idle, path, lights]

    def chosen(self, token: int) -> list[int]:
        return [expert for layer in self.ids for expert in layer[token]]

    def marker_sizes(self, token: int) -> Any:
        if self.sizes is None:
            return self.size
        return [round(size, 1) for layer in self.sizes for size in layer[token]]

    def path(self, token: int) -> tuple[list[float | None], list[float | None]]:
        """From the middle above each row to every selected expert and to the middle below it, in one stroke a layer.

        In low rows: through the expert with the largest weight.
        """
        if self.row < FAN_ROW:
            return [layer[token][0] for layer in self.ids], list(map(float, range(self.layers)))
        middle = (self.experts - 1) / 2
        xs: list[float | None] = []
        ys: list[float | None] = []
        for number, layer in enumerate(self.ids):
            ends = [number - 0.5, number + 0.5]
            xs.append(middle)
            ys.append(ends[0])
            for slot, expert in enumerate(layer[token]):
                xs += [expert, middle]
                ys += [float(number), ends[(slot + 1) % 2]]
            xs.append(None)
            ys.append(None)
        return xs, ys

    def frame(self, strip: Strip, token: int) -> go.Frame:
        """What changes when the slider moves to `token`: the traces 1, 4 and 5."""
        x, y = strip.box(token)
        lights: dict[str, Any] = {"x": self.chosen(token)}
        if self.sizes is not None:
            lights["marker"] = {"size": self.marker_sizes(token)}
        data = [go.Scatter(x=x, y=y), go.Scatter(x=self.path(token)[0]), go.Scatter(**lights)]
        return go.Frame(name=str(token), data=data, traces=[1, 4, 5])


def slider(labels: list[str], active: int) -> dict[str, Any]:
    """A native plotly slider that switches between frames; it works without a kernel."""
    move = {"mode": "immediate", "frame": {"duration": 0, "redraw": True}, "transition": {"duration": 0}}
    steps = [{"method": "animate", "label": label, "args": [[str(n)], move]} for n, label in enumerate(labels)]
    return {
        "active": active,
        "currentvalue": {"prefix": "token ", "font": {"size": 13, "color": INK}},
        "font": {"color": "white", "size": 1},  # of the numbers below the rail, which would overlap
        "pad": {"t": 50, "b": 0},
        "steps": steps,
        "ticklen": 0,
        "minorticklen": 0,
    }


def axis_step(experts: int) -> int:
    """The step between numbers on the axis of experts: a power of two that gives at most 17 numbers."""
    step = 1
    while experts / step > 17:
        step *= 2
    return step


def layer_ticks(numbers: list[int], row: float) -> dict[str, Any]:
    """The names of the rows, as many as are legible."""
    every = max(1, round(16 / row))
    rows = range(0, len(numbers), every)
    return {"tickvals": list(rows), "ticktext": [f"layer {numbers[n]}" for n in rows]}


def describe(trace: RoutingTrace, token: int) -> str:
    """The text alternative for one token."""
    numbers, slots = trace.layers.tolist(), trace.experts.shape[-1]
    text = (
        f"Token {token} of {len(trace)}, “{token_labels(trace)[token]}”: {slots} of {trace.metadata['num_experts']} "
        f"experts selected in each of {len(numbers)} layers."
    )
    if not trace.has_weights or len(numbers) > 8:
        return text
    first = [f"{ids[0]} in layer {n}" for n, ids in zip(numbers, trace.experts[:, token].tolist(), strict=True)]
    return f"{text} The one with the largest weight: {', '.join(first)}."
