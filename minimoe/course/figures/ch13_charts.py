"""Figures of chapter 13 on what is lost: KL, flipped choices, calibration with few rows, and experts left out."""

import json
from collections.abc import Mapping, Sequence
from math import log10
from statistics import mean
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from minimoe.figure_style import (
    BLUE,
    DOMAIN_COLOURS,
    GREEN,
    INK,
    MUTED,
    ORANGE,
    PURPLE,
    VERMILLION,
    Picture,
    finish,
    ink_on,
    label,
    label_ends,
    tint,
)
from minimoe.paths import find

DOMAINS = {"en": "English", "zh": "Chinese", "code": "Python", "math": "arithmetic"}
ROUTERS = {"kept": ("router kept", BLUE), "too": ("router too", VERMILLION), "alone": ("router alone", ORANGE)}
WAYS = {"saliency": ("saliency", BLUE), "merged": ("merged", PURPLE), "frequency": ("frequency", ORANGE),
        "random": ("random", MUTED)}  # fmt: skip


def measured() -> dict[str, Any]:
    """The measurements of data/smaller/mini.json."""
    stored: dict[str, Any] = json.loads((find("data/smaller") / "mini.json").read_text(encoding="utf-8"))
    return stored


def row_of(rows: Sequence[Mapping[str, Any]], **wanted: Any) -> Mapping[str, Any]:
    """The one row with these values."""
    return next(row for row in rows if all(row[key] == value for key, value in wanted.items()))


def yardstick(rows: Sequence[Mapping[str, Any]], title: str, subtitle: str) -> Picture:
    """KL divergence of each format on a logarithmic line; a dashed line marks bfloat16 itself. rows: of one router."""
    ordered = sorted(rows, key=lambda row: row["kl"])
    figure = go.Figure()
    figure.update_xaxes(type="log")
    for place, row in enumerate(ordered):
        itself = row["format"] == "bfloat16"
        colour = GREEN if itself else BLUE
        figure.add_trace(
            go.Scatter(x=[row["kl"]], y=[-place], mode="markers", marker={"size": 13, "color": colour},
                       hovertemplate="%{x:.2g} nats<extra></extra>")
        )  # fmt: skip
        left = row["kl"] > 0.05  # the name stands on the side with more room
        number = f"{float(format(row['kl'], '.1g')):.5f}".rstrip("0").rstrip(".")
        text = f"{row['format'].replace(' x ', ' × ')}  <b>{number}</b>"
        figure.add_annotation(
            x=log10(row["kl"]), y=-place, text=text, showarrow=False, xanchor="right" if left else "left",
            xshift=-12 if left else 12, font={"size": 12, "color": INK}, bgcolor="white", borderpad=0,
        )  # fmt: skip
    itself = row_of(rows, format="bfloat16")
    figure.add_vline(x=itself["kl"], line={"color": GREEN, "width": 1, "dash": "dash"})
    figure.update_xaxes(
        title_text="KL divergence, nats per token", range=[-4.6, 1.0], tickvals=[1e-4, 1e-3, 1e-2, 0.1, 1, 10],
        ticktext=["0.0001", "0.001", "0.01", "0.1", "1", "10"], gridcolor="#EEEEEE",
    )  # fmt: skip
    figure.update_yaxes(visible=False, range=[-len(ordered) + 0.4, 0.6])
    alt = f"{title}. " + "; ".join(f"{row['format']}: {row['kl']:.2g}" for row in ordered)
    return finish(figure, title, alt, 90 + 30 * len(ordered), subtitle)


def flips_by_layer(rows: Sequence[Mapping[str, Any]], title: str, subtitle: str) -> Picture:
    """The share of choices that change in each layer; rows: one format with the router kept, rounded too, and alone."""
    figure = go.Figure()
    for row in rows:
        name, colour = ROUTERS[row["router"]]
        layers = list(range(len(row["flips"])))
        figure.add_trace(
            go.Bar(
                x=layers, y=row["flips"], name=name, marker={"color": colour}, textposition="outside", textangle=0,
                text=[f"{value:.0%}" for value in row["flips"]], cliponaxis=False, hoverinfo="skip",
            )
        )  # fmt: skip
    figure.update_layout(barmode="group", bargap=0.25)
    figure.update_xaxes(tickvals=layers, ticktext=[f"layer {layer}" for layer in layers], showgrid=False)
    figure.update_yaxes(visible=False, rangemode="tozero")
    texts = [f"{ROUTERS[row['router']][0]} {', '.join(f'{value:.0%}' for value in row['flips'])}" for row in rows]
    for place, row in enumerate(rows):
        name, colour = ROUTERS[row["router"]]
        figure.add_annotation(
            x=0.33 * place, y=1, xref="paper", yref="paper", yshift=22, text=f"■ {name}", showarrow=False,
            xanchor="left", font={"size": 13, "color": colour},
        )  # fmt: skip
    return finish(figure, title, f"{title}. {'; '.join(texts)}.", 310, subtitle)


