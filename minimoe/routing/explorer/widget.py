"""The explorer as a Jupyter widget: Python holds the traces and the state, the browser draws the views.

The traces are sent as a message on request and are not part of the widget's state, so a saved notebook stays small:
only `state`, a small dictionary, is stored in it.
"""

from collections.abc import Mapping, Sequence
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
    from minimoe.routing.explorer.ablation_requests import Kernel


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
    ):
        """`traces` must be validated; `kernel` answers the requests of view J (None: no model, no ablation)."""
        self.traces, self.kernel = list(traces), kernel
        self.mark = f"{CLASS}-{uuid4().hex[:12]}"
        self.static: Fallback = fallback(self.traces[0], self.mark)
        self.header, self.blob = pack(
            self.traces, dict(state or {}), tour, live=kernel is not None, statistics=whole_trace_statistics
        )
        self.header["fallback"] = self.mark  # class of the static picture, which the live view hides
        number = (state or {}).get("trace", 0)
        super().__init__(state={"rev": 0, **DEFAULTS, **opening_state(self.traces[number]), **(state or {})})
        self.on_msg(self.answer)

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

    def _ipython_display_(self) -> None:
        """Display a static picture and table for viewers without JavaScript, then the widget, which hides them."""
        display(self.static)
        bundle = super()._repr_mimebundle_()
        data, metadata = bundle if isinstance(bundle, tuple) else (bundle, {})
        display(data, metadata=metadata, raw=True)
