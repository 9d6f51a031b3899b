"""`minimoe.show_token`: which experts one token of a text is routed to, in every layer."""

from typing import TYPE_CHECKING, Any

from minimoe.errors import BadArgument
from minimoe.model.transformer import Transformer
from minimoe.routing.token_view.labels import find_token, token_labels
from minimoe.routing.token_view.widget import TokenView
from minimoe.routing.trace.reader import Reader, check_length
from minimoe.routing.trace.trace import RoutingTrace

if TYPE_CHECKING:
    from minimoe.text.tokenizer import Tokenizer


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
