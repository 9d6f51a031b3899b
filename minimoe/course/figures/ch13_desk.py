"""The rounding desk of chapter 13: bits and group size under the hand; weights, KL, flipped choices, an answer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import torch
from torch import Tensor

from minimoe.course.figures.ch13_numbers import integer_points, on_a_grid
from minimoe.course.yardstick import Seen, look
from minimoe.figure_style import MUTED, Picture
from minimoe.model.transformer import Transformer
from minimoe.quantisation import is_packed
from minimoe.quantisation.rounding import round_int, rounded_weights
from minimoe.text.generate import generate
from minimoe.text.tokenizer import Tokenizer

GROUPS = {"8": 8, "16": 16, "32": 32, "64": 64, "one scale a row": None}
ROUTER = "mlp.gate.weight"
PRE = "white-space: pre-wrap; overflow-wrap: anywhere; margin: 4px 0; font-family: monospace"


@dataclass(frozen=True)
class Rounded:
    """What rounding did to a model."""

    kl: float
    flips: float
    bits: float  # a packed weight, with its share of the scale
    answer: str

    @property
    def headline(self) -> str:
        return f"{self.bits:.2f} bits a weight: KL {self.kl:.2g}, {self.flips:.0%} of the choices flip"


def bits_per_weight(model: Transformer, bits: int, group: int | None) -> float:
    """Bits of a packed weight with its share of the scales, 16 bits for every group or part of one."""
    weights = scales = 0
    for name, parameter in model.named_parameters():
        if is_packed(name):
            rows, ins = parameter.numel() // parameter.shape[-1], parameter.shape[-1]
            weights, scales = weights + rows * ins, scales + rows * -(-ins // (group or ins))
    return bits + 16 * scales / weights


def try_out(
    model: Transformer,
    tokenizer: Tokenizer,
    exact: Seen,
    texts: Sequence[Tensor],
    bits: int,
    group: int | None,
    router: bool,
    question: Sequence[Mapping[str, str]],
    thinking: bool = False,
) -> Rounded:
    """Round the model, look at the texts, ask the question, and put the weights back."""

    def selects(name: str) -> bool:
        return is_packed(name) or (router and name.endswith(ROUTER))

    with rounded_weights(model, lambda weight: round_int(weight, bits, group), selects):
        seen = look(model, texts)
        settings: dict[str, Any] = {"thinking": thinking, "max_new_tokens": 110 if thinking else 32}
        answer = "".join(generate(model, tokenizer, question, temperature=0.0, **settings))
    flips = exact.flips(seen).values()
    return Rounded(exact.kl(seen), sum(flips) / len(flips), bits_per_weight(model, bits, group), answer)


def picture(weight: Tensor, bits: int, group: int | None, result: Rounded, name: str) -> Picture:
    """The first group of the first row of a matrix on its grid; the other groups have grids of their own."""
    row = weight[0, : group or weight.shape[1]].detach()
    subtitle = f"One group, {len(row)} weights of the {name}, and the {2**bits - 1} points of its grid."
    return on_a_grid(row, integer_points(row, bits), result.headline, subtitle, end=float(weight[0].abs().max()) * 1.05)


def rounding_desk(
    model: Transformer,
    tokenizer: Tokenizer,
    exact: Seen,
    texts: Sequence[Tensor],
    questions: Mapping[str, bool],
    layer: int,
    name: str,
) -> Any:
    """The chapter's experiment. exact: the model itself on the texts. questions: text -> whether the model thinks."""
    from ipywidgets import Checkbox, Dropdown, HBox, IntSlider, Layout, Output, SelectionSlider, VBox

    wide, style = Layout(width="330px"), {"description_width": "90px"}
    kind: dict[str, Any] = {"layout": wide, "style": style, "continuous_update": False}
    bits = IntSlider(value=4, min=2, max=8, description="bits", **kind)
    group = SelectionSlider(options=list(GROUPS), value="32", description="group", **kind)
    router = Checkbox(value=False, description="round the router, too", indent=False, layout=wide)
    question = Dropdown(options=list(questions), description="question", layout=wide, style=style)
    screen = Output(layout=Layout(min_height="430px"))
    known: dict[tuple[Any, ...], Rounded] = {}
    weight = model.layers[layer].self_attn.o_proj.weight

    def redraw(*_: Any) -> None:
        asked = [{"role": "user", "content": question.value}]
        key = (bits.value, group.value, router.value, question.value)
        if key not in known:
            known[key] = try_out(
                model, tokenizer, exact, texts, bits.value, GROUPS[group.value], router.value, asked,
                questions[question.value],
            )  # fmt: skip
        result = known[key]
        drawn = picture(weight.data, bits.value, GROUPS[group.value], result, name)
        note = f"<p style='color: {MUTED}; margin: 0'>The rounded {escape(name)} answers:</p>"
        shown = {"text/html": f"{note}<pre style='{PRE}'>{escape(result.answer)}</pre>", "text/plain": result.answer}
        bundles = (drawn._repr_mimebundle_(), shown)
        screen.outputs = tuple({"output_type": "display_data", "metadata": {}, "data": data} for data in bundles)

    for control in (bits, group, router, question):
        control.observe(redraw, names="value")
    with torch.no_grad():
        redraw()
    return VBox([HBox([bits, group, question, router], layout=Layout(flex_flow="row wrap")), screen])
