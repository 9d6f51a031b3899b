"""Figures of chapter 13 on numbers: what takes the bytes, weights on a grid, bits of a byte, grids as number lines."""

from collections.abc import Mapping, Sequence

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
    PURPLE,
    VERMILLION,
    Picture,
    finish,
    hide_axes,
    ink_on,
    label,
    tint,
)
from minimoe.model.config import ModelConfig
from minimoe.model.experts import ExpertBank, per_expert_weights, swiglu
from minimoe.quantisation.rounding import E2M1
from minimoe.scale.planner.model_size import plan

BINS = 60


def packed_parameters(config: ModelConfig) -> tuple[int, int]:
    """(parameters that formats pack: attention projections and experts, all others)."""
    heads = config.num_attention_heads + config.num_key_value_heads
    attention = 2 * heads * config.head_dim * config.hidden_size * config.num_hidden_layers
    experts = len(config.moe_layers) * config.num_experts * config.parameters_per_expert
    dense = (config.num_hidden_layers - len(config.moe_layers)) * 3 * config.hidden_size * config.intermediate_size
    packed = attention + experts + dense
    return packed, config.total_parameters - packed


@torch.no_grad()
def output_norms(x: Tensor, experts: Tensor, bank: ExpertBank) -> Tensor:
    """x (token, hidden), experts (token, slot) -> (token, slot): the norm of the output of the expert in each slot."""
    gate, up, down = per_expert_weights(bank)
    norms = torch.zeros(experts.shape, dtype=x.dtype)
    for expert in experts.unique().tolist():
        token, slot = torch.where(experts == expert)
        norms[token, slot] = swiglu(x[token], gate[expert], up[expert], down[expert]).norm(dim=-1)
    return norms


def bytes_map(config: ModelConfig, name: str) -> Picture:
    """The bytes of a model in bfloat16 as one bar: what formats pack in colour, what stays as it is in grey."""
    sizes = {part.name: part.bytes for part in plan(config, precision="bf16").parts}
    total, start = sum(sizes.values()), 0.0
    packed = ("experts", "attention", "dense feed-forward")
    figure = go.Figure()
    order = sorted(sizes, key=lambda part: (part not in packed, -sizes[part]))
    for row, part in enumerate(order):
        lit = part in packed
        colour = PART_COLOURS.get(part, PART_COLOURS["norm"]) if lit else "#B8B8B8"
        if not sizes[part]:
            continue
        figure.add_trace(go.Bar(x=[sizes[part]], y=[0], base=start, orientation="h", marker={"color": colour}))
        share = sizes[part] / total
        size, unit = (1e9, "GB") if sizes[part] > 1e9 else (1e6, "MB")
        text = f"{'<b>' if lit else ''}{part}{'</b>' if lit else ''} {sizes[part] / size:,.1f} {unit}, {share:.2%}"
        y = -0.75 - 0.42 * row
        figure.add_annotation(x=0, y=y, text="■", showarrow=False, xanchor="left", font={"color": colour, "size": 16})
        figure.add_annotation(x=0.05 * total, y=y, text=text, showarrow=False, xanchor="left", font={"size": 13})
        start += sizes[part]
    figure.update_layout(barmode="stack")
    figure.update_yaxes(range=[-0.75 - 0.42 * len(order), 0.5])
    figure.update_xaxes(range=[0, total])
    texts = "; ".join(f"{part} {sizes[part] / total:.2%}" for part in order if sizes[part])
    title = f"Where we are: {total / 1e9:,.0f} GB, and what can be made smaller"
    subtitle = f"The {name} in bfloat16, from its config. Colour: what formats pack. Grey: what stays as it is."
    return finish(hide_axes(figure), title, f"{title}. {texts}.", 290, subtitle)


def on_a_grid(weights: Tensor, points: Sequence[float], title: str, subtitle: str, end: float | None = None) -> Picture:
    """A histogram of weights above the points that they may move to. end: of the axis, to both sides."""
    values = weights.flatten().float()
    end = end or 1.05 * float(values.abs().max())
    edges = torch.linspace(-end, end, BINS + 1)
    counts = torch.histogram(values.clamp(-end, end).cpu(), edges).hist
    middles = ((edges[1:] + edges[:-1]) / 2).tolist()
    figure = go.Figure(
        go.Bar(x=[round(x, 5) for x in middles], y=counts.int().tolist(), marker={"color": tint(BLUE, 0.55)})
    )
    for point in points:
        figure.add_vline(x=point, line={"color": VERMILLION, "width": 1})
    figure.add_trace(
        go.Scatter(
            x=[round(point, 5) for point in points], y=[0] * len(points), mode="markers", cliponaxis=False,
            marker={"color": VERMILLION, "size": 7}, hovertemplate="%{x:.4f}<extra></extra>",
        )
    )  # fmt: skip
    figure.update_layout(bargap=0.03)
    figure.update_xaxes(title_text="weight", range=[-end, end], showgrid=False, nticks=5)
    figure.update_yaxes(visible=False)
    alt = f"{title}. {values.numel():,} weights, {len(points)} points from {min(points):.3f} to {max(points):.3f}."
    return finish(figure, title, alt, 270, subtitle)


