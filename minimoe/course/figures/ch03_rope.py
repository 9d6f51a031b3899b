"""Chapter 03: where RoPE is in the model, the table of cosines, wavelengths, rounding errors, and YaRN."""

import math
from collections.abc import Mapping, Sequence

import plotly.graph_objects as go
from torch import Tensor

from minimoe.course.figures.boxes import draw_boxes
from minimoe.course.figures.ch03_arrows import BESIDE_FILES, finish
from minimoe.figure_style import (
    BLUE,
    GREEN,
    INK,
    MUTED,
    PART_COLOURS,
    PURPLE,
    SUBTITLE_SIZE,
    VERMILLION,
    Picture,
    bars,
    label_ends,
    wrap,
)
from minimoe.model.config import ModelConfig
from minimoe.model.rope import frequencies_and_scale

FAMILY = (BLUE, VERMILLION, GREEN, PURPLE, "#6E6E6E")  # five models
DIVERGING = [[0, BLUE], [0.5, "#FFFFFF"], [1, VERMILLION]]  # -1, 0, 1
STEPS = (
    "project<br>to q, k, v",
    "split<br>heads",
    "normalise<br>q and k",
    "turn<br>q and k",
    "attend",
    "project<br>back",
)


def attention_map() -> Picture:
    """The steps of an attention layer, left to right, with the step of this chapter highlighted."""
    figure, colour = go.Figure(), PART_COLOURS["attention"]
    lit = next(index for index, step in enumerate(STEPS) if step.startswith("turn"))
    draw_boxes(figure, STEPS, lit, colour, size=11)
    figure.add_annotation(
        x=3.42, y=0.72, ax=3.42, ay=1.1, xref="x", yref="y", axref="x", ayref="y", arrowhead=2,
        text="position as an angle", font={"color": colour},
    )  # fmt: skip
    figure.add_shape(
        type="path", path="M 1.42,0 L 1.42,-0.2 L 4.42,-0.2 L 4.42,0", line={"width": 1, "color": "#808080"}
    )
    figure.add_annotation(
        x=2.9, y=-0.31, text="v takes this way and is never turned", showarrow=False, font={"size": 12, "color": MUTED}
    )
    figure.update_xaxes(visible=False, range=[-0.1, 6])
    figure.update_yaxes(visible=False, range=[-0.45, 1.35])
    steps = ", ".join(step.replace("<br>", " ") for step in STEPS)
    alt = f"The attention of one layer, step by step: {steps}. This chapter is about turning q and k; v is left alone."
    picture = finish(figure, "Where we are: inside the attention of each layer", alt, height=240)
    figure.update_layout(margin={"l": 10, "r": 10, "t": 45, "b": 5})
    return picture


