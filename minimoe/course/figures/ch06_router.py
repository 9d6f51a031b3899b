"""The figures of chapter 06: scores, the cut after the last rank, margins, how often experts are used."""

from collections.abc import Callable, Sequence
from math import comb
from typing import Any

import plotly.graph_objects as go
import torch
from torch import Tensor

from minimoe.course.figures.boxes import draw_boxes
from minimoe.figure_style import (
    BLUE,
    GREEN,
    INK,
    MUTED,
    ORANGE,
    PART_COLOURS,
    PURPLE,
    SKY,
    VERMILLION,
    Picture,
    finish,
    ink_on,
    label,
    label_ends,
    reference_line,
    rounded,
)

CHOSEN, OTHER, MARK, THIRD = BLUE, "#C8C8C8", VERMILLION, GREEN  # Okabe & Ito: safe for colour-blind readers
PARTS = ("embedding", "norm", "attention", "norm", "router", "experts", "norm", "head")


def model_map(lit: str = "router") -> Picture:
    """The whole model as a row of boxes, with the part of this chapter highlighted."""
    figure = go.Figure()
    figure.add_shape(type="rect", x0=0.9, x1=5.97, y0=-0.42, y1=1.12, line={"color": "#808080", "dash": "dot"})
    figure.add_annotation(x=3.5, y=1.3, text="one layer, repeated", showarrow=False, font={"color": "#606060"})
    narrow = {"embedding": "embed", "attention": "atten-<br>tion"}
    labels = [narrow.get(part, part) for part in PARTS]
    draw_boxes(figure, labels, PARTS.index(lit), PART_COLOURS.get(lit, MARK), width=0.86)
    for tail, head, text in ((0.95, 2.91, "add"), (2.97, 5.93, "add")):
        path = f"M {tail},0.35 L {tail},-0.22 L {head},-0.22 L {head},0.35"
        figure.add_shape(type="path", path=path, line={"width": 1, "color": "#808080"})
        figure.add_annotation(x=(tail + head) / 2, y=-0.31, text=text, showarrow=False, font={"size": 11})
    figure.update_xaxes(visible=False, range=[-0.1, 8])
    figure.update_yaxes(visible=False, range=[-0.5, 1.5])
    alt = f"The model from left to right: {', '.join(PARTS)}. This chapter is about the {lit}."
    picture = finish(figure, "Where we are", alt, height=230)
    figure.update_layout(margin={"l": 10, "r": 10, "t": 45, "b": 5})
    return picture


def score_bars(logits: Tensor, experts: Tensor, title: str, subtitle: str = "") -> Picture:
    """The scores of one token by expert number. logits: (expert); experts: (slot), the selected ones, highlighted."""
    chosen = set(experts.tolist())
    colours = [CHOSEN if expert in chosen else OTHER for expert in range(len(logits))]
    bar = go.Bar(
        x=list(range(len(logits))), y=rounded(logits), marker={"color": colours, "line": {"width": 0}},
        hovertemplate="expert %{x}<br>logit %{y:.3f}<extra></extra>",
    )  # fmt: skip
    figure = go.Figure(bar)
    figure.update_layout(bargap=0.1)
    figure.update_xaxes(title_text="expert number within the layer", dtick=16, showgrid=False)
    figure.update_yaxes(title_text="logit (no unit)")
    names = ", ".join(map(str, experts.tolist()))
    return finish(figure, title, f"{title}. {len(logits)} bars; the highest are experts {names}.", 280, subtitle)


