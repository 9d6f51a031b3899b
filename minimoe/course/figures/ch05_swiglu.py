"""Chapter 05: where an expert is in the model, its activation function, and what its neurons write."""

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise

import plotly.graph_objects as go
import torch
from torch import Tensor
from torch.nn import functional as F

from minimoe.course.figures.boxes import draw_boxes
from minimoe.figure_style import (
    BLUE,
    GREEN,
    INK,
    MUTED,
    PALE,
    PART_COLOURS,
    PURPLE,
    VERMILLION,
    Picture,
    bars,
    finish,
    ink_on,
    label,
    label_ends,
)

STEPS = ("norm", "router:<br>which<br>experts?", "run the<br>chosen<br>experts", "weigh<br>and add")
KINDS = {"SwiGLU": GREEN, "ReLU": VERMILLION, "GELU": BLUE}  # three feed-forward networks
GATE, UP, PRODUCT = BLUE, PURPLE, GREEN  # the same in every figure of the chapter


def expert_map() -> Picture:
    """The second half of a layer, left to right, with the experts lit; below, the inside of one."""
    figure, colour = go.Figure(), PART_COLOURS["experts"]
    lit = next(index for index, step in enumerate(STEPS) if step.startswith("run"))
    draw_boxes(figure, STEPS, lit, colour)
    for annotation in figure.layout.annotations:
        if "<b>" in (annotation.text or ""):
            annotation.font.color = ink_on(colour)
    figure.add_shape(
        type="path", path=f"M {lit},0 L 0.05,-0.55 L 3.84,-0.55 L {lit + 0.84},0 Z", fillcolor=colour, opacity=0.18,
        line={"width": 0}, layer="below",
    )  # fmt: skip
    figure.add_shape(
        type="rect", x0=0.05, x1=3.84, y0=-2.15, y1=-0.55, line={"color": colour, "width": 2}, layer="below"
    )
    inside = {
        "x": (0.12, -1.35, PALE), "gate": (0.75, -0.95, GATE), "up": (0.75, -1.75, UP), "SiLU": (1.45, -0.95, PALE),
        "×": (2.1, -1.35, PRODUCT), "down": (2.75, -1.35, PALE), "out": (3.36, -1.35, PALE),
    }  # fmt: skip
    for name, (x, y, fill) in inside.items():
        wide = 0.42
        figure.add_shape(
            type="rect", x0=x, x1=x + wide, y0=y - 0.22, y1=y + 0.22, fillcolor=fill,
            line={"width": 1, "color": "#808080"},
        )  # fmt: skip
        figure.add_annotation(
            x=x + wide / 2, y=y, text=f"<b>{name}</b>", showarrow=False, font={"size": 12, "color": ink_on(fill)}
        )
    for start, end in (("x", "gate"), ("x", "up"), ("gate", "SiLU"), ("SiLU", "×"), ("up", "×"), ("×", "down"),
                       ("down", "out")):  # fmt: skip
        (x0, y0, _), (x1, y1, _) = inside[start], inside[end]
        figure.add_annotation(
            x=x1, y=y1, ax=x0 + 0.42, ay=y0, xref="x", yref="y", axref="x", ayref="y", showarrow=True, arrowhead=2,
            arrowsize=0.8, text="",
        )  # fmt: skip
    figure.update_xaxes(visible=False, range=[-0.05, 3.95])
    figure.update_yaxes(visible=False, range=[-2.25, 0.8])
    steps = ", ".join(step.replace("<br>", " ") for step in STEPS)
    alt = (
        f"The second half of each layer: {steps}. This chapter is about one expert: x goes through two matrices, gate "
        "and up; the SiLU of gate is multiplied by up, and down leads back to the hidden size."
    )
    picture = finish(figure, "Where we are: inside one expert", alt, height=330)
    figure.update_layout(margin={"l": 10, "r": 10, "t": 45, "b": 5})
    return picture


