"""The traces that the explorer accepts: a RoutingTrace, the path of a saved one, or several of these."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

from minimoe.errors import BadArgument
from minimoe.paths import find
from minimoe.routing.trace.trace import RoutingTrace

Trace: TypeAlias = RoutingTrace | str | Path
Traces: TypeAlias = Trace | Sequence[Trace]


def given_traces(given: Any) -> list[RoutingTrace]:
    """The given traces, loaded and validated. Raises BadTrace, BadArgument, or NotFound for a missing file."""
    items = list(given) if isinstance(given, Sequence) and not isinstance(given, str) else [given]
    if not items:
        raise BadArgument("trace_or_traces is empty, expected at least one RoutingTrace.")
    traces = []
    for item in items:
        trace = RoutingTrace.load(find(item)) if isinstance(item, str | Path) else item
        if not isinstance(trace, RoutingTrace):
            raise BadArgument(
                f"trace_or_traces contains {type(trace).__name__}, expected a RoutingTrace or the path of a saved one."
            )
        trace.check()
        traces.append(trace)
    return traces
