"""The switchboard of chapter 16: set the switches of a router, and read which model it is."""

from collections.abc import Sequence
from dataclasses import fields
from functools import cache
from html import escape
from typing import Any

import plotly.graph_objects as go
import torch
from einops import rearrange
from torch import Tensor

from minimoe.figure_style import BLUE, MUTED, ORANGE, PALE, Picture, finish, rounded
from minimoe.zoo.balance import quantile_bias
from minimoe.zoo.families import FAMILIES, families_with
from minimoe.zoo.router import route, scores_of
from minimoe.zoo.rule import Rule, describe

GROUPS = {"none": (1, 1, "max"), "3 of 8, by the best": (8, 3, "max"), "4 of 8, by the two best": (8, 4, "top2_sum")}
ORDERS = {"score, then choose": True, "choose, then score": False}
SCORES = {"softmax": "softmax", "sigmoid": "sigmoid", "√softplus": "sqrt_softplus"}
SCALES = (1.0, 1.5, 2.5, 6.0, 16.0)


def titles(names: Sequence[str]) -> str:
    """The titles of some families in one line."""
    return "; ".join(FAMILIES[name].title for name in names)


def one_switch_away(rule: Rule) -> list[str]:
    """The families whose rule differs in one switch; groups, with how many and how, count as one."""

    def switches(each: Rule) -> dict[str, Any]:
        values = {field.name: getattr(each.idea, field.name) for field in fields(each)}
        groups = tuple(values.pop(name) for name in ("groups", "groups_kept", "group_score"))
        return values | {"groups": groups}

    mine = switches(rule)
    differ = {
        name: sum(mine[key] != value for key, value in switches(family.rule).items())
        for name, family in FAMILIES.items()
    }
    return [name for name, count in differ.items() if count == 1]


def switchboard_picture(logits: Tensor, top_k: int, rule: Rule, bias: Tensor | None = None, note: str = "") -> Picture:
    """One token under a rule: its weights as bars, in Qwen3's order of the experts, and Qwen3's weights as dots.

    logits: (expert). The title says which released families have this rule.
    """
    row = rearrange(logits, "expert -> 1 expert")
    mine, qwen = route(row, top_k, rule, bias), route(row, top_k, Rule())
    ranking = logits.argsort(descending=True, stable=True).tolist()
    weight = dict(zip(mine.experts[0].tolist(), mine.weights[0].tolist(), strict=True))
    shown = min(len(ranking), max(top_k + 4, 1 + max(ranking.index(expert) for expert in weight)))
    places = list(range(1, shown + 1))
    figure = go.Figure(
        go.Bar(
            x=places, y=[round(weight.get(expert, 0.0), 4) for expert in ranking[:shown]],
            marker={"color": BLUE, "line": {"width": 0}}, name="this router",
            customdata=ranking[:shown], hovertemplate="expert %{customdata}: %{y:.3f}<extra></extra>",
        )
    )  # fmt: skip
    figure.add_trace(
        go.Scatter(
            x=places[:top_k], y=rounded(qwen.weights[0]), mode="markers", marker={"color": ORANGE, "size": 8},
            name="Qwen3", hovertemplate="Qwen3: %{y:.3f}<extra></extra>",
        )
    )  # fmt: skip
    figure.add_vline(x=top_k + 0.5, line={"color": MUTED, "width": 1, "dash": "dash"})
    figure.add_annotation(
        x=top_k + 0.5, y=1, yref="paper", xanchor="center", yanchor="bottom", text="Qwen3's cut", showarrow=False,
        font={"size": 12, "color": MUTED},
    )  # fmt: skip
    same, names = len(set(weight) & set(qwen.experts[0].tolist())), families_with(rule)
    title = f"This is {titles(names)}" if names else "No family of the zoo has these switches"
    facts = f"{same} of {top_k} experts as Qwen3's; the weights sum to {sum(weight.values()):.2f}."
    figure.update_layout(bargap=0.15, plot_bgcolor=PALE)
    figure.update_xaxes(title_text="experts, in the order of their logits", showgrid=False, range=[0.2, shown + 0.8])
    figure.update_yaxes(title_text="weight", rangemode="tozero")
    alt = f"{title}. {describe(rule)}. {facts} {note}".strip()
    picture = finish(figure, title, alt, 320, f"{note} {facts}".strip())
    figure.update_layout(showlegend=True, legend={"orientation": "h", "x": 1, "xanchor": "right", "y": 0.98})
    return picture


def verdict(rule: Rule) -> str:
    """HTML: the rule in words, the families that have it, and those that are one switch away."""
    lines = [f"<b>{escape(describe(rule))}</b>"]
    here, near = families_with(rule), one_switch_away(rule)
    lines.append(f"<b>Which model is this?</b> {escape(titles(here)) or 'none of the zoo'}")
    lines.append(f"<b>One switch away:</b> {escape(titles(near)) or 'none'}")
    return "<br>".join(lines)


def switchboard(
    logits: Tensor, texts: Sequence[str], top_k: int, token: int, name: str, batch: Tensor | None = None
) -> Any:
    """The experiment: the switches of a router on one layer of a model. logits: (token, expert).

    batch: more logits of the same layer, on which the bias is computed, once for each score function, by Kimi K3's
    quantile rule; by default `logits`.
    """
    from ipywidgets import Checkbox, Dropdown, HBox, IntSlider, Layout, Output, VBox

    wide, style = Layout(width="310px"), {"description_width": "84px"}
    kind = {"layout": wide, "style": style}
    controls = {
        "score": Dropdown(options=list(SCORES), description="score", **kind),
        "order": Dropdown(options=list(ORDERS), description="order", **kind),
        "groups": Dropdown(options=list(GROUPS), description="groups", **kind),
        "scale": Dropdown(options=[(f"× {scale:g}", scale) for scale in SCALES], description="scale", **kind),
        "renormalise": Checkbox(value=True, description="renormalise", **kind),
        "bias": Checkbox(value=False, description="selection bias", **kind),
        "token": IntSlider(value=token, min=0, max=len(texts) - 1, description="token", **kind),
    }
    screen = Output(layout=Layout(min_height="470px"))

    @cache
    def balancing(score: str, by_score: bool) -> Tensor:
        seen = logits if batch is None else batch
        choice = scores_of(seen, Rule(score=score)) if by_score else seen  # type: ignore[arg-type]
        bias = torch.zeros(choice.shape[-1])
        for _ in range(3):
            bias = quantile_bias(choice, bias, top_k)
        return bias

    def redraw(*_: Any) -> None:
        values = {key: control.value for key, control in controls.items()}
        groups, kept, ranked = GROUPS[values["groups"]]
        rule = Rule(
            score=SCORES[values["score"]], score_first=ORDERS[values["order"]], selection_bias=values["bias"],  # type: ignore[arg-type]
            groups=groups, groups_kept=kept, group_score=ranked, renormalise=values["renormalise"],  # type: ignore[arg-type]
            scale=values["scale"],
        )  # fmt: skip
        bias = balancing(rule.score, rule.score_first) if rule.selection_bias else None
        note = f"Token {values['token']} '{texts[values['token']]}' ({name})."
        picture = switchboard_picture(logits[values["token"]], top_k, rule, bias, note)
        said = {"text/html": verdict(rule), "text/plain": describe(rule)}
        bundles = (said, picture._repr_mimebundle_())
        screen.outputs = tuple({"output_type": "display_data", "metadata": {}, "data": data} for data in bundles)

    for control in controls.values():
        control.observe(redraw, names="value")
    redraw()
    return VBox([HBox(list(controls.values()), layout=Layout(flex_flow="row wrap")), screen])
