"""Figure of chapter 13: how fast a product with packed weights is, from the stored benchmark `packed`."""

import json
from typing import Any

import plotly.graph_objects as go

from minimoe.figure_style import GREEN, ORANGE, VERMILLION, Picture, finish, label_ends, reference_line
from minimoe.paths import benchmarks_folder

PLAIN = "bfloat16"
WAYS = {  # way -> (its name in the picture, its colour, where its numbers stand)
    "int4, packed product": ("packed int4", GREEN, "top center"),
    "int8, unpacked": ("unpacked int8", ORANGE, "bottom center"),
    "int4, unpacked": ("unpacked int4", VERMILLION, "bottom center"),
}


def benchmark() -> dict[str, Any]:
    """The stored measurement, data/benchmarks/packed.json."""
    stored: dict[str, Any] = json.loads((benchmarks_folder() / "packed.json").read_text(encoding="utf-8"))
    return stored


def speeds(stored: dict[str, Any], threads: int = 1) -> dict[str, dict[int, float]]:
    """way -> tokens -> how many times as fast as the product in bfloat16."""
    seconds = {(row["rows"], row["way"]): row["seconds"] for row in stored["rows"] if row["threads"] == threads}
    tokens = sorted({count for count, _ in seconds})
    return {way: {count: seconds[count, PLAIN] / seconds[count, way] for count in tokens} for way in WAYS}


def product_speeds(stored: dict[str, Any], title: str) -> Picture:
    """One curve for each way, against the number of tokens."""
    figure, measured = go.Figure(), speeds(stored)
    for way, (name, colour, place) in WAYS.items():
        tokens, times = list(measured[way]), [float(f"{value:.2g}") for value in measured[way].values()]
        figure.add_scatter(  # the last number stands beside the name
            x=tokens, y=times, name=f"{name}: {times[-1]}", mode="lines+markers+text", line={"color": colour},
            text=[*map(str, times[:-1]), ""], textposition=place,
            hovertemplate="%{x} tokens: %{y} times<extra></extra>",
        )  # fmt: skip
    figure.update_xaxes(type="log", tickvals=tokens, range=[-0.1, 2.2], title="tokens (log scale)")
    figure.update_yaxes(type="log", tickvals=[0.125, 0.25, 0.5, 1, 2, 4, 8], title="times as fast (log scale)")
    figure.update_yaxes(range=[-1.0, 1.0])
    reference_line(figure, 1, "bfloat16")
    label_ends(figure, height=360)
    where = f"{stored['processor']}, {stored['instruction_set']}, one thread, {stored['date']}"
    subtitle = f"One matrix of an expert of the 235B, compared with bfloat16. Benchmark: {where}."
    spans = "; ".join(f"{way}: " + ", ".join(f"{t:.2g}" for t in row.values()) for way, row in measured.items())
    alt = f"{title}. Times as fast as bfloat16, for {', '.join(map(str, tokens))} tokens: {spans}."
    return finish(figure, title, alt, 360, subtitle)
