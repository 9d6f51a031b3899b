"""What would fit instead: one change at a time, the smallest of its kind.

In the order of how little is given up: a cache in 8 bits, fewer tokens of context, another precision of the weights
(one that this library reads), the other way to divide, more devices of the same kind. Of each kind the smallest change
that is not tight (devices.py) is proposed; if all that fit are tight, the smallest, which then says so.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from minimoe.errors import BadArgument
from minimoe.scale.planner.deployment import Deployment, deploy
from minimoe.scale.planner.divisibility import MOST_DEVICES
from minimoe.scale.planner.precision import SIZE_ONLY

SMALLER = ("bf16", "fp8", "int8", "int4")  # from many bytes to few; fp8 and int8 take almost the same
USEFUL_CONTEXT = 4096  # tokens; a shorter context than this, or than what was asked for, is no suggestion


@dataclass(frozen=True)
class Alternative:
    """A plan that fits, and the change that leads to it."""

    change: str
    deployment: Deployment

    def to_dict(self) -> dict[str, Any]:
        keys = ("devices", "precision", "kv_precision", "context", "split", "experts", "tight")
        return {"change": self.change} | {key: getattr(self.deployment, key) for key in keys}


def alternatives(plan: Deployment) -> tuple[Alternative, ...]:
    """Plans that fit, each one change away from `plan`; none if it fits, or if the devices' memory was not said."""
    return tuple(search(plan)) if plan.fits is False else ()


def search(plan: Deployment) -> Iterator[Alternative]:
    """At most one plan for each kind of change."""
    if plan.kv_precision != "fp8" and (found := tried(plan, kv_precision="fp8")):
        yield proposal("the KV cache in fp8", found)
    if found := longest_context(plan, tight=False) or longest_context(plan):
        yield proposal(f"a context of {found.context:,} tokens", found)
    if found := first(plan, ({"precision": precision} for precision in smaller(plan))):
        yield proposal(f"the weights in {found.precision}", found)
    other = "layers" if plan.split == "tensor" else "tensor"
    if found := tried(plan, split=other):
        yield proposal(f"the same devices with split {other!r}", found)
    counts = range(plan.devices + 1, MOST_DEVICES + 1)
    for split in (plan.split, other):
        if found := first(plan, ({"devices": count, "split": split} for count in counts)):
            by = "" if split == plan.split else f" with split {split!r}"
            yield proposal(f"{found.devices} such devices{by}", found)
            break


def proposal(change: str, found: Deployment) -> Alternative:
    """The alternative, which says so if it is tight."""
    return Alternative(f"{change} (tight)" if found.tight else change, found)


def first(plan: Deployment, changes: Iterable[dict[str, Any]]) -> Deployment | None:
    """The first change that fits and is not tight; else the first that fits."""
    tight = None
    for change in changes:
        found = tried(plan, **change)
        if found and not found.tight:
            return found
        tight = tight or found
    return tight


def smaller(plan: Deployment) -> tuple[str, ...]:
    """Precisions that take fewer bytes than the plan's, of those that this library reads."""
    order = {name: place for place, name in enumerate(SMALLER)}
    order |= {"fp32": -1, "fp16": order["bf16"], "fp8": order["int8"], "gptq-int4": order["int4"]}
    order |= {name: len(SMALLER) for name in SIZE_ONLY}
    return SMALLER[order[plan.precision] + 1 :]


def tried(plan: Deployment, **change: Any) -> Deployment | None:
    """The plan with one thing changed, if it can be divided like that and fits."""
    keys = (
        "config", "devices", "device_memory", "precision", "kv_precision", "context", "split", "experts", "chunk",
        "reserve", "name", "kernel",
    )  # fmt: skip
    try:
        found = deploy(**({key: getattr(plan, key) for key in keys} | change))
    except BadArgument:
        return None
    return found if found.fits else None


def longest_context(plan: Deployment, tight: bool = True) -> Deployment | None:
    """The same plan with as much context as fits, found by halving: need never falls as context grows.

    tight: whether the plan may be a tight one.
    """
    best, low, high = None, min(plan.context, USEFUL_CONTEXT), plan.context
    while low <= high:
        middle = (low + high) // 2
        found = tried(plan, context=middle)
        if found and (tight or not found.tight):
            best, low = found, middle + 1
        else:
            high = middle - 1
    return best
