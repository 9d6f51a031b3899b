"""The figures of chapter 14 about placement: parts, hardware claims, sharding, the layout of a file.

The other figures of the chapter are in ch14_charts.py.
"""

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

import plotly.graph_objects as go

from minimoe.checkpoint.safetensors.header import Header
from minimoe.course.figures.boxes import draw_boxes
from minimoe.course.figures.ch06_router import driven
from minimoe.errors import BadArgument
from minimoe.figure_style import (
    BLUE,
    GREEN,
    INK,
    MUTED,
    PALE,
    PART_COLOURS,
    VERMILLION,
    Picture,
    finish,
    ink_on,
)
from minimoe.humanize import units
from minimoe.model.config import ModelConfig
from minimoe.scale.planner.deployment import Deployment, deploy
from minimoe.scale.planner.gpus import CARDS
from minimoe.scale.planner.model_size import Plan
from minimoe.scale.planner.sharding import Cut

GB = 10**9
HELD, OTHER, MARK, THIRD = BLUE, PALE, VERMILLION, GREEN
PARTS = {  # the planner's name of a part -> its colour in the whole course
    "experts": PART_COLOURS["experts"], "attention": PART_COLOURS["attention"],
    "embeddings": PART_COLOURS["embedding"], "router": PART_COLOURS["router"], "norms": PART_COLOURS["norm"],
}  # fmt: skip
STEPS = ("count", "check", "divide", "read", "stream", "spread", "rent", "serve")
# Row of the figure -> one representative of the kinds of tensor that are sharded alike
ROWS = {
    "embedding,<br>lm_head<i>, rows</i>": "embed_tokens",
    "q_proj<br><i>rows</i>": "self_attn.q_proj",
    "k_proj, v_proj<br><i>rows</i>": "self_attn.k_proj",
    "o_proj<br><i>columns</i>": "self_attn.o_proj",
    "experts<br><i>whole</i>": "mlp.experts.gate_proj",
    "router, norms<br><i>whole</i>": "mlp.gate",
}


def journey_map(lit: str) -> Picture:
    """The steps from 118 files to an answer, with the step `lit` highlighted."""
    figure = go.Figure()
    draw_boxes(figure, STEPS, STEPS.index(lit), MARK, size=11)
    ends = [(0.0, 0.84, "a config"), (1.0, 1.84, "headers"), (2.0, 2.84, "a table")]
    ends += [(3.0, 4.84, "one computer"), (5.0, 7.84, "several devices")]
    for left, right, text in ends:
        path = f"M {left},0.78 L {left},0.88 L {right},0.88 L {right},0.78"
        figure.add_shape(type="path", path=path, line={"width": 1, "color": "#808080"})
        figure.add_annotation(
            x=(left + right) / 2, y=1.0, text=text, showarrow=False, font={"size": 10, "color": MUTED}
        )
    figure.update_xaxes(visible=False, range=[-0.1, 8])
    figure.update_yaxes(visible=False, range=[-0.1, 1.15])
    alt = f"From left to right: {', '.join(STEPS)}. This part is about the step '{lit}'."
    picture = finish(figure, "Where we are: from 118 files to an answer", alt, height=190)
    figure.update_layout(margin={"l": 10, "r": 10, "t": 45, "b": 5})
    return picture


def parts_bars(sizes: Plan) -> Picture:
    """Two stacked bars: all parameters, and the active parameters of one token."""
    figure = go.Figure()
    rows = [
        f"stored:<br>{sizes.parameters / 1e9:.1f} billion",
        f"used by a token:<br>{sizes.active_parameters / 1e9:.1f} billion",
    ]
    for part in sorted(sizes.parts, key=lambda part: -part.parameters):
        shares = [part.parameters / sizes.parameters, part.active / sizes.active_parameters]
        named = [
            f"{part.name}<br>{share:.1%}" if share > 0.1 else f"{share:.1%}" if share > 0.03 else "" for share in shares
        ]
        figure.add_bar(
            name=part.name, y=rows, x=[round(share, 5) for share in shares],
            orientation="h", marker={"color": PARTS[part.name]}, width=0.62,
            customdata=[f"{part.parameters:,}", f"{part.active:,}"],
            hovertemplate=part.name + ": %{customdata} parameters, %{x:.2%}<extra></extra>",
            text=named, textposition="inside", insidetextanchor="middle", textangle=0,
            textfont={"color": ink_on(PARTS[part.name])},
        )  # fmt: skip
    embeddings = next(part for part in sizes.parts if part.name == "embeddings")
    figure.add_annotation(
        x=1 - embeddings.active / sizes.active_parameters / 2, y=rows[1], yshift=-46, text="embeddings",
        showarrow=False, xanchor="right", font={"color": MUTED},
    )  # fmt: skip
    figure.update_xaxes(visible=False, range=[0, 1])
    figure.update_yaxes(autorange="reversed", showgrid=False, ticks="", showline=False)
    summary = ", ".join(f"{part.name} {part.parameters / sizes.parameters:.2%}" for part in sizes.parts)
    experts = next(part for part in sizes.parts if part.name == "experts")
    stored, used = experts.parameters / sizes.parameters, experts.active / sizes.active_parameters
    alt = f"Stored: {summary}. Of the parameters that one token uses, the experts are {used:.0%}."
    title = f"Experts are {stored:.0%} of what is stored, and {used:.0%} of what a token uses"
    picture = finish(
        figure, title, alt, height=270, subtitle=f"Shares of the parameters, {sizes.name}, from its config"
    )
    figure.update_layout(barmode="stack", bargap=0.2)
    return picture