def activation_curves(title: str, subtitle: str) -> Picture:
    """SiLU, GELU and ReLU from -6 to 4."""
    figure, steps = go.Figure(), torch.linspace(-6, 4, 101)
    functions: dict[str, tuple[Callable[[Tensor], Tensor], str, float]] = {
        "SiLU": (F.silu, GREEN, 3),
        "GELU": (F.gelu, BLUE, 1.5),
        "ReLU": (F.relu, VERMILLION, 1.5),
    }
    for name, (function, colour, width) in functions.items():
        figure.add_trace(
            go.Scatter(
                x=[round(value, 2) for value in steps.tolist()],
                y=[round(value, 3) for value in function(steps).tolist()],
                name=name, mode="lines", line={"color": colour, "width": width},
                hovertemplate=f"{name}(%{{x}}) = %{{y:.2f}}<extra></extra>",
            )
        )  # fmt: skip
    for text, at in (("closed", -4.0), ("open", 2.0)):
        figure.add_annotation(x=at, y=3.4, text=text, showarrow=False, font={"color": MUTED, "size": 15})
    figure.add_vline(x=0, line={"color": MUTED, "width": 1, "dash": "dash"})
    lowest = F.silu(steps).min()
    where = float(steps[F.silu(steps).argmin()])
    figure.add_annotation(
        x=where, y=float(lowest), text=f"lowest: {label(float(lowest), '.2f')}", ax=-50, ay=-40, arrowhead=2,
        font={"color": GREEN}, arrowcolor=GREEN,
    )  # fmt: skip
    figure.update_xaxes(title_text="gate")
    figure.update_yaxes(title_text="what it passes on", range=[-0.6, 4], zeroline=True, zerolinecolor=PALE)
    label_ends(figure, height=320)
    return finish(
        figure, title, f"{title}. {subtitle} SiLU is at its lowest, {lowest:.2f}, at {where:.1f}.", 320, subtitle
    )


def shares_by_gate(gate: Tensor, written: Tensor, title: str, subtitle: str) -> Picture:
    """How many neurons have a gate in each range, and how much of the output they write.

    gate: all values of gates. written: for each, what the neuron adds to the output, as a size.
    """
    edges = (-math.inf, 0, 1, 2, 4, 8, math.inf)
    names = ["closed: below 0", *(f"{low} to {high}" for low, high in pairwise(edges[1:-1]))]
    names.append(f"above {edges[-2]}")
    bins = torch.bucketize(gate.flatten(), torch.tensor(edges[1:-1], dtype=gate.dtype))
    count = torch.bincount(bins, minlength=len(names)).double()
    squares = torch.bincount(bins, weights=written.flatten().double() ** 2, minlength=len(names))
    shares = {"of the neurons": 100 * count / count.sum(), "of what they write": 100 * squares / squares.sum()}
    figure = go.Figure()
    for (name, share), colour in zip(shares.items(), ("#9A9A9A", PRODUCT), strict=True):
        values = [round(value, 2) for value in share.tolist()]
        texts = [
            "under 0.1 %" if value < 0.1 else f"{value:.1f} %" if value < 10 else f"{value:.0f} %" for value in values
        ]
        figure.add_trace(
            go.Bar(
                x=values, y=names, name=name, orientation="h", marker={"color": colour}, text=texts,
                textposition="outside", cliponaxis=False, hoverinfo="skip",
            )
        )  # fmt: skip
    figure.update_yaxes(autorange="reversed", ticks="", showline=False, title_text="gate")
    figure.update_xaxes(visible=False, range=[0, 1.25 * max(float(share.max()) for share in shares.values())])
    figure.update_layout(bargap=0.3)
    summary = "; ".join(
        f"{name}: {mine:.1f} % of the neurons, {theirs:.1f} % of the output"
        for name, mine, theirs in zip(names, *(share.tolist() for share in shares.values()), strict=True)
    )
    return finish(figure, title, f"{title}. {summary}.", 400, subtitle)


