"""Numbers of a whole trace that need many dealings of its documents: too much for a page, so Python puts them in.

The page uses them where it compares domains over all tokens; for a selection it computes its own.
"""

from itertools import combinations
from typing import Any

from minimoe.routing.statistics import domain_distance
from minimoe.routing.trace import RoutingTrace

ROUNDS = 200  # dealings of the documents: the ends of a 95 % band are then the 5th and the 195th
DIGITS = 6


def whole_trace_statistics(trace: RoutingTrace) -> dict[str, Any]:
    """{"domain_distance": {"pairs": {"en|zh": {"value", "low", "high", "q" (layer), "n", "minimum"}}}}, in bits.

    `value` is the Jensen-Shannon divergence of the loads of two domains, `low` and `high` the band in which 95 % of
    dealings of the same documents lie. Empty for a trace without two domains of known documents.
    """
    known = (trace.domains >= 0) & (trace.documents >= 0)
    present = trace.domains[known].unique().tolist()
    if len(present) < 2:
        return {}
    experts, count = trace.experts[:, known], int(trace.metadata["num_experts"])
    domains, documents = trace.domains[known], trace.documents[known]
    pairs = {}
    for first, second in combinations(present, 2):
        found = domain_distance(experts, count, domains, documents, first, second, rounds=ROUNDS)
        rows = {"value": found.estimate.value, "low": found.band_low, "high": found.band_high, "q": found.q}
        pairs[f"{trace.domain_names[first]}|{trace.domain_names[second]}"] = {
            name: [round(number, DIGITS) for number in row.tolist()] for name, row in rows.items()
        } | {"n": int(found.estimate.n), "minimum": found.estimate.minimum}
    return {"domain_distance": {"pairs": pairs}}
