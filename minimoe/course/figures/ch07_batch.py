"""Chapter 07: how many experts a batch hits, what that costs, and which engine is the fastest."""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go
import torch
from einops import rearrange
from plotly.subplots import make_subplots
from torch import Tensor

from minimoe.course.figures.ch06_router import driven
from minimoe.figure_style import (
    BLUE,
    GREEN,
    INK,
    MUTED,
    ORANGE,
    PURPLE,
    VERMILLION,
    Picture,
    finish,
    label_ends,
    reference_line,
)
from minimoe.paths import benchmarks_folder

BATCHES = tuple(2**n for n in range(10))  # 1 to 512 tokens
ENGINES = {"loop": BLUE, "gather": ORANGE, "grouped": GREEN, "padded": PURPLE}
# Dense bfloat16 and memory of an H100 SXM, from NVIDIA's data sheet
H100_FLOPS, H100_BYTES = 989e12, 3.35e12
H100_BALANCE = H100_FLOPS / H100_BYTES  # FLOPs for each byte, at which both limits are reached together
ONE_TEXT, MIXED, DICE = "neighbours", "mixed", "dice"
ORDERS = (ONE_TEXT, MIXED, DICE)


def expected_hits(experts: int, top_k: int, tokens: int) -> float:
    """How many different experts `tokens` tokens hit on average, if each draws `top_k` of them by dice."""
    return experts * (1 - (1 - top_k / experts) ** tokens)


def draw_batch(experts: Tensor, num_experts: int, tokens: int, order: str, generator: torch.Generator) -> Tensor:
    """The selection of `tokens` tokens, (layer, token, slot), from a recorded one, experts (layer, token, slot).

    order: ONE_TEXT, neighbours of the recording; MIXED, tokens at random places; DICE, random sets of experts.
    """
    layers, recorded, slots = experts.shape
    if order == DICE:
        return torch.rand(layers, tokens, num_experts, generator=generator).topk(slots, dim=-1).indices
    if order == MIXED:
        return experts[:, torch.randperm(recorded, generator=generator)[:tokens]]
    first = int(torch.randint(recorded - tokens + 1, (1,), generator=generator))
    return experts[:, first : first + tokens]


def mean_hits(experts: Tensor, num_experts: int, order: str, draws: int = 20, seed: int = 7) -> list[float]:
    """How many different experts a batch hits in a layer, for each size in BATCHES: the mean over draws and layers."""
    generator, means = torch.Generator().manual_seed(seed), []
    for tokens in BATCHES:
        batches = [draw_batch(experts, num_experts, tokens, order, generator) for _ in range(draws)]
        means.append(sum(len(layer.unique()) for batch in batches for layer in batch) / (draws * len(experts)))
    return means


def hit_curves(curves: Mapping[str, Sequence[float]], num_experts: int, title: str, subtitle: str) -> Picture:
    """Different experts hit, against the tokens of a batch. curves: name -> one value for each size in BATCHES."""
    figure, colours = go.Figure(), {ONE_TEXT: VERMILLION, MIXED: BLUE, DICE: MUTED}
    for name, values in curves.items():
        figure.add_trace(
            go.Scatter(
                x=list(BATCHES), y=[round(value, 1) for value in values], mode="lines+markers", name=name,
                line={"color": colours.get(name, INK), "dash": "dot" if name == DICE else "solid"},
                hovertemplate="%{x} tokens: %{y:.1f} experts<extra>" + name + "</extra>",
            )
        )  # fmt: skip
    token_axis(figure)
    figure.update_yaxes(title_text="different experts hit", range=[0, 1.08 * num_experts])
    reference_line(figure, num_experts, f"all {num_experts}")
    label_ends(figure, height=360)
    alt = "; ".join(f"{name}: " + ", ".join(f"{value:.0f}" for value in values) for name, values in curves.items())
    return finish(figure, title, f"{title}. For {', '.join(map(str, BATCHES))} tokens: {alt}.", 360, subtitle)


def token_axis(figure: go.Figure, **where: Any) -> None:
    """The axis of batch sizes, which ends at the largest so that curves can be named beside it."""
    span = [math.log10(0.9 * BATCHES[0]), math.log10(1.1 * BATCHES[-1])]
    title = "tokens in the batch (log scale)"
    figure.update_xaxes(title_text=title, type="log", tickvals=[1, 4, 16, 64, 256], range=span, **where)


