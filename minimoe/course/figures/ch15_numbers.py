"""Chapter 15: claimed against computed, bytes and cards, what a batch reads, and tables of scores row by row."""

from collections.abc import Mapping, Sequence

import plotly.graph_objects as go
import torch

from minimoe.course.article.quantities import GB, share_read
from minimoe.course.article.tables import Scores, higher
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
    bars,
    finish,
    label,
    reference_line,
)  # fmt: skip
from minimoe.model.config import ModelConfig


def claimed_over_computed(sizes: Mapping[str, tuple[float, float]], title: str) -> Picture:
    """Claimed divided by computed, on a logarithmic axis; 1 is exact. sizes: name -> (claimed, computed)."""
    ratios = {name: claimed / computed for name, (claimed, computed) in sizes.items()}
    figure = go.Figure()
    for name, ratio in ratios.items():
        good = abs(ratio - 1) < 0.05
        figure.add_trace(
            go.Scatter(
                x=[1, ratio], y=[name, name], mode="lines+markers+text", line={"color": PALE, "width": 3},
                marker={"size": [1, 12], "opacity": 1, "color": [PALE, BLUE if good else VERMILLION]},
                text=["", f"{ratio:.2f}"], textposition="middle right" if good else "top center",
                hoverinfo="skip", cliponaxis=False,
            )
        )  # fmt: skip
    figure.update_xaxes(
        type="log", range=[-0.75, 0.22], tickvals=[0.25, 0.5, 1], ticktext=["a quarter", "half", "as computed"]
    )
    figure.update_yaxes(type="category", autorange="reversed", showgrid=False, ticks="")
    figure.add_vline(x=1, line={"color": INK, "width": 1})
    said = ", ".join(f"{name}: {ratio:.2f}" for name, ratio in ratios.items())
    subtitle = "Claimed size divided by the one that is computed from a config."
    return finish(figure, title, f"{title}. {subtitle} {said}.", 120 + 40 * len(ratios), subtitle)


def bytes_with_band(stored: Mapping[str, int], band: tuple[float, float], title: str, says: str) -> Picture:
    """Bars of bytes by precision, with a band of claimed GB behind them."""
    values = [round(size / GB, 1) for size in stored.values()]
    inside = [band[0] <= value <= band[1] for value in values]
    said = ", ".join(f"{name} {value:.1f} GB" for name, value in zip(stored, values, strict=True))
    picture = bars(
        list(stored), values, title, f"{title}. {said}.",
        form=".1f", unit="GB", colours=[GREEN if each else BLUE for each in inside],
        subtitle=f"Weights of the 235B, computed. Grey band: {says}.",
    )  # fmt: skip
    picture.figure.add_vrect(x0=band[0], x1=band[1], fillcolor="#B0B0B0", opacity=0.45, line_width=0, layer="below")
    return picture


def read_curves(measured: Sequence[float], name: str, big: ModelConfig) -> Picture:
    """Share of a layer's experts that the first n tokens of a text read: measured, and by the formula."""
    counts = list(range(1, len(measured) + 1))
    figure = go.Figure()
    formula = [100 * share_read(n, big.num_experts, big.num_experts_per_tok) for n in counts]
    figure.add_scatter(
        x=counts, y=[round(value, 2) for value in formula], mode="lines", line={"color": BLUE, "width": 3},
        hovertemplate="%{x} tokens: %{y:.0f} %<extra>the 235B, formula</extra>",
    )  # fmt: skip
    figure.add_scatter(
        x=counts, y=[round(100 * value, 2) for value in measured], mode="lines", line={"color": ORANGE, "width": 3},
        hovertemplate=f"%{{x}} tokens: %{{y:.0f}} %<extra>{name}, measured</extra>",
    )  # fmt: skip
    for text, value, colour, anchor in (
        ("the 235B, if tokens choose independently", formula[-1], BLUE, "bottom"),
        (f"the {name}, measured on a text", 100 * measured[-1], "#9A6700", "top"),
    ):
        figure.add_annotation(
            x=counts[-1], y=value, text=text, showarrow=False, xanchor="right", yanchor=anchor,
            yshift=4 if anchor == "bottom" else -40, font={"color": colour},
        )  # fmt: skip
    figure.update_xaxes(title_text="tokens that are computed together", range=[0, len(counts) + 1])
    figure.update_yaxes(title_text="experts of a layer that are read, %", range=[0, 112])
    title = f"{counts[-1]} tokens read {measured[-1]:.0%} of the {name}'s experts"
    alt = f"{title}. By the formula for the 235B it is {formula[-1]:.0f} %; one token reads {formula[0]:.2f} %."
    return finish(
        figure, title, alt, 360, "A token reads a sixteenth of the experts. Several tokens read different ones."
    )


