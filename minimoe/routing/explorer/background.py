"""The background of a short text: where its experts were used in a long trace of the same model.

A sentence of 37 tokens cannot say what an expert is for; a trace of thousands of tokens in several domains can say
where it was used. The page shows both side by side.
"""

import base64
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from minimoe.errors import BadTrace, NotFound
from minimoe.paths import find
from minimoe.routing.explorer.inputs import given_traces
from minimoe.routing.statistics.counting import compact, group_counts
from minimoe.routing.statistics.joint import wilson
from minimoe.routing.statistics.vocabulary import frequent_ids, id_counts
from minimoe.routing.trace.trace import RoutingTrace

SHIPPED = "data/traces/mini_four_domains.safetensors"
SHORT = 512  # tokens, below which a trace has a background
OCCURRENCES = 10  # of a token in the background, before it counts as an example
EXAMPLES = 4  # tokens for each expert
DIGITS = 4


def background_of(trace: RoutingTrace, given: RoutingTrace | str | Path | None = None) -> dict[str, Any] | None:
    """What the page shows of a background: title, domains, tokens (domain), shares (domain, layer, expert) 0..1, and
    examples (layer, expert): up to four [token in base64, times selected, occurrences], the surest first.

    given: a trace of the same routers, or the path of one; None takes the one that comes with the course if the same
    model recorded it. None is returned for a trace of 512 tokens or more, and where no background is known. Raises
    BadTrace if a given trace has other routers.
    """
    if len(trace) >= SHORT or (given is None and "router_sha256" not in trace.metadata):
        return None
    reference = shipped() if given is None else given_traces(given)[0]
    if reference is None or not same_routers(trace, reference):
        if given is None:
            return None
        raise BadTrace("background has other routers or layers than the trace. Pass a trace of the same model.")
    count = int(reference.metadata["num_experts"])
    counts = group_counts(reference.experts, count, reference.domains, len(reference.domain_names))
    tokens = torch.bincount(reference.domains[reference.domains >= 0], minlength=len(reference.domain_names))
    shares = counts / tokens.clamp(min=1)[:, None, None]
    return {
        "title": reference.title,
        "domains": list(reference.domain_names),
        "tokens": tokens.tolist(),
        "shares": [[[round(share, DIGITS) for share in row] for row in table] for table in shares.tolist()],
        "examples": [examples(reference, chosen, count) for chosen in reference.experts],
    }


def shipped() -> RoutingTrace | None:
    """The trace that comes with the course; None where it is not installed."""
    try:
        return RoutingTrace.load(find(SHIPPED))
    except NotFound:
        return None


def same_routers(trace: RoutingTrace, reference: RoutingTrace) -> bool:
    """Whether both traces come from the same router weights and hold the same layers."""
    key = trace.metadata.get("router_sha256")
    return key is not None and key == reference.metadata.get("router_sha256") and trace.layers.equal(reference.layers)


def examples(reference: RoutingTrace, chosen: Tensor, num_experts: int) -> list[list[list[Any]]]:
    """(expert): the tokens that select it most surely, by the lower end of Wilson's interval. chosen: (token, slot)."""
    ids = frequent_ids(reference.tokens, OCCURRENCES)
    if len(ids) == 0:
        return [[] for _ in range(num_experts)]
    index = compact(reference.tokens, ids)
    used = id_counts(chosen, num_experts, index, len(ids)).double()
    times = torch.bincount(index[index >= 0], minlength=len(ids))[:, None]
    low, _ = wilson(used, times.expand_as(used), torch.ones_like(used))
    best = low.topk(min(EXAMPLES, len(ids)), dim=0)
    known = reference.metadata.get("token_bytes", {})
    rows: list[list[list[Any]]] = [[] for _ in range(num_experts)]
    for expert in range(num_experts):
        for value, row in zip(best.values[:, expert].tolist(), best.indices[:, expert].tolist(), strict=True):
            if value > chosen.shape[1] / num_experts:
                token = int(ids[row])
                text = known.get(str(token)) or base64.b64encode(f"#{token}".encode()).decode()
                rows[expert].append([text, int(used[row, expert]), int(times[row])])
    return rows
