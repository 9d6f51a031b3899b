"""What the reader of the explorer has selected, as JSON: one dictionary that Python and the browser both write.

The layer in it is a row of the trace, not the number in the checkpoint; `Explorer.select` translates.
"""

from collections.abc import Mapping, Sequence
from typing import Any, TypeGuard

from minimoe.errors import BadArgument
from minimoe.routing.trace import RoutingTrace

VIEWS = ("router", "ribbon", "card", "domains", "load", "pairs", "paths", "ablation")
CHOICES = {
    "view": VIEWS,
    "order": ("index", "load", "domain"),
    "scalar": ("margin", "entropy", "top1", "uses"),
    "scale": ("log", "linear"),
    "placement": ("contiguous", "balanced"),
    "theme": ("auto", "light", "dark"),
}
MOST_DEVICES = 64


def check_state(state: Mapping[str, Any], traces: Sequence[RoutingTrace]) -> dict[str, Any]:
    """A copy of `state`, a partial one too; BadArgument names the first value that these traces cannot show.

    Keys that are not known here are kept: the browser's part may be newer.
    """
    if not isinstance(state, Mapping):
        raise BadArgument(f"state is {type(state).__name__}, expected a dict such as {{'layer': 2, 'view': 'card'}}.")
    number = whole(state, "trace", len(traces), "traces")
    trace = traces[number if number is not None else 0]
    whole(state, "layer", len(trace.layers), "rows of the trace (counted from its first layer)")
    whole(state, "expert", int(trace.metadata["num_experts"]), "experts", optional=True)
    whole(state, "token", len(trace), "tokens")
    whole(state, "pinned", len(trace), "tokens", optional=True)
    whole(state, "domain", len(trace.domain_names), "domains", optional=True)
    for key, allowed in CHOICES.items():
        if key in state and state[key] not in allowed:
            raise BadArgument(f"state[{key!r}] is {state[key]!r}, expected one of {', '.join(allowed)}.")
    if "devices" in state and not (is_whole(state["devices"]) and 1 <= state["devices"] <= MOST_DEVICES):
        raise BadArgument(f"state['devices'] is {state['devices']!r}, expected a number from 1 to {MOST_DEVICES}.")
    ends(state, "range", len(trace), "tokens")
    ends(state, "rows", len(trace.layers), "layers")
    if not isinstance(state.get("match"), str | None):
        raise BadArgument(f"state['match'] is {state['match']!r}, expected the text to look for, or None.")
    return dict(state)


def ends(state: Mapping[str, Any], key: str, count: int, what: str) -> None:
    """Check state[key]: None, or where a stretch begins and where it ends (not included)."""
    pair = state.get(key)
    if pair is None:
        return
    right = isinstance(pair, list | tuple) and len(pair) == 2 and all(is_whole(end) for end in pair)
    if not right or not 0 <= pair[0] < pair[1] <= count:
        raise BadArgument(f"state[{key!r}] is {pair!r}, expected [first, last + 1] of the {count} {what}, or None.")


def whole(state: Mapping[str, Any], key: str, count: int, what: str, optional: bool = False) -> int | None:
    """state[key] if it is a number below `count`; None where it is absent, or may be None and is."""
    value: Any = state.get(key)
    if key not in state or (optional and value is None):
        return None
    if not is_whole(value) or not 0 <= value < count:
        raise BadArgument(f"state[{key!r}] is {value!r}, but there are {count} {what}: expected 0 to {count - 1}.")
    return value


def is_whole(value: Any) -> TypeGuard[int]:
    """An int, and not a bool."""
    return isinstance(value, int) and not isinstance(value, bool)
