"""The charts of chapter 14: interactive plans, load imbalance of ranks, hit rates of a cache."""

from collections.abc import Mapping, Sequence
from textwrap import wrap
from typing import Any

import plotly.graph_objects as go
from einops import rearrange
from torch import Tensor
from torch.nn import functional as F

from minimoe.course.figures.ch06_router import driven
from minimoe.course.figures.ch14_placement import HELD, MARK, OTHER, THIRD
from minimoe.errors import BadArgument
from minimoe.humanize import units
from minimoe.model.config import ModelConfig
from minimoe.plotting import Picture, finish
from minimoe.scale.planner.alternatives import alternatives
from minimoe.scale.planner.deployment import deploy
from minimoe.scale.planner.figures import memory_per_rank
from minimoe.scale.planner.gpus import CARDS

COLOURS = (OTHER, HELD, MARK, THIRD)


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
    lines = "<br>".join(wrap(note, 110))
    picture.figure.update_layout(
        title={"subtitle": {"text": lines, "font": {"size": 13, "color": HELD if plan.fits else MARK}}, "y": 0.97},
        margin={"t": 140},
        height=picture.figure.layout.height + 20,
    )
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


def busiest_bars(groups: Mapping[str, Sequence[float]], title: str) -> Picture:
    """The number of a token's experts on its busiest rank, as a distribution for each kind of routing."""
    figure = go.Figure()
    means = {name: sum(count * share for count, share in enumerate(shares)) for name, shares in groups.items()}
    for (name, shares), colour in zip(groups.items(), COLOURS, strict=False):
        figure.add_bar(
            x=list(range(1, len(shares))), y=[round(share, 3) for share in shares[1:]],
            name=f"{name} (mean {means[name]:.2f})", marker={"color": colour},
            hovertemplate="%{x} on one rank: %{y:.1%}<extra>" + name + "</extra>",
        )  # fmt: skip
    figure.update_xaxes(title_text="experts of one token on its busiest rank (of 8)", dtick=1, showgrid=False)
    figure.update_yaxes(title_text="share of the tokens", tickformat=".0%")
    summary = "; ".join(f"{name}: {mean:.2f}" for name, mean in means.items())
    picture = finish(figure, title, f"{title}. Mean: {summary}.", height=360)
    figure.update_layout(showlegend=True, legend={"x": 0.98, "xanchor": "right", "y": 0.98}, bargap=0.15)
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


def waiting_lines(lines: Mapping[str, Sequence[float]], together: Sequence[int], title: str) -> Picture:
    """The load of the busiest rank over the mean load, against the number of tokens computed together."""
    figure = go.Figure()
    for (name, factors), colour in zip(lines.items(), ("#909090", HELD, MARK, THIRD), strict=False):
        figure.add_scatter(
            x=list(together), y=[round(factor, 2) for factor in factors], name=name, mode="lines+markers",
            line={"color": colour}, hovertemplate="%{x} tokens: %{y:.2f}<extra>" + name + "</extra>",
        )  # fmt: skip
    figure.add_hline(y=1, line={"color": "#808080", "dash": "dot", "width": 1})
    figure.update_xaxes(title_text="tokens together (log scale)", type="log", tickvals=list(together))
    figure.update_yaxes(title_text="busiest rank over the mean", range=[0.8, 1.05 * max(map(max, lines.values()))])
    summary = "; ".join(
        f"{name}: {factors[0]:.2f} with {together[0]}, {factors[-1]:.2f} with {together[-1]}"
        for name, factors in lines.items()
    )
    picture = finish(figure, title, f"{title}. {summary}.", height=360)
    figure.update_layout(showlegend=True, legend={"x": 0.98, "xanchor": "right", "y": 0.98})
    return picture


def hit_lines(
    rates: Mapping[str, Sequence[float]], budgets: Sequence[float], title: str, unit: str, cliff: float | None = None
) -> Picture:
    """Hit rate of a cache against its size. cliff: the size at which the experts of a single token just fit."""
    figure = go.Figure()
    for (name, shares), colour in zip(rates.items(), (HELD, MARK, THIRD), strict=False):
        figure.add_scatter(
            x=list(budgets), y=[round(share, 3) for share in shares], name=name, mode="lines+markers",
            line={"color": colour}, hovertemplate="%{x}: %{y:.0%}<extra>" + name + "</extra>",
        )  # fmt: skip
    if cliff is not None:
        figure.add_vline(x=cliff, line={"color": "#202020", "width": 1, "dash": "dash"})
        figure.add_annotation(x=cliff, y=1, xanchor="left", yanchor="top", text=" one token's own", showarrow=False)
    figure.update_xaxes(title_text=unit)
    figure.update_yaxes(title_text="hits, share of the requests", tickformat=".0%", range=[0, 1.02])
    summary = "; ".join(
        name + ": " + ", ".join(f"{share:.0%} at {budget:g}" for budget, share in zip(budgets, shares, strict=True))
        for name, shares in rates.items()
    )
    picture = finish(figure, title, f"{title}. {summary}.", height=340)
    figure.update_layout(showlegend=len(rates) > 1, legend={"x": 0.98, "xanchor": "right", "y": 0.3})
    return picture
