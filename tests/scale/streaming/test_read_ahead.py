"""Reading ahead against the same requests without it: equal weights, hits, misses and slots; and reads that fail."""

import threading

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from minimoe.errors import ReadFailed
from minimoe.scale.streaming.expert_cache import ExpertCache
from minimoe.scale.streaming.read_ahead import READERS, ReadAhead
from tests.scale.streaming.test_expert_cache import LAYOUT, load, number

layers = st.lists(st.lists(st.integers(0, 11), min_size=1, max_size=12, unique=True).map(sorted), max_size=12)


class Stored:
    """Stands for the files: the layout of every expert is the same; its bytes are its number."""

    def expert(self, layer, expert):
        layout = type(LAYOUT)([])
        layout.nbytes, layout.extents, layout.places = LAYOUT.nbytes, LAYOUT.extents, LAYOUT.places
        layout.key = (layer, expert)
        return layout


class Reader:
    """Stands for a WeightReader. `broken`: keys whose reads fail. `gate`, if set, holds back all reads."""

    def __init__(self):
        self.broken, self.reads, self.gate = set(), [], None

    def read(self, layout, memory, purpose):
        self.reads.append(layout.key)
        if self.gate is not None:
            self.gate.wait(10)
        memory.fill_(99)
        if layout.key in self.broken:
            raise ReadFailed(f"{layout.key}")
        memory.fill_(10 * layout.key[0] + layout.key[1])


def with_reader(slots):
    reader = Reader()
    return ReadAhead(Stored(), reader, slots, 64), reader


@given(layers, st.integers(1, 14))
def test_the_same_experts_are_evicted_as_with_one_read_at_a_time(passes, slots):
    ahead, reader = with_reader(slots)
    plain = ExpertCache(slots, 64, load)
    for layer, experts in enumerate(passes):
        layer %= 2
        ahead.announce((layer, expert) for expert in experts)
        for expert in experts:
            plain.get((layer, expert))
            assert number(ahead.get((layer, expert))) == 10 * layer + expert
            assert number(ahead.get((layer, expert))) == 10 * layer + expert  # counts once
        assert list(ahead.cache.slots) == list(plain.slots)
        assert (ahead.cache.hits, ahead.cache.misses) == (plain.hits, plain.misses)
    assert len(reader.reads) == plain.misses


@pytest.mark.parametrize("slots", [1, 2, 3, 5, 20])
def test_several_reads_are_in_progress_but_no_more_than_the_slots_allow(slots):
    ahead, reader = with_reader(slots)
    reader.gate = threading.Event()
    ahead.announce((0, expert) for expert in range(12))
    if slots < 3:
        reader.gate.set()
    ahead.request((0, 0))
    assert len(ahead.reads) == (0 if slots < 3 else 1 + min(READERS, slots - 2))
    reader.gate.set()
    assert [number(ahead.get((0, expert))) for expert in range(12)] == list(range(12))
    assert sorted(reader.reads) == [(0, expert) for expert in range(12)]


pass_with_fault = st.tuples(st.integers(0, 1), st.sets(st.integers(0, 11)), st.booleans())


@given(st.lists(pass_with_fault, max_size=8), st.integers(1, 9))
def test_a_failed_read_is_tried_again_and_leaves_no_partially_filled_slot(passes, slots):
    ahead, reader = with_reader(slots)
    for layer, experts, broken in passes:
        last = max(experts, default=0)
        reader.broken = {(layer, last)} if broken else set()
        ahead.announce((layer, expert) for expert in sorted(experts))
        for expert in sorted(experts):
            try:
                assert number(ahead.get((layer, expert))) == 10 * layer + expert
            except ReadFailed:
                assert broken and expert == last and (layer, expert) not in ahead.cache.slots
    assert len(ahead.cache.slots) + len(ahead.cache.free) == slots


def test_a_read_that_failed_in_the_background_succeeds_in_the_next_pass():
    ahead, reader = with_reader(6)
    reader.broken = {(0, 2)}
    ahead.announce((0, expert) for expert in range(4))
    ahead.get((0, 0))  # and the pass ends here
    ahead.workers.shutdown(wait=True)
    reader.broken = set()
    ahead.announce([(0, 2)])
    assert number(ahead.get((0, 2))) == 2


def test_a_slot_is_not_read_into_twice_at_the_same_time():
    """A pass that was interrupted leaves reads in progress; whoever reuses their memory waits for them."""
    ahead, reader = with_reader(3)
    reader.gate = threading.Event()
    ahead.announce([(0, 0), (0, 1)])
    ahead.request((0, 0))  # both reads wait; nobody waits for them
    threading.Timer(0.05, reader.gate.set).start()
    for expert in range(2, 8):
        ahead.announce([(1, expert)])
        assert number(ahead.get((1, expert))) == 10 + expert
    assert torch.equal(ahead.cache.memory[:64].unique(), ahead.cache.memory[:1])