def angle_histogram(cosine: Tensor, chance: Tensor, title: str, subtitle: str) -> Picture:
    """Cosines between the gate row and the up row of each neuron, and those of random rows as an outline."""
    figure, edges = go.Figure(), torch.linspace(-1, 1, 41)
    middles = ((edges[1:] + edges[:-1]) / 2).tolist()
    shares = {}
    for name, values in (("trained", cosine), ("random rows", chance)):
        counts = torch.histc(values.float().flatten().clamp(-1, 1), 40, -1, 1)
        shares[name] = (100 * counts / counts.sum()).tolist()
    colours = [VERMILLION if middle < 0 else GREEN for middle in middles]
    figure.add_trace(
        go.Bar(
            x=middles, y=[round(value, 2) for value in shares["trained"]], marker={"color": colours}, width=0.045,
            hovertemplate="cosine about %{x:.2f}: %{y:.1f} % of the neurons<extra></extra>",
        )
    )  # fmt: skip
    figure.add_trace(
        go.Scatter(
            x=middles, y=[round(value, 2) for value in shares["random rows"]], mode="lines",
            line={"color": INK, "shape": "hvh"}, hoverinfo="skip",
        )
    )  # fmt: skip
    highest = max(shares["random rows"])
    figure.add_annotation(
        x=0.05, y=0.85 * highest, text="random rows", xanchor="left", ax=40, ay=0, arrowhead=2, font={"color": INK}
    )
    for at, text, colour in ((-0.7, "opposite", VERMILLION), (0.7, "parallel", GREEN)):
        figure.add_annotation(x=at, y=0.55 * highest, text=text, showarrow=False, font={"color": colour, "size": 15})
    figure.update_xaxes(title_text="cosine between a neuron's gate row and its up row", range=[-1.02, 1.02])
    figure.update_yaxes(title_text="% of the neurons")
    parallel, opposite = (
        100 * float(share) for share in ((cosine > 0.5).double().mean(), (cosine < -0.5).double().mean())
    )
    alt = f"{title}. Above 0.5: {parallel:.0f} % of the neurons; below -0.5: {opposite:.0f} %."
    return finish(figure, title, alt, 330, subtitle)


def loss_bars(losses: Mapping[str, float], title: str, subtitle: str, right: str = "", form: str = ".2f") -> Picture:
    """Next-token loss in nats per token, one bar per variant; `right` is the model as it was trained."""
    values = [round(loss, 3) for loss in losses.values()]
    summary = ", ".join(f"{name} {loss:{form}}" for name, loss in zip(losses, values, strict=True))
    colours = [GREEN if name == right else BLUE for name in losses]
    alt = f"{title}: {summary} nats per token."
    return bars(list(losses), values, title, alt, subtitle=subtitle, form=form, colours=colours)


def training_curves(
    steps: Sequence[int], losses: Mapping[str, Sequence[Sequence[float]]], title: str, subtitle: str
) -> Picture:
    """Loss on held-out text while training: one thin line for each seed, one colour for each kind of network.

    losses: kind -> one sequence of losses for each seed.
    """
    figure = go.Figure()
    for kind, runs in losses.items():
        for number, run in enumerate(runs):
            figure.add_trace(
                go.Scatter(
                    x=list(steps), y=[round(loss, 3) for loss in run], mode="lines+markers",
                    name=None if number else kind, line={"color": KINDS[kind], "width": 2}, marker={"size": 5},
                    hovertemplate=f"{kind}, seed {number}, step %{{x}}: %{{y:.2f}}<extra></extra>",
                )
            )  # fmt: skip
    figure.update_xaxes(title_text="training step", range=[steps[0], steps[-1]])
    figure.update_yaxes(title_text="loss on held-out text (nats per token)")
    label_ends(figure, height=360)
    last = ", ".join(f"{kind} {min(run[-1] for run in runs):.1f}" for kind, runs in losses.items())
    return finish(figure, title, f"{title}. At the end, to one digit: {last}.", 360, subtitle)


def share_bars(parts: Mapping[str, int], title: str, subtitle: str) -> Picture:
    """The parameters of a model by part, as horizontal bars with their share; the first part is the experts'."""
    total, colours = sum(parts.values()), [PART_COLOURS["experts"], *["#9A9A9A"] * (len(parts) - 1)]
    texts = [f"{100 * count / total:.{1 if count > total / 100 else 2}f} %" for count in parts.values()]
    summary = ", ".join(f"{name} {count:,} ({text})" for (name, count), text in zip(parts.items(), texts, strict=True))
    alt = f"{title}: {summary}."
    return bars(list(parts), list(parts.values()), title, alt, subtitle=subtitle, colours=colours, texts=texts)
