"""The chat templates of the released families in chapter 10, and their prompts as token ids."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import plotly.graph_objects as go

from minimoe.errors import BadArgument
from minimoe.figure_style import BLUE, GREEN, INK, ORANGE, PALE, Picture, finish, ink_on, tint
from minimoe.paths import find
from minimoe.text.chat import ChatTemplate

FACTS = "data/thinking/families.json"
PRECISIONS = ("-FP8", "-GPTQ-Int4")  # copies of a checkpoint in other formats, with the same template
# What a template of ours and that of April 2025 have in common: the turns. The opening of the reply follows.
TURNS = (
    "{%- for message in messages %}{{- '<|im_start|>' ~ message.role ~ '\\n' ~ message.content ~ '<|im_end|>\\n' }}"
    "{%- endfor %}{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}"
)
PIECES = re.compile(r"<\|[a-z_]+\|>|</?think>|\n+|[^<\n]+")
SHORT = {"<|im_start|>": "im_start", "<|im_end|>": "im_end"}


@dataclass(frozen=True)
class Family:
    """Checkpoints with one chat template, as far as a conversation without tools and thoughts shows it.

    opening: what the template writes after "<|im_start|>assistant" and a line end; opening_not_thinking: the same for
    enable_thinking=False, None if the template does not read that variable.
    """

    name: str
    members: tuple[str, ...]
    opening: str
    opening_not_thinking: str | None

    @property
    def template(self) -> ChatTemplate:
        """A template of ours that behaves like the released one."""
        opening = f"{{{{- {json.dumps(self.opening)} }}}}" if self.opening else ""
        if self.opening_not_thinking is not None:
            closed = json.dumps(self.opening_not_thinking)
            opening += f"{{%- if enable_thinking is defined and enable_thinking is false %}}{{{{- {closed} }}}}"
            opening += "{%- endif %}"
        return ChatTemplate(f"{TURNS}{opening}{{%- endif %}}", f"the template of {self.name}")

    def render(self, messages: Sequence[Mapping[str, str]], **variables: Any) -> str:
        """The prompt, with any variables set, as a server sets `chat_template_kwargs`; unknown ones are ignored."""
        conversation = {"messages": [dict(message) for message in messages], "tools": None}
        return self.template.run({"add_generation_prompt": True, **variables}, conversation)


@cache
def facts() -> dict[str, Any]:
    """What is known of the released templates, with status and sources."""
    known: dict[str, Any] = json.loads(find(FACTS).read_text(encoding="utf-8"))
    return known


def families() -> dict[str, Family]:
    """The four families of Qwen3, by name."""
    return {
        each["name"]: Family(
            each["name"], tuple(each["members"]), each["opening"],
            each["opening_not_thinking"] if each["switch"] else None,
        )
        for each in facts()["families"]
    }  # fmt: skip


def family_of(checkpoint: str) -> Family:
    """The family of a released checkpoint, also of its FP8 and GPTQ copies. Raises BadArgument for an unknown name."""
    bare = checkpoint
    for suffix in PRECISIONS:
        bare = bare.removesuffix(suffix)
    known = families()
    for family in known.values():
        if bare in family.members:
            return family
    names = ", ".join(member for family in known.values() for member in family.members)
    raise BadArgument(f"checkpoint is {checkpoint!r}, expected one of {names}.")


def real_ids(text: str) -> list[tuple[str, int]]:
    """(text of the token, its id in the released vocabulary) of a rendered prompt, whose words are in the facts."""
    ids = facts()["ids"]["value"]
    return [(piece, ids[piece]) for piece in PIECES.findall(text)]


def colour_of(piece: str) -> str:
    """One colour for each kind of token: marks of turns, marks of thoughts, line ends, words."""
    if piece.startswith("<|"):
        return BLUE
    if "think>" in piece:
        return ORANGE
    return GREEN if piece.startswith("\n") else PALE


def visible(piece: str) -> str:
    """The text of a token as a label: marks without brackets that plotly would read, line ends as arrows."""
    return SHORT.get(piece, piece).replace("<", "&lt;").replace(">", "&gt;").replace("\n", "⏎")


def strips(rows: Mapping[str, Sequence[tuple[str, int]]], title: str, subtitle: str) -> Picture:
    """Rows of tokens as boxes with their text and their id. rows: name -> (text, id) of each token."""
    figure, widest = go.Figure(), max(map(len, rows.values()))
    for number, (name, tokens) in enumerate(rows.items()):
        figure.add_annotation(
            x=-0.45, y=number - 0.44, text=f"<b>{name}</b>", showarrow=False, xanchor="left", font={"size": 12}
        )
        for place, (piece, token_id) in enumerate(tokens):
            colour = tint(colour_of(piece), 0.35) if colour_of(piece) != PALE else PALE
            figure.add_shape(
                type="rect", x0=place - 0.46, x1=place + 0.46, y0=number - 0.28, y1=number + 0.28,
                fillcolor=colour, line={"width": 0},
            )  # fmt: skip
            text = f"{visible(piece)}<br><span style='font-size:10px'>{token_id}</span>"
            figure.add_annotation(
                x=place, y=number, text=text, showarrow=False, font={"size": 11, "color": ink_on(colour)}
            )
    figure.add_trace(go.Scatter(x=[0], y=[0], mode="markers", marker={"opacity": 0}, hoverinfo="skip"))
    figure.update_xaxes(visible=False, range=[-0.5, widest - 0.5])
    figure.update_yaxes(visible=False, range=[len(rows) - 0.6, -0.75])
    alt = f"{title}. " + "; ".join(
        f"{name}: " + " ".join(str(token_id) for _, token_id in tokens) for name, tokens in rows.items()
    )
    return finish(figure, title, alt, 70 + 74 * len(rows), subtitle)


def reply_map(parts: Mapping[str, Mapping[str, int]], title: str, subtitle: str) -> Picture:
    """What stands in the context, in tokens: one bar a row. parts: row -> part -> tokens, in order."""
    colours = {"question": "#C8C8C8", "empty thought": tint(ORANGE, 0.5), "thought": ORANGE, "answer": BLUE}
    figure = go.Figure()
    rows = list(parts)
    for part in colours:
        values = [parts[row].get(part, 0) for row in rows]
        if any(values):
            figure.add_trace(
                go.Bar(
                    x=values, y=rows, orientation="h", name=part, width=0.55, hoverinfo="skip",
                    marker={"color": colours[part]}, text=[str(value) if value else "" for value in values],
                    textposition="inside", insidetextanchor="middle", textangle=0, textfont={"size": 12},
                )
            )  # fmt: skip
    figure.update_layout(barmode="stack")
    figure.update_xaxes(visible=False)
    figure.update_yaxes(autorange="reversed", ticks="", showline=False)
    alt = f"{title}. " + "; ".join(
        f"{row}: " + ", ".join(f"{part} {count}" for part, count in counts.items()) for row, counts in parts.items()
    )
    picture = finish(figure, title, alt, 90 + 46 * len(rows), subtitle)
    figure.update_layout(
        showlegend=True,
        legend={"orientation": "h", "y": -0.02, "yanchor": "top", "x": 0, "traceorder": "normal"},
        margin={"b": 50}, uniformtext={"minsize": 11, "mode": "show"}, font={"color": INK},
    )  # fmt: skip
    return picture
