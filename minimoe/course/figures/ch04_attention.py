"""Chapter 04: where attention is in the model, who looks at whom, head by head, and what the cache costs."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots
from torch import Tensor

from minimoe.course.figures.boxes import draw_boxes
from minimoe.course.figures.ch03_rope import STEPS
from minimoe.course.figures.ch06_router import driven
from minimoe.figure_style import INK, MUTED, PART_COLOURS, SKY, VERMILLION, Picture, bars, finish, tint

COLOUR = PART_COLOURS["attention"]
SCALE = [[0, "#FFFFFF"], [0.25, tint(COLOUR, 0.35)], [1, COLOUR]]  # a weight from 0 to 1
MOST_HEADS = 8  # that are drawn beside each other


def attention_map() -> Picture:
    """The steps of an attention layer, left to right, with those of this chapter highlighted."""
    figure = go.Figure()
    draw_boxes(figure, STEPS, 4, COLOUR, size=11)
    figure.add_annotation(
        x=4.42, y=0.72, ax=4.42, ay=1.1, xref="x", yref="y", axref="x", ayref="y", arrowhead=2,
        text="tokens look at each other", font={"color": COLOUR},
    )  # fmt: skip
    figure.update_xaxes(visible=False, range=[-0.1, 6])
    figure.update_yaxes(visible=False, range=[-0.1, 1.35])
    steps = ", ".join(step.replace("<br>", " ") for step in STEPS)
    alt = f"The attention of one layer, step by step: {steps}. This chapter is about attending, and about the heads."
    picture = finish(figure, "Where we are: inside the attention of each layer", alt, height=225)
    figure.update_layout(margin={"l": 10, "r": 10, "t": 45, "b": 5})
    return picture


def visible(text: str) -> str:
    """A token as a label: spaces and line breaks are shown, HTML is not interpreted."""
    return text.replace("\n", "⏎").replace("<", "‹").replace(">", "›").replace(" ", "·") or "∅"


def unique(texts: Sequence[str]) -> list[str]:
    """Labels for an axis: tokens that occur twice stay apart, because plotly joins equal categories."""
    return [visible(text) + "\u200b" * number for number, text in enumerate(texts)]


def head_map(
    weights: Tensor, rows: Sequence[str], columns: Sequence[str], title: str, subtitle: str, row: int | None = None
) -> Picture:
    """Attention weights of one head: a row per query, a column per key; the largest of each row has a frame.

    weights: (query, key). rows, columns: labels. row: the query that is highlighted.
    """
    values = [[round(value, 3) for value in line] for line in weights.tolist()]
    figure = go.Figure(
        go.Heatmap(
            z=values, x=unique(columns), y=unique(rows), colorscale=SCALE, zmin=0, zmax=1, showscale=False, xgap=1,
            ygap=1, hovertemplate="%{y} looks at %{x}: %{z:.2f}<extra></extra>",
        )
    )  # fmt: skip
    for place, line in enumerate(values):
        best = max(range(len(line)), key=line.__getitem__)
        figure.add_shape(
            type="rect", x0=best - 0.5, x1=best + 0.5, y0=place - 0.5, y1=place + 0.5, line={"color": INK, "width": 1.5}
        )
        if len(line) <= 30 and len(values) <= 14:
            ink = "white" if line[best] > 0.5 else INK
            text = f"{line[best]:.2f}"[1:] if line[best] < 0.995 else "1"
            figure.add_annotation(x=best, y=place, text=text, showarrow=False, font={"size": 10, "color": ink})
    if row is not None:
        figure.add_shape(
            type="rect", x0=-0.5, x1=len(columns) - 0.5, y0=row - 0.5, y1=row + 0.5,
            line={"color": VERMILLION, "width": 2},
        )  # fmt: skip
    figure.update_xaxes(side="bottom", tickangle=-60, showgrid=False, ticks="", tickfont={"size": 11})
    figure.update_yaxes(autorange="reversed", showgrid=False, ticks="", tickfont={"size": 11})
    strongest = "; ".join(
        f"{visible(name)} at {visible(columns[max(range(len(line)), key=line.__getitem__)])}"
        for name, line in zip(rows, values, strict=True)
    )
    picture = finish(figure, title, f"{title}. Strongest: {strongest}.", height=150 + 22 * len(rows), subtitle=subtitle)
    picture.figure.update_layout(margin={"b": 90})
    return picture


def every_head(weights: Tensor, group: int, title: str, subtitle: str, layers: Sequence[int]) -> Picture:
    """Small maps of many heads: a row of maps per layer, a column per head; the colour of a frame is the KV group.

    weights: (layer, head, query, key). group: query heads that share one key/value head.
    """
    heads = min(weights.shape[1], MOST_HEADS)
    names = [f"head {head}" if not row else "" for row in range(len(layers)) for head in range(heads)]
    figure = make_subplots(len(layers), heads, subplot_titles=names, horizontal_spacing=0.008, vertical_spacing=0.02)
    frames = (COLOUR, VERMILLION, SKY, MUTED)
    for row, layer in enumerate(layers):
        for head in range(heads):
            values = [[round(value, 2) or None for value in line] for line in weights[layer, head].tolist()]
            figure.add_trace(
                go.Heatmap(
                    z=values, colorscale=SCALE, zmin=0, zmax=1, showscale=False,
                    hovertemplate=f"layer {layer}, head {head}: query %{{y}}, key %{{x}}: %{{z}}<extra></extra>",
                ),
                row + 1, head + 1,
            )  # fmt: skip
            line = {
                "showline": True, "mirror": True, "linewidth": 2,
                "linecolor": frames[head // group % len(frames)], "showticklabels": False, "ticks": "",
                "showgrid": False, "zeroline": False,
            }  # fmt: skip
            figure.update_xaxes(**line, row=row + 1, col=head + 1)
            figure.update_yaxes(**line, autorange="reversed", row=row + 1, col=head + 1)
        figure.update_yaxes(title_text=f"layer {layer}", row=row + 1, col=1)
    alt = f"{title}. {subtitle} {len(layers)} layers, {heads} heads each."
    picture = finish(figure, title, alt, height=110 + 84 * len(layers), subtitle=subtitle)
    for note in picture.figure.layout.annotations:
        note.font = {"size": 11, "color": MUTED}
    picture.figure.update_layout(margin={"l": 50, "r": 12, "b": 12})
    return picture


def cache_bars(bytes_per_token: Mapping[str, int], title: str, subtitle: str, lit: str) -> Picture:
    """Bytes of the KV cache per token for several designs; `lit` is the 235B as it is."""
    return bars(
        list(bytes_per_token),
        list(bytes_per_token.values()),
        title=title,
        alt=f"{title}. " + "; ".join(f"{name}: {value:,}" for name, value in bytes_per_token.items()) + " bytes.",
        subtitle=subtitle,
        form=",d",
        colours=[COLOUR if name == lit else MUTED for name in bytes_per_token],
    )


def explore_heads(
    weights: Tensor, texts: Sequence[str], group: int, layer: int, head: int, query: int, label: str
) -> Any:
    """Who looks at whom: choose a layer, a head and a token. weights: (layer, head, query, key); texts: the tokens."""
    from ipywidgets import Dropdown, IntSlider, Layout

    narrow, style = Layout(width="150px"), {"description_width": "50px"}

    def draw(layer: int, head: int, query: int) -> Picture:
        line = weights[layer, head, query]
        best = int(line.argmax())
        title = f"'{visible(texts[query])}' looks at '{visible(texts[best])}' with {float(line[best]):.0%}"
        first = head // group * group
        says = (
            f"Layer {layer}, head {head} ({label}); it shares its keys with heads {first} to {first + group - 1}"
            if group > 1
            else f"Layer {layer}, head {head} ({label})"
        )
        return head_map(weights[layer, head], texts, texts, title, says + ".", row=query)

    return driven(
        draw,
        layer=Dropdown(options=list(range(len(weights))), value=layer, description="layer", layout=narrow, style=style),
        head=Dropdown(
            options=list(range(weights.shape[1])), value=head, description="head", layout=narrow, style=style
        ),
        query=IntSlider(
            value=query, min=0, max=len(texts) - 1, description="token", layout=Layout(width="320px"), style=style
        ),
    )


def listed(names: Sequence[str]) -> str:
    """ "a", "a and b", "a, b and c"."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def explore_switches(run: Callable[[tuple[str, ...]], tuple[float, str]], parts: Sequence[str], label: str) -> Any:
    """Switch parts of attention off, and read what the model writes.

    run: takes the names of the parts that are off, and returns the next-token loss and a text. Results are kept, so a
    setting that was tried before appears at once.
    """
    from ipywidgets import HTML, Checkbox, HBox, Layout, VBox

    boxes = {part: Checkbox(value=True, description=part, indent=False, layout=Layout(width="130px")) for part in parts}
    page, known = HTML(), {}

    def show(*_: Any) -> None:
        off = tuple(part for part, box in boxes.items() if not box.value)
        if off not in known:
            page.value = "<em>the model is writing ...</em>"
            known[off] = run(off)
        loss, text = known[off]
        what = "everything on, as in training" if not off else "without " + listed(off)
        safe = text.replace("&", "&amp;").replace("<", "&lt;")
        page.value = f"<p><b>{what}: {loss:.2f} nats per token</b> ({label})</p><p style='max-width:44em'>{safe}</p>"

    for box in boxes.values():
        box.observe(show, names="value")
    show()
    return VBox([HBox(list(boxes.values()), layout=Layout(flex_flow="row wrap")), page])
