"""Chapter 08: the residual stream as a sum, what each layer would say, and the model stopped at a layer."""

from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any

import plotly.graph_objects as go
import torch
from torch import Tensor

from minimoe.course.capture import capture, layers_in_order, next_token_loss
from minimoe.course.figures.ch06_router import driven
from minimoe.figure_style import BLUE, GREEN, MUTED, PART_COLOURS, SEQUENTIAL, Picture, bars, finish, ink_on
from minimoe.model.rope import rotary_tables
from minimoe.model.transformer import Transformer
from minimoe.text.generate import generate
from minimoe.text.tokenizer import Tokenizer

STEPS = ("embedding", "norm", "attention", "norm", "router", "experts", "norm", "head")
SHOWN = 7  # tokens of a lens, as many as a narrow window holds


def whole_map() -> Picture:
    """The whole model as a row of boxes, every part in its colour, with the stream below them."""
    figure = go.Figure()
    figure.add_shape(type="rect", x0=0.9, x1=5.97, y0=-0.5, y1=1.12, line={"color": "#808080", "dash": "dot"})
    figure.add_annotation(x=3.5, y=1.3, text="one layer, repeated", showarrow=False, font={"color": "#606060"})
    narrow = {"embedding": "embed", "attention": "atten-<br>tion"}
    for index, part in enumerate(STEPS):
        colour = PART_COLOURS[part]
        figure.add_shape(
            type="rect",
            x0=index,
            x1=index + 0.86,
            y0=0,
            y1=0.7,
            fillcolor=colour,
            line={"width": 1, "color": "#808080"},
        )
        figure.add_annotation(
            x=index + 0.43, y=0.35, text=f"<b>{narrow.get(part, part)}</b>", showarrow=False,
            font={"color": ink_on(colour), "size": 12},
        )  # fmt: skip
    figure.add_shape(type="line", x0=0.43, x1=6.43, y0=-0.3, y1=-0.3, line={"width": 4, "color": MUTED})
    figure.add_annotation(
        x=6.5, y=-0.3, text="the stream", showarrow=False, font={"color": MUTED, "size": 12}, xanchor="left"
    )
    for x, reads in ((0.43, False), (1.43, True), (2.43, False), (3.43, True), (5.43, False), (6.43, True)):
        tail, head = (-0.3, 0.0) if reads else (0.0, -0.3)
        figure.add_annotation(
            x=x, y=head, ax=x, ay=tail, xref="x", yref="y", axref="x", ayref="y", showarrow=True, arrowhead=2,
            arrowsize=0.8, text="",
        )  # fmt: skip
    figure.update_xaxes(visible=False, range=[-0.1, 8])
    figure.update_yaxes(visible=False, range=[-0.6, 1.5])
    alt = (
        f"The model from left to right: {', '.join(STEPS)}. Below runs the stream: the embedding begins it, attention "
        "and experts of each layer read it through a norm and add to it, the final norm and the head read it."
    )
    picture = finish(figure, "Where we are: all of it", alt, height=240)
    figure.update_layout(margin={"l": 10, "r": 10, "t": 45, "b": 5})
    return picture


def contributions(model: Transformer, token_ids: Tensor) -> dict[str, Tensor]:
    """What is added to the stream, in order: the embedding, then attention and feed-forward of each layer.

    token_ids: (1, position) -> name -> (position, hidden).
    """
    modules = {"embedding": "embed_tokens"}
    for layer in model.layer_range:
        modules[f"layer {layer}, attention"] = f"layers.{layer}.self_attn"
        modules[f"layer {layer}, experts"] = f"layers.{layer}.mlp"
    return {name: added[0] for name, added in zip(modules, capture(model, token_ids, *modules.values()), strict=True)}


