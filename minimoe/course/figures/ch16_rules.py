"""Figures of chapter 16: score functions, weights by slot, groups on the experts of a layer."""

from collections.abc import Mapping, Sequence

import plotly.graph_objects as go
import torch
from einops import rearrange
from torch import Tensor

from minimoe.figure_style import (
    BLUE,
    GREEN,
    INK,
    MUTED,
    ORANGE,
    PURPLE,
    SKY,
    VERMILLION,
    Picture,
    finish,
    label_ends,
    rounded,
)
from minimoe.zoo.groups import drop_groups, score_groups
from minimoe.zoo.router import choose, scores_of
from minimoe.zoo.rule import Rule

SCORES = {"softmax": BLUE, "sigmoid": VERMILLION, "sqrt_softplus": GREEN}
NAMES = {"softmax": "softmax", "sigmoid": "sigmoid", "sqrt_softplus": "√softplus"}
COLOURS = (BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY)


def score_curves(last: float, first: float, title: str, subtitle: str = "") -> Picture:
    """The three score functions on a logarithmic axis, each relative to its value at the logit `last`.

    last, first: typical logits of the last and the first chosen expert, which the band marks. Ratios are what is
    left of the scores after renormalising, and on this axis they are distances.
    """
    low, high = min(last - 2.5, 0.0), first + 1.5
    x = torch.linspace(low, high, 61, dtype=torch.float64)
    figure = go.Figure()
    figure.add_vrect(x0=last, x1=first, fillcolor="#EFEFEF", line_width=0, layer="below")
    ratios = {}
    for name, colour in SCORES.items():
        curve = relative(x, last, name)
        ratios[name] = float(relative(torch.tensor([first], dtype=torch.float64), last, name))
        figure.add_trace(
            go.Scatter(
                x=rounded(x), y=rounded(curve), mode="lines", name=NAMES[name],
                line={"color": colour, "width": 2}, hoverinfo="skip",
            )
        )  # fmt: skip
    for place, text, anchor in ((last, "last chosen", "right"), (first, "first", "left")):
        figure.add_annotation(
            x=place, y=0, yref="paper", xanchor=anchor, yanchor="bottom", text=text, showarrow=False,
            font={"size": 12, "color": MUTED},
        )  # fmt: skip
    figure.update_xaxes(title_text="logit", range=[low, high], showgrid=False)
    figure.update_yaxes(title_text="score, last chosen = 1 (log scale)", type="log", dtick=1)
    label_ends(figure, height=330)
    says = (
        "From the last chosen to the first: " + ", ".join(f"{NAMES[name]} ×{ratios[name]:.1f}" for name in SCORES) + "."
    )
    return finish(figure, title, f"{title}. {says}", 330, f"{subtitle} {says}".strip())


def relative(logits: Tensor, reference: float, score: str) -> Tensor:
    """The score of each logit divided by that of `reference`; for the softmax, a quotient of exponentials."""
    if score == "softmax":
        return (logits - reference).exp()
    rule = Rule(score=score)  # type: ignore[arg-type]
    return scores_of(logits, rule) / scores_of(torch.tensor(reference, dtype=logits.dtype), rule)


def weights_by_slot(weights: Mapping[str, Tensor], title: str, subtitle: str = "") -> Picture:
    """The mean weight of each slot, for several routers. weights: name -> (slot), largest first."""
    figure = go.Figure()
    for (name, row), colour in zip(weights.items(), COLOURS, strict=False):
        slots = list(range(1, len(row) + 1))
        figure.add_trace(
            go.Scatter(
                x=slots, y=rounded(row), mode="lines+markers", name=name, line={"color": colour, "width": 2},
                hovertemplate="slot %{x}: %{y:.3f}<extra>" + name + "</extra>",
            )
        )  # fmt: skip
    figure.add_hline(y=1 / len(slots), line={"color": MUTED, "width": 1, "dash": "dot"})
    figure.add_annotation(
        x=1, y=1 / len(slots), xanchor="left", yanchor="top", text=f"even: 1/{len(slots)}", showarrow=False,
        font={"size": 12, "color": MUTED},
    )  # fmt: skip
    wide = [0.6, len(slots) + 0.4]
    figure.update_xaxes(title_text="slot, largest weight first", tickvals=slots, showgrid=False, range=wide)
    figure.update_yaxes(title_text="mean weight", rangemode="tozero")
    label_ends(figure, height=320)
    says = "; ".join(f"{name}: {float(row[0]):.3f} to {float(row[-1]):.3f}" for name, row in weights.items())
    return finish(figure, title, f"{title}. {says}.", 320, subtitle)


