"""Compare two runs of one model: differences of hidden states, logits and expert selections, layer by layer."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import plotly.graph_objects as go
import torch
from plotly.subplots import make_subplots
from torch import Tensor, nn

from minimoe.errors import BadArgument
from minimoe.model.router import Routing
from minimoe.model.transformer import Transformer
from minimoe.plotting import BLUE, VERMILLION, Picture, finish
from minimoe.routing.trace.hooks import on_routers

SAME = 1e-4  # smaller differences of hidden states or logits are rounding errors in float32


@dataclass
class Run:
    """The record of one forward pass: hidden states after each layer, experts of each MoE layer, and the output."""

    hidden: dict[int, Tensor] = field(default_factory=dict)
    experts: dict[int, Tensor] = field(default_factory=dict)
    output: Tensor | None = None


@torch.no_grad()
def observe(model: Transformer, token_ids: Tensor) -> Run:
    """Record one forward pass with hooks, which are removed afterwards."""
    seen = Run()

    def layer_hook(number: int) -> Any:
        return lambda module, args, output: seen.hidden.update({number: output.detach().clone()})

    def keep_experts(number: int, gate: nn.Module, routing: Routing) -> None:
        seen.experts[number] = routing.experts.detach().clone()

    with ExitStack() as stack:
        for number in model.layer_range:
            stack.callback(model.layers[number].register_forward_hook(layer_hook(number)).remove)
        stack.enter_context(on_routers(model, keep_experts))
        seen.output = model(token_ids)
    return seen


def as_ids(text: Any, tokenizer: Any) -> Tensor:
    """(1, position) ids of a text; ids are returned unchanged. Raises BadArgument for a text without a tokenizer."""
    if not isinstance(text, str):
        return text
    if tokenizer is None:
        raise BadArgument("compare() was given a text without a tokenizer; call compare(text, tokenizer).")
    return torch.tensor([tokenizer.encode(text)])


@dataclass(frozen=True)
class Comparison:
    """A comparison of the reader's functions with the library's on one input.

    hidden_difference: for each layer, the largest absolute difference of the hidden states after it (nan counts as
    infinite). flipped: for each MoE layer, how many of its `choices` (tokens x slots) selected a different expert.
    logit_difference: the largest absolute difference of the output. todo: parts that are not written, for which the
    library's functions ran. unused: parts that this model never called.
    """

    parts: tuple[str, ...]
    layers: tuple[int, ...]
    hidden_difference: tuple[float, ...]
    logit_difference: float
    flipped: dict[int, int]
    choices: int
    todo: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()

    @property
    def same(self) -> bool:
        """Whether no expert flipped and the logits differ only by rounding."""
        return self.logit_difference < SAME and not any(self.flipped.values())

    @property
    def alt(self) -> str:
        """The result of the comparison as text."""
        if set(self.parts) <= set(self.todo):
            return f"todo: {', '.join(self.todo)}. The library's own ran, so nothing changed. Write yours, run again."
        flips = ", ".join(f"layer {layer}: {count}" for layer, count in self.flipped.items() if count)
        if self.same:
            verdict = "it is the same model to within rounding"
        else:
            verdict = "it is another model now"
        mine = " and ".join(part for part in self.parts if part not in (*self.todo, *self.unused))
        if not mine:
            return f"This model never called {' and '.join(self.unused)}, so nothing changed."
        return (
            f"Your {mine} just ran inside a Qwen3: {verdict}. "
            f"Largest difference of the logits: {in_words(self.logit_difference)}. "
            f"Expert choices that flipped, of {self.choices} in a layer: {flips or 'none'}."
        )

    @property
    def figure(self) -> go.Figure:
        return self.picture.figure

    @property
    def picture(self) -> Picture:
        """Bars over the layers: differences of the hidden states, and flipped choices if the model has experts."""
        return layer_bars(self)

    def __repr__(self) -> str:
        return self.alt

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        return self.picture._repr_mimebundle_(include, exclude)


def between(
    theirs: Run, mine: Run, parts: Sequence[str], todo: Sequence[str], unused: Sequence[str] = ()
) -> Comparison:
    """The comparison of two runs on the same input."""
    assert theirs.output is not None and mine.output is not None
    flipped = {layer: flips(theirs.experts[layer], mine.experts[layer]) for layer in theirs.experts}
    return Comparison(
        parts=tuple(parts),
        layers=tuple(theirs.hidden),
        hidden_difference=tuple(largest(theirs.hidden[layer], mine.hidden[layer]) for layer in theirs.hidden),
        logit_difference=largest(theirs.output, mine.output),
        flipped=flipped,
        choices=next((experts.numel() for experts in theirs.experts.values()), 0),
        todo=tuple(todo),
        unused=tuple(unused),
    )


def largest(a: Tensor, b: Tensor) -> float:
    """The largest absolute difference of two tensors; nan counts as infinite."""
    return float((a.double() - b.double()).abs().nan_to_num(nan=torch.inf).max())


def flips(theirs: Tensor, mine: Tensor) -> int:
    """Number of slots in `mine` with an expert that the token does not have in `theirs`; (token, slot) in any order."""
    kept = mine[:, :, None] == theirs[:, None, :]
    return int((~kept.any(dim=-1)).sum())


def in_words(value: float) -> str:
    """A difference as text, rounded so that it is the same on every processor."""
    if value < SAME:
        return f"less than {SAME:g}"
    return "not a number" if value == float("inf") else f"{value:.2g}"


def layer_bars(comparison: Comparison) -> Picture:
    """The figure of a comparison."""
    names = [str(layer) for layer in comparison.layers]
    rows = 2 if comparison.flipped else 1
    figure = make_subplots(rows=rows, cols=1, shared_xaxes=True, vertical_spacing=0.12)
    heights = [round(value, 6) if value < float("inf") else None for value in comparison.hidden_difference]
    figure.add_trace(go.Bar(x=names, y=heights, marker={"color": BLUE}), row=1, col=1)
    figure.update_yaxes(title_text="largest difference<br>of hidden states", rangemode="tozero", row=1, col=1)
    if comparison.flipped:
        counts = [comparison.flipped.get(layer) for layer in comparison.layers]
        figure.add_trace(go.Bar(x=names, y=counts, marker={"color": VERMILLION}), row=2, col=1)
        top = max(1, *comparison.flipped.values())
        title = f"flipped choices<br>of {comparison.choices}"
        figure.update_yaxes(title_text=title, range=[0, 1.1 * top], row=2, col=1)
    if comparison.same:
        figure.update_yaxes(range=[0, 1], row=1, col=1)  # so that rounding errors are not magnified
    figure.update_xaxes(title_text="after layer (number)", type="category", row=rows, col=1)
    what = ", ".join(comparison.parts)
    return finish(figure, f"Your {what} against the library's, layer by layer", comparison.alt, height=180 + 170 * rows)