def cosine_table(cos: Tensor, title: str, subtitle: str) -> Picture:
    """The table of cosines as a heat map. cos: (position, pair)."""
    positions, pairs = cos.shape
    figure = go.Figure(
        go.Heatmap(
            z=[[round(value, 2) for value in row] for row in cos.tolist()], zmin=-1, zmax=1, colorscale=DIVERGING,
            xgap=2, colorbar={"title": {"text": "cos"}, "tickvals": [-1, 0, 1], "thickness": 12, "len": 0.8},
            hovertemplate="pair %{x}, position %{y}: cos %{z:.2f}<extra></extra>",
        )
    )  # fmt: skip
    step = max(1, pairs // 16)
    figure.update_xaxes(
        title_text="pair (fast on the left, slow on the right)", dtick=step, showgrid=False, zeroline=False
    )
    figure.update_yaxes(title_text="position", range=[positions - 0.5, -0.5], dtick=16, showgrid=False, zeroline=False)
    alt = f"{title}. {subtitle} {positions} positions, {pairs} pairs."
    return finish(figure, title, alt, height=430, subtitle=subtitle)


def wavelength_curves(
    configs: Mapping[str, ModelConfig], contexts: Mapping[str, int], title: str, subtitle: str
) -> Picture:
    """The wavelength of each pair, in tokens per full rotation, with context lengths as dashed lines."""
    figure, summaries, highest = go.Figure(), [], 1.0
    for (name, config), colour in zip(configs.items(), FAMILY, strict=False):
        waves = (math.tau / frequencies_and_scale(config)[0].double()).tolist()
        half = len(waves)
        few = half < 64
        figure.add_trace(
            go.Scatter(
                x=[round(pair / half, 4) for pair in range(half)], y=[float(f"{wave:.4g}") for wave in waves],
                customdata=list(range(half)), name=name,
                mode="markers" if few else "lines", line={"color": colour, "width": 2},
                marker={"symbol": "circle-open", "size": 10, "color": colour},
                hovertemplate="pair %{customdata}: %{y:,.0f} tokens"
                f"<extra>{name}, theta {config.rope_theta:,.0f}</extra>",
            )
        )  # fmt: skip
        if few:
            figure.add_annotation(
                x=0.5, y=math.log10(waves[half // 2]), text=f"{name}: {half} pairs", xanchor="left", showarrow=True,
                ax=36, ay=36, arrowcolor=colour, font={"color": colour},
            )  # fmt: skip
        highest = max(highest, waves[-1])
        summaries.append(f"{name} from {waves[0]:.1f} to {waves[-1]:,.0f}")
    for name, length in contexts.items():
        figure.add_hline(y=length, line={"color": MUTED, "width": 1, "dash": "dash"})
        figure.add_annotation(
            x=0.01, y=math.log10(length), xanchor="left", yanchor="bottom", text=f"{name}: {length:,}",
            showarrow=False, font={"size": 12, "color": MUTED},
        )  # fmt: skip
    figure.update_xaxes(title_text="pair number divided by head_dim / 2", range=[0, 1])
    figure.update_yaxes(
        title_text="tokens for a whole turn", type="log", range=[0.6, math.log10(highest) + 0.3], tickformat=",",
        tickvals=[10**power for power in range(1, 9)],
    )  # fmt: skip
    label_ends(figure, height=460)
    return finish(figure, title, f"{title}. Tokens for a whole turn: {'; '.join(summaries)}.", 460, subtitle)


def shift_errors(shifts: Sequence[int], errors: Mapping[str, Sequence[float]], title: str, subtitle: str) -> Picture:
    """The change of scores when q and k are shifted together, for rotary tables rounded at different stages."""
    figure = go.Figure()
    for (name, values), colour in zip(errors.items(), FAMILY, strict=False):
        figure.add_trace(
            go.Scatter(
                x=[math.log10(shift) for shift in shifts], y=[float(f"{value:.2g}") for value in values], name=name,
                mode="lines+markers", line={"color": colour}, customdata=list(shifts),
                hovertemplate="moved by %{customdata:,}: %{y:.1e}<extra></extra>",
            )
        )  # fmt: skip
    powers = [10.0**power for power in range(-6, 3)]
    figure.update_xaxes(
        title_text="both moved by (tokens)", tickvals=[math.log10(shift) for shift in shifts],
        ticktext=[f"{shift:,}" for shift in shifts],
    )  # fmt: skip
    figure.update_yaxes(
        title_text="largest change of a score",
        type="log",
        tickvals=powers,
        ticktext=[f"{n:f}".rstrip("0").rstrip(".") for n in powers],
    )
    label_ends(figure, height=360)
    last = {name.replace("<br>", " "): values[-1] for name, values in errors.items()}
    summary = "; ".join(f"{name}: {'below 0.01' if value < 0.01 else f'{value:.2f}'}" for name, value in last.items())
    alt = f"{title}. Largest change of a score after a move by {shifts[-1]:,}: {summary}."
    return finish(figure, title, alt, 360, subtitle)


def loss_bars(losses: Mapping[str, float], title: str, subtitle: str, right: str = "", form: str = ".1f") -> Picture:
    """Next-token loss in nats per token, one bar per variant; `right` is the model as it was trained."""
    colours = [GREEN if name == right else BLUE for name in losses]
    values = [round(loss, 3) for loss in losses.values()]
    summary = ", ".join(f"{name} {loss:{form}}" for name, loss in zip(losses, values, strict=True))
    alt = f"{title}: {summary} nats per token."
    title, subtitle = wrap(title, BESIDE_FILES), wrap(subtitle, BESIDE_FILES, SUBTITLE_SIZE)
    return bars(list(losses), values, title, alt, subtitle=subtitle, form=form, colours=colours)


def stretch_curve(plain: Tensor, stretched: Tensor, original: int, title: str, subtitle: str) -> Picture:
    """The factor by which YaRN lengthens the wavelength of each pair. plain, stretched: (pair) radians per token."""
    times, turns = (plain / stretched).tolist(), (original * plain / math.tau).tolist()
    kept = sum(time < 1.001 for time in times)
    full = sum(time > 0.999 * max(times) for time in times)
    figure = go.Figure(
        go.Scatter(
            x=list(range(len(times))), y=[round(time, 3) for time in times], mode="lines+markers",
            customdata=[float(f"{turn:.3g}") for turn in turns], line={"color": BLUE},
            hovertemplate="pair %{x}: %{y:.2f} times as long<br>%{customdata} turns in the original context"
            "<extra></extra>",
        )
    )  # fmt: skip
    figure.add_vrect(x0=-0.5, x1=kept - 0.5, fillcolor=GREEN, opacity=0.12, line={"width": 0})
    figure.add_vrect(
        x0=len(times) - full - 0.5, x1=len(times) - 0.5, fillcolor=VERMILLION, opacity=0.12, line={"width": 0}
    )
    middle = len(times) - kept - full
    for x, text in (
        (kept / 2, f"{kept} kept"), (kept + middle / 2, f"{middle} in between"),
        (len(times) - full / 2, f"{full} stretched in full"),
    ):  # fmt: skip
        figure.add_annotation(
            x=x, y=0.98, yref="paper", yanchor="top", text=text, showarrow=False, font={"size": 13, "color": INK}
        )
    figure.update_xaxes(title_text="pair number (fast to slow)", range=[-0.5, len(times) - 0.5], showgrid=False)
    figure.update_yaxes(title_text="times the old wavelength", range=[0, 1.3 * max(times)])
    alt = f"{title}. Of {len(times)} pairs {kept} are kept, {full} stretched in full, the others in between."
    return finish(figure, title, alt, 330, subtitle)
