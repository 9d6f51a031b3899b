"""`minimoe.explore`: linked views of a trace and, with a model, a live ablation view."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minimoe.errors import BadTrace
from minimoe.model.transformer import Transformer
from minimoe.routing.explorer.inputs import Traces, given_traces
from minimoe.routing.explorer.requests import Kernel
from minimoe.routing.explorer.state import check_state
from minimoe.routing.explorer.widget import Explorer
from minimoe.routing.trace.replay import check_origin
from minimoe.routing.trace.trace import RoutingTrace

if TYPE_CHECKING:
    from minimoe.text.tokenizer import Tokenizer


def explore(
    trace_or_traces: Traces,
    model: Transformer | None = None,
    tokenizer: "Tokenizer | None" = None,
    state: Mapping[str, Any] | None = None,
    tour: list[dict[str, Any]] | None = None,
    background: RoutingTrace | str | Path | None = None,
) -> Explorer:
    """The explorer of one or more traces, as a widget for JupyterLab and Voila.

    trace_or_traces: a RoutingTrace, the path of a saved one, or a list of these; the first is shown first. Every trace
    is validated before anything is drawn. model: the model that recorded the first trace; the ablation view runs it.
    With `tokenizer` too, its texts are shown and a text of one's own can be typed into the page. state: the initial
    selection, as in `Explorer.state`. tour: steps of a guided tour. background: a long trace of the same model, or its
    path, in which the page looks up the experts of a text of fewer than 512 tokens; by default the course's own, if it
    comes from the same routers. Raises BadTrace for a trace that is inconsistent or comes from another model, and
    BadArgument.
    """
    traces = given_traces(trace_or_traces)
    first = check_state(state or {}, traces)
    kernel = None
    if model is not None:
        same_model(traces[0], model)
        kernel = Kernel(model, traces, tokenizer)
    return Explorer(traces, kernel, first, tour, background)


def same_model(trace: RoutingTrace, model: Transformer) -> None:
    """Raise BadTrace unless the trace was recorded from this model; ablating another one would explain nothing."""
    if trace.provenance != "measured":
        raise BadTrace(
            f"the trace is {trace.provenance}: it was not recorded from a model, so no model can be run with it. "
            "Leave out model=."
        )
    present = [number for number in model.layer_range if model.config.is_moe(number)]
    layers = trace.layers.tolist()
    if not set(layers) <= set(present):
        raise BadTrace(
            f"the trace has layers {layers[0]} to {layers[-1]}, but this model's routers are in layers "
            f"{present[0] if present else 'none'} to {present[-1] if present else 'none'}. Load the model of the trace."
        )
    check_origin(trace.metadata, model, layers, None)
