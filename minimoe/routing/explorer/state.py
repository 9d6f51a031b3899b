"""The explorer's selection state: one JSON dictionary, written by Python and by the browser.

Its `layer` is a row of the trace, not the layer number in the checkpoint; `Explorer.select` converts it.
"""

from collections.abc import Mapping, Sequence
from typing import Any, TypeGuard

from minimoe.errors import BadArgument
from minimoe.routing.trace.trace import RoutingTrace

VIEWS = ("router", "ribbon", "card", "domains", "load", "pairs", "paths", "ablation")
CHOICES = {
    "view": VIEWS,
    "order": ("index", "load", "domain"),
    "scalar": ("shared", "margin", "entropy", "top1", "uses"),
    "scale": ("log", "linear"),
    "placement": ("contiguous", "balanced"),
    "theme": ("auto", "light", "dark"),
}
MOST_DEVICES = 64


def check_state(state: Mapping[str, Any], traces: Sequence[RoutingTrace]) -> dict[str, Any]:
    """A validated copy of `state`, which may be partial. Raises BadArgument for the first value that does not fit.

    Unknown keys are kept, because the page may be newer than this file.
    """
    if not isinstance(state, Mapping):
        raise BadArgument(f"state is {type(state).__name__}, expected a dict such as {{'layer': 2, 'view': 'card'}}.")
    number = check_index(state, "trace", len(traces), "traces")
    trace = traces[number if number is not None else 0]
    check_index(state, "layer", len(trace.layers), "rows of the trace (counted from its first layer)")
    check_index(state, "expert", int(trace.metadata["num_experts"]), "experts", optional=True)
    check_index(state, "token", len(trace), "tokens")
    check_index(state, "pinned", len(trace), "tokens", optional=True)
    check_index(state, "domain", len(trace.domain_names), "domains", optional=True)
    for key, allowed in CHOICES.items():
        if key in state and state[key] not in allowed:
            raise BadArgument(f"state[{key!r}] is {state[key]!r}, expected one of {', '.join(allowed)}.")
    if "devices" in state and not (is_integer(state["devices"]) and 1 <= state["devices"] <= MOST_DEVICES):
        raise BadArgument(f"state['devices'] is {state['devices']!r}, expected an integer from 1 to {MOST_DEVICES}.")
    check_range(state, "range", len(trace), "tokens")
    check_range(state, "rows", len(trace.layers), "layers")
    if not isinstance(state.get("match"), str | None):
        raise BadArgument(f"state['match'] is {state['match']!r}, expected a text to search for, or None.")
    return dict(state)


def check_range(state: Mapping[str, Any], key: str, count: int, what: str) -> None:
    """Raise BadArgument unless state[key] is None or a half-open range [first, last + 1] within `count`."""
    pair = state.get(key)
    if pair is None:
        return
    is_pair = isinstance(pair, list | tuple) and len(pair) == 2 and all(is_integer(end) for end in pair)
    if not is_pair or not 0 <= pair[0] < pair[1] <= count:
        raise BadArgument(f"state[{key!r}] is {pair!r}, expected [first, last + 1] of the {count} {what}, or None.")


def check_index(state: Mapping[str, Any], key: str, count: int, what: str, optional: bool = False) -> int | None:
    """state[key], an index below `count`; None if it is absent or, with `optional`, None. Raises BadArgument."""
    value: Any = state.get(key)
    if key not in state or (optional and value is None):
        return None
    if not is_integer(value) or not 0 <= value < count:
        raise BadArgument(f"state[{key!r}] is {value!r}, but there are {count} {what}: expected 0 to {count - 1}.")
    return value


def is_integer(value: Any) -> TypeGuard[int]:
    """Whether `value` is an int and not a bool."""
    return isinstance(value, int) and not isinstance(value, bool)
