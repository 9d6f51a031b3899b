"""Compare two runs of one model: differences of hidden states, logits and expert selections, layer by layer."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import plotly.graph_objects as go
import torch
from einops import rearrange, reduce
from torch import Tensor, nn

from minimoe.errors import BadArgument
from minimoe.figure_style import Picture
from minimoe.humanize import listed
from minimoe.model.router import Routing
from minimoe.model.transformer import Transformer
from minimoe.routing.trace.hooks import on_routers

SAME = 1e-4  # smaller differences of logits are rounding errors in float32
ROUNDING = 1e-5  # and of hidden states, relative to their size


@dataclass
class Run:
    """The record of one forward pass: hidden states after each layer, experts of each MoE layer, and the output."""

    hidden: dict[int, Tensor] = field(default_factory=dict)
    experts: dict[int, Tensor] = field(default_factory=dict)
    num_experts: int = 0
    output: Tensor | None = None


@torch.no_grad()
def observe(model: Transformer, token_ids: Tensor) -> Run:
    """Record one forward pass with hooks, which are removed afterwards."""
    seen = Run()

    def layer_hook(number: int) -> Any:
        return lambda module, args, output: seen.hidden.update({number: output.detach().clone()})

    def keep_experts(number: int, gate: nn.Module, routing: Routing) -> None:
        seen.experts[number] = routing.experts.detach().clone()
        seen.num_experts = routing.logits.shape[-1]

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
class ExpertMap:
    """The choices of one layer in both runs, by expert. both: number of tokens that chose it in both runs; parted:
    number of tokens that chose it in one run only."""

    both: tuple[int, ...]
    parted: tuple[int, ...]


@dataclass(frozen=True)
class Comparison:
    """A comparison of the reader's functions with the library's on one input.

    hidden_difference: for each layer, the largest absolute difference of the hidden states after it (nan counts as
    infinite). moved: for each layer and token, how far the hidden state lies from the library's, as a share of its
    size (Euclidean norms). flipped: for each MoE layer, how many of its `choices` (tokens x slots) selected a different
    expert; maps: the choices themselves. logit_difference: the largest absolute difference of the output. todo: parts
    that are not written, for which the library's functions ran. unused: parts that this model never called.
    """

    parts: tuple[str, ...]
    layers: tuple[int, ...]
    hidden_difference: tuple[float, ...]
    moved: tuple[tuple[float, ...], ...]
    logit_difference: float
    flipped: dict[int, int]
    choices: int
    maps: dict[int, ExpertMap]
    todo: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()

    @property
    def same(self) -> bool:
        """Whether no expert flipped and the logits differ only by rounding."""
        return self.logit_difference < SAME and not any(self.flipped.values())

    @property
    def relative_difference(self) -> tuple[float, ...]:
        """For each layer, the largest of `moved` over the tokens."""
        return tuple(max(row) for row in self.moved)

    @property
    def first_parting(self) -> int | None:
        """The first layer after which the runs differ by more than rounding; None if there is none."""
        for layer, share in zip(self.layers, self.relative_difference, strict=True):
            if share >= ROUNDING or self.flipped.get(layer):
                return layer
        return None

    @property
    def parting(self) -> str:
        """Where the runs part, in one sentence; two layers where the choices differ later than the hidden states."""
        hidden, choices = self.first_parting, next((layer for layer, count in self.flipped.items() if count), None)
        if choices is None or choices == hidden:
            return f"The runs part in layer {hidden}."
        return f"The hidden states differ from layer {hidden} on, the choices from layer {choices} on."

    @property
    def identical(self) -> dict[int, int]:
        """For each MoE layer, how many of its choices are the same in both runs."""
        return {layer: self.choices - count for layer, count in self.flipped.items()}

    @property
    def mine(self) -> str:
        """The reader's parts that ran, such as "route and swiglu"."""
        return listed(part for part in self.parts if part not in (*self.todo, *self.unused))

    @property
    def headline(self) -> str:
        """The result in one sentence."""
        if set(self.parts) <= set(self.todo):
            return f"todo: {', '.join(self.todo)}. The library's own ran, so nothing changed. Write yours, run again."
        if not self.mine:
            return f"This model never called {' and '.join(self.unused)}, so nothing changed."
        verdict = "it is the same model to within rounding" if self.same else "the runs differ"
        return f"Your {self.mine} just ran inside a Qwen3: {verdict}."

    @property
    def alt(self) -> str:
        """The result of the comparison as text, rounded so that it is the same on every processor."""
        if not self.mine:
            return self.headline
        says = [self.headline]
        if self.flipped:
            same, total = sum(self.identical.values()), self.choices * len(self.flipped)
            says.append(f"{same:,} of {total:,} expert choices are identical.")
            if same < total:
                counts = ", ".join(f"layer {layer}: {count}" for layer, count in self.flipped.items() if count)
                says.append(f"Different, of {self.choices:,} in a layer: {counts}.")
        if self.first_parting is not None and not self.same:
            says.append(self.parting)
        largest = in_words(max(self.relative_difference))
        says.append(f"The largest difference of a hidden state: {largest} of its size.")
        return " ".join(says)

    @property
    def figure(self) -> go.Figure:
        return self.picture.figure

    @property
    def picture(self) -> Picture:
        """Both runs laid over each other: layers x experts, or layers x tokens for a model without experts."""
        from minimoe.course.workbench.run_picture import overlay

        return overlay(self)

    def __repr__(self) -> str:
        return self.alt

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        return self.picture._repr_mimebundle_(include, exclude)


