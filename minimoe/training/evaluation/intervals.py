"""Rates with confidence intervals."""

import math
from typing import Any

Z = 1.959964  # two-sided 95 % of a normal distribution


def interval(right: int, total: int) -> tuple[float, float]:
    """The 95 % interval of a rate by Wilson (1927), which stays within 0..1 and has a positive width at 0 and 100 %."""
    share, spread = right / total, Z * Z / total
    middle = (share + spread / 2) / (1 + spread)
    half = Z / (1 + spread) * math.sqrt(share * (1 - share) / total + spread / (4 * total))
    return max(0.0, middle - half), min(1.0, middle + half)


def rate(right: int, total: int) -> dict[str, Any]:
    """{"right", "of", "rate", "interval"}, as in the report; the rate is None if `total` is 0."""
    if total == 0:
        return {"right": 0, "of": 0, "rate": None, "interval": [0.0, 1.0]}
    return {
        "right": right,
        "of": total,
        "rate": round(right / total, 4),
        "interval": [round(end, 4) for end in interval(right, total)],
    }