def cache_bars(weights: int, per_token: int, contexts: Mapping[str, int], line: float, says: str) -> Picture:
    """Weights and cache in GB for some lengths of context, with a line at a claimed number."""
    names = list(contexts)
    cache = [round(tokens * per_token / GB, 1) for tokens in contexts.values()]
    base = round(weights / GB, 1)
    figure = go.Figure()
    figure.add_bar(
        y=names, x=[base] * len(names), orientation="h", marker={"color": BLUE},
        text=[f"weights {base:.0f}"] * len(names), textposition="inside", insidetextanchor="middle",
        hoverinfo="skip", width=0.6,
    )  # fmt: skip
    figure.add_bar(
        y=names, x=cache, orientation="h", marker={"color": SKY}, hoverinfo="skip", width=0.6, textposition="outside",
        text=[f"+ {each:.0f} = {base + each:.0f} GB" for each in cache], cliponaxis=False, textangle=0,
    )  # fmt: skip
    figure.update_layout(barmode="stack")
    figure.update_xaxes(range=[0, 1350], title_text="GB")
    figure.update_yaxes(type="category", autorange="reversed", ticks="", showgrid=False)
    reference_line(figure, line, says, axis="x")
    title = f"{base + cache[-1]:.0f} GB before any work space"
    said = "; ".join(f"{name}: {base + each:.0f} GB" for name, each in zip(names, cache, strict=True))
    subtitle = "Weights of the 235B in 16 bits (dark) and cache in 16 bits (light), computed."
    return finish(figure, title, f"{title}. {subtitle} {said}. {says}.", 190 + 44 * len(names), subtitle)


def bits_bars(fit: Mapping[str, float], formats: Mapping[str, float], title: str) -> Picture:
    """Bits for each parameter that some cards hold, with lines at those of some formats."""
    names = list(fit)
    figure = go.Figure(
        go.Bar(
            y=names, x=[round(value, 2) for value in fit.values()], orientation="h", width=0.55, marker={"color": BLUE},
            text=[f"{value:.2f}" for value in fit.values()], textposition="inside", insidetextanchor="end",
            hoverinfo="skip",
        )
    )  # fmt: skip
    figure.update_xaxes(range=[0, 9.4], title_text="bits for each parameter", showgrid=False)
    figure.update_yaxes(type="category", autorange="reversed", ticks="", showgrid=False)
    for index, (name, bits) in enumerate(formats.items()):
        figure.add_vline(x=bits, line={"color": MUTED, "width": 1, "dash": "dash"})
        figure.add_annotation(
            x=bits, y=1, yref="paper", yanchor="bottom", yshift=18 * (index % 2), text=name, showarrow=False,
            font={"size": 12, "color": MUTED},
        )  # fmt: skip
    said = ", ".join(f"{name.replace('<br>', ' ')}: {value:.2f}" for name, value in fit.items())
    subtitle = (
        "What is left beside 32,768 tokens of cache and work space, computed. A format fits if its line is in the bar."
    )
    picture = finish(figure, title, f"{title}. Bits for each parameter: {said}.", 190 + 46 * len(names), subtitle)
    picture.figure.update_layout(margin={"t": (picture.figure.layout.margin.t or 60) + 30})
    return picture


def row_bars(table: Scores, title: str, lit: str = "") -> Picture:
    """The difference in each row, in percent of the other score, sorted; rows of the area `lit` in green."""
    rows = sorted(table.rows, key=lambda row: row.percent, reverse=True)
    shown = [max(-40.0, min(60.0, row.percent)) for row in rows]
    texts = [
        f"{label(row.difference, '+.2f' if row.ours < 10 else '+.1f' if row.ours < 1000 else '+,.0f')}" for row in rows
    ]
    names = [row.benchmark for row in rows]
    colours = [GREEN if row.area == lit else BLUE if row.difference > 0 else VERMILLION for row in rows]
    figure = go.Figure(
        go.Bar(
            x=[round(value, 1) for value in shown], y=names, orientation="h", marker={"color": colours}, width=0.72,
            text=texts, textposition="outside", cliponaxis=False, textangle=0, textfont={"size": 11},
            customdata=[f"{row.ours:,} against {row.theirs:,}" for row in rows],
            hovertemplate="%{y}: %{customdata}<extra></extra>",
        )
    )  # fmt: skip
    low, high = min(0.0, *shown), max(shown)
    figure.update_xaxes(visible=False, range=[low - 0.2 * (high - low), high + 0.2 * (high - low)])
    figure.update_yaxes(type="category", autorange="reversed", ticks="", showline=False, tickfont={"size": 11})
    figure.add_vline(x=0, line={"color": INK, "width": 1})
    said = "; ".join(f"{row.benchmark} {row.ours:,} against {row.theirs:,}" for row in rows)
    below = f"{table.ours} beside {table.theirs}; points, and as length the difference in percent (cut at 60)."
    below += f" Green: {lit}." if lit else ""
    count = f"{higher(table.rows)} of {len(rows)} rows higher"
    return finish(figure, title, f"{title}. {count}. {below} {said}.", 110 + 22 * len(rows), below)


def first_seen(experts: torch.Tensor, num_experts: int) -> list[float]:
    """Share of the experts of a layer that the first n tokens have chosen, for each n; mean over the layers.

    experts: (layer, token, slot).
    """
    shares = []
    for count in range(1, experts.shape[1] + 1):
        different = [len(set(layer[:count].flatten().tolist())) for layer in experts]
        shares.append(sum(different) / len(different) / num_experts)
    return shares
