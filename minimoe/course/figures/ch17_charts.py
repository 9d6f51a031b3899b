"""Chapter 17: contexts of the family, loss by position, needles, memory, work, and a sparse pattern."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go
import torch
from einops import reduce
from torch import Tensor

from minimoe.figure_style import (
    BLUE,
    GREEN,
    INK,
    MUTED,
    ORANGE,
    PALE,
    PURPLE,
    SKY,
    VERMILLION,
    Picture,
    bars,
    finish,
    ink_on,
    label_ends,
    reference_line,
    tint,
)
from minimoe.paths import find

KINDS = {"trained": GREEN, "config": BLUE, "stretched": ORANGE}
COLOURS = {
    "plain RoPE": VERMILLION, "scaled positions": ORANGE, "YaRN": PURPLE, "dual chunk": BLUE, "window": GREEN,
}  # fmt: skip
GIGABYTE = 1e9
TILE = 3  # pairs of tokens along the side of a cell in the pattern of attention


def recorded(name: str) -> dict[str, Any]:
    """A file of data/long_context: "mini", the measurements, or "facts"."""
    content: dict[str, Any] = json.loads((find("data/long_context") / f"{name}.json").read_text(encoding="utf-8"))
    return content


def contexts(rows: Sequence[tuple[str, int, str]], title: str, subtitle: str) -> Picture:
    """Lengths on a logarithmic axis. rows: name, tokens, and one of KINDS."""
    figure = go.Figure()
    names = [name for name, _, _ in rows]
    for name, tokens, kind in rows:
        figure.add_trace(
            go.Scatter(
                x=[tokens], y=[name], mode="markers+text", text=[f" {tokens:,}"], textposition="middle right",
                marker={"size": 14, "color": KINDS[kind]}, hoverinfo="skip", cliponaxis=False,
            )
        )  # fmt: skip
    figure.update_xaxes(type="log", range=[2.2, 8.0], tickvals=[10**3, 10**5], title_text="tokens", tickangle=0,
                        ticktext=["1,000", "100,000"])  # fmt: skip
    figure.update_yaxes(type="category", categoryorder="array", categoryarray=names[::-1], ticks="", showline=False)
    alt = f"{title}. " + "; ".join(f"{name}: {tokens:,} ({kind})" for name, tokens, kind in rows) + "."
    return finish(figure, title, alt, 100 + 34 * len(rows), subtitle)


def with_room(picture: Picture) -> Picture:
    """The picture with room below the subtitle for the label of a vertical line."""
    layout = picture.figure.layout
    picture.figure.update_layout(margin={"t": layout.margin.t + 18}, height=layout.height + 18)
    layout.title.y = 1 - 28 / layout.height
    return picture


def loss_curves(measured: Mapping[str, Any], methods: Sequence[str], title: str, subtitle: str) -> Picture:
    """The mean loss of each part of a far text, one curve a method; the trained length as a line."""
    figure, trained = go.Figure(), measured["trained"]
    for method in methods:
        values = measured["loss"][method]
        places = [trained * (part + 0.5) for part in range(len(values))]
        figure.add_trace(
            go.Scatter(
                x=places, y=values, name=method, mode="lines+markers",
                line={"color": COLOURS.get(method, MUTED)},
                hovertemplate="around token %{x:,.0f}: %{y:.2f} nats<extra>" + method + "</extra>",
            )
        )  # fmt: skip
    figure.update_xaxes(title_text="position in the text", range=[0, measured["length"]])
    figure.update_yaxes(title_text="loss (nats per token)", rangemode="tozero", range=[0, 8])
    reference_line(figure, trained, "trained", "x")
    label_ends(figure, height=400)
    ends = "; ".join(f"{method} {measured['loss'][method][-1]:.1f}" for method in methods)
    return with_room(finish(figure, title, f"{title}. Loss at the end of the text: {ends}.", 400, subtitle))


def found_table(
    columns: Sequence[str], rows: Mapping[str, Sequence[int]], of: int, axis: str, title: str, subtitle: str
) -> Picture:
    """How many of `of` needles are found, one row a method, one column a length, as numbers on a coloured ground."""
    names = list(rows)
    table = [list(map(int, rows[name])) for name in names]
    colours = [[0, tint(VERMILLION, 0.75)], [0.5, "#F4F0E8"], [1, BLUE]]
    figure = go.Figure(
        go.Heatmap(z=table, x=list(range(len(columns))), y=names, zmin=0, zmax=of, colorscale=colours, xgap=3,
                   ygap=3, showscale=False, hoverinfo="skip")
    )  # fmt: skip
    for name, row in zip(names, table, strict=True):
        for column, count in enumerate(row):
            dark = ink_on(BLUE) if count > 0.8 * of else INK
            figure.add_annotation(x=column, y=name, text=str(count), showarrow=False, font={"color": dark, "size": 14})
    ticks = {"tickvals": list(range(len(columns))), "ticktext": list(columns)}
    figure.update_xaxes(title_text=axis, showgrid=False, zeroline=False, ticks="", **ticks)
    figure.update_yaxes(type="category", autorange="reversed", showgrid=False, ticks="")
    alt = f"{title}. Found of {of}: " + "; ".join(f"{name} {row}" for name, row in zip(names, table, strict=True)) + "."
    return finish(figure, title, alt, 110 + 40 * len(names), subtitle)


def found_bars(between: Sequence[int], found: Sequence[int], of: int, title: str, subtitle: str) -> Picture:
    """How many of `of` needles are found, by the tokens between fact and question."""
    alt = f"{title}. " + ", ".join(f"{n} tokens: {k} of {of}" for n, k in zip(between, found, strict=True)) + "."
    texts = [f"{count} of {of}" for count in found]
    return bars([f"{n} tokens" for n in between], list(found), title, alt, subtitle=subtitle, texts=texts)


def memory_bars(parts: Mapping[str, float], total: float, title: str, subtitle: str) -> Picture:
    """A sum as steps, each beginning where the last ended, in GB; then the total."""
    figure, start, names = go.Figure(), 0.0, [*parts, "the model card"]
    palette = [BLUE, ORANGE, SKY, PALE, VERMILLION]
    for (name, size), colour in zip(parts.items(), palette, strict=False):
        figure.add_trace(
            go.Bar(
                x=[size / GIGABYTE], y=[name], base=[start / GIGABYTE], orientation="h", marker={"color": colour},
                text=[f"{size / GIGABYTE:,.0f} GB"], textposition="auto" if size > 0.2 * total else "none", width=0.7,
                hoverinfo="skip", insidetextanchor="middle", textangle=0,
            )
        )  # fmt: skip
        start += size
        if size <= 0.2 * total:
            figure.add_annotation(
                x=start / GIGABYTE, y=name, text=f"{size / GIGABYTE:,.0f} GB", showarrow=False, xanchor="left", xshift=4
            )
    figure.add_trace(
        go.Bar(x=[total / GIGABYTE], y=[names[-1]], orientation="h", marker={"color": MUTED}, width=0.7,
               text=[f"{total / GIGABYTE:,.0f} GB"], hoverinfo="skip", textangle=0)
    )  # fmt: skip
    figure.update_xaxes(visible=False, range=[0, 1.25 * max(start, total) / GIGABYTE])
    figure.update_yaxes(type="category", categoryorder="array", categoryarray=names[::-1], ticks="", showline=False)
    alt = f"{title}. " + "; ".join(f"{name}: {size / GIGABYTE:,.0f} GB" for name, size in parts.items()) + "."
    return finish(figure, title, alt, 80 + 40 * len(names), subtitle)


def work_curves(
    lengths: Sequence[int], kinds: Mapping[str, Sequence[float]], marks: Mapping[str, int], title: str, subtitle: str
) -> Picture:
    """Work by length on two logarithmic axes, one curve a kind, with some lengths as lines."""
    figure, powers = go.Figure(), range(10, 20, 2)
    for (name, values), colour in zip(kinds.items(), (BLUE, VERMILLION), strict=False):
        figure.add_trace(
            go.Scatter(x=list(lengths), y=list(values), name=name, mode="lines", line={"color": colour, "width": 3},
                       hovertemplate="%{x:,} tokens: %{y:.2g}<extra></extra>")
        )  # fmt: skip
    figure.update_xaxes(type="log", title_text="tokens of the prompt", range=[3, 6.05], tickvals=[1e3, 1e4, 1e5, 1e6],
                        ticktext=["1,000", "10,000", "100,000", "1,000,000"])  # fmt: skip
    figure.update_yaxes(type="log", title_text="operations", range=[11, 18.6], tickvals=[10.0**n for n in powers],
                        ticktext=[f"10<sup>{n}</sup>" for n in powers])  # fmt: skip
    for says, length in marks.items():
        reference_line(figure, length, says, "x")
    label_ends(figure, height=380)
    ends = "; ".join(f"{name.replace('<br>', ' ')} {values[-1]:.1e}" for name, values in kinds.items())
    return with_room(finish(figure, title, f"{title}. At {lengths[-1]:,} tokens: {ends} operations.", 380, subtitle))


def pattern_map(weights: Tensor, kept: Tensor, title: str, subtitle: str) -> Picture:
    """The weights of one head, and beside it those pairs that a sparse prefill would compute.

    weights: (query, key). kept: (query, key) bool. One cell is TILE by TILE pairs, and shows the largest of them; the
    lengths are multiples of TILE.
    """
    pairs = int(kept.sum())
    strength = (weights / weights.amax(dim=-1, keepdim=True)).sqrt()
    strength, kept = (
        reduce(x, "(row query) (column key) -> row column", "max", query=TILE, key=TILE)
        for x in (strength, kept.byte())
    )
    kept, size = kept.bool(), len(kept)
    figure = go.Figure()
    shown = (("", torch.where(torch.ones_like(kept).tril(), strength, -1.0)), ("2", torch.where(kept, strength, -1.0)))
    for axis, values in shown:
        table = [[None if value < 0 else round(value, 1) for value in row] for row in values.tolist()]
        figure.add_trace(
            go.Heatmap(z=table, xaxis=f"x{axis}", yaxis=f"y{axis}", zmin=0, zmax=1, showscale=False, hoverinfo="skip",
                       colorscale=[[0, tint(BLUE, 0.1)], [1, BLUE]])
        )  # fmt: skip
    figure.update_layout(xaxis={"domain": [0, 0.47]}, xaxis2={"domain": [0.53, 1], "anchor": "y2"},
                         yaxis2={"anchor": "x2"})  # fmt: skip
    for axis, text in (("", "all weights"), ("2", "what is computed")):
        figure.add_annotation(x=size - 1, y=2, xref=f"x{axis}", yref=f"y{axis}", text=text, showarrow=False,
                              xanchor="right", yanchor="top", font={"color": MUTED})  # fmt: skip
    figure.update_xaxes(
        title_text="key", range=[-0.5, size - 0.5], showgrid=False, zeroline=False, showticklabels=False
    )
    figure.update_yaxes(range=[size - 0.5, -0.5], showgrid=False, zeroline=False, showticklabels=False)
    figure.update_xaxes(constrain="domain")
    for axis in ("", "2"):
        figure.update_layout({f"yaxis{axis}": {"title": {"text": "query"}, "scaleanchor": f"x{axis}",
                                               "constrain": "domain"}})  # fmt: skip
    alt = f"{title}. {subtitle} Two triangles of {len(weights)} queries and keys: all pairs, and the {pairs:,} kept."
    return finish(figure, title, alt, 320, subtitle)