def groups_grid(scores: Tensor, top_k: int, rule: Rule, title: str, subtitle: str = "") -> Picture:
    """All experts of a layer as rows of groups, for one token: kept groups are coloured, dropped ones grey, by rank.

    scores: (expert). Filled circles are chosen with and without groups, crosses only without, rings only with them.
    """
    row = rearrange(scores, "expert -> 1 expert")
    free, confined = (set(choose(row, top_k, each)[0].tolist()) for each in (Rule(), rule))
    kept = (drop_groups(row, rule)[0] > -torch.inf).reshape(rule.groups, -1).all(dim=-1)
    group_scores = score_groups(row, rule)[0]
    ranks = scores.argsort().argsort().float()
    members = rearrange(ranks, "(group member) -> group member", group=rule.groups)
    figure = go.Figure()
    for coloured, scale in ((False, [[0, "#F4F4F4"], [1, "#9A9A9A"]]), (True, [[0, "#EAF3FA"], [1, BLUE]])):
        shown = members.where(rearrange(kept, "group -> group 1") == coloured, torch.nan)
        figure.add_trace(
            go.Heatmap(
                z=[[None if value != value else int(value) for value in line] for line in shown.tolist()],
                zmin=0, zmax=len(scores), colorscale=scale, showscale=False, xgap=2, ygap=5,
                hoverinfo="skip",
            )
        )  # fmt: skip
    marks = (
        ("chosen either way", free & confined, "circle", ORANGE),
        ("lost to the groups", free - confined, "x", VERMILLION),
        ("chosen instead", confined - free, "circle-open", INK),
    )
    size = members.shape[1]
    for name, experts, symbol, colour in marks:
        places = sorted(experts)
        figure.add_trace(
            go.Scatter(
                x=[place % size for place in places], y=[place // size for place in places], mode="markers",
                name=f"{name}: {len(places)}", hovertemplate="expert %{customdata}<extra></extra>", customdata=places,
                marker={"symbol": symbol, "size": 11, "color": colour, "line": {"width": 2, "color": colour}},
            )
        )  # fmt: skip
    ticks = [f"{value:.3f}{' kept' if stays else ''}" for value, stays in zip(group_scores.tolist(), kept, strict=True)]
    figure.update_yaxes(
        title_text="score of the group", tickvals=list(range(rule.groups)), ticktext=ticks, autorange="reversed",
        showgrid=False, zeroline=False,
    )  # fmt: skip
    figure.update_xaxes(
        title_text=f"its {size} experts", showticklabels=False, ticks="", showgrid=False, zeroline=False
    )
    alt = f"{title}. {rule.groups} rows of {size} experts; groups {numbers(kept)} are kept. "
    alt += "; ".join(f"{name}: {len(experts)}" for name, experts, _, _ in marks) + "."
    picture = finish(figure, title, alt, 400, subtitle)
    below = {"orientation": "h", "x": 0, "y": -0.12, "yanchor": "top"}
    figure.update_layout(showlegend=True, legend=below, margin={"l": 104, "b": 100})
    return picture


def numbers(kept: Sequence[bool] | Tensor) -> str:
    """The numbers of the True entries as text."""
    return ", ".join(str(number) for number, stays in enumerate(kept) if stays)
