"""The figures of chapter 06: scores, the cut after rank eight, margins, overlaps, and an interactive one."""

from collections.abc import Callable, Mapping, Sequence
from math import comb
from typing import Any

import plotly.graph_objects as go
import torch
from torch import Tensor

from minimoe.course.figures.boxes import draw_boxes
from minimoe.plotting import BLUE, GREEN, ORANGE, PURPLE, SKY, VERMILLION, Picture, finish
from minimoe.routing.figures import bars, rounded

CHOSEN, OTHER, MARK, THIRD = BLUE, "#C8C8C8", VERMILLION, GREEN  # Okabe & Ito: safe for colour-blind readers
PARTS = ("embedding", "norm", "attention", "norm", "router", "experts", "norm", "head")


def model_map(lit: str = "router") -> Picture:
    """The whole model as a row of boxes, with the part of this chapter highlighted."""
    figure = go.Figure()
    figure.add_shape(type="rect", x0=0.9, x1=5.97, y0=-0.42, y1=1.12, line={"color": "#808080", "dash": "dot"})
    figure.add_annotation(x=3.5, y=1.3, text="one layer, repeated", showarrow=False, font={"color": "#606060"})
    draw_boxes(figure, PARTS, PARTS.index(lit), MARK, width=0.86)
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


def score_bars(logits: Tensor, experts: Tensor, title: str) -> Picture:
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
    return finish(figure, title, f"{title}. {len(logits)} bars; the highest are experts {names}.", height=300)


def cut(logits: Tensor, top_k: int, title: str, temperature: float = 1.0, note: str = "") -> Picture:
    """The sorted softmax of one token, with the cut after rank `top_k` and its margin. logits: (expert).

    Dots are the renormalised weights of the selected experts. `note` is a sentence for the line below the title.
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
    figure.update_yaxes(title_text="share (of 1)", rangemode="tozero")
    alt = (
        f"{title}: {len(logits)} bars sorted by softmax at temperature {temperature:g}. The {top_k} highest hold "
        f"{mass:.0%} of it; the margin to the next is {margin:.3f} in the logits. {note}"
    )
    picture = finish(figure, title, alt.strip(), height=380)
    below = {"orientation": "h", "x": 1, "xanchor": "right", "y": 0.6}
    figure.update_layout(showlegend=True, legend=below, bargap=0.1, margin={"l": 70, "r": 20, "t": 85, "b": 55})
    if note:
        figure.update_layout(title={"subtitle": {"text": note, "font": {"size": 13, "color": "#404040"}}})
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


def explore_cut(logits: Tensor, texts: Sequence[str], top_k: int, token: int = 0, label: str = "mini") -> Any:
    """The chapter's experiment: choose a token, a layer and a temperature. logits: (layer, token, expert)."""
    from ipywidgets import Dropdown, FloatLogSlider, IntSlider, Layout

    last, wide, style = len(texts) - 1, Layout(width="330px"), {"description_width": "initial"}
    experts = logits.topk(top_k, dim=-1).indices
    expected = top_k**2 / logits.shape[-1]

    def draw(token: int, layer: int, temperature: float) -> Picture:
        current = set(experts[layer, token].tolist())
        note = "the first token has no neighbour to compare with"
        if token:
            kept = len(current & set(experts[layer, token - 1].tolist()))
            note = f"{kept} of its {top_k} experts are those of the token before it (by chance: {expected:g})"
        title = f"Token {token} '{texts[token]}' in layer {layer} ({label}), temperature {temperature:.2g}"
        return cut(logits[layer, token], top_k, title, temperature, note)

    return driven(
        draw,
        token=IntSlider(value=token, min=0, max=last, description="token", continuous_update=True, layout=wide),
        layer=Dropdown(options=list(range(len(logits))), description="layer", layout=Layout(width="170px")),
        temperature=FloatLogSlider(
            value=1, min=-1, max=1, step=0.1, description="temperature", layout=wide, style=style
        ),
    )


def chance_of_sharing(top_k: int, experts: int) -> list[float]:
    """The probabilities that two random sets of `top_k` of `experts` share 0, 1, ... `top_k` (hypergeometric)."""
    return [comb(top_k, n) * comb(experts - top_k, top_k - n) / comb(experts, top_k) for n in range(top_k + 1)]


def overlap_bars(groups: Mapping[str, Sequence[float]], title: str) -> Picture:
    """The overlap of two sets of experts: for each kind of pair, the share of pairs with 0, 1, ... common experts."""
    figure, colours = go.Figure(), (OTHER, CHOSEN, MARK, THIRD)
    for (name, shares), colour in zip(groups.items(), colours, strict=False):
        mean = sum(count * share for count, share in enumerate(shares))
        figure.add_trace(
            go.Bar(
                x=list(range(len(shares))), y=[round(float(share), 3) for share in shares],
                name=f"{name} (mean {mean:.2f})", marker={"color": colour},
                hovertemplate="%{x} in common: %{y:.1%}<extra>" + name + "</extra>",
            )
        )  # fmt: skip
    figure.update_xaxes(title_text="experts in common (of 8)", dtick=1, showgrid=False)
    figure.update_yaxes(title_text="share of the pairs", tickformat=".0%")
    means = "; ".join(f"{name}: {sum(n * s for n, s in enumerate(shares)):.2f}" for name, shares in groups.items())
    picture = finish(figure, title, f"{title}. Mean number in common: {means}.", height=360)
    figure.update_layout(showlegend=True, legend={"x": 0.98, "xanchor": "right", "y": 0.98}, bargap=0.15)
    return picture


