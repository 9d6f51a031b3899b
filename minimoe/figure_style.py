"""The house style of all figures: colours, titles that state a finding, labels at the marks, and a text alternative."""

import base64
import math
import sys
from collections.abc import Sequence
from typing import Any
from unicodedata import east_asian_width

import numpy as np
import plotly.graph_objects as go

from minimoe.errors import BadArgument

# The palette of Okabe & Ito (2008), https://jfly.uni-koeln.de/color/
BLUE, SKY, GREEN, YELLOW = "#0072B2", "#56B4E9", "#009E73", "#F0E442"
ORANGE, VERMILLION, PURPLE, BLACK = "#E69F00", "#D55E00", "#CC79A7", "#000000"
INK, MUTED, PALE = "#202020", "#5A5A5A", "#E9E9E9"  # text, text of second rank, marks without a value
DOMAIN_COLOURS = {"en": BLUE, "zh": PURPLE, "code": ORANGE, "math": GREEN}  # as in routing/web/core/colour.js
# The parts of the model, from the palettes "muted" and "vibrant" of Paul Tol, https://personal.sron.nl/~pault/, and a
# grey: no colour of a part is the colour of a domain.
PART_COLOURS = {
    "embedding": "#88CCEE", "norm": "#8A8A8A", "attention": "#332288", "router": "#CC3311", "experts": "#DDCC77",
    "head": "#882255",
}  # fmt: skip
SEQUENTIAL = "Cividis"  # perceptually uniform, safe for red-green colour blindness
CONFIG = {"displayModeBar": False}  # plotly's buttons would cover the title
FONT = {"family": "Helvetica, Arial, 'Noto Sans CJK SC', sans-serif", "size": 13, "color": INK}
TITLE_SIZE, SUBTITLE_SIZE, TEXT_SIZE = 16, 13, 13
NARROW = 760  # pixels that an output cell has in a window of 900
NARROWEST = 400  # and with the list of files open, for any sans-serif; titles are wrapped for it
TOP = 60  # the margin for a title of one line; longer titles make the figure higher


class Picture:
    """A plotly figure with its text alternative.

    Jupyter renders `figure`, a plotly object; screen readers and viewers that cannot render it use the text `alt`.
    """

    def __init__(self, figure: go.Figure, alt: str):
        self.figure, self.alt = figure, alt

    def __repr__(self) -> str:
        return self.alt

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        """The plotly MIME type for JupyterLab, Notebook 7 and VS Code; HTML for Colab, which draws no other."""
        drawing = plain(self.figure.to_plotly_json()) | {"config": CONFIG}
        bundle = {"application/vnd.plotly.v1+json": drawing, "text/plain": self.alt}
        if "google.colab" in sys.modules:
            bundle["text/html"] = self.figure.to_html(full_html=False, include_plotlyjs="cdn", config=CONFIG)
        return bundle


def plain(value: Any) -> Any:
    """`value` with tuples and arrays converted to lists, so that it serialises to the same JSON in every run.

    Arrays that plotly has packed in base64 are unpacked, because the plotly.js of some viewers is too old for them.
    """
    if isinstance(value, dict) and {"dtype", "bdata"} <= set(value):
        array = np.frombuffer(base64.b64decode(value["bdata"]), dtype=value["dtype"])
        shape = [int(length) for length in str(value.get("shape", array.size)).split(",")]
        return array.reshape(shape).tolist()
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    return [plain(item) for item in value] if isinstance(value, (list, tuple)) else value


def rounded(values: Any) -> Any:
    """`values`, a tensor or an array, as nested lists of three decimals: small and equal on every processor."""
    nested = plain(values)
    return [rounded(row) for row in nested] if isinstance(nested, list) else round(float(nested), 3)


# Text ----------------------------------------------------------------------------------------------------------------


def text_width(text: str, size: float = TEXT_SIZE) -> float:
    """Approximate width of one line in pixels, rather too wide than too narrow; tags such as <b> are not counted."""
    bare, inside = "", False
    for character in text:
        inside = (inside or character == "<") and character != ">"
        bare += "" if inside or character == ">" else character
    return size * sum(letter_width(character) for character in bare)


def letter_width(character: str) -> float:
    """Width of a letter of Helvetica in em, in four classes; Chinese characters are square."""
    if east_asian_width(character) in "WF":
        return 1.0
    if character in "iljtfrI.,:;'|!()[] ":
        return 0.33
    return 0.85 if character in "mwMW@%" else 0.72 if character.isupper() else 0.56


