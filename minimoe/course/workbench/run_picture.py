"""The picture of a comparison: both runs laid over each other, with what is identical as numbers beside it."""

import math
from collections.abc import Sequence

import plotly.graph_objects as go

from minimoe.course.workbench.run_diff import ROUNDING, Comparison, in_words
from minimoe.figure_style import BLUE, INK, MUTED, VERMILLION, Picture, finish, tint

EMPTY = "#F3F3F3"  # an expert that no token chose
CALM = [[0, tint(BLUE, 0.35)], [1, BLUE]]
MARKED = [[0, tint(VERMILLION, 0.55)], [1, VERMILLION]]
MOST_LABELS = 32  # rows that are labelled one by one
BESIDE = 250  # pixels right of the map, for two columns of text
HEADS = 34  # pixels above the map, for their two-line headings


def overlay(comparison: Comparison) -> Picture:
    """Layers x experts of a model with experts, layers x tokens of one without."""
    layers = len(comparison.layers)
    row = 26 if layers <= 12 else 18 if layers <= MOST_LABELS else 8
    if comparison.flipped:
        figure, subtitle, title = expert_overlay(comparison)
    else:
        figure, subtitle, title = token_overlay(comparison)
    every = math.ceil(layers / MOST_LABELS)
    shown = list(range(0, layers, every))
    figure.update_yaxes(
        tickvals=shown, ticktext=[f"layer {comparison.layers[n]} " for n in shown], range=[layers - 0.5, -0.5],
        ticks="", showgrid=False, zeroline=False, showline=False,
    )  # fmt: skip
    figure.update_xaxes(showgrid=False, zeroline=False, ticks="outside", showline=False)
    write_beside(figure, comparison, shown)
    figure.update_layout(margin={"r": BESIDE})
    picture = finish(figure, title, comparison.alt, height=190 + row * layers, subtitle=subtitle)
    top = picture.figure.layout.margin.t or 60
    picture.figure.update_layout(margin={"t": top + HEADS})
    return picture


def expert_overlay(comparison: Comparison) -> tuple[go.Figure, str, str]:
    """The experts of each layer, coloured by how many tokens chose them, and marked where the runs parted."""
    experts = len(next(iter(comparison.maps.values())).both)
    calm, marked, empty = [], [], []
    for layer in comparison.layers:
        seen = comparison.maps.get(layer)
        both, parted = (seen.both, seen.parted) if seen else ([0] * experts, [0] * experts)
        calm.append([b if b and not p else None for b, p in zip(both, parted, strict=True)])
        marked.append([p or None for p in parted])
        empty.append([0 if seen else None] * experts)
    tokens = comparison.choices and len(comparison.moved[0])
    hover = "layer %{y}, expert %{x}: "
    figure = go.Figure(
        [
            cells(calm, CALM, hover + "%{z} tokens chose it in both runs<extra></extra>"),
            cells(marked, MARKED, hover + "%{z} tokens chose it in one run only<extra></extra>"),
        ]
    )
    figure.add_trace(cells(empty, [[0, EMPTY], [1, EMPTY]], None))
    figure.data = (figure.data[2], *figure.data[:2])  # the last trace is drawn on top
    figure.update_xaxes(
        title_text="expert number within its layer", dtick=max(1, experts // 8), range=[-0.5, experts - 0.5]
    )
    says = f"{tokens} tokens. Blue: chosen by the same tokens in both runs"
    says += "" if comparison.same else "; orange: by different ones"
    return figure, f"{says}; grey: not chosen.", headline(comparison)


def token_overlay(comparison: Comparison) -> tuple[go.Figure, str, str]:
    """The hidden state of each token after each layer: the same in both runs, or marked, darker the farther apart."""
    calm = [[1 if share < ROUNDING else None for share in row] for row in comparison.moved]
    steps = [[step(share) for share in row] for row in comparison.moved]
    tokens = len(comparison.moved[0])
    hover = "after layer %{y}, token %{x}<extra></extra>"
    figure = go.Figure([cells(calm, CALM, hover), cells(steps, MARKED, hover)])
    figure.data[1].update(zmin=1, zmax=4)
    figure.update_xaxes(title_text="token, in order", dtick=max(1, tokens // 16), range=[-0.5, tokens - 0.5])
    says = "Hidden states after each layer. Blue: the same in both runs"
    says += "" if comparison.same else "; orange: different, darker the farther apart"
    return figure, f"{says}.", headline(comparison)


def step(share: float) -> int | None:
    """How far apart in four steps: from rounding to 0.001, 0.03, 0.3 of a hidden state's size and above."""
    return None if share < ROUNDING else 1 + sum(share >= limit for limit in (0.001, 0.03, 0.3))


def cells(values: Sequence[Sequence[int | None]], scale: Sequence[Sequence[object]], hover: str | None) -> go.Heatmap:
    """One layer of the map; None is left open."""
    known = [value for row in values for value in row if value is not None]
    return go.Heatmap(
        z=[list(row) for row in values], colorscale=scale, showscale=False, zmin=0, zmax=max([1, *known]),
        xgap=1, ygap=3, hovertemplate=hover, hoverinfo=None if hover else "skip",
    )  # fmt: skip


def write_beside(figure: go.Figure, comparison: Comparison, shown: Sequence[int]) -> None:
    """Two columns right of the map: identical choices of each layer, and how far its hidden states lie apart."""
    columns: list[tuple[int, str, list[str]]] = []
    if comparison.flipped:
        texts = [identical(comparison, layer) for layer in comparison.layers]
        columns.append((10, "identical<br>choices", texts))
    moved = [in_words(share) for share in comparison.relative_difference]
    columns.append((115 if columns else 10, "difference (1: a hidden<br>state's own size)", moved))
    for shift, name, texts in columns:
        figure.add_annotation(
            x=1, xref="paper", y=1, yref="paper", xshift=shift, yshift=2, text=name, showarrow=False, xanchor="left",
            yanchor="bottom", align="left", font={"size": 11, "color": MUTED},
        )  # fmt: skip
        for number in shown:
            calm = texts[number].startswith("less than") or texts[number] == identical_text(comparison.choices, 0)
            figure.add_annotation(
                x=1, xref="paper", y=number, xshift=shift, text=texts[number], showarrow=False, xanchor="left",
                yanchor="middle", font={"size": 12, "color": INK if calm else VERMILLION},
            )  # fmt: skip


def identical(comparison: Comparison, layer: int) -> str:
    """ "296 of 296", or a dash for a layer without experts."""
    return identical_text(comparison.choices, comparison.flipped[layer]) if layer in comparison.flipped else "–"


def identical_text(choices: int, flipped: int) -> str:
    """How many of the choices are identical."""
    return f"{choices - flipped:,} of {choices:,}"


def headline(comparison: Comparison) -> str:
    """The title of the picture: what ran, and what came of it."""
    if not comparison.mine:
        return comparison.headline
    ran = f"Your {comparison.mine} just ran inside a Qwen3"
    if comparison.same and comparison.flipped:
        return f"{ran}: all {comparison.choices * len(comparison.flipped):,} expert choices are identical"
    if comparison.same:
        return f"{ran}: every hidden state is the same"
    where, parted = comparison.first_parting, sum(comparison.flipped.values())
    if where is None:
        return f"{ran}: the layers agree, the output differs"
    total = comparison.choices * len(comparison.flipped)
    if parted:
        return f"{ran}: {parted:,} of {total:,} expert choices differ"
    return f"{ran}: hidden states differ, from layer {where} on"
