"""The sampler's desk of chapter 09: one distribution with its cuts, and a text continued in ten parallel worlds."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import plotly.graph_objects as go
import torch
from einops import rearrange
from torch import Tensor

from minimoe.errors import BadArgument
from minimoe.figure_style import BLUE, GREEN, INK, MUTED, ORANGE, VERMILLION, Picture, finish
from minimoe.model.cache import KVCache
from minimoe.model.transformer import Transformer
from minimoe.paths import find
from minimoe.text.sampling import SamplingSettings, truncate, widen
from minimoe.text.tokenizer import Tokenizer

OTHER = "#C8C8C8"
ENDS = (0.25, 0.5, 1.05)  # of the value axis
SHOWN = 24  # tokens of a distribution, the likeliest
WORLDS, TOKENS = 10, 20
CELL = "text-align: left; vertical-align: top; padding: 1px 10px 1px 0; white-space: pre-wrap; overflow-wrap: anywhere"


def visible(text: str) -> str:
    """A token's text as a label: spaces as dots, line ends as arrows."""
    return text.replace(" ", "·").replace("\n", "⏎") or "∅"


def kept(logits: Tensor, settings: SamplingSettings) -> dict[str, int]:
    """filter -> the number of tokens that are left after it, in the order in which the filters apply."""
    if settings.temperature == 0:
        return {"greedy": 1}
    scaled = widen(logits) / settings.temperature
    left = {}
    if settings.top_k:
        left[f"top-k {settings.top_k}"] = count(truncate(scaled, settings.top_k))
    if settings.top_p < 1:
        left[f"top-p {settings.top_p:.2g}"] = count(truncate(scaled, settings.top_k, settings.top_p))
    if settings.min_p:
        left[f"min-p {settings.min_p:.2g}"] = count(truncate(scaled, settings.top_k, settings.top_p, settings.min_p))
    return left


def count(logits: Tensor) -> int:
    """The tokens that a filter has left."""
    return int(logits.isfinite().sum())


def shares(logits: Tensor, settings: SamplingSettings) -> Tensor:
    """logits (..., vocab) -> probabilities with which each token is drawn, in float32."""
    if settings.temperature == 0:
        best = logits.argmax(dim=-1, keepdim=True)
        return torch.zeros_like(widen(logits)).scatter(-1, best, 1.0)
    scaled = widen(logits) / settings.temperature
    return truncate(scaled, settings.top_k, settings.top_p, settings.min_p).softmax(dim=-1)


def desk(logits: Tensor, tokenizer: Tokenizer, settings: SamplingSettings, title: str, note: str = "") -> Picture:
    """The likeliest tokens as sorted bars, with a line for each filter. logits: (vocab).

    Bars are the softmax at this temperature, blue if the token can be drawn; dots are the probabilities with which it
    is drawn.
    """
    softmax = (widen(logits) / (settings.temperature or 1.0)).softmax(dim=-1)
    order = softmax.argsort(descending=True, stable=True)[:SHOWN]
    drawn, cuts = shares(logits, settings), kept(logits, settings)
    left = count(drawn.log())
    places = list(range(1, len(order) + 1))
    names = [visible(tokenizer.token(token)) for token in order.tolist()]
    hover = "%{customdata}<br>%{y:.3f}<extra></extra>"
    figure = go.Figure(
        go.Bar(
            x=places, y=[round(value, 4) for value in softmax[order].tolist()], customdata=names, hovertemplate=hover,
            marker={"color": [BLUE if share > 0 else OTHER for share in drawn[order].tolist()], "line": {"width": 0}},
        )
    )  # fmt: skip
    figure.add_trace(
        go.Scatter(
            x=places[:left], y=[round(value, 4) for value in drawn[order].tolist()[:left]], customdata=names[:left],
            mode="markers", hovertemplate=hover, marker={"color": VERMILLION, "size": 7},
        )
    )  # fmt: skip
    for number, (name, after) in enumerate(cuts.items()):
        colour = {"top-k": GREEN, "top-p": ORANGE, "min-p": VERMILLION}.get(name.split()[0], INK)
        if after < SHOWN:
            figure.add_vline(x=after + 0.5, line={"color": colour, "width": 1.5, "dash": "dash"})
        says = f"{name}: {after:,} left"
        figure.add_annotation(
            x=1, y=0.98 - 0.1 * number, xref="paper", yref="paper", xanchor="right", text=says, showarrow=False,
            font={"color": colour}, bgcolor="white",
        )  # fmt: skip
    figure.update_layout(bargap=0.15)
    figure.update_xaxes(
        tickvals=places, ticktext=names, tickangle=-90, tickfont={"size": 11}, showgrid=False, range=[0.2, SHOWN + 0.8]
    )
    largest = float(max(softmax.max(), drawn.max()))
    figure.update_yaxes(title_text="probability", range=[0, next(end for end in ENDS if end > 0.99 * largest)])
    rest = "; ".join(f"{name}: {after} tokens left" for name, after in cuts.items()) or "no cut"
    alt = f"{title}. The likeliest tokens: {', '.join(names[:5])}. {rest}. {note}".strip()
    at = f"at temperature {settings.temperature or 1:g}"
    picture = finish(figure, title, alt, 340, note or f"Bars: softmax {at}. Dots: with what it is drawn.")
    figure.update_layout(margin={"b": 90})
    return picture


