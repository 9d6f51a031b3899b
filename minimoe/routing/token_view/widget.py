"""The widget of one token: Python holds the trace, the browser draws it and answers pointer and keys by itself."""

from collections.abc import Callable
from typing import Any
from uuid import uuid4

import anywidget
import numpy as np
import traitlets
from IPython.display import display

from minimoe.errors import BadArgument, MinimoeError
from minimoe.figure_style import Picture
from minimoe.routing.explorer.bundle import TOKEN_ENTRY, module_source
from minimoe.routing.token_view.labels import token_labels
from minimoe.routing.token_view.picture import token_picture
from minimoe.routing.trace.trace import RoutingTrace


class TokenView(anywidget.AnyWidget):
    """What `minimoe.show_token` returns.

    `token` is the chosen token and `pinned` the one it is compared with, or None; both can be assigned. `trace` is the
    RoutingTrace that is shown, which changes when a text is typed. Assigning a token that is not in the text raises
    BadArgument.
    """

    header = traitlets.Dict().tag(sync=True)
    experts = traitlets.Bytes().tag(sync=True)  # (layer, token, slot) u16
    weights = traitlets.Bytes().tag(sync=True)  # (layer, token, slot) u16, in 1 / 65535; empty for expert ids only
    token = traitlets.Int().tag(sync=True)
    pinned = traitlets.Int(None, allow_none=True).tag(sync=True)
    _esm = traitlets.Unicode().tag(sync=True)

    def __init__(
        self,
        trace: RoutingTrace,
        token: int,
        pinned: int | None = None,
        read: Callable[[Any], RoutingTrace] | None = None,
        text: str | None = None,
    ):
        """`read` traces a text that was typed; without it there is no field for one. `text`: the one that is shown."""
        self.trace, self.read = trace, read
        self.mark = uuid4().hex[:12]  # by which the live view finds its static picture
        super().__init__(token=token, pinned=pinned, **self.traits_of(trace, text))
        self.on_msg(self.answer)

    @traitlets.default("_esm")
    def _read_module(self) -> str:
        return module_source(entry=TOKEN_ENTRY)

    @traitlets.validate("token", "pinned")
    def _in_text(self, proposal: Any) -> Any:
        value = proposal["value"]
        if value is not None and not 0 <= value < len(self.trace):
            name = proposal["trait"].name
            raise BadArgument(f"{name} is {value}, but the text has tokens 0..{len(self.trace) - 1}.")
        return value

    def traits_of(self, trace: RoutingTrace, text: str | None) -> dict[str, Any]:
        """The traits that describe a trace."""
        layers, tokens, slots = trace.experts.shape
        sequences = trace.sequences.tolist()
        header = {
            "title": f"{trace.title}; {slots} of {trace.metadata['num_experts']} experts selected in each layer",
            "tokens": token_labels(trace),
            "starts": [i > 0 and sequences[i] != sequences[i - 1] for i in range(tokens)],
            "layers": trace.layers.tolist(),
            "T": tokens,
            "K": slots,
            "E": int(trace.metadata["num_experts"]),
            "live": self.read is not None,
            "text": text,
            "mark": self.mark,
        }
        weights = np.rint(trace.weights.numpy() * 65535).astype("<u2").tobytes() if trace.has_weights else b""
        return {"header": header, "experts": trace.experts.numpy().astype("<u2").tobytes(), "weights": weights}

    def answer(self, widget: Any, message: Any, buffers: Any) -> None:
        """Handle a message from the browser: a text to trace. An error is sent back as one sentence."""
        if not isinstance(message, dict) or message.get("kind") != "trace" or self.read is None:
            return
        text = (message.get("request") or {}).get("text")
        try:
            self.show(text)
        except MinimoeError as error:
            self.send({"id": message.get("id"), "error": str(error)})
        except Exception as error:  # a model may fail in any way; the reader, who sees no traceback here, is told
            self.send({"id": message.get("id"), "error": f"{type(error).__name__}: {error}"})
        else:
            self.send({"id": message.get("id"), "result": {"tokens": len(self.trace)}})

    def show(self, text: Any) -> "TokenView":
        """Trace `text` and show its last token. Raises BadArgument, also if the view was made from a trace."""
        if self.read is None:
            raise BadArgument(
                "this view was made from a trace; pass a model and a tokenizer to show_token to type texts."
            )
        trace = self.read(text)
        with self.hold_sync():
            self.pinned, self.token = None, 0  # in both texts
            self.trace = trace
            self.token = len(trace) - 1
            for name, value in self.traits_of(trace, text).items():
                setattr(self, name, value)
        return self

    @property
    def picture(self) -> Picture:
        """The view as a plotly figure, for readers without the widget."""
        return token_picture(self.trace, self.token, mark=self.mark)

    def __repr__(self) -> str:
        return self.picture.alt

    def _ipython_display_(self) -> None:
        """Display a picture for viewers that draw no widgets, then the widget, which hides it."""
        display(self.picture)
        bundle = super()._repr_mimebundle_()
        data, metadata = bundle if isinstance(bundle, tuple) else (bundle, {})
        display(data, metadata=metadata, raw=True)
