"""Chapter 00: experts in common, how many experts at once, answers with thinking, and the 235B beside the mini."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
import torch
from torch import Tensor

from minimoe.figure_style import (
    BLUE,
    GREEN,
    INK,
    MUTED,
    ORANGE,
    PALE,
    PART_COLOURS,
    VERMILLION,
    Picture,
    bars,
    finish,
    label_ends,
)
from minimoe.model.config import ModelConfig
from minimoe.paths import find
from minimoe.scale.planner.model_size import plan
from minimoe.training.figures import step, thinking_curve

AT_ONCE, THINKING = ORANGE, GREEN
REPORT = "report.json"  # what `minimoe evaluate` writes beside a checkpoint
TASKS = {  # of the report, in short
    "addition_2_digits": "sum of two 2-digit numbers",
    "addition_4_digits": "sum of two 4-digit numbers",
    "addition_6_digits": "sum of two 6-digit numbers",
    "sum_of_4_numbers": "sum of four 4-digit numbers",
    "english_to_chinese": "English to Chinese",
    "chinese_to_english": "Chinese to English",
    "python": "Python function",
    "questions": "question about a text",
}
ROW, GAP = 4, 10  # pixels of a layer, and rows between the two models


# Experts in common ---------------------------------------------------------------------------------------------------


def shared_curves(
    same: Sequence[float], different: Sequence[float], chance: float, title: str, subtitle: str
) -> Picture:
    """Mean number of common experts by layer: of two occurrences of a token, of two different tokens, and by chance."""
    figure, layers = go.Figure(), list(range(len(same)))
    curves = {"the same<br>token": (same, BLUE), "different<br>tokens": (different, VERMILLION)}
    for name, (values, colour) in curves.items():
        figure.add_scatter(
            x=layers, y=[round(value, 3) for value in values], name=name, mode="lines+markers+text",
            line={"color": colour, "width": 2}, marker={"size": 8}, text=[f"<b>{value:.1f}</b>" for value in values],
            textposition="top center", textfont={"color": colour}, cliponaxis=False, hoverinfo="skip",
        )  # fmt: skip
    every = max(1, len(same) // 12)
    figure.update_xaxes(title_text="layer", dtick=every, range=[-0.2, len(same) - 0.9], showgrid=False, zeroline=False)
    figure.update_yaxes(title_text="experts in common", range=[0, 1.25 * max(*same, *different, chance)], nticks=5)
    label_ends(figure, height=320)
    figure.update_annotations(xshift=20)  # beside the number at the last point
    figure.update_layout(margin={"r": figure.layout.margin.r + 12})
    figure.add_hline(y=chance, line={"color": MUTED, "width": 1, "dash": "dash"})
    figure.add_annotation(
        x=0.5, xref="paper", y=chance, text=f"chance: {chance:g}", showarrow=False, yshift=-10,
        font={"size": 12, "color": MUTED},
    )  # fmt: skip
    one, other = (", ".join(f"{value:.1f}" for value in values) for values in (same, different))
    alt = (
        f"{title.replace('<br>', ' ')}. By layer, the same token: {one}; different tokens: {other}; chance: {chance:g}."
    )
    return finish(figure, title, alt, height=320, subtitle=subtitle)


# How many experts at once --------------------------------------------------------------------------------------------


def loss_by_count(losses: Mapping[int, float], trained: int, title: str, subtitle: str) -> Picture:
    """Next-token loss against the number of experts that each token uses, the trained number highlighted."""
    counts = sorted(losses)
    figure = go.Figure()
    figure.add_scatter(
        x=[math.log2(count) for count in counts], y=[round(losses[count], 4) for count in counts],
        mode="lines+markers+text", line={"color": BLUE, "width": 2}, cliponaxis=False, hoverinfo="skip",
        marker={"size": [13 if count == trained else 8 for count in counts],
                "color": [VERMILLION if count == trained else BLUE for count in counts]},
        text=["" if count == trained else f"{losses[count]:.2f}" for count in counts],
        textposition=["top left" if count > trained else "top center" for count in counts], textfont={"size": 12},
    )  # fmt: skip
    low, high = min(losses.values()), max(losses.values())
    room = 0.2 * (high - low or 1.0)
    figure.add_annotation(
        x=math.log2(trained), y=losses[trained], text=f"<b>{losses[trained]:.2f}</b><br>as trained",
        showarrow=False, yshift=-24, font={"color": VERMILLION},
    )  # fmt: skip
    figure.update_xaxes(
        title_text="experts for each token", tickvals=[math.log2(count) for count in counts],
        ticktext=[str(count) for count in counts], showgrid=False, zeroline=False,
        range=[math.log2(counts[0]) - 0.3, math.log2(counts[-1]) + 0.3],
    )  # fmt: skip
    figure.update_yaxes(title_text="loss, nats per token", range=[low - 1.8 * room, high + room], nticks=5)
    listed = ", ".join(f"{losses[count]:.2f} with {count}" for count in counts)
    return finish(
        figure,
        title,
        f"{title.replace('<br>', ' ')}. Loss: {listed}; trained with {trained}.",
        height=340,
        subtitle=subtitle,
    )


def explore_count(write: Callable[[int], str], counts: Sequence[int], value: int, trained: int) -> Any:
    """The dial of the chapter: choose how many experts each token uses, and read what the model writes then."""
    from ipywidgets import HTML, Layout, SelectionSlider, VBox

    class Dial(VBox):
        def __repr__(self) -> str:  # what viewers without widgets show
            return "A slider for the number of experts, and what the model writes with it."

    dial = SelectionSlider(
        options=sorted(counts), value=value, description="experts for each token", continuous_update=False,
        layout=Layout(width="520px", max_width="96%"), style={"description_width": "150px"},
    )  # fmt: skip
    page = HTML(layout=Layout(min_height="120px", max_width="640px"))

    def turn(*_: Any) -> None:
        page.value = f"<em>{dial.value} experts: the model is writing …</em>"
        text = escape(write(dial.value)).replace("\n", "<br>") or "(nothing)"
        note = " (as trained)" if dial.value == trained else ""
        page.value = f"<b>{dial.value} of {max(counts)} experts{note}</b><div style='line-height: 1.5'>{text}</div>"

    dial.observe(turn, names="value")
    turn()
    return Dial([dial, page])


def loss_bars(losses: Mapping[str, float], title: str, subtitle: str, right: str) -> Picture:
    """One bar for each loss, the one of the undisturbed model, `right`, in another colour."""
    colours = [GREEN if name == right else BLUE for name in losses]
    listed = ", ".join(f"{name} {loss:.2f}" for name, loss in losses.items())
    alt = f"Next-token loss: {listed}."
    return bars(list(losses), list(losses.values()), title, alt, subtitle=subtitle, colours=colours)


# Thinking ------------------------------------------------------------------------------------------------------------


def report_of(model: str | Path) -> dict[str, Any] | None:
    """The content of report.json beside a checkpoint; None if there is none."""
    file = find(str(model)) / REPORT
    return json.loads(file.read_text(encoding="utf-8")) if file.exists() else None


def no_report(model: str | Path) -> str:
    """What is shown in the place of a picture of a report that does not exist."""
    return f"{model} has no {REPORT}. `python -m minimoe evaluate` writes one for a checkpoint like the mini."


def thinking_gain(model: str | Path) -> Picture | str:
    """Share of right answers to each kind of question, at once and after thinking, from the model's own report."""
    report = report_of(model)
    if report is None:
        return no_report(model)
    rates = {
        TASKS.get(task, task): (modes["not_thinking"]["rate"], modes["thinking"]["rate"])
        for task, modes in report["tasks"].items()
    }
    rates = dict(sorted(rates.items(), key=lambda item: item[1][0] - item[1][1]))  # the largest gain first
    figure, names = go.Figure(), list(rates)
    for name, (before, after) in rates.items():
        figure.add_scatter(
            x=[before, after], y=[name, name], mode="lines", line={"color": "#C8C8C8", "width": 5}, hoverinfo="skip"
        )
    for index, colour in enumerate((AT_ONCE, THINKING)):
        figure.add_scatter(
            x=[pair[index] for pair in rates.values()], y=names, mode="markers", cliponaxis=False, hoverinfo="skip",
            marker={"color": colour, "size": 13 - 4 * index},
        )  # fmt: skip
    for name, (before, after) in rates.items():
        figure.add_annotation(
            x=1, xref="paper", y=name, xanchor="left", xshift=12, showarrow=False,
            text=f"<span style='color:#8A5F00'>{before:.0%}</span> → <b style='color:{THINKING}'>{after:.0%}</b>",
        )  # fmt: skip
    asked = next(iter(report["tasks"].values()))["thinking"]["of"]
    figure.update_xaxes(range=[-0.08, 1.03], tickformat=".0%", tickvals=[0, 0.5, 1], title_text="right answers")
    figure.update_yaxes(autorange="reversed", ticks="", showline=False, showgrid=False)
    figure.update_layout(margin={"r": 110})
    best = names[0]
    title = f"{best.capitalize()}:<br>{rates[best][0]:.0%} right at once, {rates[best][1]:.0%} after thinking"
    subtitle = (
        f"Orange: right at once; green: after thinking.<br>{asked} questions of each kind, not seen in training (mini)."
    )
    listed = "; ".join(f"{name} {before:.0%} and {after:.0%}" for name, (before, after) in rates.items())
    return finish(figure, title, f"Right answers at once and after thinking: {listed}.", 360, subtitle)