def margin_curves(margins: Tensor, step: float, title: str) -> Picture:
    """The share of tokens with a margin below x, per layer. margins: (layer, token); step: one step of bfloat16."""
    figure, colours = go.Figure(), (CHOSEN, MARK, THIRD, PURPLE, SKY, ORANGE)
    shares = torch.linspace(0.01, 0.99, 99)
    for layer, row in enumerate(margins):
        curve = go.Scatter(
            x=[round(float(value), 5) for value in row.double().quantile(shares.double())], y=rounded(shares),
            mode="lines", name=f"layer {layer}", line={"color": colours[layer % len(colours)]},
            hovertemplate="margin below %{x:.4f}: %{y:.0%} of the tokens<extra>layer " + str(layer) + "</extra>",
        )  # fmt: skip
        figure.add_trace(curve)
    figure.add_vline(x=step, line={"color": "#202020", "width": 1, "dash": "dash"})
    figure.add_annotation(
        x=torch.tensor(step).log10().item(), y=0.98, yref="paper", yanchor="top", xanchor="right", showarrow=False,
        text=f"one step of bfloat16<br>at the cut: 1/{1 / step:.0f} ",
    )  # fmt: skip
    figure.update_xaxes(title_text="margin: logit of rank 8 minus logit of rank 9 (log scale)", type="log", dtick=1)
    figure.update_yaxes(title_text="share of the tokens below it", tickformat=".0%", range=[0, 1])
    below = [f"layer {layer}: {share:.0%}" for layer, share in enumerate((margins < step).float().mean(-1).tolist())]
    alt = f"{title}. Share of the tokens whose margin is smaller than one bfloat16 step: {', '.join(below)}."
    picture = finish(figure, title, alt, height=360)
    figure.update_layout(showlegend=True, legend={"x": 0.02, "y": 0.98})
    return picture


def layer_square(router: int, attention: int, experts: int, title: str) -> Picture:
    """The parameters of one layer as areas of a square, in which the smallest part is still visible, as a dot."""
    total = router + attention + experts
    figure, strip = go.Figure(), attention / total
    dot = (router / total) ** 0.5
    boxes = (
        ("experts", 0.0, 1 - strip, 0.0, 1.0, CHOSEN),
        ("attention", 1 - strip, 1.0, 0.0, 1.0, THIRD),
        ("router", 0.5, 0.5 + dot, 0.5, 0.5 + dot, MARK),
    )
    for _, x0, x1, y0, y1, colour in boxes:
        figure.add_shape(type="rect", x0=x0, x1=x1, y0=y0, y1=y1, fillcolor=colour, line={"width": 0})
    label = {"showarrow": False, "font": {"color": "white", "size": 14}}
    figure.add_annotation(x=0.25, y=0.85, text=f"128 experts<br>{experts / total:.2%}", **label)
    side = {"ax": 60, "ay": 0, "arrowhead": 2, "xanchor": "left"}
    figure.add_annotation(x=1 - strip / 2, y=0.85, text=f"attention {attention / total:.2%}", **side)
    figure.add_annotation(
        x=0.5 + dot, y=0.5 + dot / 2, ax=40, ay=-45, arrowhead=2, arrowcolor="white",
        text=f"<b>the router</b><br>{router / total:.3%}", font={"color": "white", "size": 14},
    )  # fmt: skip
    figure.update_xaxes(visible=False, range=[-0.02, 1.5])
    figure.update_yaxes(visible=False, range=[-0.02, 1.02], scaleanchor="x")
    alt = (
        f"{title}: areas. Experts {experts / total:.2%}, attention {attention / total:.2%}, the router a dot of "
        f"{router / total:.3%}."
    )
    picture = finish(figure, title, alt, height=460)
    figure.update_layout(margin={"l": 20, "r": 20, "t": 60, "b": 20})
    return picture


def loss_bars(losses: Mapping[str, float], title: str) -> Picture:
    """One bar per variant of the router: next-token loss on held-out text, in nats per token."""
    summary = ", ".join(f"{name} {loss:.2f}" for name, loss in losses.items())
    alt = f"{title}. {summary} nats per token."
    picture = bars(list(losses), [round(loss, 2) for loss in losses.values()], title, "loss, nats per token", alt)
    picture.figure.update_layout(margin={"l": 250})
    return picture
