"""`minimoe.show_token`: which experts one token of a text is routed to, in every layer."""

from typing import TYPE_CHECKING, Any

import torch

from minimoe.errors import BadArgument
from minimoe.model.transformer import Transformer
from minimoe.routing.token_view.labels import find_token, token_labels
from minimoe.routing.token_view.widget import TokenView
from minimoe.routing.trace.trace import RoutingTrace, record_routing

if TYPE_CHECKING:
    from minimoe.text.tokenizer import Tokenizer

MOST_TOKENS = 2048  # that a strip of text shows


def show_token(
    model_or_trace: Transformer | RoutingTrace,
    tokenizer: "Tokenizer | None" = None,
    text: str | None = None,
    token: int | str | None = None,
    pin: int | str | None = None,
    label: str | None = None,
) -> TokenView:
    """One token of a text through all layers of a model: its selected experts, joined by the token's path, as a widget.

    model_or_trace: a Transformer, which reads `text` with `tokenizer` now, and any text that is typed under the map
    later; or a RoutingTrace, for which neither is needed. token: the token that is shown first, by its number or its
    text ("cat" finds the first token "cat" or " cat"); by default the last one. pin: a token to compare it with.
    label: the name of the weights in the title, such as "mini".

    The arrow keys, the pointer and touch choose a token; Enter pins it. The browser does this without the kernel, which
    is needed for a new text only. Raises BadArgument for a text without tokens or with more than 2,048, a token that is
    not in the text, a model without routers, and a tokenizer that does not belong to the model; BadTrace for a trace
    that is inconsistent.
    """
    if isinstance(model_or_trace, RoutingTrace):
        given = {"tokenizer": tokenizer, "text": text, "label": label}
        if names := [name for name, value in given.items() if value is not None]:
            raise BadArgument(f"{' and '.join(names)} given with a trace, which has its own. Pass the model instead.")
        return view_of_trace(model_or_trace, token, pin)
    reader = Reader(model_or_trace, tokenizer, label)
    return view_of_trace(reader.trace(text), token, pin, reader, text)


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


def view_of_trace(
    trace: RoutingTrace,
    token: int | str | None = None,
    pin: int | str | None = None,
    reader: Reader | None = None,
    text: str | None = None,
) -> TokenView:
    """The widget of a checked trace."""
    trace.check()
    check_length(len(trace))
    shown = len(trace) - 1 if token is None else place_of(trace, "token", token)
    pinned = None if pin is None else place_of(trace, "pin", pin)
    return TokenView(trace, shown, pinned, None if reader is None else reader.trace, text)


def check_length(count: int) -> None:
    """Raise BadArgument for more tokens than the strip shows."""
    if count > MOST_TOKENS:
        raise BadArgument(
            f"the text has {count:,} tokens, expected at most {MOST_TOKENS:,}. Take a part of it, as trace.select "
            "does, or open the whole trace with minimoe.explore."
        )


def place_of(trace: RoutingTrace, name: str, value: Any) -> int:
    """The number of a token that is given by its number or its text. Raises BadArgument."""
    if isinstance(value, str):
        found = find_token(trace, value)
        if found is None:
            listed = " ".join(token_labels(trace)[:12])
            raise BadArgument(f"{name} is {value!r}, but no token of the text is. Its tokens begin {listed}")
        return found
    if isinstance(value, bool) or not isinstance(value, int):
        raise BadArgument(f"{name} is {value!r}, expected the number of a token or its text.")
    if not 0 <= value < len(trace):
        raise BadArgument(f"{name} is {value}, but the text has tokens 0..{len(trace) - 1}.")
    return value
