"""The charts of chapter 14: interactive plans, load imbalance of ranks, hit rates of a cache."""

from collections.abc import Mapping, Sequence
from math import log2
from textwrap import wrap
from typing import Any

import plotly.graph_objects as go
from einops import rearrange
from torch import Tensor
from torch.nn import functional as F

from minimoe.course.figures.ch06_router import driven
from minimoe.course.figures.ch14_placement import HELD, MARK, THIRD
from minimoe.errors import BadArgument
from minimoe.figure_style import PART_COLOURS, PURPLE, Picture, finish, label_ends, reference_line
from minimoe.humanize import units
from minimoe.model.config import ModelConfig
from minimoe.scale.planner.alternatives import alternatives
from minimoe.scale.planner.deployment import deploy
from minimoe.scale.planner.figures import memory_per_rank
from minimoe.scale.planner.gpus import CARDS

RANDOM = "#6E6E6E"  # dice
COLOURS = (RANDOM, HELD, MARK, THIRD, PURPLE)


def plan_picture(config: ModelConfig, devices: int, card: str, precision: str, context: int, split: str) -> Picture:
    """Memory per device of a deployment, with a note on whether it fits or what would; or the reason for a refusal."""
    title = f"{devices} x {card}, {precision}, {context:,} tokens"
    try:
        plan = deploy(config, devices, CARDS[card], precision, context=context, split=split, name="235B")
    except BadArgument as error:
        return refusal(str(error), title)
    picture = memory_per_rank(plan, title)
    if plan.fits:
        tight = f", tight: CUDA and NCCL may take {units(plan.tight_bytes)} more" if plan.tight else ""
        note = f"fits: {units(min(plan.spare))} to spare on the fullest device{tight}"
    else:
        changes = "; or ".join(alternative.change for alternative in alternatives(plan)) or "nothing near"
        note = f"{units(-min(plan.spare))} short on the fullest device. What fits: {changes}"
    title += f": {units(min(plan.spare))} to spare" if plan.fits else f": {units(-min(plan.spare))} short"
    for trace in picture.figure.data:
        if trace.name == "experts":
            trace.marker.color = PART_COLOURS["experts"]
    lines = wrap(note, 52)
    text = f"{title}<br><span style='font-size:13px;color:{HELD if plan.fits else MARK}'>{'<br>'.join(lines)}</span>"
    picture.figure.update_layout(title={"text": text}, margin={"t": 120 + 20 * len(lines)})
    picture.figure.layout.height += 20 * len(lines)
    return Picture(picture.figure, f"{picture.alt} {note}.")


def refusal(sentence: str, title: str) -> Picture:
    """A picture that shows the planner's error message."""
    figure = go.Figure()
    figure.add_annotation(
        x=0.5, y=0.5, xref="paper", yref="paper", text="<br>".join(wrap(sentence, 90)), showarrow=False,
        align="left", font={"size": 14, "color": MARK},
    )  # fmt: skip
    figure.update_xaxes(visible=False)
    figure.update_yaxes(visible=False)
    return finish(figure, f"{title}: cannot be divided", sentence, height=330)


def explore_plan(config: ModelConfig, contexts: Sequence[int] = (4096, 32_768, 131_072, 1_010_000)) -> Any:
    """Widgets for `plan_picture`: devices, card, precision, context, split."""
    from ipywidgets import Dropdown, Layout, SelectionSlider

    def draw(devices: int, card: str, precision: str, context: int, split: str) -> Picture:
        return plan_picture(config, devices, card, precision, context, split)

    narrow, wide = Layout(width="190px"), Layout(width="330px")
    context_options = [(f"{tokens:,}", tokens) for tokens in contexts]
    return driven(
        draw,
        devices=SelectionSlider(
            options=[1, 2, 3, 4, 6, 8, 16], value=8, description="devices", layout=wide, continuous_update=False
        ),
        context=SelectionSlider(
            options=context_options, value=32_768, description="context", layout=wide, continuous_update=False
        ),
        card=Dropdown(options=list(CARDS), value="H100", description="card", layout=narrow),
        precision=Dropdown(
            options=["bf16", "fp8", "int8", "int4"], value="bf16", description="precision", layout=narrow
        ),
        split=Dropdown(options=["tensor", "layers"], value="tensor", description="split", layout=narrow),
    )


def work_of_ranks(experts: Tensor, home: Tensor, ranks: int) -> Tensor:
    """(token, rank): number of each token's experts on each rank. experts: (token, slot); home: (expert) -> rank."""
    return F.one_hot(home[experts], ranks).sum(dim=-2)


def busiest_shares(work: Tensor, slots: int) -> list[float]:
    """Shares of the tokens whose busiest rank has 0, 1, ... `slots` of their experts. work: (token, rank)."""
    return (work.amax(dim=-1).bincount(minlength=slots + 1) / len(work)).tolist()