def thinking_budget(model: str | Path) -> Picture | str:
    """Right answers to a long sum against the tokens of thinking after which the answer has to come."""
    report = report_of(model)
    if report is None:
        return no_report(model)
    picture = thinking_curve(report)
    points = report["thinking_curve"]["points"]
    says = step([point["budget"] for point in points], [point["rate"] for point in points])
    task = TASKS.get(report["thinking_curve"]["task"], report["thinking_curve"]["task"])
    subtitle = f"{task.capitalize()} (mini), {points[0]['of']} questions for<br>each point, with 95 % intervals."
    picture.figure.update_xaxes(zeroline=False)
    return finish(picture.figure, says.replace(", ", ",<br>"), picture.alt, 360, subtitle)


# The 235B ------------------------------------------------------------------------------------------------------------


def two_models(chosen: Tensor, small: ModelConfig, name: str, big: ModelConfig, seed: int = 0) -> Picture:
    """The experts of a token in two models, to one scale: a row for each layer, a column for each expert.

    chosen: (layer, slot), the experts of the small model. Those of the big one are drawn at random from `seed`.
    """
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.rand(big.num_hidden_layers, big.num_experts, generator=generator)
    drawn = drawn.topk(big.num_experts_per_tok, dim=-1).indices
    figure, start, labels = go.Figure(), 0, []
    for title, config, experts in ((name, small, chosen), ("235B", big, drawn)):
        layers, used = experts.shape
        figure.add_shape(
            type="rect", x0=-0.5, x1=config.num_experts - 0.5, y0=start - 0.5, y1=start + layers - 0.5,
            fillcolor=PALE, line={"width": 0}, layer="below",
        )  # fmt: skip
        figure.add_scatter(
            x=experts.flatten().tolist(), y=[start + layer for layer in range(layers) for _ in range(used)],
            mode="markers", marker={"symbol": "square", "size": ROW, "color": BLUE}, hoverinfo="skip",
        )  # fmt: skip
        figure.add_annotation(
            x=0, xref="paper", y=start + (layers - 1) / 2, xanchor="right", xshift=-8, showarrow=False, align="right",
            text=f"<b>{title}</b><br>{layers} layers", font={"color": INK},
        )  # fmt: skip
        labels.append((layers * used, layers * config.num_experts))
        start += layers + GAP
    wide = max(small.num_experts, big.num_experts)
    figure.update_xaxes(
        range=[-1.5, wide + 0.5], showgrid=False, zeroline=False, title_text="expert", dtick=16, ticks=""
    )
    figure.update_yaxes(visible=False, range=[start - GAP + 0.5, -6])
    figure.update_layout(margin={"l": 86})
    (one, all_one), (two, all_two) = labels
    title = f"A token uses {one:,} of the {name}'s {all_one:,} experts,<br>and {two:,} of the 235B's {all_two:,}"
    subtitle = f"The choices are real for the {name}, random for the 235B,<br>whose size is from its config."
    alt = f"{title}. {subtitle}".replace("<br>", " ")
    return finish(figure, title, alt, height=ROW * (start - GAP + 6) + 120, subtitle=subtitle)


