"""The figure of a deployment: the memory that each rank needs, stacked, against the memory of its device."""

from itertools import groupby

import plotly.graph_objects as go

from minimoe.figure_style import BLUE, GREEN, ORANGE, SKY, VERMILLION, Picture, finish
from minimoe.humanize import units
from minimoe.scale.planner.deployment import Deployment

GB = 10**9
# Okabe and Ito's colour-blind safe colours; the patterns distinguish the bars in greyscale too.
COLOURS = {
    "experts": (BLUE, ""),
    "all other weights": (SKY, "/"),
    "KV cache": (ORANGE, "x"),
    "work space": (GREEN, "."),
    "kept back": ("#999999", "\\"),
}
CAPACITY = VERMILLION


def layers_of_memory(plan: Deployment) -> dict[str, list[int]]:
    """Bytes on each rank by purpose, in the order in which they are stacked."""
    experts = [rank.parts.get("experts", 0) for rank in plan.ranks]
    return {
        "experts": experts,
        "all other weights": [rank.weights - own for rank, own in zip(plan.ranks, experts, strict=True)],
        "KV cache": [rank.cache for rank in plan.ranks],
        "work space": [rank.work for rank in plan.ranks],
        "kept back": [plan.reserve if plan.device_memory is not None else 0] * plan.devices,
    }


def memory_per_rank(plan: Deployment, title: str = "What each device has to hold") -> Picture:
    """One bar per rank, and a line for the memory of a device if it is known."""
    names = [f"rank {rank.rank}" for rank in plan.ranks]
    figure = go.Figure()
    for label, sizes in layers_of_memory(plan).items():
        if not any(sizes):
            continue
        colour, pattern = COLOURS[label]
        figure.add_bar(
            name=label, y=names, x=[round(size / GB, 3) for size in sizes], orientation="h",
            marker={"color": colour, "pattern": {"shape": pattern, "fillmode": "overlay", "size": 6}},
            hovertemplate="%{y}, " + label + ": %{x:.2f} GB<extra></extra>",
        )  # fmt: skip
    if plan.device_memory is not None:
        figure.add_vline(
            x=round(plan.device_memory / GB, 3), line={"color": CAPACITY, "width": 3, "dash": "dash"},
            annotation={"text": f"a device: {units(plan.device_memory)}", "font": {"color": CAPACITY}},
            annotation_position="top",
        )  # fmt: skip
    figure.update_xaxes(title_text="memory in GB (1 GB = 1,000,000,000 bytes)", rangemode="tozero")
    figure.update_yaxes(autorange="reversed")
    picture = finish(figure, f"{title}: {plan.name}", describe(plan), height=240 + 32 * plan.devices)
    above = 1 + 24 / (60 + 32 * plan.devices)  # 24 pixels above the bars, for the annotation of the line
    figure.update_layout(
        barmode="stack", showlegend=True, margin={"t": 120},
        legend={"orientation": "h", "y": above, "yanchor": "bottom", "traceorder": "normal"},
    )  # fmt: skip
    return picture


def describe(plan: Deployment) -> str:
    """The figure as text: the memory that every rank needs, and whether it fits."""
    needs = [
        f"{which} {units(total)}: weights {units(weights)}, KV cache {units(cache)}, work space {units(work)}"
        for which, (weights, cache, work, total) in equal_ranks(plan)
    ]
    where = "1 device" if plan.devices == 1 else f"{plan.devices} devices, split {plan.split!r}"
    head = f"{plan.name} in {plan.precision}, {plan.context:,} tokens in a {plan.kv_precision} cache, on {where}"
    verdict = ""
    if plan.device_memory is not None:
        verdict = f" A device has {units(plan.device_memory)}, of which {units(plan.reserve)} are kept back: "
        left = min(plan.spare)
        verdict += f"it fits, {units(left)} to spare." if plan.fits else f"it does not fit, {units(-left)} short."
        verdict += f" Tight: {units(plan.tight_bytes)} less than CUDA and NCCL may take." if plan.tight else ""
    return f"{head}. {'; '.join(needs)}.{verdict}"


def equal_ranks(plan: Deployment) -> list[tuple[str, tuple[int, int, int, int]]]:
    """Neighbouring ranks with equal needs: ("Ranks 0 to 7 need each", (weights, cache, work, total))."""
    groups: list[tuple[str, tuple[int, int, int, int]]] = []
    for sizes, run in groupby(plan.ranks, key=lambda rank: (rank.weights, rank.cache, rank.work, rank.total)):
        ranks = [rank.rank for rank in run]
        name = f"rank {ranks[0]} needs" if len(ranks) == 1 else f"ranks {ranks[0]} to {ranks[-1]} need each"
        groups.append((name if groups else name.capitalize(), sizes))
    return groups
