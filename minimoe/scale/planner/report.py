"""Reports on a deployment: an error that names the nearest plan that fits, and plain values for JSON."""

from typing import Any

from minimoe.errors import PlanTooBig
from minimoe.humanize import units
from minimoe.scale.planner.alternatives import alternatives
from minimoe.scale.planner.deployment import Deployment
from minimoe.scale.planner.load_time import reading

KEYS = (
    "devices", "device_memory", "reserve", "usable", "precision", "kv_precision", "context", "split", "experts",
    "chunk", "attention", "fits", "tight", "tight_bytes", "short_bytes", "weight_bytes", "cache_bytes",
)  # fmt: skip


def require_fit(plan: Deployment) -> None:
    """Raise PlanTooBig, with the rank that needs the most memory and the nearest plan that fits, if `plan` does not."""
    if plan.fits is not False:
        return
    worst, nearest = plan.largest, alternatives(plan)
    fix = f"What fits: {nearest[0].change}." if nearest else "No plan near this one fits: use other devices."
    raise PlanTooBig(
        f"rank {worst.rank} of {plan.devices} needs {units(worst.total)} (weights {units(worst.weights)}, KV cache "
        f"{units(worst.cache)}, work space {units(worst.work)}), a device has {units(plan.usable or 0)} to use: "
        f"{units(-min(plan.spare))} short. {fix}"
    )


def as_dict(plan: Deployment) -> dict[str, Any]:
    """Plain JSON values, with the tensors of each rank; `fits` and `spare_bytes` are None if no memory was given."""
    spare = plan.spare or (None,) * plan.devices
    ranks = [
        {
            **rank.to_dict(),
            "spare_bytes": rank_spare,
            "tensors": [cut.to_dict(plan.precision) for cut in plan.cuts(rank.rank)],
        }
        for rank, rank_spare in zip(plan.ranks, spare, strict=True)
    ]
    nearest = [alternative.to_dict() for alternative in alternatives(plan)]
    rest = {"ranks": ranks, "alternatives": nearest, "reading": reading(plan).to_dict()}
    return {key: getattr(plan, key) for key in KEYS} | rest