def released_settings(name: str) -> dict[str, float]:
    """The sampling settings that are published with a real checkpoint, from data/models; `top_k` is an int."""
    facts = json.loads((find("data/models") / f"{name}.json").read_text(encoding="utf-8"))["facts"]
    published = facts["generation_config"]["value"]
    return {key: published.get(key, 0) for key in ("temperature", "top_p", "top_k", "min_p")}


# Parallel worlds -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Worlds:
    """Continuations of one prompt. ids: one list a world, without stop ids. texts: the same, decoded."""

    temperature: float
    ids: tuple[tuple[int, ...], ...]
    texts: tuple[str, ...]

    @property
    def different(self) -> int:
        """How many of the texts differ from each other."""
        return len(set(self.ids))

    @property
    def first_tokens(self) -> int:
        """How many different first tokens they have."""
        return len({row[:1] for row in self.ids})

    @property
    def headline(self) -> str:
        texts = f"{self.different} different text{'s' * (self.different != 1)}"
        return f"Temperature {self.temperature:g}: {len(self.ids)} worlds, {texts}"

    def __repr__(self) -> str:
        rows = [f"{number:2d}  {visible(text)}" for number, text in enumerate(self.texts)]
        return "\n".join([self.headline, *rows])

    def _repr_html_(self) -> str:
        common = shared_start(self.texts)
        rows = "".join(
            f'<tr><td style="{CELL}; color: {MUTED}">{number}</td><td style="{CELL}">'
            f'<span style="color: {MUTED}">{escape(text[:common])}</span>{escape(text[common:])}</td></tr>'
            for number, text in enumerate(self.texts)
        )
        return f"<p>{self.headline}. Grey: what all have in common.</p><table>{rows}</table>"


def shared_start(texts: Sequence[str]) -> int:
    """The number of characters that all texts have in common at their start."""
    pairs = enumerate(zip(*texts, strict=False))
    return next((place for place, letters in pairs if len(set(letters)) > 1), min(map(len, texts)))


def fork(model: Transformer, cache: KVCache, batch: int) -> KVCache:
    """A cache for a batch in which every row continues the one text that `cache` holds."""
    copies = model.new_cache(batch=batch, capacity=cache.capacity)
    for layer in cache.keys:
        copies.keys[layer][:, :, : cache.length] = cache.keys[layer][:, :, : cache.length]
        copies.values[layer][:, :, : cache.length] = cache.values[layer][:, :, : cache.length]
    copies.length = cache.length
    return copies


def draw(probabilities: Tensor, dice: Tensor) -> Tensor:
    """probabilities (batch, vocab), dice (batch) in [0, 1) -> ids (batch): the token on which each throw falls.

    The tokens stand side by side from the likeliest on, each as wide as its probability. The same throw with slightly
    other probabilities mostly falls on the same token.
    """
    ordered, ids = probabilities.sort(dim=-1, descending=True, stable=True)
    reached = ordered.cumsum(dim=-1) > rearrange(dice, "batch -> batch 1")
    first = reached.int().argmax(dim=-1, keepdim=True)
    return rearrange(ids.gather(-1, first), "batch 1 -> batch")


