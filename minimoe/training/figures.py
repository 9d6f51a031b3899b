"""Figures of a training run and its report: learning curves (history.json), accuracy against thinking (report.json)."""

from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from minimoe.figure_style import BLUE, DOMAIN_COLOURS, VERMILLION, Picture, finish, reference_line

COLOURS = DOMAIN_COLOURS | {"chat": VERMILLION, "text": BLUE}  # of the held-out parts


def learning_curve(history: dict[str, Any]) -> Picture:
    """Held-out loss of each domain, and load of the least and most used expert of each layer, against the step.

    history: as returned by `train` and written to history.json.
    """
    figure = make_subplots(
        rows=1, cols=2, subplot_titles=("Held-out loss by domain", "Use of the experts, least and most, a line a layer")
    )
    steps = [record["step"] for record in history["held_out"]]
    domains = [name for name in (history["held_out"] or [{}])[0] if name != "step"]
    for domain in domains:
        losses = [record[domain] for record in history["held_out"]]
        colour = COLOURS.get(domain, "#000000")
        figure.add_scatter(x=steps, y=losses, name=domain, mode="lines", line={"color": colour}, row=1, col=1)
    records = [record for record in history["steps"] if "least" in record]
    for layer in range(len(records[0]["least"]) if records else 0):
        for end, dash in (("least", "dot"), ("most", "solid")):
            figure.add_scatter(
                x=[record["step"] for record in records],
                y=[record[end][layer] for record in records],
                name=f"layer {layer}, {end} used",
                mode="lines",
                line={"dash": dash, "color": "#606060", "width": 1},
                showlegend=False,
                row=1,
                col=2,
            )
    figure.update_xaxes(title_text="step")
    figure.update_yaxes(title_text="nats per token", row=1, col=1)
    ticks = [0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10]
    figure.update_yaxes(title_text="share of an even load", type="log", tickvals=ticks, row=1, col=2)
    figure.update_layout(title="A training run", template="plotly_white", height=420)
    last = history["held_out"][-1] if history["held_out"] else {}
    losses_at_end = ", ".join(f"{domain} {last[domain]:.2f}" for domain in domains)
    alt = f"Learning curves over {steps[-1] if steps else 0} steps. Held-out loss at the end: {losses_at_end}."
    return Picture(figure, alt)


def thinking_curve(report: dict[str, Any]) -> Picture:
    """Share of right answers against the thinking budget (tokens), with 95 % intervals, compared with not thinking.

    report: the content of report.json.
    """
    curve = report["thinking_curve"]
    without_thinking = report["tasks"][curve["task"]]["not_thinking"]["rate"]
    points = curve["points"]
    name = curve["task"].replace("_", " ")
    budgets, rates = [p["budget"] for p in points], [p["rate"] for p in points]
    figure = go.Figure()
    figure.add_scatter(
        x=budgets,
        y=rates,
        mode="lines+markers",
        line={"color": COLOURS["math"], "width": 2},
        error_y={
            "type": "data",
            "symmetric": False,
            "array": [p["interval"][1] - p["rate"] for p in points],
            "arrayminus": [p["rate"] - p["interval"][0] for p in points],
        },
    )
    reference_line(figure, without_thinking, f"without thinking: {without_thinking:.0%}")
    figure.add_annotation(
        x=budgets[-1], y=rates[-1], text=f"{rates[-1]:.0%}", showarrow=False, xanchor="left", xshift=12,
        font={"color": COLOURS["math"]},
    )  # fmt: skip
    figure.update_xaxes(title_text="tokens of thinking before the answer has to come", range=[-5, budgets[-1] * 1.08])
    figure.update_yaxes(title_text="right answers", range=[-0.04, 1.06], tickformat=".0%", dtick=0.25)
    alt = ", ".join(f"{rate:.0%} with {budget}" for budget, rate in zip(budgets, rates, strict=True))
    return finish(
        figure,
        f"{name[0].upper()}{name[1:]}: {step(budgets, rates)}",
        f"Right answers to {name} by tokens of thinking: {alt}. Without thinking: {without_thinking:.0%}.",
        height=360,
        subtitle=f"the mini, {points[0]['of']} questions for each point, with 95 % intervals",
    )


def step(budgets: list[int], rates: list[float]) -> str:
    """The finding: the last budget with less than a tenth of the best rate, and the first with nine tenths of it."""
    low = max((n for n, rate in enumerate(rates) if rate <= 0.1 * max(rates)), default=0)
    high = next(n for n, rate in enumerate(rates) if rate >= 0.9 * max(rates))
    return f"{rates[low]:.0%} right with {budgets[low]} tokens of thinking, {rates[high]:.0%} with {budgets[high]}"
