"""Chapter 05: one neuron of an expert as a landscape over its gate and its up value, with tokens as points."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go
import torch
from torch import Tensor
from torch.nn import functional as F

from minimoe.course.capture import capture
from minimoe.course.figures.ch06_router import driven
from minimoe.figure_style import BLUE, INK, MUTED, VERMILLION, Picture, finish, label
from minimoe.model.transformer import Transformer
from minimoe.text.tokenizer import Tokenizer

DIVERGING = [[0, BLUE], [0.5, "#FFFFFF"], [1, VERMILLION]]
FUNCTIONS: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {
    "SwiGLU: SiLU(gate) × up": lambda gate, up: F.silu(gate) * up,
    "swapped: SiLU(up) × gate": lambda gate, up: F.silu(up) * gate,
    "ReLU(gate) × up": lambda gate, up: F.relu(gate) * up,
    "no SiLU: gate × up": lambda gate, up: gate * up,
    "no gate: up": lambda gate, up: up,
}
POINTS, GRID = 250, 33
WIDE = 4  # a gate above is called wide open


def bank_of(model: Transformer, layer: int) -> Any:
    """The experts of a layer."""
    mlp: Any = model.layers[layer].mlp
    return mlp.experts


@dataclass(frozen=True)
class Reading:
    """What reached the experts in a forward pass over some texts.

    ids: (token). hidden: layer -> (token, hidden), the input of its experts. experts: layer -> (token, slot).
    """

    ids: Tensor
    hidden: Mapping[int, Tensor]
    experts: Mapping[int, Tensor]

    def tokens_of(self, layer: int, expert: int) -> Tensor:
        """The tokens that the router of a layer sends to an expert, by their place in `ids`."""
        return (self.experts[layer] == expert).any(dim=-1).nonzero()[:, 0]


@torch.no_grad()
def read(model: Transformer, texts: Sequence[Tensor]) -> Reading:
    """Run the texts, each (1, position), and keep what the experts of each layer got."""
    layers = model.config.moe_layers
    names = [f"layers.{layer}.post_attention_layernorm" for layer in layers]
    hidden: dict[int, list[Tensor]] = {layer: [] for layer in layers}
    experts: dict[int, list[Tensor]] = {layer: [] for layer in layers}
    for text in texts:
        for layer, (x,) in zip(layers, capture(model, text, *names), strict=True):
            mlp: Any = model.layers[layer].mlp
            hidden[layer].append(x)
            experts[layer].append(mlp.gate(x).experts)
    return Reading(
        torch.cat([text[0] for text in texts]),
        {layer: torch.cat(parts) for layer, parts in hidden.items()},
        {layer: torch.cat(parts) for layer, parts in experts.items()},
    )


@dataclass(frozen=True)
class Neuron:
    """One neuron on the tokens that its expert got.

    gate, up: (token), before the activation. column: the length of its column of `down`. cosine: between its two rows.
    """

    layer: int
    expert: int
    number: int
    ids: Tensor
    gate: Tensor
    up: Tensor
    column: float
    cosine: float

    @property
    def name(self) -> str:
        return f"layer {self.layer}, expert {self.expert}, neuron {self.number}"

    @property
    def product(self) -> Tensor:
        """What the neuron passes on to its column of `down`: (token)."""
        return F.silu(self.gate) * self.up


def neuron(model: Transformer, reading: Reading, layer: int, expert: int, number: int) -> Neuron:
    """A neuron on the texts of a reading."""
    bank, tokens = bank_of(model, layer), reading.tokens_of(layer, expert)
    gate, up = bank.gate_proj[expert][number], bank.up_proj[expert][number]
    x = reading.hidden[layer][tokens]
    return Neuron(
        layer, expert, number, reading.ids[tokens], x @ gate, x @ up,
        float(bank.down_proj[expert][:, number].norm()), float(F.cosine_similarity(gate, up, dim=0)),
    )  # fmt: skip


def loudest(model: Transformer, reading: Reading, each: int) -> list[Neuron]:
    """For each layer the `each` neurons that write the largest vector for any token, at most one of an expert."""
    found = []
    for layer in reading.hidden:
        bank, best = bank_of(model, layer), list[tuple[float, int, int]]()
        for expert in range(model.config.num_experts):
            x = reading.hidden[layer][reading.tokens_of(layer, expert)]
            if len(x):
                gate, up = F.linear(x, bank.gate_proj[expert]), F.linear(x, bank.up_proj[expert])
                size = (F.silu(gate) * up).abs().amax(dim=0) * bank.down_proj[expert].norm(dim=0)
                best.append((float(size.max()), expert, int(size.argmax())))
        found += [
            neuron(model, reading, layer, expert, number) for _, expert, number in sorted(best, reverse=True)[:each]
        ]
    return found


def favourite(each: Neuron, ten: int = 10) -> tuple[int, int, float]:
    """The most frequent token among the `ten` for which a neuron is loudest: its id, its count, the count by chance.

    By chance: in as many random tokens of those that the expert got.
    """
    loud = loud_ids(each, ten)
    token = max(loud, key=lambda id: (loud.count(id), -loud.index(id)))
    return token, loud.count(token), len(loud) * float((each.ids == token).double().mean())


def count_of(each: Neuron, token: int, ten: int = 10) -> int:
    """How many of the `ten` tokens for which a neuron is loudest are this one."""
    return loud_ids(each, ten).count(token)


def loud_ids(each: Neuron, ten: int) -> list[int]:
    """The ids of the tokens for which a neuron passes on most, loudest first."""
    return each.ids[each.product.abs().argsort(descending=True, stable=True)[:ten]].tolist()


def all_gates(model: Transformer, reading: Reading) -> tuple[Tensor, Tensor]:
    """For each token, chosen expert and neuron: the gate, and the size of what the neuron writes. (all) each."""
    gates, sizes = [], []
    for layer, hidden in reading.hidden.items():
        bank = bank_of(model, layer)
        for expert in range(model.config.num_experts):
            x = hidden[reading.tokens_of(layer, expert)]
            gate, up = F.linear(x, bank.gate_proj[expert]), F.linear(x, bank.up_proj[expert])
            gates.append(gate.flatten())
            sizes.append((F.silu(gate) * up * bank.down_proj[expert].norm(dim=0)).abs().flatten())
    return torch.cat(gates), torch.cat(sizes)


# The picture ---------------------------------------------------------------------------------------------------------


def compressed(values: Tensor) -> Tensor:
    """sign(x) log10(1 + |x|), so that products of 1 and of 1,000 are told apart by one scale of colours."""
    return values.sign() * (1 + values.abs()).log10()


def landscape(each: Neuron, tokenizer: Tokenizer, title: str, subtitle: str, function: str = "") -> Picture:
    """The product as colour over (gate, up), with the tokens that reach the neuron as points.

    function: one of FUNCTIONS (default: the first). The loudest tokens, by what the chosen function passes on, are
    written beside their points.
    """
    compute = FUNCTIONS[function or next(iter(FUNCTIONS))]
    reach = 1.15 * max(1.0, float(torch.cat((each.gate, each.up)).abs().max()))
    axis = torch.linspace(-reach, reach, GRID)
    height = compressed(compute(*torch.meshgrid(axis, axis, indexing="xy")))
    limit = float(compressed(torch.tensor(reach**2)))
    ticks = [float(compressed(torch.tensor(float(value)))) for value in (-100, -10, -1, 0, 1, 10, 100)]
    places = [round(value, 3) for value in axis.tolist()]
    figure = go.Figure(
        go.Heatmap(
            x=places, y=places, z=[[round(value, 2) for value in row] for row in height.tolist()],
            zmin=-limit, zmax=limit, zsmooth="best", colorscale=DIVERGING, hoverinfo="skip",
            colorbar={"title": {"text": "passes on"}, "tickvals": ticks, "thickness": 12, "len": 0.9,
                      "ticktext": ["−100", "−10", "−1", "0", "1", "10", "100"]},
        )
    )  # fmt: skip
    value = compute(each.gate, each.up)
    order = value.abs().argsort(descending=True)[:POINTS]
    words = [tokenizer.decode([number]) for number in each.ids[order].tolist()]
    figure.add_trace(
        go.Scatter(
            x=[round(x, 2) for x in each.gate[order].tolist()], y=[round(y, 2) for y in each.up[order].tolist()],
            mode="markers", marker={"size": 7, "color": INK, "opacity": 0.65, "line": {"color": "white", "width": 1}},
            customdata=list(zip(map(repr, words), (float(f"{v:.3g}") for v in value[order].tolist()), strict=True)),
            hovertemplate="%{customdata[0]}: gate %{x:.1f}, up %{y:.1f}, passes on %{customdata[1]}<extra></extra>",
        )
    )  # fmt: skip
    write_words(figure, each, order.tolist(), words)
    for axis_line in (figure.add_vline, figure.add_hline):
        axis_line(0, line={"color": MUTED, "width": 1, "dash": "dot"})
    square = {"range": [-reach, reach], "constrain": "domain", "showgrid": False, "zeroline": False}
    figure.update_xaxes(title_text="closed ←  gate  → open", **square)
    figure.update_yaxes(title_text="up: the amount", **square)
    top = ", ".join(dict.fromkeys(repr(word) for word in words[:10]))
    alt = f"{title}. {subtitle.replace('<br>', ' ')} {len(each.ids)} tokens; the loudest: {top}."
    return finish(figure, title, alt, 440, subtitle)


def opening(each: Neuron) -> str:
    """For how many tokens a neuron is open, as the title of a picture."""
    open_for, wide = int((each.gate > 0).sum()), int((each.gate > WIDE).sum())
    return f"Open for {open_for} of the {len(each.ids)} tokens that its expert got, wide open for {wide}"


def write_words(figure: go.Figure, each: Neuron, order: Sequence[int], words: Sequence[str]) -> None:
    """Write up to four different tokens beside their points, loudest first, where none covers another."""
    reach = max(1.0, float(torch.cat((each.gate, each.up)).abs().max()))
    written: dict[str, float] = {}
    for place, word in zip(order, words, strict=True):
        y = float(each.up[place])
        if (
            word not in written
            and all(abs(y - other) > 0.12 * reach for other in written.values())
            and len(written) < 4
        ):
            written[word] = y
            figure.add_annotation(
                x=float(each.gate[place]), y=y, text=repr(word), ax=-14, ay=0, xanchor="right", showarrow=True,
                arrowwidth=1, arrowcolor=MUTED, font={"size": 13, "color": INK}, bgcolor="rgba(255,255,255,0.7)",
            )  # fmt: skip


def share_left(each: Neuron, function: str) -> float:
    """How much of what a neuron passes on is left with another function: the ratio of the sums of sizes."""
    return float(FUNCTIONS[function](each.gate, each.up).abs().sum() / each.product.abs().sum())


def change(share: float) -> str:
    """A share of what it was before, in words: "98% less than before", "as much as before", "2.5 times as much ..."."""
    if share >= 1.5:
        return f"{share:.1f} times as much as before"
    if f"{share:.0%}" == "100%":
        return "as much as before"
    return f"{abs(share - 1):.0%} {'less' if share < 1 else 'more'} than before"


def explore_neuron(neurons: Sequence[Neuron], tokenizer: Tokenizer, name: str, first: int = 0) -> Any:
    """The chapter's experiment: choose a neuron, and what is computed from its gate and its up value."""
    from ipywidgets import Dropdown, Layout

    def draw(number: int, function: str) -> Picture:
        each = neurons[number]
        title, left = opening(each), share_left(each, function)
        if function != next(iter(FUNCTIONS)):
            title = f"The neuron passes on {change(left)}"
        subtitle = f"{each.name} of the {name}; its rows have the cosine {label(each.cosine, '.2f')}"
        return landscape(each, tokenizer, title, subtitle, function)

    style = {"description_width": "60px"}
    return driven(
        draw,
        number=Dropdown(
            options=[(each.name, number) for number, each in enumerate(neurons)], value=first, description="neuron",
            layout=Layout(width="330px"), style=style,
        ),
        function=Dropdown(
            options=list(FUNCTIONS), description="compute", layout=Layout(width="310px"), style=style
        ),
    )  # fmt: skip
