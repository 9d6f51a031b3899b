"""Charts of chapter 10: where an answer looks, what it follows, temperature, votes, experts of thoughts."""

from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go
import torch
from torch import Tensor

from minimoe.course.figures.ch10_budget import percent, with_legend
from minimoe.course.figures.ch10_replies import CLOSE, OPEN, prompt_of
from minimoe.course.figures.ch10_templates import visible
from minimoe.figure_style import (
    BLUE,
    GREEN,
    MUTED,
    ORANGE,
    SEQUENTIAL,
    SKY,
    VERMILLION,
    Picture,
    finish,
    label_ends,
    reference_line,
    rounded,
)
from minimoe.model.transformer import Transformer
from minimoe.routing.trace.trace import record_routing
from minimoe.text.tokenizer import Tokenizer
from minimoe.training.corpus.worlds.chat import Turn

OUTCOMES = {"right": ("the right result", GREEN), "thought": ("the thought's wrong one", VERMILLION),
            "other": ("another wrong one", "#C8C8C8")}  # fmt: skip


# Where the answer looks -----------------------------------------------------------------------------------------------


class Written:
    """A turn of arithmetic as token ids, with the places of its parts.

    thought, answer: ranges of places; result: the places of the result's digits in the thought; digits: those in the
    answer. A digit of the answer is predicted at the place before it.
    """

    def __init__(self, tokenizer: Tokenizer, turn: Turn):
        before, thought, close, answer = (
            prompt_of(tokenizer, turn.question, begun=OPEN),
            *(tokenizer.encode(text) for text in (turn.thinking, CLOSE, turn.answer)),
        )
        self.ids = before + thought + close + answer
        self.tokens = [tokenizer.token(token) for token in self.ids]
        self.thought = range(len(before), len(before) + len(thought))
        self.answer = range(len(self.ids) - len(answer), len(self.ids))
        length = len(tokenizer.encode(turn.answer.split(" = ")[1]))
        self.result = range(self.thought.stop - length, self.thought.stop)
        self.digits = range(len(self.ids) - length, len(self.ids))


def on_the_digit(weights: Tensor, written: Written) -> Tensor:
    """(layer, head): the attention from each digit of the answer to the same digit in the thought, their mean.

    weights: (layer, head, query, key).
    """
    pairs = zip(written.digits, written.result, strict=True)
    return torch.stack([weights[:, :, digit - 1, source] for digit, source in pairs]).mean(dim=0)


def attention_rows(weights: Tensor, written: Written, title: str, subtitle: str, lines: int = 1) -> Picture:
    """Which tokens the digits of the answer look at. weights: (query, key) of one head; the last lines of the thought.

    Rows are the digits of the answer, columns the tokens of the last `lines` lines of the thought.
    """
    ends = [place for place in written.thought if "\n" in written.tokens[place]]
    start = ends[-lines] + 1 if len(ends) >= lines else written.thought.start
    columns = range(start, written.thought.stop)
    block = torch.stack([weights[digit - 1, start : written.thought.stop] for digit in written.digits])
    figure = go.Figure(
        go.Heatmap(
            z=rounded(block), zmin=0, zmax=1, colorscale=SEQUENTIAL, xgap=1, ygap=1, showscale=True,
            colorbar={"thickness": 10, "tickvals": [0, 0.5, 1], "len": 0.9, "outlinewidth": 0}, hoverinfo="z",
        )
    )  # fmt: skip
    figure.update_xaxes(
        tickvals=list(range(len(columns))),
        ticktext=[visible(written.tokens[place]).replace(" ", "␣") for place in columns],
        tickfont={"size": 11}, tickangle=0, showgrid=False, ticks="",
    )  # fmt: skip
    figure.update_yaxes(
        tickvals=list(range(len(written.digits))), ticktext=[f"predicts {written.tokens[p]}" for p in written.digits],
        autorange="reversed", ticks="", showgrid=False,
    )  # fmt: skip
    alt = f"{title}. Weights on the same digit of the thought: " + ", ".join(
        f"{float(weights[digit - 1, source]):.2f}" for digit, source in zip(written.digits, written.result, strict=True)
    )
    picture = finish(figure, title, alt, 110 + 34 * len(written.digits), subtitle)
    picture.figure.update_layout(margin={"l": 90, "b": 40})
    return picture


# Rates ----------------------------------------------------------------------------------------------------------------


def outcome_bars(rows: Mapping[str, Mapping[str, Any]], title: str, subtitle: str) -> Picture:
    """Stacked bars: of all answers, the share that is right, the thought's, or another. rows: kind -> rates."""
    figure, names = go.Figure(), list(rows)
    for outcome, (says, colour) in OUTCOMES.items():
        shares = [percent(rows[name][outcome]["rate"]) for name in names]
        figure.add_trace(
            go.Bar(
                x=shares, y=names, orientation="h", name=says, marker={"color": colour}, width=0.6, hoverinfo="skip",
                text=[f"{share:.0f} %" if share >= 8 else "" for share in shares], textposition="inside",
                insidetextanchor="middle", textangle=0,
            )
        )  # fmt: skip
        for name, share in zip(names, shares, strict=True):
            if 0 < share < 8:  # too narrow for its number
                figure.add_annotation(
                    x=100, y=name, text=f"{share:g} %", showarrow=False, xanchor="left",
                    font={"color": MUTED, "size": 12},
                )  # fmt: skip
    figure.update_layout(barmode="stack")
    figure.update_xaxes(visible=False, range=[0, 112])
    figure.update_yaxes(autorange="reversed", ticks="", showline=False)
    alt = f"{title}. " + "; ".join(
        f"{name}: " + ", ".join(f"{OUTCOMES[o][0]} {percent(rows[name][o]['rate']):.0f} %" for o in OUTCOMES)
        for name in names
    )
    return with_legend(finish(figure, title, alt, 80 + 46 * len(rows), subtitle))


