"""Reads a text that was typed: the model runs over it once, and its routers are recorded."""

from typing import TYPE_CHECKING, Any

import torch

from minimoe.errors import BadArgument
from minimoe.model.transformer import Transformer
from minimoe.routing.trace.trace import RoutingTrace, record_routing

if TYPE_CHECKING:
    from minimoe.text.tokenizer import Tokenizer

MOST_TOKENS = 2048  # that a strip of text shows


class Reader:
    """Traces texts with one model and its tokenizer."""

    def __init__(self, model: Any, tokenizer: "Tokenizer | None", label: str | None):
        if not isinstance(model, Transformer):
            kind = type(model).__name__
            raise BadArgument(f"model_or_trace is {kind}, expected a minimoe.Transformer or a RoutingTrace.")
        if tokenizer is None or not hasattr(tokenizer, "token_bytes"):
            kind = "missing" if tokenizer is None else type(tokenizer).__name__
            raise BadArgument(f"tokenizer is {kind}, expected the one that minimoe.load returned with the model.")
        self.model, self.tokenizer, self.label = model, tokenizer, label

    def trace(self, text: Any) -> RoutingTrace:
        """The routing of `text`, read without gradients. Raises BadArgument."""
        if not isinstance(text, str):
            kind = "missing" if text is None else type(text).__name__
            raise BadArgument(f'text is {kind}, expected the text to read, such as text="The cat sleeps."')
        ids = self.tokenizer.encode(text)
        if not ids:
            raise BadArgument(f"text is {text!r}, which has no tokens. Expected at least one character.")
        check_length(len(ids))
        size = self.model.config.vocab_size
        if max(ids) >= size:
            raise BadArgument(
                f"the tokenizer gives the token id {max(ids)}, but the model's vocab_size is {size}. Expected the "
                "tokenizer of this model: minimoe.load returns both."
            )
        with torch.no_grad(), record_routing(self.model, self.tokenizer, label=self.label) as trace:
            self.model([ids])
        return trace


def check_length(count: int) -> None:
    """Raise BadArgument for more tokens than the strip shows."""
    if count > MOST_TOKENS:
        raise BadArgument(
            f"the text has {count:,} tokens, expected at most {MOST_TOKENS:,}. Take a part of it, as trace.select "
            "does, or open the whole trace with minimoe.explore."
        )
