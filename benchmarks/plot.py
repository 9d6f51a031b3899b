"""One picture of the stored figures of `speed` and `wide`: how many times as fast as transformers each way is.

Written to benchmarks/speed.png, which needs kaleido (`.venv/bin/pip install kaleido`). The limit of a row is that of
the processor in the same run: all operations at the rate of a large product, or all active weights at the read
bandwidth, whichever takes longer.
"""

import base64
import json
from typing import Any

import plotly.graph_objects as go

from benchmarks.wide import CONFIG as WIDE
from minimoe.atomic import write
from minimoe.errors import BadArgument
from minimoe.figure_style import BLUE, MUTED, VERMILLION, YELLOW, Picture, finish, reference_line
from minimoe.model.config import ModelConfig
from minimoe.paths import benchmarks_folder, checkout
from minimoe.scale.planner.model_size import plan
from scripts.execute_notebooks import draw

WAYS = {  # way -> (name in the legend, colour, symbol)
    "minimoe": ("minimoe", BLUE, "circle"),
    "minimoe, compiled": ("minimoe, compiled", BLUE, "square"),
    "transformers, static cache, compiled": ("transformers, compiled", VERMILLION, "diamond"),
    "transformers, batched_mm": ("transformers, batched_mm", YELLOW, "diamond"),
    "transformers, eager": ("transformers, eager", MUTED, "diamond"),
}
BASE = "transformers"
TIE = 1.02  # ratios up to this are no difference
WIDTHS = {"float32": ("fp32", 4), "bfloat16": ("bf16", 2)}
TOKENS = {"prompt of 512": 512, "prompt of 2048": 2048, "one token": 1}


def rows_of(name: str, model: str) -> list[dict[str, Any]]:
    """The rows of one file, each with its label, its dtype and the limits of its run."""
    facts = json.loads((benchmarks_folder() / f"{name}.json").read_text())
    rows = []
    for row in facts["rows"]:
        row = {"dtype": "bfloat16"} | row
        limit = next(
            each for each in facts["limits"] if (each["threads"], each["dtype"]) == (row["threads"], row["dtype"])
        )
        what, unit = row["what"].replace("64 + 32 tokens", "32 tokens after 64"), WIDTHS[row["dtype"]][0]
        label = f"{model}, {what}, {unit}, {row['threads']} thread{'s' if row['threads'] > 1 else ''}"
        rows.append(row | {"label": label, "limit": limit, "model": name})
    return rows


def least_seconds(row: dict[str, Any]) -> float | None:
    """The time that the processor allows; None for a row of several forward passes."""
    tokens = TOKENS.get(row["what"])
    if tokens is None:
        return None
    config = WIDE if row["model"] == "wide" else ModelConfig.from_file(checkout() / "data" / "mini")
    active = sum(part.active for part in plan(config).parts) - config.vocab_size * config.hidden_size  # a lookup
    products = 2 * active * tokens / row["limit"]["flops_per_second"]
    return max(products, active * WIDTHS[row["dtype"]][1] / row["limit"]["bytes_per_second"])


def picture() -> Picture:
    """One line for each row, one mark for each way; a bar ends at the limit."""
    rows = rows_of("speed", "the mini") + rows_of("wide", "a 235B layer")
    base = {row["label"]: row["seconds"] for row in rows if row["way"] == BASE}
    labels = list(base)[::-1]
    least = {row["label"]: least_seconds(row) for row in rows}
    figure = go.Figure()
    for way, (name, colour, symbol) in WAYS.items():
        mine = [row for row in rows if row["way"] == way]
        times = [base[row["label"]] / row["seconds"] for row in mine]
        figure.add_scatter(
            x=times, y=[row["label"] for row in mine], name=name,
            mode="markers+text" if way == "minimoe" else "markers",
            marker={"color": colour, "symbol": symbol, "size": 11}, text=[f"{value:.2f}" for value in times],
            textposition="top center", textfont={"size": 10},
        )  # fmt: skip
    limits = [(label, base[label] / least[label]) for label in labels if least[label] is not None]
    figure.add_scatter(
        x=[value for _, value in limits], y=[label for label, _ in limits], name="limit of the processor",
        mode="markers", marker={"symbol": "line-ns-open", "size": 16, "color": MUTED, "line": {"width": 2}},
    )  # fmt: skip
    ticks = [0.25, 0.5, 1, 2, 4, 8, 16]
    figure.update_xaxes(type="log", title="times as fast as transformers' default", tickvals=ticks)
    figure.update_yaxes(categoryorder="array", categoryarray=labels, showgrid=True)
    reference_line(figure, 1, "transformers", axis="x")
    facts = json.loads((benchmarks_folder() / "speed.json").read_text())
    subtitle = f"{facts['processor']}, {facts['instruction_set']}, {facts['date']}; medians of one run each"
    faster = sum(base[row["label"]] > TIE * row["seconds"] for row in rows if row["way"] == "minimoe")
    title = f"minimoe is faster than transformers' default in {faster} of {len(labels)} rows"
    drawn = finish(figure, title, "Times as fast as transformers, by row.", 60 + 34 * len(labels), subtitle)
    figure.update_layout(showlegend=True, legend={"orientation": "h", "y": -0.12, "x": -0.5}, margin_b=90)
    return drawn


def main() -> None:
    """Draw the picture. Raises BadArgument without kaleido."""
    try:
        image = base64.b64decode(draw(picture().figure.to_plotly_json()))
    except (ImportError, ValueError) as error:
        raise BadArgument("the picture needs kaleido: .venv/bin/pip install kaleido") from error
    path = checkout() / "benchmarks" / "speed.png"
    write(path, image)
    print(f"  written to {path.relative_to(checkout())}")