def cut(
    logits: Tensor, top_k: int, title: str, temperature: float = 1.0, note: str = "", highest: float | None = None
) -> Picture:
    """The sorted softmax of one token, with the cut after rank `top_k` and its margin. logits: (expert).

    Dots are the renormalised weights of the selected experts; at another temperature than 1, circles show those at 1.
    `note` is a sentence for the line below the title. highest: the end of the value axis, by default that of the data.
    """
    ordered = logits.sort(descending=True)
    probabilities = (ordered.values / temperature).softmax(-1)
    weights = probabilities[:top_k] / probabilities[:top_k].sum()
    mass, margin = float(probabilities[:top_k].sum()), float(ordered.values[top_k - 1] - ordered.values[top_k])
    ranks, names = list(range(1, len(logits) + 1)), [f"expert {expert}" for expert in ordered.indices.tolist()]
    figure = go.Figure()
    figure.add_trace(
        go.Bar(
            x=ranks, y=rounded(probabilities), customdata=names, name="softmax over all experts",
            marker={"color": [CHOSEN] * top_k + [OTHER] * (len(logits) - top_k), "line": {"width": 0}},
            hovertemplate="rank %{x}: %{customdata}<br>softmax %{y:.3f}<extra></extra>",
        )
    )  # fmt: skip
    figure.add_trace(
        go.Scatter(
            x=ranks[:top_k], y=rounded(weights), customdata=names[:top_k], mode="markers",
            name="weight after renormalising", marker={"color": MARK, "size": 8},
            hovertemplate="%{customdata}<br>weight %{y:.3f}<extra></extra>",
        )
    )  # fmt: skip
    if temperature != 1:
        before = ordered.values[:top_k].softmax(-1)
        figure.add_trace(
            go.Scatter(
                x=ranks[:top_k], y=rounded(before), mode="markers", hoverinfo="skip", name="at temperature 1",
                marker={"symbol": "circle-open", "color": MARK, "size": 9},
            )
        )  # fmt: skip
    figure.add_vline(x=top_k + 0.5, line={"color": "#202020", "width": 1, "dash": "dash"})
    figure.add_hline(y=1 / len(logits), line={"color": "#808080", "width": 1, "dash": "dot"})
    says = f"cut after rank {top_k}<br>margin to rank {top_k + 1}: {margin:.3f} (logits)<br>the {top_k} hold {mass:.0%}"
    figure.add_annotation(
        x=top_k + 2, y=0.98, yref="paper", xanchor="left", yanchor="top", align="left", text=says, showarrow=False
    )
    figure.add_annotation(
        x=6 * top_k, y=1 / len(logits), xanchor="right", yanchor="bottom", text=f"even: 1/{len(logits)}",
        showarrow=False, font={"size": 11, "color": "#606060"},
    )  # fmt: skip
    shown = min(len(logits), 6 * top_k)
    figure.update_xaxes(
        title_text=f"rank of the expert (hover for its number); {shown} of {len(logits)} shown",
        showgrid=False,
        range=[0, shown + 1],
    )
    figure.update_yaxes(title_text="share (of 1)", rangemode="tozero", range=highest and [0, highest])
    alt = (
        f"{title}: {len(logits)} bars sorted by softmax at temperature {temperature:g}. The {top_k} highest hold "
        f"{mass:.0%} of it; the margin to the next is {margin:.3f} in the logits. {note}"
    )
    picture = finish(figure, title, alt.strip(), height=340, subtitle=note)
    below = {"orientation": "h", "x": 1, "xanchor": "right", "y": 0.6}
    figure.update_layout(showlegend=True, legend=below, bargap=0.1)
    return picture


def driven(draw: Callable[..., Picture], **controls: Any) -> Any:
    """Widgets above a picture; every change calls `draw` with the widgets' values and shows the result.

    The output of the Output widget is assigned directly, which avoids flicker and the capture of printed text.
    """
    from ipywidgets import HBox, Layout, Output, VBox

    screen = Output(layout=Layout(min_height="400px"))

    def redraw(*_: Any) -> None:
        picture = draw(**{name: control.value for name, control in controls.items()})
        shown = {"output_type": "display_data", "metadata": {}, "data": picture._repr_mimebundle_()}
        screen.outputs = (shown,)

    for control in controls.values():
        control.observe(redraw, names="value")
    redraw()
    return VBox([HBox(list(controls.values()), layout=Layout(flex_flow="row wrap")), screen])


def explore_cut(
    logits: Tensor,
    texts: Sequence[str],
    top_k: int,
    token: int = 0,
    label: str = "mini",
    layers: Sequence[int] = (),
    layer: int = 0,
) -> Any:
    """The chapter's experiment: choose a token, a layer and a temperature. logits: (layer, token, expert).

    token, layer: where it begins, as indices of logits. layers: the numbers of the layers in the model, by default
    0, 1, ...
    """  # fmt: skip
    from ipywidgets import Dropdown, FloatLogSlider, IntSlider, Layout

    last, wide, style = len(texts) - 1, Layout(width="330px"), {"description_width": "initial"}
    experts = logits.topk(top_k, dim=-1).indices
    expected = top_k**2 / logits.shape[-1]
    numbers = list(layers) or list(range(len(logits)))

    def draw(token: int, layer: int, temperature: float) -> Picture:
        current = set(experts[layer, token].tolist())
        note = "the first token has no neighbour to compare with"
        if token:
            kept = len(current & set(experts[layer, token - 1].tolist()))
            note = f"{kept} of its {top_k} experts are those of the token before it (by chance: {expected:g})"
        title = f"Token {token} '{texts[token]}' in layer {numbers[layer]} ({label}), temperature {temperature:.2g}"
        return cut(logits[layer, token], top_k, title, temperature, note, highest=1.0)

    return driven(
        draw,
        token=IntSlider(value=token, min=0, max=last, description="token", continuous_update=True, layout=wide),
        layer=Dropdown(
            options=[(str(n), row) for row, n in enumerate(numbers)],
            value=layer,
            description="layer",
            layout=Layout(width="170px"),
        ),
        temperature=FloatLogSlider(
            value=1, min=-1, max=1, step=0.1, description="temperature", layout=wide, style=style
        ),
    )


