"""The cache of experts against a plain list that is searched from the front."""

from pathlib import Path

import pytest
import torch
from einops import rearrange
from hypothesis import given
from hypothesis import strategies as st

from minimoe.checkpoint.safetensors.header import Header
from minimoe.errors import BadArgument, ReadFailed
from minimoe.scale.streaming.buffer_layout import Layout, Part
from minimoe.scale.streaming.expert_cache import ExpertCache

HEADER = Header(Path("model.safetensors"), {}, {}, (), 0)
PLACES = Layout([Part("it", "gate_proj", "weight", HEADER, 0, 8, "U8", (8,))])
keys = st.tuples(st.integers(0, 2), st.integers(0, 5))


def load(key, memory):
    memory.fill_(10 * key[0] + key[1])
    return PLACES


def number(slot):
    return int(slot.parts("gate_proj")["weight"][0])


@given(st.lists(keys, max_size=60), st.integers(1, 7))
def test_it_forgets_what_was_not_asked_for_longest(asked, slots):
    cache, remembered, hits = ExpertCache(slots, 64, load), [], 0
    for key in asked:
        hits += key in remembered
        remembered = [*(other for other in remembered if other != key), key][-slots:]
        assert number(cache.get(key)) == 10 * key[0] + key[1]
        assert list(cache.slots) == remembered
        assert len(cache.slots) + len(cache.free) == slots
    assert (cache.hits, cache.misses) == (hits, len(asked) - hits)
    assert cache.memory.nbytes == 64 * slots


@given(st.lists(st.tuples(keys, st.booleans()), max_size=40), st.integers(1, 3))
def test_a_read_that_fails_leaves_no_half_filled_slot(asked, slots):
    broken = False

    def sometimes(key, memory):
        memory.fill_(99)
        if broken:
            raise ReadFailed("cut")
        return load(key, memory)

    cache = ExpertCache(slots, 64, sometimes)
    for key, broken in asked:  # `sometimes` looks at it
        if broken and key not in cache.slots:
            with pytest.raises(ReadFailed):
                cache.get(key)
            assert key not in cache.slots
        else:
            assert number(cache.get(key)) == 10 * key[0] + key[1]
        assert len(cache.slots) + len(cache.free) == slots


def test_a_slot_that_somebody_looks_at_is_not_given_away():
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
    "derived", [lambda lent: lent[2:], lambda lent: rearrange(lent, "(row column) -> column row", row=2)]
)
def test_a_view_of_what_was_lent_keeps_the_slot(derived):
    cache = ExpertCache(1, 64, load)
    kept = derived(cache.get((0, 1)).parts("gate_proj")["weight"])
    with pytest.raises(BadArgument, match="1 experts are held at once"):
        cache.get((0, 2))
    assert (kept == 1).all()
    del kept
    assert number(cache.get((0, 2))) == 2


def test_asking_without_counting():
    cache = ExpertCache(1, 64, load)
    cache.get((0, 1))
    cache.get((0, 1), count=False)
    cache.get((0, 2), count=False)
    assert (cache.hits, cache.misses) == (0, 1)


def test_no_slots_hold_nothing():
    cache = ExpertCache(0, 64, load)
    assert cache.memory.nbytes == 0 and cache.memory.dtype == torch.uint8
    with pytest.raises(BadArgument, match="no more slots"):
        cache.get((0, 0))
