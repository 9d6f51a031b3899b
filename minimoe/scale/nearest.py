"""What would fit instead: one change at a time, the smallest of its kind.

In the order of how little is given up: a cache in 8 bits, fewer tokens of context, another precision of the weights,
the other way to divide, more devices of the same kind.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from minimoe.errors import BadArgument
from minimoe.scale.devices import Deployment, deploy
from minimoe.scale.divide import MOST_DEVICES

SMALLER = ("bf16", "fp8", "int8", "int4", "3-bit")  # from many bytes to few; fp8 and int8 take almost the same
USEFUL_CONTEXT = 4096  # tokens; a shorter context than this, or than what was asked for, is no suggestion


@dataclass(frozen=True)
class Alternative:
    """A plan that fits, and the change that leads to it."""

    change: str
    deployment: Deployment

    def to_dict(self) -> dict[str, Any]:
        keys = ("devices", "precision", "kv_precision", "context", "split", "experts")
        return {"change": self.change} | {key: getattr(self.deployment, key) for key in keys}


def alternatives(plan: Deployment) -> tuple[Alternative, ...]:
    """Plans that fit, each one change away from `plan`; none if it fits, or if the devices' memory was not said."""
    return tuple(search(plan)) if plan.fits is False else ()


def search(plan: Deployment) -> Iterator[Alternative]:
    """At most one plan for each kind of change."""
    if plan.kv_precision != "fp8" and (found := tried(plan, kv_precision="fp8")):
        yield Alternative("the KV cache in fp8", found)
    if found := longest_context(plan):
        yield Alternative(f"a context of {found.context:,} tokens", found)
    for precision in smaller(plan):
        if found := tried(plan, precision=precision):
            only = " (a size only: nothing here reads it)" if precision == "3-bit" else ""
            yield Alternative(f"the weights in {precision}{only}", found)
            break
    other = "layers" if plan.split == "tensor" else "tensor"
    if found := tried(plan, split=other):
        yield Alternative(f"the same devices with split {other!r}", found)
    for split in (plan.split, other):
        counts = range(plan.devices + 1, MOST_DEVICES + 1)
        found = next((each for count in counts if (each := tried(plan, devices=count, split=split))), None)
        if found:
            by = "" if split == plan.split else f" with split {split!r}"
            yield Alternative(f"{found.devices} such devices{by}", found)
            break


def smaller(plan: Deployment) -> tuple[str, ...]:
    """Precisions that take fewer bytes than the plan's."""
    order = {name: place for place, name in enumerate(SMALLER)}
    order |= {"fp32": -1, "fp16": order["bf16"], "fp8": order["int8"], "gptq-int4": order["int4"]}
    return SMALLER[order[plan.precision] + 1 :]


def tried(plan: Deployment, **change: Any) -> Deployment | None:
    """The plan with one thing changed, if it can be divided like that and fits."""
    keys = (
        "config", "devices", "device_memory", "precision", "kv_precision", "context", "split", "experts", "chunk",
        "reserve", "name",
    )  # fmt: skip
    try:
        found = deploy(**({key: getattr(plan, key) for key in keys} | change))
    except BadArgument:
        return None
    return found if found.fits else None


def longest_context(plan: Deployment) -> Deployment | None:
    """The same plan with as much context as fits, found by halving: need never falls as context grows."""
    best, low, high = None, min(plan.context, USEFUL_CONTEXT), plan.context
    while low <= high:
        middle = (low + high) // 2
        found = tried(plan, context=middle)
        best, low, high = (found, middle + 1, high) if found else (best, low, middle - 1)
    return best
