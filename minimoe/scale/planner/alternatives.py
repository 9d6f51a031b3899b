"""Plans that fit, each one change away from a plan that does not.

The changes, from the cheapest to the most expensive: a cache in 8 bits, fewer tokens of context, another precision of
the weights (one that this library reads), the other split, more devices of the same kind. Of each kind the smallest
change that is not tight (see deployment.py) is proposed; if all that fit are tight, the smallest, labelled as tight.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from minimoe.errors import BadArgument
from minimoe.scale.planner.deployment import Deployment, deploy
from minimoe.scale.planner.divisibility import MOST_DEVICES
from minimoe.scale.planner.precision import SIZE_ONLY

SMALLER = ("bf16", "fp8", "int8", "int4")  # from large to small; fp8 and int8 are almost equal
USEFUL_CONTEXT = 4096  # tokens; no context below this, or below a smaller request, is suggested


@dataclass(frozen=True)
class Alternative:
    """A plan that fits, and the change that leads to it."""

    change: str
    deployment: Deployment

    def to_dict(self) -> dict[str, Any]:
        keys = ("devices", "precision", "kv_precision", "context", "split", "experts", "tight")
        return {"change": self.change} | {key: getattr(self.deployment, key) for key in keys}


def alternatives(plan: Deployment) -> tuple[Alternative, ...]:
    """Plans that fit, each one change away from `plan`; none if it fits, or if the devices' memory is unknown."""
    return tuple(search(plan)) if plan.fits is False else ()


def search(plan: Deployment) -> Iterator[Alternative]:
    """At most one plan for each kind of change."""
    if plan.kv_precision != "fp8" and (candidate := changed(plan, kv_precision="fp8")):
        yield proposal("the KV cache in fp8", candidate)
    if candidate := longest_context(plan, tight=False) or longest_context(plan):
        yield proposal(f"a context of {candidate.context:,} tokens", candidate)
    if candidate := first(plan, ({"precision": precision} for precision in smaller(plan))):
        yield proposal(f"the weights in {candidate.precision}", candidate)
    other = "layers" if plan.split == "tensor" else "tensor"
    if candidate := changed(plan, split=other):
        yield proposal(f"the same devices with split {other!r}", candidate)
    counts = range(plan.devices + 1, MOST_DEVICES + 1)
    for split in (plan.split, other):
        if candidate := first(plan, ({"devices": count, "split": split} for count in counts)):
            by = "" if split == plan.split else f" with split {split!r}"
            yield proposal(f"{candidate.devices} such devices{by}", candidate)
            break


def proposal(change: str, candidate: Deployment) -> Alternative:
    """The alternative, labelled if it is tight."""
    return Alternative(f"{change} (tight)" if candidate.tight else change, candidate)


def first(plan: Deployment, changes: Iterable[dict[str, Any]]) -> Deployment | None:
    """The first change that fits and is not tight; else the first that fits."""
    tight = None
    for change in changes:
        candidate = changed(plan, **change)
        if candidate and not candidate.tight:
            return candidate
        tight = tight or candidate
    return tight


def smaller(plan: Deployment) -> tuple[str, ...]:
    """Precisions smaller than the plan's, of those that this library reads."""
    order = {name: position for position, name in enumerate(SMALLER)}
    order |= {"fp32": -1, "fp16": order["bf16"], "fp8": order["int8"], "gptq-int4": order["int4"]}
    order |= {name: len(SMALLER) for name in SIZE_ONLY}
    return SMALLER[order[plan.precision] + 1 :]


def changed(plan: Deployment, **change: Any) -> Deployment | None:
    """The plan with some arguments changed; None if it cannot be divided like that or does not fit."""
    keys = (
        "config", "devices", "device_memory", "precision", "kv_precision", "context", "split", "experts", "chunk",
        "reserve", "name", "kernel",
    )  # fmt: skip
    try:
        candidate = deploy(**({key: getattr(plan, key) for key in keys} | change))
    except BadArgument:
        return None
    return candidate if candidate.fits else None


def longest_context(plan: Deployment, tight: bool = True) -> Deployment | None:
    """The same plan with the longest context that fits. Bisection is valid because memory never shrinks with context.

    tight: whether a tight plan is acceptable.
    """
    best, low, high = None, min(plan.context, USEFUL_CONTEXT), plan.context
    while low <= high:
        middle = (low + high) // 2
        candidate = changed(plan, context=middle)
        if candidate and (tight or not candidate.tight):
            best, low = candidate, middle + 1
        else:
            high = middle - 1
    return best
