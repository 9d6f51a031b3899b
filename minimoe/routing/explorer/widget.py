"""The explorer as a Jupyter widget: Python holds the traces and the state, the browser draws the views.

The traces are sent as a message on request and are not part of the widget's state, so a saved notebook stays small:
only `state`, a small dictionary, is stored in it.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import anywidget
import traitlets
from IPython.display import display

from minimoe.errors import BadArgument
from minimoe.routing.explorer.bundle import module_source
from minimoe.routing.explorer.opening import DEFAULTS, opening_state
from minimoe.routing.explorer.payload import pack
from minimoe.routing.explorer.precomputed import whole_trace_statistics
from minimoe.routing.explorer.state import check_state
from minimoe.routing.explorer.static_picture import CLASS, Fallback, fallback
from minimoe.routing.trace.trace import RoutingTrace

if TYPE_CHECKING:
    from minimoe.routing.explorer.requests import Kernel


class Explorer(anywidget.AnyWidget):
    """The widget that `minimoe.explore` returns.

    `state` is the current selection, complete from the start; assigning a (partial) dictionary changes it.
    `select` is a shorthand.
    """

    state = traitlets.Dict().tag(sync=True)
    _esm = traitlets.Unicode().tag(sync=True)

    def __init__(
        self,
        traces: Sequence[RoutingTrace],
        kernel: "Kernel | None" = None,
        state: Mapping[str, Any] | None = None,
        tour: list[dict[str, Any]] | None = None,
        background: RoutingTrace | str | Path | None = None,
    ):
        """`traces` must be validated; `kernel` answers the requests of view J (None: no model, no ablation)."""
        self.traces, self.kernel, self.tour, self.background = list(traces), kernel, tour, background
        self.statistics: dict[int, dict[str, Any]] = {}  # of each trace by its id, since they take a while
        self.mark = f"{CLASS}-{uuid4().hex[:12]}"
        self.static: Fallback = fallback(self.traces[0], self.mark)
        self.pack(dict(state or {}))
        number = (state or {}).get("trace", 0)
        super().__init__(state={"rev": 0, **DEFAULTS, **opening_state(self.traces[number]), **(state or {})})
        self.on_msg(self.answer)

    def pack(self, state: dict[str, Any]) -> None:
        """Set the header and the block of numbers that the browser asks for."""

        def statistics(trace: RoutingTrace) -> dict[str, Any]:
            if id(trace) not in self.statistics:
                self.statistics[id(trace)] = whole_trace_statistics(trace)
            return self.statistics[id(trace)]

        live = self.kernel is not None
        self.header, self.blob = pack(self.traces, state, self.tour, live, statistics, background=self.background)
        self.header["reads"] = self.kernel is not None and self.kernel.tokenizer is not None
        self.header["fallback"] = self.mark  # class of the static picture, which the live view hides

    @traitlets.default("_esm")
    def _read_module(self) -> str:
        return module_source()

    @traitlets.validate("state")
    def _complete_state(self, proposal: Any) -> dict[str, Any]:
        """Merge a partial state into the current one. A change from Python increments `rev`, as the browser does."""
        current: dict[str, Any] = self._trait_values.get("state", {})
        proposed = check_state(proposal["value"], self.traces)
        state = current | proposed
        if current and state != current and proposed.get("rev", current.get("rev")) == current.get("rev"):
            state["rev"] = int(current.get("rev", 0)) + 1
        return state

    def select(self, layer: int | None = None, expert: int | None = None, token: int | None = None) -> "Explorer":
        """Select a layer (by its number in the checkpoint), one of its experts, a token; None keeps the current one.

        Raises BadArgument if the trace does not contain it.
        """
        change: dict[str, Any] = {}
        if layer is not None:
            numbers = self.traces[self.state.get("trace", 0)].layers.tolist()
            if layer not in numbers:
                raise BadArgument(f"layer is {layer!r}, but the trace has layers {numbers[0]} to {numbers[-1]}.")
            change["layer"] = numbers.index(layer)
        change |= {key: value for key, value in (("expert", expert), ("token", token)) if value is not None}
        self.state = change
        return self

    def answer(self, widget: Any, message: Any, buffers: Any) -> None:
        """Handle a message from the browser: a request for the traces, or for an ablation."""
        kind = message.get("kind") if isinstance(message, dict) else None
        if kind == "ready":
            self.send({"kind": "trace", "header": self.header}, [self.blob])
        elif kind == "ablate" and self.kernel is not None:
            self.send(self.kernel.answer(message))
        elif kind == "read" and self.kernel is not None:
            reply = self.kernel.read(message)
            self.send(reply)
            if "error" not in reply:
                self.show_traces(self.kernel.traces)

    def show(self, text: str) -> "Explorer":
        """Read a text with the model and show its trace; the other traces stay in the menu. Raises BadArgument."""
        if self.kernel is None or self.kernel.tokenizer is None:
            raise BadArgument("this explorer has no model to read with; pass a model and a tokenizer to explore.")
        self.kernel.add(text)
        self.show_traces(self.kernel.traces)
        return self

    def show_traces(self, traces: Sequence[RoutingTrace]) -> None:
        """Show these traces, the first of them first, from its opening state."""
        self.traces = list(traces)
        theme = self.state.get("theme", "auto")
        state = {**DEFAULTS, **opening_state(self.traces[0]), "theme": theme}
        self.pack(state)
        self.state = state
        self.send({"kind": "trace", "header": self.header, "replace": True}, [self.blob])

    def _ipython_display_(self) -> None:
        """Display a static picture and table for viewers without JavaScript, then the widget, which hides them."""
        display(self.static)
        bundle = super()._repr_mimebundle_()
        data, metadata = bundle if isinstance(bundle, tuple) else (bundle, {})
        display(data, metadata=metadata, raw=True)