def few_rows(rows: Sequence[Mapping[str, Any]], title: str, subtitle: str) -> Picture:
    """Each expert as a dot: rows that calibration gave it, and its error with GPTQ over that of plain rounding."""
    figure = go.Figure()
    colours = (VERMILLION, ORANGE, PURPLE, BLUE, GREEN)
    figure.update_xaxes(type="log")
    figure.update_yaxes(type="log", range=[-0.2, 0.88])
    for row, colour in zip(rows, colours, strict=True):
        known = [(met, ratio) for met, ratio in zip(row["met"], row["ratio"], strict=True) if met]
        figure.add_trace(
            go.Scatter(
                x=[met for met, _ in known], y=[min(ratio, 5) for _, ratio in known], mode="markers",
                marker={"color": colour, "size": 6, "opacity": 0.6},
                hovertemplate="%{x} rows<br>%{y:.2f} times<extra></extra>",
            )
        )  # fmt: skip
        at = sorted(met for met, _ in known)[len(known) // 2]
        figure.add_annotation(
            x=log10(at), y=0.81, text=f"{row['tokens']:,}", showarrow=False, font={"color": colour, "size": 13},
            xshift=8 if row is rows[-1] else -8 if row is rows[-2] else 0,  # neighbours in a narrow window
        )
    figure.add_annotation(
        x=0, y=0.98, xref="paper", yref="paper", text="tokens of calibration:", showarrow=False, xanchor="left",
        yshift=16, font={"size": 12, "color": MUTED},
    )  # fmt: skip
    figure.add_hline(y=1, line={"color": INK, "width": 1, "dash": "dash"})
    figure.update_xaxes(title_text="rows that the expert met", tickvals=[1, 10, 100, 1000], showgrid=False)
    ticks = [0.7, 1, 2, 4]
    figure.update_yaxes(title_text="error, times plain rounding", tickvals=ticks, gridcolor="#EEEEEE")
    alt = f"{title}. " + "; ".join(
        f"{row['tokens']:,} tokens: {mean(row['ratio']):.2f} times the error" for row in rows
    )
    return finish(figure, title, alt, 360, subtitle)


def mean_loss(losses: Mapping[str, float]) -> float:
    """The mean over the domains."""
    return mean(losses.values())


def more_loss(pruning: Mapping[str, Any], way: str, kept: int) -> float:
    """Mean loss over the domains with `kept` experts chosen in this way, minus that with all of them."""
    return mean_loss(row_of(pruning["rows"], way=way, kept=kept)["loss"]) - mean_loss(pruning["loss"])


def ways_to_prune(pruning: Mapping[str, Any], title: str, subtitle: str, experts: int = 128) -> Picture:
    """Mean loss over the domains against the share of experts kept, one curve for each way to choose them."""
    figure = go.Figure()
    figure.update_xaxes(
        title_text="experts kept", range=[1.02, 0.1], tickvals=[1, 0.75, 0.5, 0.25], tickformat=".0%", showgrid=False
    )
    figure.update_yaxes(title_text="loss, nats more per token", rangemode="tozero", gridcolor="#EEEEEE")
    before, ends = mean_loss(pruning["loss"]), []
    for way, (name, colour) in WAYS.items():
        rows = [row for row in pruning["rows"] if row["way"] == way]
        kept = [1.0, *(row["kept"] / experts for row in rows)]
        more = [0.0, *(round(mean_loss(row["loss"]) - before, 3) for row in rows)]
        half = more[kept.index(0.5)]
        ends.append(f"{name}: {half:.2f} nats more with half of the experts")
        figure.add_trace(
            go.Scatter(x=kept, y=more, name=name, mode="lines+markers", line={"color": colour, "width": 2.5})
        )
    label_ends(figure, 340)
    return finish(figure, title, f"{title}. {'; '.join(ends)}.", 340, subtitle)


def by_domain(pruning: Mapping[str, Any], way: str, title: str, subtitle: str, experts: int = 128) -> Picture:
    """Loss of each domain against the share of experts kept."""
    figure = go.Figure()
    figure.update_xaxes(
        title_text="experts kept", range=[1.02, 0.1], tickvals=[1, 0.75, 0.5, 0.25], tickformat=".0%", showgrid=False
    )
    figure.update_yaxes(title_text="loss, nats more per token", rangemode="tozero", gridcolor="#EEEEEE")
    rows = [row for row in pruning["rows"] if row["way"] == way]
    texts = []
    for domain, name in DOMAINS.items():
        more = [0.0, *(round(row["loss"][domain] - pruning["loss"][domain], 3) for row in rows)]
        kept = [1.0, *(row["kept"] / experts for row in rows)]
        texts.append(f"{name} {more[kept.index(0.5)]:.2f}")
        line = {"color": DOMAIN_COLOURS[domain], "width": 2.5}
        figure.add_trace(go.Scatter(x=kept, y=more, name=name, mode="lines+markers", line=line))
    label_ends(figure, 340)
    return finish(figure, title, f"{title}. With half of the experts: {'; '.join(texts)}.", 340, subtitle)


def left_out(rows: Sequence[Mapping[str, Any]], before: Mapping[str, float], title: str, subtitle: str) -> Picture:
    """A square of numbers: what each domain (column) loses if calibration lacked one of them (row)."""
    figure = go.Figure()
    texts = []
    for place, row in enumerate(rows):
        for column, domain in enumerate(DOMAINS):
            more = row["loss"][domain] - before[domain]
            fill = tint(VERMILLION, min(1.0, 0.06 + more / 1.4))
            figure.add_shape(
                type="rect", x0=column, x1=column + 1, y0=-place, y1=-place - 1, fillcolor=fill, line={"color": "white"}
            )
            figure.add_annotation(
                x=column + 0.5, y=-place - 0.5, text=label(more, "+.2f"), showarrow=False,
                font={"size": 15, "color": ink_on(fill)},
            )  # fmt: skip
        name = DOMAINS[row["without"]]
        figure.add_annotation(x=-0.08, y=-place - 0.5, text=f"without {name}", showarrow=False, xanchor="right")
        texts.append(f"without {name}: " + ", ".join(
            f"{DOMAINS[d]} {row['loss'][d] - before[d]:+.2f}" for d in DOMAINS
        ))  # fmt: skip
    for column, (domain, name) in enumerate(DOMAINS.items()):
        figure.add_annotation(
            x=column + 0.5, y=0.2, text=f"<b>{name}</b>", showarrow=False, font={"color": DOMAIN_COLOURS[domain]}
        )
    figure.update_xaxes(visible=False, range=[-1.75, 4.02])
    figure.update_yaxes(visible=False, range=[-len(rows) - 0.05, 0.5])
    return finish(figure, title, f"{title}. {'; '.join(texts)}.", 290, subtitle)


def by_rank(shares: Sequence[float], title: str, subtitle: str) -> Picture:
    """Of all choices that flip, the share at each rank of the router's order."""
    colours = [tint(VERMILLION, 0.4 + 0.6 * place / len(shares)) for place in range(len(shares))]
    figure = go.Figure(
        go.Bar(
            x=[str(rank) for rank in range(1, len(shares) + 1)], y=list(shares), marker={"color": colours},
            text=[f"{share:.0%}" for share in shares], textposition="outside", cliponaxis=False, hoverinfo="skip",
        )
    )  # fmt: skip
    figure.update_xaxes(type="category", title_text="rank of the expert that is lost", showgrid=False)
    figure.update_yaxes(visible=False, rangemode="tozero")
    alt = f"{title}. " + ", ".join(f"rank {rank}: {share:.0%}" for rank, share in enumerate(shares, 1))
    return finish(figure, title, alt, 260, subtitle)


def errors_by_kind(errors: Mapping[str, float], sizes: Mapping[str, int], title: str, subtitle: str) -> Picture:
    """Relative rounding error of each kind of matrix, and beside it how many weights it has."""
    figure = make_subplots(1, 2, shared_yaxes=True, horizontal_spacing=0.04, column_widths=[0.5, 0.5])
    names = list(errors)
    for column, (values, texts, colour) in enumerate(
        (
            (list(errors.values()), [f"{value:.0%}" for value in errors.values()], VERMILLION),
            ([sizes[name] / 1e6 for name in names], [f"{sizes[name] / 1e6:.2f} M" for name in names], BLUE),
        ),
        1,
    ):
        figure.add_trace(
            go.Bar(x=values, y=names, orientation="h", marker={"color": colour}, text=texts, textposition="outside",
                   textangle=0, cliponaxis=False, hoverinfo="skip"), 1, column,
        )  # fmt: skip
        figure.update_xaxes(visible=False, range=[0, 1.6 * max(values)], row=1, col=column)
    figure.update_yaxes(type="category", autorange="reversed", ticks="", showline=False)
    for x, text in ((0.0, "<b>error</b>, of its own size"), (0.54, "<b>weights</b>, millions")):
        figure.add_annotation(x=x, y=1.0, xref="paper", yref="paper", yshift=14, text=text, showarrow=False,
                              xanchor="left", font={"size": 12})  # fmt: skip
    alt = f"{title}. " + "; ".join(f"{name} {value:.0%}" for name, value in errors.items())
    return finish(figure, title, alt, 110 + 26 * len(names), subtitle)