def share_of_logit(model: Transformer, parts: Mapping[str, Tensor], token: int, position: int = -1) -> dict[str, float]:
    """How much each contribution adds to the logit of a token, at one position. They sum to the logit.

    The final norm divides by the size of the whole sum; with that size fixed, it is a multiplication per channel.
    """
    state = torch.stack([part[position] for part in parts.values()]).sum(dim=0)
    scale = model.norm.weight * torch.rsqrt(state.pow(2).mean() + model.norm.eps)
    return {name: float((part[position] * scale) @ model.lm_head.weight[token]) for name, part in parts.items()}


def contribution_bars(values: Mapping[str, float], title: str, subtitle: str) -> Picture:
    """One bar for each contribution to a logit, in the colour of its part."""
    colours = [PART_COLOURS[name.rpartition(", ")[2]] for name in values]
    rounded = [round(value, 1) + 0.0 for value in values.values()]
    alt = f"{title}. " + ", ".join(f"{name}: {value:.1f}" for name, value in zip(values, rounded, strict=True)) + "."
    return bars(list(values), rounded, title, alt, subtitle=subtitle, form=".1f", signed=True, colours=colours)


# What each layer would say -------------------------------------------------------------------------------------------


@torch.no_grad()
def states(model: Transformer, token_ids: Tensor, order: Sequence[int]) -> Tensor:
    """The stream after the embedding and after each layer of `order`: (1 + layers, position, hidden)."""
    x = model.embed(token_ids)
    cos, sin = rotary_tables(model.config, 0, x.shape[1], x.dtype, x.device)
    seen = [x]
    for number in order:
        x = model.layers[number](x, cos, sin, None)
        seen.append(x)
    return torch.cat(seen)


@torch.no_grad()
def lens(model: Transformer, stream: Tensor) -> tuple[Tensor, Tensor]:
    """The token that the head finds most probable in each state, and its probability. (row, position, hidden) ->
    two of (row, position).
    """
    probability, token = model.lm_head(model.norm(stream)).softmax(dim=-1).max(dim=-1)
    return token, probability


def word(tokenizer: Tokenizer, token: int) -> str:
    """A token as a short label; "#2050" for one of the rows that a padded vocabulary has and the tokenizer has not."""
    if token >= tokenizer.vocabulary_size:
        return f"#{token}"
    text = tokenizer.decode([token]).strip().replace("\n", "↵")
    return (text if len(text) <= 7 else text[:6] + "…") or "␣"


def lens_map(
    tokenizer: Tokenizer, token_ids: Tensor, tokens: Tensor, probability: Tensor, rows: Sequence[str], title: str,
    subtitle: str,
) -> Picture:  # fmt: skip
    """For the last tokens of a text and each row, the word that the model would write next, darker if it is surer.

    token_ids: (1, position). tokens, probability: (row, position).
    """
    last = min(SHOWN, token_ids.shape[1])
    texts = [[word(tokenizer, token) for token in row[-last:]] for row in tokens.tolist()]
    above = [word(tokenizer, token) for token in token_ids[0, -last:].tolist()]
    shares = [[round(value, 2) for value in row[-last:]] for row in probability.tolist()]
    figure = go.Figure(
        go.Heatmap(
            z=shares, zmin=0, zmax=1, colorscale=SEQUENTIAL, reversescale=True, xgap=2, ygap=2,
            hovertemplate="%{y}: probability %{z}<extra></extra>",
            showscale=False,
            y=list(rows),
        )
    )  # fmt: skip
    for row, (words, values) in enumerate(zip(texts, shares, strict=True)):
        for column, (text, value) in enumerate(zip(words, values, strict=True)):
            figure.add_annotation(
                x=column, y=rows[row], text=text, showarrow=False,
                font={"size": 11, "color": "white" if value > 0.55 else "black"},
            )  # fmt: skip
    figure.update_xaxes(
        tickvals=list(range(last)), ticktext=above, side="top", showgrid=False, zeroline=False, ticks="", tickangle=0,
        tickfont={"size": 11}, title_text="after reading ...",
    )  # fmt: skip
    figure.update_yaxes(type="category", autorange="reversed", showgrid=False, ticks="", showline=False)
    said = "; ".join(f"{row}: {' '.join(words)}" for row, words in zip(rows, texts, strict=True))
    picture = finish(figure, title, f"{title}. {subtitle.replace('<br>', ' ')} {said}.", 110 + 34 * len(rows), subtitle)
    picture.figure.update_layout(margin={"t": (picture.figure.layout.margin.t or 60) + 26})
    return picture