def pushes(scores: Tensor, gradient: Tensor, top_k: int, title: str, subtitle: str) -> Picture:
    """How the loss would move the scores of one token, by rank: up in BLUE, down in VERMILLION.

    scores, gradient: (expert), the gradient of the loss with respect to the scores; a step of gradient descent moves
    each score against its gradient. Twice as many ranks as are chosen are shown.
    """
    order = scores.argsort(descending=True)[: 2 * top_k]
    moves = [round(float(value), 3) + 0.0 for value in -gradient[order]]
    ranks = list(range(1, len(moves) + 1))
    labels = [label(move, "+.1f") if abs(move) >= 0.05 else "0" for move in moves]
    figure = go.Figure(
        go.Bar(
            x=ranks, y=moves, text=labels, textposition="outside", cliponaxis=False, hoverinfo="skip",
            constraintext="none", textangle=0, textfont={"size": 12},
            marker={"color": [CHOSEN if move > 0 else MARK for move in moves], "line": {"width": 0}},
        )
    )  # fmt: skip
    room = 0.16 * (max(moves) - min(moves) or 1.0)
    figure.add_hline(y=0, line={"color": INK, "width": 1})
    figure.add_vline(x=top_k + 0.5, line={"color": INK, "width": 1, "dash": "dash"})
    for x, anchor, text in ((top_k + 0.3, "right", "chosen"), (top_k + 0.7, "left", "not chosen")):
        figure.add_annotation(
            x=x, y=1, yref="paper", xanchor=anchor, yanchor="bottom", text=text, showarrow=False, font={"color": MUTED}
        )
    figure.update_layout(bargap=0.25)
    figure.update_xaxes(title_text="rank of the expert", tickvals=ranks, showgrid=False)
    figure.update_yaxes(visible=False, range=[min(moves) - room, max(moves) + room])
    up = sum(move > 0 for move in moves[:top_k])
    alt = f"{title}. Of the {top_k} chosen, {up} go up and {top_k - up} down; all others stay."
    return finish(figure, title, alt, 300, subtitle)


def chance_of_sharing(top_k: int, experts: int) -> list[float]:
    """The probabilities that two random sets of `top_k` of `experts` share 0, 1, ... `top_k` (hypergeometric)."""
    return [comb(top_k, n) * comb(experts - top_k, top_k - n) / comb(experts, top_k) for n in range(top_k + 1)]


def usage_curves(
    counts: Tensor, top_k: int, title: str, subtitle: str, numbers: Sequence[int] | None = None
) -> Picture:
    """How often each expert is chosen, sorted, as a multiple of an even share.

    counts: (layer, expert), tokens; numbers: those of the layers in the model, by default 0, 1, ...

    The grey band is what dice would give for as many tokens: the expected sorted values (order statistics of a normal
    distribution, Blom 1958), plus and minus the standard deviation of a single expert's count.
    """
    layers, experts = counts.shape
    tokens = float(counts[0].sum()) / top_k
    even = tokens * top_k / experts
    spread = ((1 - top_k / experts) / even) ** 0.5
    ranks = torch.arange(1, experts + 1, dtype=torch.float64)
    expected = 1 + spread * 2**0.5 * torch.erfinv(2 * (ranks - 0.375) / (experts + 0.25) - 1)
    place = list(range(1, experts + 1))
    figure = go.Figure()
    for edge, fill in ((expected - spread, None), (expected + spread, "tonexty")):
        figure.add_trace(
            go.Scatter(
                x=place, y=rounded(edge), mode="lines", line={"width": 0}, fill=fill, fillcolor="#DDDDDD",
                hoverinfo="skip",
            )
        )  # fmt: skip
    colours = (CHOSEN, MARK, THIRD, PURPLE, SKY, ORANGE)
    shares = [(row / even).sort().values for row in counts.double()]
    for layer, row in zip(numbers or range(layers), shares, strict=True):
        figure.add_trace(
            go.Scatter(
                x=place, y=rounded(row), mode="lines", name=f"layer {layer}",
                line={"color": colours[layer % len(colours)]},
                hovertemplate="rank %{x}: %{y:.2f} of an even share<extra>layer " + str(layer) + "</extra>",
            )
        )  # fmt: skip
    figure.update_xaxes(title_text="experts, sorted by how often they are chosen", range=[0, experts])
    figure.update_yaxes(title_text="times an even share", rangemode="tozero")
    label_ends(figure, height=360)
    least, most = min(float(row[0]) for row in shares), max(float(row[-1]) for row in shares)
    alt = f"{title}. {layers} layers of {experts} experts: {least:.1f} to {most:.1f} times an even share."
    return finish(figure, title, alt, 360, subtitle)