def wrap(text: str, pixels: float = NARROW - 40, size: float = TITLE_SIZE) -> str:
    """`text` with <br> between words wherever a line would be wider than `pixels`."""
    lines: list[str] = []
    for word in text.split(" "):
        if lines and text_width(f"{lines[-1]} {word}".split("<br>")[-1], size) <= pixels:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return "<br>".join(lines)


def ink_on(colour: str) -> str:
    """Black or white: the text colour with the higher contrast on "#rrggbb" (WCAG 2 luminance)."""
    return INK if luminance(colour) > 0.179 else "#FFFFFF"


def luminance(colour: str) -> float:
    """Relative luminance 0..1 of "#rrggbb" (WCAG 2)."""
    channels = [part / 255 for part in rgb(colour)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def rgb(colour: str) -> tuple[int, int, int]:
    """The three channels 0..255 of "#rrggbb"."""
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)


def tint(colour: str, share: float) -> str:
    """`colour` mixed with white: 1 is the colour itself, 0 is white."""
    return "#" + "".join(f"{round(255 + (part - 255) * share):02X}" for part in rgb(colour))


# Marks ---------------------------------------------------------------------------------------------------------------


def bars(
    names: Sequence[str],
    values: Sequence[float],
    title: str,
    alt: str,
    *,
    subtitle: str = "",
    form: str = ".2f",
    unit: str = "",
    signed: bool = False,
    colours: str | Sequence[str] = BLUE,
    texts: Sequence[str] | None = None,
) -> Picture:
    """Horizontal bars with their values as labels and without a value axis.

    form: format of the labels, such as ".2f" or ",d"; unit follows the number. texts: labels to use instead. signed:
    bars to both sides of a zero line, labels with + or -, negative ones in VERMILLION unless colours are given.
    """
    if len(names) != len(values):
        raise BadArgument(f"bars() was given {len(names)} names and {len(values)} values; expected one name a bar.")
    if signed and isinstance(colours, str):
        colours = [VERMILLION if value < 0 else colours for value in values]
    figure = go.Figure(go.Bar(x=list(values), y=list(names), orientation="h", marker={"color": colours}, width=0.7))
    figure.update_yaxes(type="category", autorange="reversed", ticks="", showline=False)
    label_bars(figure, ("+" if signed else "") + form, unit, texts)
    if signed:
        figure.add_vline(x=0, line={"color": INK, "width": 1})
    return finish(figure, title, alt, height=TOP + 20 + 34 * len(names), subtitle=subtitle)


def label_bars(figure: go.Figure, form: str = ".2f", unit: str = "", texts: Sequence[str] | None = None) -> go.Figure:
    """Write at the end of each bar its value, and take away the value axis, which then says nothing more."""
    for trace in figure.data:
        if isinstance(trace, go.Bar):
            flat = trace.orientation == "h"
            values = plain(trace.x if flat else trace.y)
            labels = list(texts) if texts is not None else [label(value, form, unit) for value in values]
            trace.update(text=labels, textposition="outside", textangle=0, cliponaxis=False, hoverinfo="skip")
            known = [value for value in values if value is not None and math.isfinite(value)] or [0.0]
            low, high = min(0.0, *known), max(0.0, *known)
            room = (high - low or 1.0) * (max(map(text_width, labels), default=0) / (NARROWEST - 180) if flat else 0.14)
            axis = {"visible": False, "range": [low - room * (low < 0), high + room * (high > 0 or low == high)]}
            name = (trace.xaxis or "x") if flat else (trace.yaxis or "y")
            figure.update_layout({f"{name[0]}axis{name[1:]}": axis})
    return figure


def label(value: float | None, form: str, unit: str = "") -> str:
    """A number as text with a true minus sign; None and nan as "–"."""
    if value is None or not math.isfinite(value):
        return "–"
    number = round(value) if form.endswith("d") else value
    text = format(number, form)
    zero = not any(digit in text for digit in "123456789")
    text = text.replace("-", "" if zero else "−")
    return f"{text} {unit}".strip()