def names_of(order: Sequence[int]) -> list[str]:
    """The rows of a lens: the embedding, and the layers in the order in which they run."""
    return ["embedding", *(f"layer {number}" + "\u200b" * order[:at].count(number) for at, number in enumerate(order))]


# Stop, or leave out --------------------------------------------------------------------------------------------------


def writes(model: Transformer, tokenizer: Tokenizer, prompt: str, order: Sequence[int], count: int = 24) -> str:
    """What the model writes after a prompt, greedily, with these layers only."""
    with layers_in_order(model, order):
        return "".join(generate(model, tokenizer, prompt, max_new_tokens=count, temperature=0))


def explore_layers(model: Transformer, tokenizer: Tokenizer, prompts: Sequence[str], texts: Sequence[Tensor]) -> Any:
    """The chapter's experiment: stop the model after a layer, leave a layer out, and let it speak.

    texts: (1, position) each, on which the loss is measured.
    """
    from ipywidgets import Dropdown, Layout, SelectionSlider

    numbers = list(model.layer_range)
    losses: dict[tuple[int, ...], float] = {}

    def draw(prompt: str, stop: int, out: int) -> Picture:
        order = tuple(number for number in numbers if number <= stop and number != out)
        token_ids = torch.tensor([tokenizer.encode(prompt)])
        if order not in losses:
            with layers_in_order(model, order):
                losses[order] = next_token_loss(model, texts)
        written = writes(model, tokenizer, prompt, order).replace("\n", " ↵ ")
        tokens, probability = lens(model, states(model, token_ids, order))
        title = f"“… {prompt.split()[-1]}” and then: “{written.strip()}”"
        runs = ", ".join(map(str, order)) or "none"
        says = f"Layers that run: {runs} of {len(numbers)}. Loss on other texts: {losses[order]:.2f} nats per token."
        return lens_map(tokenizer, token_ids, tokens, probability, names_of(order), title, says)

    style = {"description_width": "110px"}
    stops = [("the embedding", -1), *((f"layer {number}", number) for number in numbers)]
    outs = [("none", -1), *((f"layer {number}", number) for number in numbers)]
    return driven(
        draw,
        prompt=Dropdown(
            options=[(f"{text[:40]} …" if len(text) > 40 else text, text) for text in prompts], description="prompt",
            layout=Layout(width="420px"), style=style,
        ),
        stop=SelectionSlider(
            options=stops, value=numbers[-1], description="stop after", layout=Layout(width="320px"), style=style,
            continuous_update=False,
        ),
        out=SelectionSlider(
            options=outs, value=-1, description="leave out", layout=Layout(width="320px"), style=style,
            continuous_update=False,
        ),
    )  # fmt: skip


def loss_bars(losses: Mapping[str, float], title: str, subtitle: str, right: str) -> Picture:
    """Next-token loss of some versions of a model; `right` is the model as it was trained."""
    values = [round(loss, 2) if isfinite(loss) else 0.0 for loss in losses.values()]
    texts = [f"{loss:.2f}" if isfinite(loss) else "not a number" for loss in losses.values()]
    colours = [GREEN if name == right else BLUE for name in losses]
    alt = f"{title}: {', '.join(f'{name} {text}' for name, text in zip(losses, texts, strict=True))} nats."
    return bars(list(losses), values, title, alt, subtitle=subtitle, colours=colours, texts=texts)
