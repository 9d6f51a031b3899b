"""What Python puts into the header: distances of domains, with the band that chance gives."""

import numpy as np
import pytest
import torch

from minimoe.routing.explorer.precomputed import whole_trace_statistics
from minimoe.routing.trace.synthetic import synthetic_trace


def load(trace, domain, layer):
    """(expert) share of the selections of a domain's tokens."""
    rows = trace.experts[layer][trace.domains == domain].flatten().numpy()
    return np.bincount(rows, minlength=trace.metadata["num_experts"]) / len(rows)


def test_values_are_the_divergence_of_two_loads(small_trace):
    pairs = whole_trace_statistics(small_trace)["domain_distance"]["pairs"]
    assert set(pairs) == {"en|zh", "en|code", "en|math", "zh|code", "zh|math", "code|math"}
    for layer in range(6):
        a, b = load(small_trace, 0, layer), load(small_trace, 3, layer)
        middle = (a + b) / 2
        with np.errstate(divide="ignore", invalid="ignore"):
            parts = [np.where(x > 0, x * np.log2(x / middle), 0).sum() / 2 for x in (a, b)]
        assert pairs["en|math"]["value"][layer] == pytest.approx(sum(parts), abs=2e-6)


def test_uniform_routing_is_inside_the_band():
    trace = synthetic_trace(layers=20, tokens=2000, num_experts=32, top_k=4, plant=False)
    pairs = whole_trace_statistics(trace)["domain_distance"]["pairs"]
    inside = [
        low <= value <= high
        for pair in pairs.values()
        for value, low, high in zip(pair["value"], pair["low"], pair["high"], strict=True)
    ]
    assert np.mean(inside) > 0.85
    assert min(min(pair["q"]) for pair in pairs.values()) > 0.05


def test_no_statistics_without_documents_or_domains(spoiled, ids_only):
    absent = {"domains": lambda old: torch.full_like(old, -1)}
    assert whole_trace_statistics(spoiled(**absent)) == {}
    assert whole_trace_statistics(spoiled(documents=lambda old: torch.full_like(old, -1))) == {}
    one = spoiled().select(spoiled().domains == 2)
    assert whole_trace_statistics(one) == {}
    assert set(whole_trace_statistics(ids_only)) == {"domain_distance"}