def benchmark() -> dict[str, Any]:
    """The stored measurement of the engines, data/benchmarks/experts.json."""
    stored: dict[str, Any] = json.loads((benchmarks_folder() / "experts.json").read_text(encoding="utf-8"))
    return stored


def seconds_of(stored: Mapping[str, Any], model: str, threads: int = 1) -> dict[str, dict[int, float]]:
    """engine -> tokens -> seconds of one layer's experts, for "mini" or "235B layer", in float32.

    Where a model was not measured in float32, the first dtype that was.
    """
    rows = [row for row in stored["rows"] if row["model"] == model and row["threads"] == threads]
    dtypes = [row["dtype"] for row in rows]
    dtype = "float32" if "float32" in dtypes else dtypes[0]
    table: dict[str, dict[int, float]] = {}
    for row in rows:
        if row["dtype"] == dtype:
            table.setdefault(row["engine"], {})[row["tokens"]] = row["seconds"]
    return table


def milliseconds(seconds: Mapping[str, Mapping[int, float]], tokens: int, engines: Sequence[str]) -> list[str]:
    """The time of each engine for so many tokens, with two digits; a dash where it was not measured."""
    values = [1000 * seconds.get(engine, {}).get(tokens, math.nan) for engine in engines]
    return ["–" if math.isnan(value) else f"{value:,.0f}" if value >= 100 else f"{value:.2g}" for value in values]


def measured_on(stored: Mapping[str, Any]) -> str:
    """The machine of a measurement, for a subtitle."""
    others = ", beside other programs" if stored["busy"] else ""
    return f"{stored['processor']}, one thread{others}, {stored['date']}"


def engine_curves(seconds: Mapping[str, Mapping[int, float]], title: str, subtitle: str) -> Picture:
    """Seconds of one layer's experts against the tokens of a batch, one curve for each engine."""
    figure = go.Figure()
    add_engines(figure, seconds)
    token_axis(figure)
    figure.update_yaxes(title_text="milliseconds (log scale)", type="log", dtick=1)
    label_ends(figure, height=380)
    first_and_last = {name: (1000 * row[min(row)], 1000 * row[max(row)]) for name, row in seconds.items()}
    spans = "; ".join(f"{name} {first:.2g} to {last:.2g}" for name, (first, last) in first_and_last.items())
    return finish(figure, title, f"{title}. Milliseconds from the fewest to the most tokens: {spans}.", 380, subtitle)


def add_engines(figure: go.Figure, seconds: Mapping[str, Mapping[int, float]], **where: Any) -> None:
    """One curve for each engine."""
    for name, row in seconds.items():
        figure.add_trace(
            go.Scatter(
                x=list(row), y=[float(f"{1000 * value:.3g}") for value in row.values()], mode="lines+markers",
                name=name, line={"color": ENGINES.get(name, INK)}, marker={"size": 5},
                hovertemplate="%{x} tokens: %{y:.3g} ms<extra>" + name + "</extra>",
            ),
            **where,
        )  # fmt: skip


def batch_picture(
    selection: Tensor, num_experts: int, order: str, seconds: Mapping[str, Mapping[int, float]], layer: int, label: str
) -> Picture:
    """One batch: the rows of each expert, its place below the limits of an H100, and the time of each engine.

    selection: (token, slot), the experts of the batch in one layer.
    """
    tokens, slots = selection.shape
    counts = rearrange(selection, "token slot -> (token slot)").bincount(minlength=num_experts)
    hit = int((counts > 0).sum())
    rows_each, by_dice = tokens * slots / hit, expected_hits(num_experts, slots, tokens)
    figure = make_subplots(rows=3, cols=1)
    figure.update_layout(yaxis_domain=[0.84, 1.0], yaxis2_domain=[0.47, 0.79], yaxis3_domain=[0.0, 0.33])
    add_squares(figure, counts)
    add_limits(figure, rows_each)
    add_engines(figure, seconds, row=3, col=1)
    figure.add_vline(x=tokens, line={"color": INK, "width": 1, "dash": "dash"}, row=3, col=1)
    token_axis(figure, row=3, col=1)
    figure.update_yaxes(title_text="ms, mini", type="log", dtick=1, row=3, col=1)
    height = 640
    label_ends(figure, height=height)
    batch = "1 token hits" if tokens == 1 else f"{tokens} tokens hit"
    come_from = {ONE_TEXT: "Neighbours in a text", MIXED: "Tokens of many texts"}.get(order, "Random experts")
    where = "" if order == DICE else f" ({label}, layer {layer}); dice would hit {by_dice:.1f}"
    title = f"{batch} {hit} of {num_experts} experts: {hit / tokens:.2g} read for each token"
    subtitle = (
        f"{come_from}{where}. An expert that is read gets {rows_each:.1f} rows, at most {int(counts.max())}: "
        f"{rows_each:.1f} FLOPs for each byte of bfloat16."
    )
    return finish(figure, title, f"{title}. {subtitle}", height, subtitle)


