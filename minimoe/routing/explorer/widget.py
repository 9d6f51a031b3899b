"""The explorer as a Jupyter widget. Python holds the trace and the state, the browser does the rest.

The trace is sent as a message when a view asks for it, never stored in the widget's state: a notebook that is saved
with the explorer in it stays small. What is stored is `state`, one small dictionary.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import anywidget
import traitlets
from IPython.display import display

from minimoe.errors import BadArgument
from minimoe.routing.explorer.fallback import CLASS, Fallback, fallback
from minimoe.routing.explorer.module import module_source
from minimoe.routing.explorer.payload import pack
from minimoe.routing.explorer.state import check_state
from minimoe.routing.explorer.whole_trace import whole_trace_statistics
from minimoe.routing.trace import RoutingTrace

if TYPE_CHECKING:
    from minimoe.routing.explorer.kernel import Kernel


class Explorer(anywidget.AnyWidget):
    """Made by `minimoe.explore`. `state` says what is selected, as far as it was chosen; it may be written, a part of
    it too. `select` is the short way."""

    state = traitlets.Dict().tag(sync=True)
    _esm = traitlets.Unicode().tag(sync=True)

    def __init__(
        self,
        traces: Sequence[RoutingTrace],
        kernel: "Kernel | None" = None,
        state: Mapping[str, Any] | None = None,
        tour: list[dict[str, Any]] | None = None,
    ):
        """`traces` are checked already; `kernel` answers view J (None: no model, so nothing to ablate)."""
        self.traces, self.kernel = list(traces), kernel
        self.mark = f"{CLASS}-{uuid4().hex[:12]}"
        self.static: Fallback = fallback(self.traces[0], self.mark)
        self.header, self.blob = pack(
            self.traces, dict(state or {}), tour, live=kernel is not None, statistics=whole_trace_statistics
        )
        self.header["fallback"] = self.mark  # the class of what the live view hides
        super().__init__(state={"rev": 0, **(state or {})})
        self.on_msg(self.answer)

    @traitlets.default("_esm")
    def _read_module(self) -> str:
        return module_source()

    @traitlets.validate("state")
    def _complete_state(self, proposal: Any) -> dict[str, Any]:
        """A partial state keeps what it does not name. A change made in Python counts `rev` up, as the browser does."""
        known: dict[str, Any] = self._trait_values.get("state", {})
        asked = check_state(proposal["value"], self.traces)
        state = known | asked
        if known and state != known and asked.get("rev", known.get("rev")) == known.get("rev"):
            state["rev"] = int(known.get("rev", 0)) + 1
        return state

    def select(self, layer: int | None = None, expert: int | None = None, token: int | None = None) -> "Explorer":
        """Select a layer (its number in the checkpoint), an expert of it, a token; None leaves a part as it is.

        Raises BadArgument for what the trace does not hold.
        """
        change: dict[str, Any] = {}
        if layer is not None:
            numbers = self.traces[self.state.get("trace", 0)].layers.tolist()
            if layer not in numbers:
                raise BadArgument(f"layer is {layer!r}, but the trace holds layers {numbers[0]} to {numbers[-1]}.")
            change["layer"] = numbers.index(layer)
        change |= {key: value for key, value in (("expert", expert), ("token", token)) if value is not None}
        self.state = change
        return self

    def answer(self, widget: Any, message: Any, buffers: Any) -> None:
        """A message from the browser: a view asks for the trace, or for an ablation."""
        kind = message.get("kind") if isinstance(message, dict) else None
        if kind == "ready":
            self.send({"kind": "trace", "header": self.header}, [self.blob])
        elif kind == "ablate" and self.kernel is not None:
            self.send(self.kernel.answer(message))

    def _ipython_display_(self) -> None:
        """Two outputs: a picture and a table for viewers that run nothing, then the widget, which hides the first."""
        display(self.static)
        found = super()._repr_mimebundle_()
        data, metadata = found if isinstance(found, tuple) else (found, {})
        display(data, metadata=metadata, raw=True)
