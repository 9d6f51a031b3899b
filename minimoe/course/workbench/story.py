"""The text that a model writes with the reader's functions, beside the one that it writes with the library's."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from minimoe.errors import NotFinite
from minimoe.humanize import listed
from minimoe.model.transformer import Transformer
from minimoe.text.generate import context_length, new_ids
from minimoe.text.sampling import SamplingSettings
from minimoe.text.tokenizer import Tokenizer

COLUMN = (
    "text-align: left; vertical-align: top; white-space: pre-wrap; overflow-wrap: anywhere; "
    "padding: 4px 24px 4px 0; min-width: 9em; max-width: 34em"
)
PARTED = "background: rgba(213, 94, 0, 0.18)"  # vermillion of minimoe.figure_style, legible on light and dark pages


@dataclass(frozen=True)
class Story:
    """Two continuations of one prompt, as token ids and as text: `mine` by the reader's functions, `theirs`.

    agreed: the number of tokens from the start that both have in common. parts: the reader's functions that ran.
    stopped: why the reader's text ended early, or "".
    """

    mine: tuple[int, ...]
    theirs: tuple[int, ...]
    my_texts: tuple[str, str]  # what both have in common, and the rest
    their_texts: tuple[str, str]
    parts: tuple[str, ...]
    stopped: str = ""

    @property
    def same(self) -> bool:
        return self.mine == self.theirs

    @property
    def agreed(self) -> int:
        return common(self.mine, self.theirs)

    @property
    def headline(self) -> str:
        """The result in one sentence."""
        if not self.parts:
            return "None of your functions ran, so both texts are the library's."
        yours = listed(self.parts)
        if self.same:
            return f"With your {yours} the model wrote the same {len(self.theirs)} tokens as with the library's."
        if not self.agreed:
            return f"With your {yours} the model wrote another text from the first token on."
        tokens = "token" if self.agreed == 1 else "tokens"
        return f"With your {yours} the model wrote another text after {self.agreed} {tokens}."

    def __repr__(self) -> str:
        stopped = f" ({self.stopped})" if self.stopped else ""
        texts = f"yours: {''.join(self.my_texts)}{stopped}"
        return f"{self.headline}\n{texts}" + ("" if self.same else f"\nthe library's: {''.join(self.their_texts)}")

    def _repr_html_(self) -> str:
        heads, texts = ["with yours"], [marked(self.my_texts) + note(self.stopped)]
        if not self.same:
            heads, texts = [*heads, "with the library's"], [*texts, marked(self.their_texts)]
        head = "".join(f'<th style="{COLUMN}">{text}</th>' for text in heads)
        row = "".join(f'<td style="{COLUMN}">{text}</td>' for text in texts)
        return f"<p>{escape(self.headline)}</p><table><tr>{head}</tr><tr>{row}</tr></table>"


def marked(texts: tuple[str, str]) -> str:
    """HTML of a text, with the part that the other one does not have on a coloured ground."""
    same, parted = map(escape, texts)
    return same + (f'<mark style="{PARTED}; color: inherit">{parted}</mark>' if parted else "")


def note(stopped: str) -> str:
    """HTML of the reason why a text ends early, or ""."""
    return f"<br><em>{escape(stopped)}</em>" if stopped else ""


def common(mine: Sequence[int], theirs: Sequence[int]) -> int:
    """How many items two sequences have in common from the start."""
    for number, (one, other) in enumerate(zip(mine, theirs, strict=False)):
        if one != other:
            return number
    return min(len(mine), len(theirs))


def write(
    model: Transformer, tokenizer: Tokenizer, ids: list[int], count: int, settings: SamplingSettings, seed: int | None
) -> tuple[list[int], str]:
    """Up to `count` token ids that continue `ids`, and why they end early: the logits became NaN or infinite."""
    count = min(count, context_length(model.config) - len(ids))
    written: list[int] = []
    try:
        for token_id in new_ids(model, tokenizer, ids, count, settings, seed):
            written.append(token_id)
    except NotFinite:
        return written, "the logits became NaN or infinite, so no token could be drawn"
    return written, ""


def story_of(
    tokenizer: Tokenizer, mine: Sequence[int], theirs: Sequence[int], parts: Sequence[str], stopped: str
) -> Story:
    """The story of two continuations, decoded."""
    same = common(mine, theirs)

    def texts(ids: Sequence[int]) -> tuple[str, str]:
        return tokenizer.decode(list(ids[:same])), tokenizer.decode(list(ids[same:]))

    return Story(tuple(mine), tuple(theirs), texts(mine), texts(theirs), tuple(parts), stopped)