def parameters_by_part(config: ModelConfig) -> Picture:
    """Where a model keeps its parameters, in percent of all."""
    parts = {part.name: part.parameters for part in plan(config).parts}
    total = sum(parts.values())
    parts = dict(sorted(parts.items(), key=lambda item: -item[1]))
    shares = {name: 100 * count / total for name, count in parts.items()}
    texts = [f"{share:.{digits_of(share)}f}%" for share in shares.values()]
    colours = [PART_COLOURS.get(name, PART_COLOURS.get(name.removesuffix("s"), MUTED)) for name in parts]
    title = f"The experts hold {texts[0]} of the 235B's parameters"
    listed = (f"{name} {text} ({billions(count)})" for (name, count), text in zip(parts.items(), texts, strict=True))
    alt = f"Shares of the 235B's parameters: {', '.join(listed)}."
    subtitle = "Counted from its config."
    return bars(list(shares), list(shares.values()), title, alt, subtitle=subtitle, colours=colours, texts=texts)


def digits_of(percent: float) -> int:
    """Decimals of a percentage so that a small one is not zero."""
    return 1 if percent >= 0.5 else 2 if percent >= 0.01 else 4


def billions(count: int) -> str:
    """227096395776 -> "227.1 billion", 49283072 -> "49 million"."""
    if count >= 10**9:
        return f"{count / 1e9:,.1f} billion"
    return f"{count / 1e6:,.0f} million" if count >= 5 * 10**5 else f"{count:,}"