def label_ends(figure: go.Figure, height: int = 360, size: int = TEXT_SIZE) -> go.Figure:
    """Write the name of each curve at its right end, in its colour, instead of a legend.

    Labels that would overlap are spread vertically; the right margin becomes as wide as the longest. Call it after all
    curves, and their axis ranges, are set. height: that of the finished figure in pixels. Only curves with a name and
    mode "lines" or "lines+markers" are labelled.
    """
    groups: dict[tuple[str, str], list[Any]] = {}
    for trace in figure.data:
        if isinstance(trace, go.Scatter) and trace.name and "lines" in (trace.mode or "lines"):
            groups.setdefault((trace.xaxis or "x", trace.yaxis or "y"), []).append(trace)
    widest = 0.0
    for (x_axis, y_axis), traces in groups.items():
        layout = figure.layout[f"yaxis{y_axis[1:]}"]
        low, high = value_range(traces, layout)
        layout.range = [low, high]
        share = (layout.domain or (0, 1))[1] - (layout.domain or (0, 1))[0]
        pixels = (height - TOP - 60) * share / (high - low)
        logarithmic = layout.type == "log"
        x_layout = figure.layout[f"xaxis{x_axis[1:]}"]
        ends = [last_point(trace, x_layout.type == "log", logarithmic) for trace in traces]
        wanted = [(end[1] - low) * pixels for end in ends]
        placed = inside(spread(wanted, gap=size + 4), pixels * (high - low), margin=size / 2 + 2)
        for trace, end, at, home in zip(traces, ends, placed, wanted, strict=True):
            colour = trace.line.color or (trace.marker.color if isinstance(trace.marker.color, str) else INK) or INK
            figure.add_annotation(
                x=end[0], y=end[1], xref=x_axis, yref=y_axis, text=trace.name, showarrow=False, xanchor="left",
                xshift=8, yshift=round(at - home), align="left",
                font={"size": size, "color": colour if luminance(colour) < 0.35 else tinted_ink(colour)},
            )  # fmt: skip
            widest = max(widest, *(text_width(line, size) for line in trace.name.split("<br>")))
        if x_layout.range is None and x_layout.type is None:  # else plotly makes room for the labels inside the plot
            xs = [x for trace in traces for x in (plain(trace.x) if trace.x is not None else range(len(trace.y)))]
            if all(isinstance(x, (int, float)) for x in xs):
                x_layout.range = [min(xs), max(xs)]
    figure.update_layout(showlegend=False, margin={"r": round(widest) + 16})
    return figure


def inside(places: Sequence[float], length: float, margin: float) -> list[float]:
    """All places moved by one distance, so that the lowest, else the highest, is inside of 0 to `length`."""
    move = min(0.0, length - margin - max(places))
    move = max(move, margin - min(places))
    return [place + move for place in places]


def tinted_ink(colour: str) -> str:
    """A darker tone of a light colour, legible on white."""
    while luminance(colour) > 0.25:
        colour = "#" + "".join(f"{round(part * 0.9):02X}" for part in rgb(colour))
    return colour


def value_range(traces: Sequence[Any], axis: Any) -> tuple[float, float]:
    """The range of the value axis: the one that is set, else that of the data with 6 % of room at both ends."""
    if axis.range is not None:
        return float(axis.range[0]), float(axis.range[1])
    values = [float(v) for trace in traces for v in plain(trace.y) if v is not None and math.isfinite(v)]
    if axis.type == "log":
        values = [math.log10(value) for value in values if value > 0]
    low, high = min(values), max(values)
    if axis.rangemode == "tozero":
        low, high = min(low, 0.0), max(high, 0.0)
    room = 0.06 * (high - low or 1.0)
    return low - room * (axis.rangemode != "tozero" or low < 0), high + room


def last_point(trace: Any, log_x: bool, log_y: bool) -> tuple[Any, float]:
    """(x, y) of the last finite point in the units of an annotation: on a logarithmic axis, the exponent."""
    ys = plain(trace.y)
    xs = plain(trace.x) if trace.x is not None else list(range(len(ys)))
    points = [(x, y) for x, y in zip(xs, ys, strict=True) if y is not None and math.isfinite(y)]
    x, y = points[-1]
    return math.log10(x) if log_x else x, math.log10(y) if log_y else float(y)


def spread(wanted: Sequence[float], gap: float) -> list[float]:
    """Positions at least `gap` apart, in the order of `wanted` and as near to it as possible (least squares)."""
    order = sorted(range(len(wanted)), key=lambda index: wanted[index])
    blocks: list[list[float]] = []  # of neighbours that touch: [sum of wanted positions less offsets, count]
    for rank, index in enumerate(order):
        blocks.append([wanted[index] - rank * gap, 1])
        while len(blocks) > 1 and blocks[-2][0] / blocks[-2][1] > blocks[-1][0] / blocks[-1][1]:
            total, count = blocks.pop()
            blocks[-1] = [blocks[-1][0] + total, blocks[-1][1] + count]
    starts = [total / count for total, count in blocks for _ in range(round(count))]
    placed = [0.0] * len(wanted)
    for rank, index in enumerate(order):
        placed[index] = starts[rank] + rank * gap
    return placed