def margin_curves(
    margins: Tensor, step: float, title: str, subtitle: str = "", numbers: Sequence[int] | None = None
) -> Picture:
    """The share of tokens with a margin below x, per layer.

    margins: (layer, token); step: one step of bfloat16; numbers: those of the layers in the model.
    """
    figure, colours = go.Figure(), (CHOSEN, MARK, THIRD, PURPLE, SKY, ORANGE)
    shares = torch.linspace(0.01, 0.99, 99)
    for layer, row in zip(numbers or range(len(margins)), margins, strict=True):
        curve = go.Scatter(
            x=[round(float(value), 5) for value in row.double().quantile(shares.double())], y=rounded(shares),
            mode="lines", name=f"layer {layer}", line={"color": colours[layer % len(colours)]},
            hovertemplate="margin below %{x:.4f}: %{y:.0%} of the tokens<extra>layer " + str(layer) + "</extra>",
        )  # fmt: skip
        figure.add_trace(curve)
    figure.update_xaxes(title_text="margin: last one in minus first one out (logits, log scale)", type="log", dtick=1)
    figure.update_yaxes(title_text="share of the tokens below it", tickformat=".0%", range=[0, 1])
    reference_line(figure, step, f"one step of bfloat16: 1/{1 / step:.0f}", axis="x")
    label_ends(figure, height=360)
    shares_below = (margins < step).float().mean(-1).tolist()
    below = [
        f"layer {layer}: {share:.0%}" for layer, share in zip(numbers or range(len(margins)), shares_below, strict=True)
    ]
    alt = f"{title}. Share of the tokens whose margin is smaller than one bfloat16 step: {', '.join(below)}."
    return finish(figure, title, alt, height=360, subtitle=subtitle)


def layer_square(router: int, attention: int, experts: int, title: str) -> Picture:
    """The parameters of one layer as areas of a square, in which the smallest part is still visible, as a dot."""
    total = router + attention + experts
    figure, strip = go.Figure(), attention / total
    dot = (router / total) ** 0.5
    boxes = (
        ("experts", 0.0, 1 - strip, 0.0, 1.0),
        ("attention", 1 - strip, 1.0, 0.0, 1.0),
        ("router", 0.5, 0.5 + dot, 0.5, 0.5 + dot),
    )
    for part, x0, x1, y0, y1 in boxes:
        figure.add_shape(type="rect", x0=x0, x1=x1, y0=y0, y1=y1, fillcolor=PART_COLOURS[part], line={"width": 0})
    ink = ink_on(PART_COLOURS["experts"])
    font = {"color": ink, "size": 14}
    figure.add_annotation(x=0.3, y=0.85, text=f"the experts<br>{experts / total:.2%}", showarrow=False, font=font)
    side = {"ax": 30, "ay": 0, "arrowhead": 2, "xanchor": "left"}
    figure.add_annotation(x=1 - strip / 2, y=0.85, text=f"attention {attention / total:.2%}", **side)
    figure.add_annotation(
        x=0.5 + dot, y=0.5 + dot / 2, ax=0, ay=60, arrowhead=2, arrowcolor=ink,
        text=f"<b>the router</b><br>{router / total:.3%}", font=font,
    )  # fmt: skip
    figure.update_xaxes(visible=False, range=[-0.02, 1.45], constrain="domain", constraintoward="left")
    figure.update_yaxes(visible=False, range=[-0.02, 1.02], scaleanchor="x", constrain="domain")
    alt = (
        f"{title}: areas. Experts {experts / total:.2%}, attention {attention / total:.2%}, the router a dot of "
        f"{router / total:.3%}."
    )
    return finish(figure, title, alt, height=360)
