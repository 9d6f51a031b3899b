"""Small traces for the explorer: a synthetic one with everything in it, and ways to spoil it."""

import pytest

from minimoe.routing.trace.synthetic import synthetic_trace
from minimoe.routing.trace.trace import RoutingTrace


@pytest.fixture(scope="session")
def small_trace():
    """6 layers x 600 tokens x 4 of 32 experts, four domains."""
    return synthetic_trace(layers=6, tokens=600, num_experts=32, top_k=4, seed=3)


@pytest.fixture
def spoiled(small_trace):
    """spoiled(name=change): a copy of the small trace in which `change` has worked on one tensor."""

    def spoil(**changes):
        tensors = {name: tensor.clone() for name, tensor in small_trace.tensors.items()}
        for name, change in changes.items():
            changed = change(tensors[name])
            tensors[name] = tensors[name] if changed is None else changed
        return RoutingTrace(small_trace.layers.tolist(), [tensors], [], dict(small_trace.metadata))

    return spoil


@pytest.fixture
def ids_only(small_trace):
    """As an importer makes it: expert ids, no router weights."""
    absent = ("weights", "probabilities", "margins", "entropies", "probability_sums", "losses", "predicted")
    tensors = {name: tensor for name, tensor in small_trace.tensors.items() if name not in absent}
    metadata = dict(small_trace.metadata) | {"ids_only": True, "provenance": "measured", "capture": "a test"}
    return RoutingTrace(small_trace.layers.tolist(), [tensors], [], metadata)