def claim_bars(config: ModelConfig, offers: Sequence[tuple[str, int, Sequence[str]]], context: int) -> Picture:
    """Total memory that the 235B needs on each offer (card, number, precisions), and the memory that the cards have."""
    plans = [
        deploy(config, count, CARDS[card], precision, context=context, name=card)
        for card, count, precisions in offers
        for precision in precisions
    ]
    names = [f"{plan.devices} x {plan.name},<br>{plan.precision}" for plan in plans]
    needs = [sum(rank.total for rank in plan.ranks) + plan.reserve * plan.devices for plan in plans]
    has = [plan.devices * (plan.device_memory or 0) for plan in plans]
    left = [f"{units(plan.short_bytes)} short" if plan.short_bytes else "fits" for plan in plans]
    figure = go.Figure()
    figure.add_bar(
        name="needed", y=names, x=[round(need / GB, 1) for need in needs], orientation="h", text=left,
        textposition=["inside" if plan.fits else "outside" for plan in plans], textangle=0, cliponaxis=False,
        marker={"color": [HELD if plan.fits else MARK for plan in plans],
                "pattern": {"shape": ["" if plan.fits else "/" for plan in plans]}},
        hovertemplate="%{y}: needs %{x:.0f} GB, %{text}<extra></extra>",
    )  # fmt: skip
    figure.add_scatter(
        name="what the cards have", y=names, x=[round(memory / GB, 1) for memory in has], mode="markers",
        marker={"symbol": "line-ns", "size": 26, "line": {"width": 4, "color": "#202020"}},
        hovertemplate="%{y}: the cards have %{x:.0f} GB<extra></extra>",
    )  # fmt: skip
    figure.update_xaxes(title_text="GB over all cards (black mark: what they have)", range=[0, max(needs) / GB * 1.45])
    figure.update_yaxes(autorange="reversed", showgrid=False)
    spoken = [name.replace("<br>", " ") for name in names]
    summary = "; ".join(f"{name}: {verdict}" for name, verdict in zip(spoken, left, strict=True))
    good = [name for name, plan in zip(spoken, plans, strict=True) if plan.fits]
    title = f"One of {len(plans)} fits: {good[0]}" if len(good) == 1 else f"{len(good)} of {len(plans)} fit"
    subtitle = f"What the 235B needs with {context:,} tokens of context, computed"
    return finish(figure, title, f"{title}. {subtitle}. {summary}.", height=130 + 42 * len(plans), subtitle=subtitle)


def holders(plan: Deployment, kind: str) -> list[tuple[float, float, list[int]]]:
    """The shards of one kind of tensor as (begin, end, ranks), with begin and end as fractions of the tensor."""
    cut_by_rank = [next(cut for cut in plan.cuts(rank) if cut.kind.name == kind) for rank in range(plan.devices)]
    shards = groupby(range(plan.devices), key=lambda rank: extent(cut_by_rank[rank]))
    return [(begin, end, list(ranks)) for (begin, end), ranks in shards]


def extent(cut: Cut) -> tuple[float, float]:
    """Begin and end of a shard, as fractions of the whole tensor (or of its experts)."""
    if cut.axis:
        length = cut.kind.shape[cut.axis == "columns"]
        return cut.start / length, cut.stop / length
    if cut.kind.experts:
        return cut.experts.start / cut.kind.experts, cut.experts.stop / cut.kind.experts
    return 0.0, 1.0