@torch.no_grad()
def write_worlds(
    model: Transformer,
    tokenizer: Tokenizer,
    prompt: Sequence[int],
    settings: SamplingSettings,
    worlds: int = WORLDS,
    count: int = TOKENS,
    seed: int = 0,
) -> Worlds:
    """Continue one prompt in several worlds at once: one prefill, then one pass of `worlds` tokens a step.

    Each world has its own dice, which depend on `seed` only. Raises BadArgument for an empty prompt.
    """
    if not prompt:
        raise BadArgument("prompt is empty, expected the ids of a text to continue.")
    once = model.new_cache(capacity=len(prompt) + count)
    logits = model(torch.tensor([list(prompt)]), cache=once, last_only=True)[:, -1]
    cache = fork(model, once, worlds)
    logits = logits.expand(worlds, -1)
    dice = torch.rand(count, worlds, generator=torch.Generator().manual_seed(seed))
    steps = []
    for throws in dice:
        steps.append(draw(shares(logits[:, : tokenizer.vocabulary_size], settings), throws))
        if len(steps) < count:
            logits = model(rearrange(steps[-1], "batch -> batch 1"), cache=cache, last_only=True)[:, -1]
    written = rearrange(steps, "position batch -> batch position").tolist()
    rows = [until_stop(row, tokenizer.stop_ids) for row in written]
    return Worlds(settings.temperature, tuple(rows), tuple(tokenizer.decode(row) for row in rows))


def until_stop(ids: Sequence[int], stop_ids: Sequence[int]) -> tuple[int, ...]:
    """The ids before the first stop id; all, if there is none."""
    return tuple(ids[: next((place for place, token in enumerate(ids) if token in stop_ids), len(ids))])


def sampler_desk(model: Transformer, tokenizer: Tokenizer, prompts: Mapping[str, Sequence[int]], name: str) -> Any:
    """The chapter's experiment: move the settings, and see the distribution and ten worlds. prompts: name -> ids."""
    from ipywidgets import Dropdown, FloatSlider, HBox, IntSlider, Layout, Output, VBox

    wide, style = Layout(width="330px"), {"description_width": "90px"}
    kind = {"layout": wide, "style": style, "continuous_update": False}
    controls = {
        "temperature": FloatSlider(value=1.0, min=0, max=2, step=0.1, description="temperature", **kind),
        "top_k": IntSlider(value=0, min=0, max=40, description="top-k (0: off)", **kind),
        "top_p": FloatSlider(value=1.0, min=0.05, max=1, step=0.05, description="top-p (1: off)", **kind),
        "min_p": FloatSlider(value=0.0, min=0, max=0.5, step=0.02, description="min-p (0: off)", **kind),
        "dice": IntSlider(value=0, min=0, max=20, description="dice", **kind),
        "prompt": Dropdown(options=list(prompts), description="prompt", layout=wide, style=style),
    }
    screen = Output(layout=Layout(min_height="640px"))
    first: dict[str, Tensor] = {}

    def redraw(*_: Any) -> None:
        values = {key: control.value for key, control in controls.items()}
        prompt, dice = values.pop("prompt"), values.pop("dice")
        if prompt not in first:
            with torch.no_grad():
                first[prompt] = model(torch.tensor([list(prompts[prompt])]), last_only=True)[0, -1]
        settings = SamplingSettings(**values)
        logits = first[prompt][: tokenizer.vocabulary_size]
        worlds = write_worlds(model, tokenizer, prompts[prompt], settings, seed=dice)
        left = count(shares(logits, settings).log())
        picture = desk(logits, tokenizer, settings, f"{left:,} token{'s' * (left != 1)} can come next ({name})")
        written = {"text/html": worlds._repr_html_(), "text/plain": repr(worlds)}
        bundles = (picture._repr_mimebundle_(), written)
        screen.outputs = tuple({"output_type": "display_data", "metadata": {}, "data": data} for data in bundles)

    for control in controls.values():
        control.observe(redraw, names="value")
    redraw()
    return VBox([HBox(list(controls.values()), layout=Layout(flex_flow="row wrap")), screen])