def busiest_bars(groups: Mapping[str, Sequence[float]], title: str, subtitle: str = "") -> Picture:
    """The number of a token's experts on its busiest rank, as a distribution for each kind of routing."""
    figure = go.Figure()
    means = {name: sum(count * share for count, share in enumerate(shares)) for name, shares in groups.items()}
    for (name, shares), colour in zip(groups.items(), COLOURS, strict=False):
        figure.add_bar(
            x=list(range(1, len(shares))), y=[round(share, 3) for share in shares[1:]],
            name=f"{name}: {means[name]:.2f} on average", marker={"color": colour},
            text=[f"{share:.0%}" if share > 0.005 else "" for share in shares[1:]], textposition="outside",
            cliponaxis=False, textangle=0, hoverinfo="skip",
        )  # fmt: skip
    most = max(n for shares in groups.values() for n, share in enumerate(shares) if share > 0.0005)
    figure.update_xaxes(
        title_text="experts of one token on its busiest rank", dtick=1, showgrid=False, range=[0.5, most + 1.5]
    )
    figure.update_yaxes(visible=False, range=[0, 1.15 * max(max(shares) for shares in groups.values())])
    summary = "; ".join(f"{name}: {mean:.2f}" for name, mean in means.items())
    picture = finish(figure, title, f"{title}. Mean: {summary}.", height=330, subtitle=subtitle)
    legend = {"x": 0.98, "xanchor": "right", "y": 0.98, "font": {"size": 14}}
    figure.update_layout(showlegend=True, legend=legend, bargap=0.15)
    return picture


def waiting(work: Tensor, together: Sequence[int]) -> list[float]:
    """The load of the busiest rank over the mean load, averaged over batches, for each batch size in `together`.

    work: (token, rank).
    """
    factors = []
    for tokens in together:
        batches = rearrange(
            work[: len(work) // tokens * tokens], "(batch token) rank -> batch token rank", token=tokens
        ).sum(dim=1)
        factors.append(float((batches.amax(dim=-1) / batches.double().mean(dim=-1)).mean()))
    return factors


def waiting_lines(
    lines: Mapping[str, Sequence[float]], together: Sequence[int], title: str, subtitle: str = ""
) -> Picture:
    """The load of the busiest rank over the mean load, against the number of tokens computed together."""
    figure = go.Figure()
    for (name, factors), colour in zip(lines.items(), COLOURS, strict=False):
        figure.add_scatter(
            x=[log2(tokens) for tokens in together], y=[round(factor, 2) for factor in factors], name=name,
            mode="lines+markers", line={"color": colour}, customdata=list(together),
            hovertemplate="%{customdata} tokens: %{y:.2f}<extra>" + name + "</extra>",
        )  # fmt: skip
    places = [log2(tokens) for tokens in together]
    figure.update_xaxes(title_text="tokens together", tickvals=places, ticktext=[str(tokens) for tokens in together])
    figure.update_yaxes(title_text="busiest rank / mean", range=[0.8, 1.05 * max(map(max, lines.values()))])
    label_ends(figure, height=370)
    reference_line(figure, 1, "no waiting")
    summary = "; ".join(
        f"{name}: {factors[0]:.2f} with {together[0]}, {factors[-1]:.2f} with {together[-1]}"
        for name, factors in lines.items()
    )
    return finish(figure, title, f"{title}. {summary}.", height=370, subtitle=subtitle)


def hit_lines(
    rates: Mapping[str, Sequence[float]], budgets: Sequence[float], title: str, unit: str, cliff: float | None = None,
    subtitle: str = "",
) -> Picture:  # fmt: skip
    """Hit rate of a cache against its size. cliff: the size at which the experts of a single token just fit."""
    figure = go.Figure()
    for (name, shares), colour in zip(rates.items(), (HELD, RANDOM, THIRD), strict=False):
        figure.add_scatter(
            x=list(budgets), y=[round(share, 3) for share in shares], name=name, mode="lines+markers",
            line={"color": colour}, hovertemplate="%{x}: %{y:.0%}<extra>" + name + "</extra>",
        )  # fmt: skip
    figure.update_xaxes(title_text=unit)
    figure.update_yaxes(title_text="hits, share of the requests", tickformat=".0%", range=[0, 1.02])
    label_ends(figure, height=350)
    if cliff is not None:
        reference_line(figure, cliff, "one token's own experts", axis="x")
    summary = "; ".join(
        name + ": " + ", ".join(f"{share:.0%} at {budget:g}" for budget, share in zip(budgets, shares, strict=True))
        for name, shares in rates.items()
    )
    return finish(figure, title, f"{title}. {summary}.", height=350, subtitle=subtitle)
