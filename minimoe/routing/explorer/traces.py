"""What may be handed to the explorer: a trace, the path of one, or several of either."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

from minimoe.errors import BadArgument
from minimoe.paths import find
from minimoe.routing.trace import RoutingTrace

Trace: TypeAlias = RoutingTrace | str | Path
Traces: TypeAlias = Trace | Sequence[Trace]


def given_traces(given: Any) -> list[RoutingTrace]:
    """The traces, each one checked. Raises BadTrace, BadArgument, or NotFound for a path that leads nowhere."""
    several = list(given) if isinstance(given, Sequence) and not isinstance(given, str) else [given]
    if not several:
        raise BadArgument("trace_or_traces is empty, expected at least one RoutingTrace.")
    traces = []
    for one in several:
        trace = RoutingTrace.load(find(one)) if isinstance(one, str | Path) else one
        if not isinstance(trace, RoutingTrace):
            raise BadArgument(
                f"trace_or_traces holds {type(trace).__name__}, expected a RoutingTrace or the path of a saved one."
            )
        trace.check()
        traces.append(trace)
    return traces