def integer_points(weights: Tensor, bits: int) -> list[float]:
    """The grid of an integer format whose scale these weights share."""
    largest = 2 ** (bits - 1) - 1
    scale = float(weights.abs().max()) / largest
    return [scale * number for number in range(-largest, largest + 1)]


def byte_picture(low: int, high: int, title: str) -> Picture:
    """Two numbers of -7 to 7 as the bits of one byte: the second in the upper half, the first in the lower one."""
    figure = go.Figure()
    bits = format((high + 8) << 4 | low + 8, "08b")
    for place, bit in enumerate(bits):
        colour = ORANGE if place < 4 else BLUE
        x = place + (0.25 if place > 3 else 0)
        figure.add_shape(type="rect", x0=x, x1=x + 1, y0=0, y1=1, fillcolor=colour, line={"color": "white", "width": 2})
        ink = {"size": 18, "color": ink_on(colour)}
        figure.add_annotation(x=x + 0.5, y=0.5, text=bit, showarrow=False, font=ink)
    for x, number, what in ((2.0, high, "input 1, upper half"), (6.25, low, "input 0, lower half")):
        sign = label(number, "d")
        figure.add_annotation(x=x, y=1.35, text=f"<b>{sign}</b> + 8 = {number + 8}", showarrow=False)
        figure.add_annotation(x=x, y=-0.35, text=what, showarrow=False, font={"color": MUTED, "size": 12})
    figure.update_xaxes(range=[-0.1, 8.35])
    figure.update_yaxes(range=[-0.7, 1.7])
    alt = f"{title}. {low} and {high} become the byte {bits}."
    return finish(hide_axes(figure), title, alt, 210, f"The byte {bits}, {int(bits, 2)}.")


def e4m3_points() -> list[float]:
    """All numbers of FP8 E4M3 from 0 to 448."""
    codes = torch.arange(127, dtype=torch.uint8)  # 127 is nan
    values: list[float] = codes.view(torch.float8_e4m3fn).float().tolist()  # the same bits, read as FP8
    return values


def number_lines(title: str, subtitle: str) -> Picture:
    """The positive halves of four grids, stretched so that all end at 1."""
    lines: Mapping[str, tuple[list[float], str]] = {
        "int8": ([number / 127 for number in range(128)], GREEN),
        "FP8 E4M3": ([value / 448 for value in e4m3_points()], PURPLE),
        "int4": ([number / 7 for number in range(8)], BLUE),
        "FP4 E2M1": ([value / 6 for value in E2M1], ORANGE),
    }
    figure = go.Figure()
    for row, (name, (points, colour)) in enumerate(lines.items()):
        few = len(points) < 20
        marker = {"color": colour, "size": 12 if few else 9, "symbol": "circle" if few else "line-ns-open"}
        figure.add_shape(type="line", x0=0, x1=1, y0=-row, y1=-row, line={"color": PALE, "width": 2}, layer="below")
        figure.add_trace(
            go.Scatter(x=[round(p, 5) for p in points], y=[-row] * len(points), mode="markers", marker=marker,
                       hovertemplate=f"{name}<br>%{{x:.4f}}<extra></extra>")
        )  # fmt: skip
        text = f"<b>{name}</b>, {len(points)} points from 0 up"
        figure.add_annotation(
            x=0, y=-row + 0.38, text=text, showarrow=False, xanchor="left", font={"color": INK, "size": 13}
        )
    figure.update_xaxes(title_text="share of the largest number", range=[-0.02, 1.02], showgrid=False, nticks=6)
    figure.update_yaxes(visible=False, range=[-len(lines) + 0.6, 0.65])
    alt = f"{title}. " + "; ".join(f"{name}: {len(points)} points" for name, (points, _) in lines.items())
    return finish(figure, title, alt, 330, subtitle)