def rate_curves(
    curves: Mapping[str, tuple[Sequence[float], Sequence[Mapping[str, Any]], str]],
    title: str,
    subtitle: str,
    x_title: str,
    lines: Sequence[tuple[float, float, str]] = (),
    log: bool = False,
) -> Picture:
    """Rates with intervals over a setting. curves: name -> (x, rates, colour); lines: single points (x, %, text)."""
    figure, height = go.Figure(), 350
    alts = []
    for name, (xs, points, colour) in curves.items():
        rates = [percent(point["rate"]) for point in points]
        ends = [[percent(end) for end in point["interval"]] for point in points]
        figure.add_trace(
            go.Scatter(
                x=list(xs), y=rates, name=name, mode="lines+markers", line={"color": colour, "width": 2},
                marker={"size": 6},
                error_y={
                    "type": "data", "symmetric": False, "thickness": 1.2, "width": 3, "color": colour,
                    "array": [round(high - rate, 1) for rate, (_, high) in zip(rates, ends, strict=True)],
                    "arrayminus": [round(rate - low, 1) for rate, (low, _) in zip(rates, ends, strict=True)],
                },
                hovertemplate="%{x}: %{y} %<extra></extra>",
            )
        )  # fmt: skip
        alts.append(f"{name}: " + ", ".join(f"{x:g}: {rate:.0f} %" for x, rate in zip(xs, rates, strict=True)))
    for x, rate, says in lines:
        figure.add_trace(
            go.Scatter(
                x=[x], y=[rate], mode="markers", hoverinfo="skip",
                marker={"color": ORANGE, "size": 13, "symbol": "star"},
            )
        )  # fmt: skip
        figure.add_annotation(
            x=torch.tensor(x).log10().item() if log else x, y=rate, text=says, showarrow=False, yshift=16,
            font={"color": "#8A5A00", "size": 12},
        )  # fmt: skip
        alts.append(f"{says}: {rate:.0f} %")
    figure.update_yaxes(range=[-4, 112], ticktext=["0 %", "50 %", "100 %"], tickvals=[0, 50, 100])
    figure.update_xaxes(title_text=x_title, showgrid=False, type="log" if log else None)
    if log:
        ticks = sorted({round(x) for xs, _, _ in curves.values() for x in xs})
        figure.update_xaxes(tickvals=ticks, ticktext=[str(tick) for tick in ticks])
    else:
        values = [x for xs, _, _ in curves.values() for x in xs]
        room = 0.03 * (max(values) - min(values))
        figure.update_xaxes(range=[min(values) - room, max(values) + room])
    label_ends(figure, height)
    return finish(figure, title, f"{title}. " + "; ".join(alts), height, subtitle)


# Experts --------------------------------------------------------------------------------------------------------------


@torch.no_grad()
def experts_of(model: Transformer, tokenizer: Tokenizer, ids: Sequence[int]) -> Tensor:
    """The chosen experts of one text, (layer, token, slot)."""
    with record_routing(model, tokenizer, label="chapter 10") as trace:
        model(torch.tensor([list(ids)]))
    return trace.experts


def common(first: Tensor, second: Tensor) -> Tensor:
    """(layer): how many experts two runs over the same tokens have in common, of each token's k, on average.

    first, second: (layer, token, slot).
    """
    return (first[..., :, None] == second[..., None, :]).any(dim=-1).sum(dim=-1).float().mean(dim=1)


def common_bars(rows: Mapping[str, Tensor], top_k: int, chance: float, title: str, subtitle: str) -> Picture:
    """Common experts by layer as groups of bars, with the chance value as a line. rows: name -> (layer)."""
    figure = go.Figure()
    layers = len(next(iter(rows.values())))
    for (name, values), colour in zip(rows.items(), (SKY, BLUE, MUTED), strict=False):
        figure.add_trace(
            go.Bar(
                x=[f"layer {layer}" for layer in range(layers)], y=[round(float(v), 1) for v in values], name=name,
                marker={"color": colour}, text=[f"{float(v):.1f}" for v in values], textposition="outside",
                textangle=0, cliponaxis=False, hoverinfo="skip",
            )
        )  # fmt: skip
    figure.update_layout(barmode="group", bargap=0.25, bargroupgap=0.06)
    figure.update_yaxes(visible=False, range=[0, 1.12 * top_k])
    figure.update_xaxes(ticks="")
    reference_line(figure, chance, "")
    alt = f"{title}. " + "; ".join(
        f"{name}: " + ", ".join(f"{float(v):.1f}" for v in values) for name, values in rows.items()
    )
    subtitle += f" Dashed: {chance:.1f} by chance."
    picture = with_legend(finish(figure, title, alt, 320, subtitle))
    picture.figure.update_layout(legend={"y": -0.12}, margin={"b": 70})
    return picture
