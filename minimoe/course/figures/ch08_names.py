"""Chapter 08: the sizes of other checkpoints, and where the parameters of one are."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import plotly.graph_objects as go

from minimoe.figure_style import BLUE, MUTED, PALE, PART_COLOURS, VERMILLION, Picture, bars, finish
from minimoe.paths import models_folder


def families() -> list[dict[str, Any]]:
    """The counted checkpoints of data/models/families, smallest first."""
    file = models_folder() / "families" / "parameters.json"
    models: list[dict[str, Any]] = json.loads(file.read_text(encoding="utf-8"))["models"]
    return models


def billions(count: float) -> str:
    """1.28, 22.2, 235: a number of parameters in billions with three digits."""
    value = count / 1e9
    return f"{value:,.2f}" if value < 10 else f"{value:,.1f}" if value < 100 else f"{value:,.0f}"


def family_lines(models: Sequence[Mapping[str, Any]], lit: str, title: str, subtitle: str) -> Picture:
    """For each checkpoint a line from its active to its total parameters, on a logarithmic axis."""
    figure, names = go.Figure(), [each["model"] for each in models]
    for each in models:
        colour = VERMILLION if each["model"] == lit else BLUE
        figure.add_trace(
            go.Scatter(
                x=[each["active"], each["total"]], y=[each["model"]] * 2, mode="lines+markers",
                line={"color": PALE if each["model"] != lit else colour, "width": 3},
                marker={"size": 8, "color": [colour, MUTED]},
                hovertemplate="%{y}: %{x:,d}<extra></extra>",
            )
        )  # fmt: skip
        figure.add_annotation(
            x=1.02, xref="paper", y=each["model"], xanchor="left", showarrow=False, font={"size": 11, "color": colour},
            text=f"{billions(each['active'])} of {billions(each['total'])}",
        )  # fmt: skip
    figure.update_xaxes(
        type="log", title_text="parameters (log scale): blue active, grey all", tickvals=[1e9, 1e10, 1e11, 1e12],
        ticktext=["1 billion", "10", "100", "1,000"],
    )  # fmt: skip
    figure.update_yaxes(type="category", categoryarray=names, showgrid=False, ticks="", tickfont={"size": 11})
    figure.update_layout(margin={"r": 96})
    said = "; ".join(f"{each['model']}: {billions(each['active'])} of {billions(each['total'])}" for each in models)
    return finish(
        figure, title, f"{title}. Billions of parameters, active of all: {said}.", 90 + 20 * len(names), subtitle
    )


def part_bars(parts: Mapping[str, int], title: str, subtitle: str) -> Picture:
    """Parameters by part of the model, with their share."""
    total = sum(parts.values())
    colours = [PART_COLOURS.get(name) or PART_COLOURS[name.removesuffix("s")] for name in parts]
    texts = [
        f"{100 * count / total:.{1 if count > total / 100 else 2 if count > total / 10_000 else 4}f} %"
        for count in parts.values()
    ]
    said = ", ".join(f"{name} {count:,} ({text})" for (name, count), text in zip(parts.items(), texts, strict=True))
    return bars(
        list(parts), list(parts.values()), title, f"{title}: {said}.", subtitle=subtitle, colours=colours, texts=texts
    )


def name_tree(shapes: Mapping[str, tuple[int, ...]]) -> str:
    """The names of a checkpoint as a tree, one word a line; numbered branches are drawn once."""
    words = {tuple(name.removesuffix(".weight").split(".")): shape for name, shape in shapes.items()}
    return "\n".join(branches(words))


def branches(names: Mapping[tuple[str, ...], tuple[int, ...]], depth: int = 0) -> Iterator[str]:
    """The lines of the names below one branch, each with its shape."""
    groups: dict[str, dict[tuple[str, ...], tuple[int, ...]]] = {}
    for words, shape in names.items():
        groups.setdefault("number" if words[0].isdigit() else words[0], {})[words] = shape
    for word, members in groups.items():
        if word == "number":
            numbers = sorted({int(words[0]) for words in members})
            members = {words: shape for words, shape in members.items() if words[0] == str(numbers[0])}
            word = f"{numbers[0]} … {numbers[-1]}"
        below = {words[1:]: shape for words, shape in members.items() if len(words) > 1}
        sizes = "" if below else " × ".join(f"{size:,}" for size in next(iter(members.values())))
        yield f"{'  ' * depth + word:31s}{sizes:>17s}".rstrip()
        if below:
            yield from branches(below, depth + 1)
