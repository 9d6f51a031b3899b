"""The balancing game of chapter 16: a bias moves tokens to the experts with too little work, step by step."""

from dataclasses import dataclass
from functools import cache
from typing import Any

import plotly.graph_objects as go
import torch
from torch import Tensor

from minimoe.course.figures.ch06_router import driven
from minimoe.figure_style import BLUE, MUTED, VERMILLION, Picture, finish, reference_line, rounded
from minimoe.zoo.balance import load_of, quantile_bias, update_bias

STEPS = 120
MUCH = 1.1  # times an even share: the bars above it have a colour of their own
RATES = {"sign, 0.0003 a step": 3e-4, "sign, 0.001 a step (V3)": 1e-3, "sign, 0.01 a step": 1e-2, "quantile (K3)": None}
V3, K3 = "sign, 0.001 a step (V3)", "quantile (K3)"


@dataclass(frozen=True)
class Balancing:
    """What a bias did, step by step: `biases` (step, expert) and the `loads` (step, expert) that it led to."""

    biases: Tensor
    loads: Tensor

    @property
    def busiest(self) -> Tensor:
        """(step): tokens of the busiest expert, as a multiple of an even share."""
        return self.loads.amax(dim=-1) / self.loads.mean(dim=-1)


@torch.no_grad()
def balance(scores: Tensor, top_k: int, rule: str = V3, steps: int = STEPS) -> Balancing:
    """Balance one layer on one batch. scores: (token, expert), which stay as they are; rule: one of RATES.

    Step 0 is without a bias.
    """
    bias, biases, loads = torch.zeros(scores.shape[-1]), [], []
    for _ in range(steps + 1):
        load = load_of((scores + bias).topk(top_k, dim=-1).indices, scores.shape[-1]).float()
        biases.append(bias)
        loads.append(load)
        rate = RATES[rule]
        bias = quantile_bias(scores, bias, top_k) if rate is None else update_bias(bias, load, rate)
    return Balancing(torch.stack(biases), torch.stack(loads))


def load_bars(run: Balancing, step: int, title: str, subtitle: str = "") -> Picture:
    """The load of each expert at a step, in the order of the loads at the start; orange from 1.1 even shares on."""
    order = run.loads[0].argsort(descending=True)
    share = run.loads / run.loads.mean(dim=-1, keepdim=True)
    now = share[step][order]
    colours = [VERMILLION if value > MUCH else BLUE for value in now.tolist()]
    places = list(range(1, len(order) + 1))
    figure = go.Figure(
        go.Bar(x=places, y=rounded(now), marker={"color": colours, "line": {"width": 0}}, hoverinfo="skip")
    )
    if step:
        figure.add_trace(
            go.Scatter(
                x=places, y=rounded(share[0][order]), mode="lines", line={"color": MUTED, "width": 1}, hoverinfo="skip"
            )
        )
        figure.add_annotation(
            x=1, y=float(share[0].max()), xanchor="left", yanchor="bottom", text=" at step 0", showarrow=False,
            font={"size": 12, "color": MUTED},
        )  # fmt: skip
    reference_line(figure, 1.0, "even")
    figure.layout.annotations[-1].update(x=1, xanchor="right")
    figure.update_layout(bargap=0.1)
    figure.update_xaxes(title_text="experts, busiest at the start first", showticklabels=False, showgrid=False)
    figure.update_yaxes(title_text="times an even share", range=[0, 1.15 * float(share[0].max())])
    alt = f"{title}. {len(order)} bars from {float(now.min()):.2f} to {float(now.max()):.2f} times an even share."
    return finish(figure, title, alt, 320, subtitle)


def balancing_game(scores: Tensor, top_k: int, name: str) -> Any:
    """The experiment: play the steps, choose the rule. scores: (token, expert) of one layer."""
    from ipywidgets import Dropdown, HBox, IntSlider, Layout, Play, jslink

    run = cache(lambda rule: balance(scores, top_k, rule))

    def draw(rule: str, step: int) -> Picture:
        found = run(rule)
        title = f"Step {step}: the busiest expert has {found.busiest[step]:.2f} times an even share"
        largest = float(found.biases[step].abs().max())
        return load_bars(found, step, title, f"{name}. Largest bias so far: {largest:.3f}.")

    slider = IntSlider(value=0, min=0, max=STEPS, description="step", layout=Layout(width="330px"))
    play = Play(value=0, min=0, max=STEPS, step=2, interval=300, show_repeat=False)
    jslink((play, "value"), (slider, "value"))
    choice = Dropdown(options=list(RATES), value=V3, description="bias", layout=Layout(width="330px"))
    screen = driven(draw, rule=choice, step=slider)
    screen.children = (HBox([play]), *screen.children)
    return screen
