"""The hit rate computed from a trace is the one that a streamed model with a cache of that size measures."""

import pytest
import torch

from minimoe.errors import BadArgument
from minimoe.routing.trace.trace import record_routing
from minimoe.scale.streaming.statistics import hits_of_trace
from tests.checkpoint.fake import TINY, save_tiny
from tests.scale.streaming.streamed import opened, smallest

IDS = torch.randint(0, TINY.vocab_size, (1, 30), generator=torch.Generator().manual_seed(3))


def run(directory, slots):
    """Run IDS token by token through a model with `slots` slots: (its statistics, the routing trace)."""
    plan = smallest(TINY, None, 40)
    streamed = opened(directory, sum(plan.dense) - max(plan.dense) + (slots - 1) * plan.slot)
    assert streamed.budget.slots == slots
    cache = streamed.new_cache(capacity=30)
    with torch.inference_mode(), record_routing(streamed) as trace:
        for token in IDS[0].tolist():
            streamed([[token]], cache)
    return streamed.streaming, trace


@pytest.mark.parametrize("slots", [1, 8, 12, 20, 36])
def test_a_trace_gives_the_hit_rate_of_a_cache_of_any_size(tmp_path, slots):
    save_tiny(tmp_path / "it")
    measured, trace = run(tmp_path / "it", slots)
    assert hits_of_trace(trace, slots) == pytest.approx(measured.hit_rate)
    later = measured.passes[10:]
    hits, misses = (sum(sum(getattr(record, name)) for record in later) for name in ("hits", "misses"))
    assert hits_of_trace(trace, slots, skip=10) == pytest.approx(hits / (hits + misses))


def test_invalid_arguments_are_refused(tmp_path):
    save_tiny(tmp_path / "it")
    _, trace = run(tmp_path / "it", 8)
    with pytest.raises(BadArgument, match="slots is 0"):
        hits_of_trace(trace, 0)
    with pytest.raises(BadArgument, match="skip is 30"):
        hits_of_trace(trace, 9, skip=30)
