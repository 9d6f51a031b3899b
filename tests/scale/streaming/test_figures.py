"""The pictures of the cache show the numbers that were counted, and can be read without being drawn."""

import json

import pytest
import torch

from minimoe.errors import BadArgument
from minimoe.routing.trace.trace import record_routing
from minimoe.scale.streaming.figures import hit_rate_by_layer, hit_rate_by_slots, hit_rate_by_token, hits_of_trace
from tests.checkpoint.fake import TINY, save_tiny
from tests.scale.streaming.streamed import opened, smallest

IDS = torch.randint(0, TINY.vocab_size, (1, 30), generator=torch.Generator().manual_seed(3))


def run(directory, slots):
    """Token by token through a model with so many slots."""
    plan = smallest(TINY, None, 40)
    streamed = opened(directory, sum(plan.dense) - max(plan.dense) + (slots - 1) * plan.slot)
    assert streamed.budget.slots == slots
    cache = streamed.new_cache(capacity=30)
    with torch.inference_mode(), record_routing(streamed) as trace:
        for token in IDS[0].tolist():
            streamed([[token]], cache)
    return streamed.streaming, trace


@pytest.mark.parametrize("slots", [1, 8, 12, 20, 36])
def test_a_trace_tells_what_a_cache_of_any_size_would_have_found(tmp_path, slots):
    save_tiny(tmp_path / "it")
    seen, trace = run(tmp_path / "it", slots)
    assert hits_of_trace(trace, slots) == pytest.approx(seen.hit_rate)
    later = seen.passes[10:]
    hits, misses = (sum(sum(getattr(each, name)) for each in later) for name in ("hits", "misses"))
    assert hits_of_trace(trace, slots, skip=10) == pytest.approx(hits / (hits + misses))


def test_the_pictures(tmp_path):
    save_tiny(tmp_path / "it")
    seen, trace = run(tmp_path / "it", 20)
    by_token, by_layer = hit_rate_by_token(seen.passes), hit_rate_by_layer(seen.passes)
    assert list(by_token.figure.data[0].y) == [round(each.hit_rate, 4) for each in seen.passes]
    assert list(by_layer.figure.data[0].y) == [0, 2, 3] and len(by_layer.figure.data[0].z[0]) == 30
    by_slots = hit_rate_by_slots(trace, [8, 9, 20, 36])
    assert list(by_slots.figure.data[0].y) == [round(hits_of_trace(trace, size, 7), 4) for size in (8, 9, 20, 36)]
    assert list(by_slots.figure.data[1].y) == [0.0, 0.25, 0.4375, 1.0]
    assert list(hit_rate_by_slots(trace).figure.data[0].x)[-1] == 36
    for picture, words in [
        (by_token, "The prompt of 1 tokens found 0% of its experts in memory, the 29 tokens after it "),
        (by_layer, "3 layers, 30 passes. Layer "),
        (by_slots, "Hit rates of a cache for 23 tokens: 8 slots "),
    ]:
        assert repr(picture).startswith(words)
        drawing = picture._repr_mimebundle_()["application/vnd.plotly.v1+json"]
        assert json.loads(json.dumps(drawing)) and picture.figure.layout.title.text
        assert picture.figure.layout.xaxis.title.text and picture.figure.layout.yaxis.title.text


def test_nothing_to_draw_is_told(tmp_path):
    save_tiny(tmp_path / "it")
    for draw in (hit_rate_by_token, hit_rate_by_layer):
        with pytest.raises(BadArgument, match="passes is empty"):
            draw([])
    _, trace = run(tmp_path / "it", 8)
    with pytest.raises(BadArgument, match="slots is 0"):
        hits_of_trace(trace, 0)
    with pytest.raises(BadArgument, match="skip is 30"):
        hits_of_trace(trace, 9, skip=30)