def who_holds(plan: Deployment, rank: int) -> Picture:
    """Each kind of tensor as a bar divided into its shards, with the shards of `rank` highlighted."""
    figure, summaries = go.Figure(), []
    for row, (label, kind) in enumerate(ROWS.items()):
        for begin, end, ranks in holders(plan, kind):
            mine = rank in ranks
            figure.add_shape(
                type="rect", x0=begin, x1=end, y0=row - 0.32, y1=row + 0.32, line={"width": 1.5, "color": "white"},
                fillcolor=MARK if mine else OTHER,
            )  # fmt: skip
            text = "all" if len(ranks) == plan.devices > 1 else ", ".join(map(str, ranks))
            if len(text) < 200 * (end - begin):
                figure.add_annotation(
                    x=(begin + end) / 2, y=row, text=text, showarrow=False,
                    font={"color": "white" if mine else INK, "size": 12},
                )  # fmt: skip
            if mine:
                shared = f" (ranks {', '.join(map(str, ranks))})" if 1 < len(ranks) < plan.devices else ""
                summaries.append(f"{label.split('<')[0]} {begin:.1%} to {end:.1%}{shared}")
    labels = [label.replace("<i>", "").replace("</i>", "") for label in ROWS]
    figure.add_scatter(x=[0] * len(labels), y=labels, mode="markers", marker={"opacity": 0}, hoverinfo="skip")
    figure.update_xaxes(range=[0, 1], tickformat=".0%", title_text="share of the tensor, or of the experts")
    figure.update_yaxes(autorange="reversed", showgrid=False)
    title = f"What rank {rank} of {plan.devices} holds: {units(plan.ranks[rank].weights)} of weights"
    subtitle = f"Coloured: its part of each kind of tensor; in the boxes: the ranks (235B, {plan.precision}, computed)"
    return finish(figure, title, f"{title}: {'; '.join(summaries)}.", height=340, subtitle=subtitle)


def explore_holders(config: ModelConfig, devices: int = 8, rank: int = 5) -> Any:
    """Widgets for `who_holds`: the number of ranks, and the highlighted rank."""
    from ipywidgets import IntSlider, Layout, SelectionSlider

    def draw(devices: int, rank: int) -> Picture:
        chosen.max = devices - 1
        return who_holds(deploy(config, devices, precision="bf16", context=0), min(rank, devices - 1))

    wide = Layout(width="330px")
    counts = SelectionSlider(options=[1, 2, 4, 8, 16], value=devices, description="ranks", layout=wide)
    chosen = IntSlider(value=rank, min=0, max=devices - 1, description="rank", layout=wide)
    return driven(draw, devices=counts, rank=chosen)


def shard_map(header: Header, wanted: Mapping[str, Sequence[str]], title: str) -> Picture:
    """The layout of a file from first to last byte, with some tensors marked. wanted: label -> tensor names.

    Raises BadArgument for a tensor that is not in the file.
    """
    entries = sorted(header.tensors.values(), key=lambda entry: entry.start)
    figure = go.Figure()
    for (name, colour), run in groupby(entries, key=lambda entry: region(entry.name)):
        pieces = list(run)
        begin, end = pieces[0].start, pieces[-1].start + pieces[-1].nbytes
        figure.add_bar(
            y=["the file"], x=[round((end - begin) / GB, 5)], base=[round(begin / GB, 5)], orientation="h", name=name,
            marker={"color": colour},
            hovertemplate=f"{name}: {len(pieces)} tensors, {units(end - begin)}<extra></extra>",
        )  # fmt: skip
    summaries = []
    for label, names in wanted.items():
        missing = [name for name in names if name not in header.tensors]
        if missing:
            raise BadArgument(f"wanted names {missing[0]!r}, which is not in {header.file.name}.")
        begin = min(header.tensors[name].start for name in names)
        size = sum(header.tensors[name].nbytes for name in names)
        figure.add_annotation(
            x=(begin + size / 2) / GB, y=0.42, ax=0, ay=-34, arrowhead=2, text=f"{label}<br>{units(size)}",
            font={"color": MARK},
        )  # fmt: skip
        summaries.append(f"{label}: {units(size)} from byte {begin:,} on")
    figure.update_xaxes(title_text="place in the file, GB")
    picture = finish(figure, title, f"{title}. {'; '.join(summaries)}.", height=280)
    unique = {trace.name: trace for trace in reversed(figure.data)}
    for trace in figure.data:
        trace.showlegend = unique[trace.name] is trace
    legend = {"orientation": "h", "y": -0.75, "traceorder": "normal"}
    figure.update_layout(barmode="overlay", showlegend=True, legend=legend)
    figure.update_layout(margin={"b": 110}, height=figure.layout.height + 20)
    figure.update_yaxes(range=[-0.5, 1.0], visible=False)
    return picture


def region(name: str) -> tuple[str, str]:
    """The part of the model that a tensor belongs to, and its colour."""
    for sign, label, part in (
        ("embed_tokens", "embedding", "embedding"), ("lm_head", "lm_head", "head"),
        ("self_attn", "attention", "attention"), ("experts", "experts", "experts"),
    ):  # fmt: skip
        if sign in name:
            return label, PART_COLOURS[part]
    return "router and norms", PART_COLOURS["router"]