def add_squares(figure: go.Figure, counts: Tensor) -> None:
    """All experts of a layer as squares in rows of 32; darker with more rows, white without any."""
    wide = 32
    padded = torch.cat((counts.double(), torch.full((-len(counts) % wide,), torch.nan)))
    grid = rearrange(padded, "(high wide) -> high wide", wide=wide)
    values = [[None if value != value or value == 0 else round(value) for value in row] for row in grid.tolist()]
    names = [[f"expert {wide * high + column}" for column in range(wide)] for high in range(len(values))]
    figure.add_trace(
        go.Heatmap(
            z=values, customdata=names, xgap=1, ygap=1, zmin=0, zmax=max(8, int(counts.max())), showscale=False,
            colorscale=[[0, "#D6E8F3"], [1, BLUE]], hoverongaps=False,
            hovertemplate="%{customdata}: %{z} rows<extra></extra>",
        ),
        row=1, col=1,
    )  # fmt: skip
    line = {"width": 1, "color": "#B0B0B0"}
    figure.add_shape(type="rect", x0=-0.5, x1=wide - 0.5, y0=-0.5, y1=len(values) - 0.5, line=line, row=1, col=1)
    figure.update_xaxes(visible=False, row=1, col=1)
    figure.update_yaxes(visible=False, autorange="reversed", row=1, col=1)


def add_limits(figure: go.Figure, intensity: float) -> None:
    """The limits of an H100 as a share of its peak against FLOPs for each byte, and the batch as a dot."""
    ends = [0.7, H100_BALANCE, 1500.0]
    figure.add_trace(
        go.Scatter(
            x=ends, y=[100 * min(1.0, end / H100_BALANCE) for end in ends], mode="lines", hoverinfo="skip",
            line={"color": MUTED, "width": 2},
        ),
        row=2, col=1,
    )  # fmt: skip
    reached = 100 * min(1.0, intensity / H100_BALANCE)
    figure.add_trace(
        go.Scatter(
            x=[intensity], y=[reached], mode="markers+text", text=[f" {reached:.2g} % of its peak"],
            textposition="middle right", hoverinfo="skip", marker={"color": VERMILLION, "size": 12},
        ),
        row=2, col=1,
    )  # fmt: skip
    figure.update_xaxes(
        title_text="FLOPs for each byte", type="log", range=[-0.15, 3.2], tickvals=[1, 10, 100, 1000], row=2, col=1
    )
    figure.update_yaxes(
        title_text="% of an H100", type="log", range=[-0.75, 2.3], tickvals=[1, 10, 100], row=2, col=1
    )
    for x, y, text in ((0.6, 1.2, "memory is the limit"), (2.35, 1.2, f"arithmetic,<br>from {H100_BALANCE:.0f} on")):
        figure.add_annotation(x=x, y=y, text=text, showarrow=False, font={"color": MUTED, "size": 12}, row=2, col=1)


def explore_batch(experts: Tensor, num_experts: int, layers: Sequence[int], label: str) -> Any:
    """The chapter's experiment: choose the size of a batch and where its tokens come from.

    experts: (layer, token, slot), a recording. layers: the numbers of the layers in the model. The same seed draws each
    batch, and shows the layer in the middle.
    """
    from ipywidgets import Dropdown, Layout, SelectionSlider

    seconds, shown = seconds_of(benchmark(), "mini"), len(layers) // 2
    sizes = [size for size in BATCHES if size <= experts.shape[1]]

    def draw(tokens: int, order: str) -> Picture:
        batch = draw_batch(experts, num_experts, tokens, order, torch.Generator().manual_seed(7))
        return batch_picture(batch[shown], num_experts, order, seconds, layers[shown], label)

    wide = Layout(width="400px")
    return driven(
        draw,
        tokens=SelectionSlider(options=sizes, value=1, description="tokens", layout=wide),
        order=Dropdown(options=ORDERS, value=ONE_TEXT, description="which", layout=Layout(width="290px")),
    )
