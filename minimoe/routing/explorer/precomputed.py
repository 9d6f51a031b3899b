"""Statistics of a whole trace that need many permutations of its documents: too slow in a browser, so precomputed.

The page uses them to compare domains over all tokens; for a selection of tokens it computes its own.
"""

from itertools import combinations
from typing import Any

from minimoe.routing.statistics import domain_distance
from minimoe.routing.trace.trace import RoutingTrace

ROUNDS = 200  # permutations of the documents: the ends of a 95 % band are then about the 5th and the 195th
DIGITS = 6


def whole_trace_statistics(trace: RoutingTrace) -> dict[str, Any]:
    """{"domain_distance": {"pairs": {"en|zh": {"value", "low", "high", "q" (layer), "n", "minimum"}}}}, in bits.

    `value` is the Jensen-Shannon divergence of the loads of two domains; 95 % of permutations of the document labels
    give a value between `low` and `high`. Empty for a trace without two domains of known documents.
    """
    known = (trace.domains >= 0) & (trace.documents >= 0)
    present = trace.domains[known].unique().tolist()
    if len(present) < 2:
        return {}
    experts, count = trace.experts[:, known], int(trace.metadata["num_experts"])
    domains, documents = trace.domains[known], trace.documents[known]
    pairs = {}
    for first, second in combinations(present, 2):
        distance = domain_distance(experts, count, domains, documents, first, second, rounds=ROUNDS)
        rows = {
            "value": distance.estimate.value,
            "low": distance.band_low,
            "high": distance.band_high,
            "q": distance.q,
        }
        pairs[f"{trace.domain_names[first]}|{trace.domain_names[second]}"] = {
            name: [round(number, DIGITS) for number in row.tolist()] for name, row in rows.items()
        } | {"n": int(distance.estimate.n), "minimum": distance.estimate.minimum}
    return {"domain_distance": {"pairs": pairs}}
