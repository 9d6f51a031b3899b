"""The expert cache against an oracle: a plain list in order of use."""

from pathlib import Path

import pytest
import torch
from einops import rearrange
from hypothesis import given
from hypothesis import strategies as st

from minimoe.checkpoint.safetensors.header import Header
from minimoe.errors import BadArgument, ReadFailed
from minimoe.scale.streaming.buffer_layout import BufferLayout, TensorPart
from minimoe.scale.streaming.expert_cache import ExpertCache

HEADER = Header(Path("model.safetensors"), {}, {}, (), 0)
LAYOUT = BufferLayout([TensorPart("it", "gate_proj", "weight", HEADER, 0, 8, "U8", (8,))])
keys = st.tuples(st.integers(0, 2), st.integers(0, 5))


def load(key, memory):
    memory.fill_(10 * key[0] + key[1])
    return LAYOUT


def number(slot):
    return int(slot.parts("gate_proj")["weight"][0])


@given(st.lists(keys, max_size=60), st.integers(1, 7))
def test_the_least_recently_used_expert_is_evicted(requests, slots):
    cache, expected, hits = ExpertCache(slots, 64, load), [], 0
    for key in requests:
        hits += key in expected
        expected = [*(other for other in expected if other != key), key][-slots:]
        assert number(cache.get(key)) == 10 * key[0] + key[1]
        assert list(cache.slots) == expected
        assert len(cache.slots) + len(cache.free) == slots
    assert (cache.hits, cache.misses) == (hits, len(requests) - hits)
    assert cache.memory.nbytes == 64 * slots


@given(st.lists(st.tuples(keys, st.booleans()), max_size=40), st.integers(1, 3))
def test_a_failed_read_leaves_no_partially_filled_slot(requests, slots):
    broken = False

    def sometimes(key, memory):
        memory.fill_(99)
        if broken:
            raise ReadFailed("cut")
        return load(key, memory)

    cache = ExpertCache(slots, 64, sometimes)
    for key, broken in requests:  # read by `sometimes`
        if broken and key not in cache.slots:
            with pytest.raises(ReadFailed):
                cache.get(key)
            assert key not in cache.slots
        else:
            assert number(cache.get(key)) == 10 * key[0] + key[1]
        assert len(cache.slots) + len(cache.free) == slots


def test_a_slot_in_use_is_not_evicted():
    cache = ExpertCache(2, 64, load)
    first = cache.get((0, 1)).parts("gate_proj")["weight"]
    cache.get((0, 2))
    cache.get((0, 3))
    assert list(cache.slots) == [(0, 1), (0, 3)] and first.tolist() == [1] * 8
    second = cache.get((0, 3)).parts("gate_proj")["weight"]
    with pytest.raises(BadArgument, match="2 experts are held at once"):
        cache.get((0, 4))
    del first
    cache.get((0, 4))
    assert list(cache.slots) == [(0, 3), (0, 4)] and second.tolist() == [3] * 8


@pytest.mark.parametrize(
    "derived", [lambda weight: weight[2:], lambda weight: rearrange(weight, "(row column) -> column row", row=2)]
)
def test_a_derived_view_keeps_the_slot_in_use(derived):
    cache = ExpertCache(1, 64, load)
    kept = derived(cache.get((0, 1)).parts("gate_proj")["weight"])
    with pytest.raises(BadArgument, match="1 experts are held at once"):
        cache.get((0, 2))
    assert (kept == 1).all()
    del kept
    assert number(cache.get((0, 2))) == 2


def test_a_removed_expert_leaves_a_free_slot():
    cache = ExpertCache(1, 64, load)
    cache.get((0, 1))
    cache.remove((0, 1))
    assert not cache.slots and len(cache.free) == 1


def test_a_cache_without_slots_holds_nothing():
    cache = ExpertCache(0, 64, load)
    assert cache.memory.nbytes == 0 and cache.memory.dtype == torch.uint8
    with pytest.raises(BadArgument, match="no more slots"):
        cache.get((0, 0))