def between(
    theirs: Run, mine: Run, parts: Sequence[str], todo: Sequence[str], unused: Sequence[str] = ()
) -> Comparison:
    """The comparison of two runs on the same input."""
    assert theirs.output is not None and mine.output is not None
    layers = tuple(theirs.hidden)
    return Comparison(
        parts=tuple(parts),
        layers=layers,
        hidden_difference=tuple(largest(theirs.hidden[layer], mine.hidden[layer]) for layer in layers),
        moved=tuple(shares(theirs.hidden[layer], mine.hidden[layer]) for layer in layers),
        logit_difference=largest(theirs.output, mine.output),
        flipped={layer: flips(theirs.experts[layer], mine.experts[layer]) for layer in theirs.experts},
        choices=next((experts.numel() for experts in theirs.experts.values()), 0),
        maps={
            layer: overlap(theirs.experts[layer], mine.experts[layer], theirs.num_experts) for layer in theirs.experts
        },
        todo=tuple(todo),
        unused=tuple(unused),
    )


def largest(a: Tensor, b: Tensor) -> float:
    """The largest absolute difference of two tensors; nan counts as infinite."""
    return float((a.double() - b.double()).abs().nan_to_num(nan=torch.inf).max())


def shares(theirs: Tensor, mine: Tensor) -> tuple[float, ...]:
    """For each token, |mine - theirs| / |theirs| over the hidden axis; nan counts as infinite."""
    theirs, mine = (rearrange(hidden.double(), "batch position hidden -> (batch position) hidden").cpu()
                    for hidden in (theirs, mine))  # fmt: skip
    moved = (mine - theirs).norm(dim=-1) / theirs.norm(dim=-1).clamp(min=1e-30)
    return tuple(moved.nan_to_num(nan=torch.inf, posinf=torch.inf).tolist())


def flips(theirs: Tensor, mine: Tensor) -> int:
    """Number of slots in `mine` with an expert that the token does not have in `theirs`; (token, slot) in any order."""
    kept = mine[:, :, None] == theirs[:, None, :]
    return int((~kept.any(dim=-1)).sum())


def overlap(theirs: Tensor, mine: Tensor, num_experts: int) -> ExpertMap:
    """The choices (token, slot) of two runs, counted by expert."""
    empty = torch.zeros(len(theirs), num_experts, dtype=torch.bool)
    chosen = [empty.scatter(-1, experts.cpu().long(), True) for experts in (theirs, mine)]
    both, parted = chosen[0] & chosen[1], chosen[0] ^ chosen[1]
    return ExpertMap(
        both=tuple(reduce(both.long(), "token expert -> expert", "sum").tolist()),
        parted=tuple(reduce(parted.long(), "token expert -> expert", "sum").tolist()),
    )


def in_words(share: float) -> str:
    """A share of a hidden state's size as text: two digits from 0.01 on, else the next larger power of ten."""
    if share == float("inf"):
        return "not a number"
    if share >= 10:
        return f"{float(f'{share:.2g}'):,.0f} times"
    if share >= 1:
        return f"{share:.2g} times"
    if share >= 0.01:
        return f"{share:.2g}"
    power = next(power for power in (0.00001, 0.0001, 0.001, 0.01) if share < power)
    return f"less than {power:f}".rstrip("0")
