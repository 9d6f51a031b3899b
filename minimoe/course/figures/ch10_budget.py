"""The thinking budget of chapter 10: a thought cut off after n tokens, accuracy by budget, and both under a slider."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import plotly.graph_objects as go

from minimoe.course.figures.ch10_replies import CLOSE, OPEN, prompt_of, replies
from minimoe.figure_style import BLUE, GREEN, INK, MUTED, ORANGE, VERMILLION, Picture, finish
from minimoe.model.transformer import Transformer
from minimoe.paths import find
from minimoe.text.tokenizer import Tokenizer

LONGEST = 240  # tokens of a thought
ANSWER = 40  # tokens of an answer
STEP = 5  # of the slider
BLOCK = "white-space: pre-wrap; overflow-wrap: anywhere; margin: 2px 0; font-family: monospace; font-size: 12px"


@dataclass(frozen=True)
class Reply:
    """A reply whose thought had a budget. thought: what was kept of it; tokens: its length; cut: whether it was cut.

    correct: the right answer, "" if it is not known.
    """

    question: str
    budget: int
    thought: str
    tokens: int
    cut: bool
    answer: str
    correct: str = ""

    @property
    def verdict(self) -> str:
        if not self.correct:
            return ""
        return "right" if self.answer.strip() == self.correct else f"wrong, expected {self.correct}"

    @property
    def headline(self) -> str:
        end = f"was cut after {self.tokens} tokens" if self.cut else f"ended by itself after {self.tokens} tokens"
        return f"Budget {self.budget}: the thought {end}; the answer is {self.verdict or 'not checked'}"

    def __repr__(self) -> str:
        mark = " ✂" if self.cut else ""
        return f"{self.headline}\n{self.question}\n<think>\n{self.thought}{mark}\n</think>\n\n{self.answer}"

    def _repr_html_(self) -> str:
        mark = f'<b style="color:{VERMILLION}"> ✂</b>' if self.cut else ""
        colour = {"right": GREEN, "": INK}.get(self.verdict, VERMILLION)
        return (
            f"<p><b>{escape(self.headline)}</b></p>"
            f'<pre style="{BLOCK}; color: {INK}">{escape(self.question)}</pre>'
            f'<pre style="{BLOCK}; color: {MUTED}">&lt;think&gt;\n{escape(self.thought)}{mark}\n&lt;/think&gt;</pre>'
            f'<pre style="{BLOCK}; color: {colour}; font-weight: bold">{escape(self.answer.strip())}</pre>'
        )


class Thinker:
    """Greedy replies with a budget. Each question is thought over once; a budget only cuts what was thought."""

    def __init__(self, model: Transformer, tokenizer: Tokenizer):
        self.model, self.tokenizer = model, tokenizer
        self.thoughts: dict[str, list[int]] = {}

    def thought(self, question: str) -> list[int]:
        """The ids after the opening of the thought: up to LONGEST tokens, or the thought, its end and the answer."""
        if question not in self.thoughts:
            prompt = prompt_of(self.tokenizer, question, begun=OPEN)
            [self.thoughts[question]] = replies(self.model, self.tokenizer, [prompt], most=LONGEST + ANSWER)
        return self.thoughts[question]

    def reply(self, question: str, budget: int, correct: str = "") -> Reply:
        """The reply if `</think>` is written after at most `budget` tokens of thought."""
        ids, end = self.thought(question), self.tokenizer.encode("</think>")[0]
        length = ids.index(end) if end in ids else len(ids)
        kept = ids[: min(length, budget)]
        text = self.tokenizer.decode(kept).removesuffix("\n")
        if length <= budget and end in ids:
            answer = self.tokenizer.decode(ids[length + 1 :])
            return Reply(question, budget, text, length, False, answer.strip(), correct)
        prompt = prompt_of(self.tokenizer, question, begun=OPEN + text + CLOSE)
        [written] = replies(self.model, self.tokenizer, [prompt], most=ANSWER)
        return Reply(question, budget, text, len(kept), True, self.tokenizer.decode(written).strip(), correct)


def measured() -> dict[str, Any]:
    """The recorded measurements of this chapter, data/thinking/measured.json."""
    recorded: dict[str, Any] = json.loads(find("data/thinking/measured.json").read_text(encoding="utf-8"))
    return recorded


def report() -> dict[str, Any]:
    """The report of `minimoe evaluate` on the mini."""
    written: dict[str, Any] = json.loads(find("data/mini/report.json").read_text(encoding="utf-8"))
    return written


def percent(value: float) -> float:
    """A rate in per cent, with one decimal."""
    return round(100 * value, 1)


def budget_curve(
    points: Sequence[Mapping[str, Any]], title: str, subtitle: str, at: int | None = None, says: str = ""
) -> Picture:
    """Accuracy by budget with 95 % intervals. points: {"budget", "rate", "interval"}; at: a budget to mark."""
    budgets, rates = [point["budget"] for point in points], [percent(point["rate"]) for point in points]
    ends = [[percent(end) for end in point["interval"]] for point in points]
    figure = go.Figure(
        go.Scatter(
            x=budgets, y=rates, mode="lines+markers", line={"color": BLUE, "width": 2}, marker={"size": 7},
            error_y={
                "type": "data", "symmetric": False, "thickness": 1.5, "width": 4, "color": BLUE,
                "array": [round(high - rate, 1) for rate, (_, high) in zip(rates, ends, strict=True)],
                "arrayminus": [round(rate - low, 1) for rate, (low, _) in zip(rates, ends, strict=True)],
            },
            hovertemplate="%{x} tokens: %{y} %<extra></extra>",
        )
    )  # fmt: skip
    figure.update_xaxes(title_text="tokens of thought allowed", range=[-6, max(budgets) + 6], showgrid=False)
    figure.update_yaxes(range=[-4, 108], ticktext=["0 %", "50 %", "100 %"], tickvals=[0, 50, 100])
    if at is not None:
        figure.add_vline(x=at, line={"color": VERMILLION, "width": 2})
        left = at > max(budgets) / 2
        figure.add_annotation(
            x=at, y=60, text=says, showarrow=False, xanchor="right" if left else "left", xshift=-6 if left else 6,
            font={"color": VERMILLION}, align="right" if left else "left",
        )  # fmt: skip
    alt = f"{title}. " + "; ".join(f"{b} tokens: {r:.0f} %" for b, r in zip(budgets, rates, strict=True))
    return finish(figure, title, alt, 320, subtitle)


def reading(points: Sequence[Mapping[str, Any]], budget: int) -> str:
    """What was measured at the budget, or at its neighbours: a text for the mark in the curve."""
    near = [point for point in points if point["budget"] == budget]
    if near:
        low, high = (percent(end) for end in near[0]["interval"])
        return f"{budget} tokens:<br>{percent(near[0]['rate']):.0f} %<br>({low:.0f} to {high:.0f})"
    below = max((point for point in points if point["budget"] < budget), key=lambda point: point["budget"])
    above = min((point for point in points if point["budget"] > budget), key=lambda point: point["budget"])
    return f"{budget} tokens:<br>between {percent(below['rate']):.0f}<br>and {percent(above['rate']):.0f} %"


def budget_desk(
    thinker: Thinker, asks: Mapping[str, str], points: Sequence[Mapping[str, Any]], name: str, budget: int = 100
) -> Any:
    """The chapter's experiment: a slider for the budget, accuracy as measured, and a live reply.

    asks: question -> right answer. points: those of the report.
    """
    from ipywidgets import Dropdown, IntSlider, Layout, Output, VBox

    wide, style = Layout(width="420px"), {"description_width": "70px"}
    slider = IntSlider(
        value=budget, min=0, max=max(point["budget"] for point in points), step=STEP, description="budget",
        layout=wide, style=style, continuous_update=False,
    )  # fmt: skip
    choice = Dropdown(options=list(asks), description="question", layout=wide, style=style)
    screen = Output(layout=Layout(min_height="560px"))

    def redraw(*_: Any) -> None:
        reply = thinker.reply(choice.value, slider.value, asks[choice.value])
        picture = budget_curve(
            points, f"With {slider.value} tokens of thought, this answer is {reply.verdict.split(',')[0]}",
            f"Curve: 500 held-out sums of four numbers, greedy, 95 % intervals (mini). Below: live ({name}).",
            slider.value, reading(points, slider.value),
        )  # fmt: skip
        written = {"text/html": reply._repr_html_(), "text/plain": repr(reply)}
        bundles = (picture._repr_mimebundle_(), written)
        screen.outputs = tuple({"output_type": "display_data", "metadata": {}, "data": data} for data in bundles)

    slider.observe(redraw, names="value")
    choice.observe(redraw, names="value")
    redraw()
    return VBox([slider, choice, screen])


def paired_rates(rows: Mapping[str, tuple[Mapping[str, Any], Mapping[str, Any]]], title: str, subtitle: str) -> Picture:
    """For each task two rates with their intervals, thinking and not. rows: task -> (thinking, not thinking)."""
    figure = go.Figure()
    for side, (name, colour) in enumerate((("thinking", ORANGE), ("not thinking", BLUE))):
        rates = [percent(pair[side]["rate"]) for pair in rows.values()]
        ends = [[percent(end) for end in pair[side]["interval"]] for pair in rows.values()]
        labels = [f"{rate:.0f} % ({low:.0f}–{high:.0f})" for rate, (low, high) in zip(rates, ends, strict=True)]
        figure.add_trace(
            go.Bar(
                x=rates, y=list(rows), orientation="h", name=name, marker={"color": colour}, hoverinfo="skip",
                text=labels, textposition="outside", cliponaxis=False, textfont={"size": 12},
            )
        )  # fmt: skip
    figure.update_layout(barmode="group", bargap=0.25)
    figure.update_xaxes(visible=False, range=[0, 150])
    figure.update_yaxes(autorange="reversed", ticks="", showline=False)
    alt = f"{title}. " + "; ".join(
        f"{task}: {percent(a['rate']):.0f} and {percent(b['rate']):.0f} %" for task, (a, b) in rows.items()
    )
    return with_legend(finish(figure, title, alt, 70 + 48 * len(rows), subtitle))


def with_legend(picture: Picture) -> Picture:
    """The picture with a legend below it."""
    picture.figure.update_layout(
        showlegend=True, margin={"b": 50},
        legend={"orientation": "h", "y": -0.02, "yanchor": "top", "x": 0, "traceorder": "normal"},
    )  # fmt: skip
    return picture