def reference_line(figure: go.Figure, value: float, says: str, axis: str = "y", **where: Any) -> go.Figure:
    """A thin dashed line at a value of the "x" or "y" axis with its meaning written at it; where: row and col.

    A logarithmic axis is set before.
    """
    if axis not in ("x", "y"):
        raise BadArgument(f'reference_line() was given axis {axis!r}, expected "x" or "y".')
    line = {"color": MUTED, "width": 1, "dash": "dash"}
    note = {"text": says, "font": {"size": 12, "color": MUTED}}
    add, place = (figure.add_hline, "top left") if axis == "y" else (figure.add_vline, "top")
    add(**{axis: value}, line=line, annotation=note, annotation_position=place, **where)
    added = figure.layout.annotations[-1]
    name = added[f"{axis}ref"]  # "y", or "y2" of a subplot
    if figure.layout[f"{axis}axis{name[1:]}"].type == "log":
        added[axis] = math.log10(value)  # plotly puts lines at values, but texts at exponents
    return figure


def hide_axes(figure: go.Figure, which: str = "xy", **where: Any) -> go.Figure:
    """Take away axes that carry no meaning: "x", "y" or both; where: row and col of a subplot."""
    for axis in which:
        update = figure.update_xaxes if axis == "x" else figure.update_yaxes
        update(visible=False, **where)
    return figure


# The finished figure -------------------------------------------------------------------------------------------------


def headline(title: str, subtitle: str = "") -> tuple[str, int]:
    """The text of a title with its subtitle, wrapped for a narrow window, and its height in pixels."""
    text = wrap(title, NARROWEST)
    height = 20 * (1 + text.count("<br>"))
    if subtitle:
        below = wrap(subtitle, NARROWEST, SUBTITLE_SIZE)
        height += 18 * (1 + below.count("<br>"))
        text += f"<br><span style='font-size:{SUBTITLE_SIZE}px;color:{MUTED}'>{below}</span>"
    return text, height


def finish(figure: go.Figure, title: str, alt: str, height: int, subtitle: str = "") -> Picture:
    """Apply the house style to a figure and attach its text alternative.

    title: the finding. subtitle: what is shown, and whether it is real, of the mini or random. Both are wrapped for a
    window of 900 pixels with the list of files, and the figure grows beyond `height` by the lines that a one-line title
    would not need.
    Margins that are wider than those of the style, as `label_ends` sets, are kept.
    """
    text, title_height = headline(title, subtitle)  # "bottom" puts the base of the first line at y, others below it
    set_margin = figure.layout.margin
    top = max(TOP, title_height + 36)
    for axes in (figure.update_xaxes, figure.update_yaxes):
        axes(automargin=True, title={"font": {"size": TEXT_SIZE}, "standoff": 8})
    figure.update_layout(
        template="none", font=FONT, height=height + top - TOP, showlegend=False,
        title={"text": text, "x": 0, "xref": "container", "xanchor": "left", "yanchor": "bottom",
               "y": 1 - 28 / (height + top - TOP), "pad": {"l": 16}, "font": {"size": TITLE_SIZE}},
        margin={"l": max(left_margin(figure), set_margin.l or 0), "r": max(20, set_margin.r or 0),
                "t": max(top, set_margin.t or 0), "b": max(bottom_margin(figure), set_margin.b or 0)},
        paper_bgcolor="white", plot_bgcolor="white", hoverlabel={"font": {"size": 13}},
    )  # fmt: skip
    return Picture(figure, alt)


def left_margin(figure: go.Figure) -> int:
    """Pixels for the labels left of the plot: the longest category, or a number, and the title of the axis."""
    axes = list(figure.select_yaxes()) or [figure.layout.yaxis]
    if all(axis.visible is False for axis in axes):
        return 20
    names = [name for trace in figure.data for name in categories(trace, "y")]
    shown = max((text_width(line) for name in names for line in name.split("<br>")), default=40)
    return round(max(40, shown) + 16 + (26 if any(axis.title.text for axis in axes) else 0))


def bottom_margin(figure: go.Figure) -> int:
    """Pixels for the labels below the plot."""
    axes = list(figure.select_xaxes()) or [figure.layout.xaxis]
    if all(axis.visible is False for axis in axes):
        return 20
    return 60 if any(axis.title.text for axis in axes) else 40


def categories(trace: Any, axis: str) -> list[str]:
    """The labels of a trace on one axis, if they are text."""
    values = getattr(trace, axis, None)
    return [value for value in plain(values) if isinstance(value, str)] if values is not None else []
