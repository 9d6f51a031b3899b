"""Statistics of a streamed model: bytes read, hits and misses, memory held, a progress bar for slow passes; and the hit
rate that a cache would have on a recorded trace.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakSet

from tqdm.auto import tqdm

from minimoe.errors import BadArgument
from minimoe.humanize import units
from minimoe.model.cache import KVCache
from minimoe.routing.trace.trace import RoutingTrace
from minimoe.scale.streaming.budget import Budget
from minimoe.scale.streaming.buffer_layout import BufferLayout, WeightReader
from minimoe.scale.streaming.expert_cache import ExpertCache

SHOW_PROGRESS_FROM = 10**9  # bytes; a first pass that reads more gets a progress bar
LEAST_FOR_A_SPEED = 4_000_000  # bytes; with fewer no speed is reported
PATIENCE = 60  # seconds; a decoded token that takes longer gets a progress bar
NOTHING = BufferLayout([])  # the content of a slot if hits are only counted


@dataclass(frozen=True)
class PassRecord:
    """One forward pass. hits, misses: one number for each of `layers`, those whose experts were requested."""

    tokens: int
    bytes_read: int
    seconds: float
    layers: tuple[int, ...]
    hits: tuple[int, ...]
    misses: tuple[int, ...]

    @property
    def hit_rate(self) -> float:
        """The share of requested experts that were in memory; 0.0 if none was requested."""
        return sum(self.hits) / max(1, sum(self.hits) + sum(self.misses))


@dataclass
class StreamStatistics:
    """Statistics since the model was opened. Bytes are those requested from the files, without headers."""

    budget: Budget
    cache: ExpertCache
    reader: WeightReader
    header_bytes: int = 0  # index and headers, read when the checkpoint was opened
    opening_bytes: int = 0  # the part of bytes_read that was read when the model was opened
    passes: list[PassRecord] = field(default_factory=list)
    kv_caches: "WeakSet[KVCache]" = field(default_factory=WeakSet)
    peak_bytes: int = 0

    def __post_init__(self) -> None:
        self.note_held()

    def opened(self, header_bytes: int) -> None:
        """Must be called once, when the model is ready."""
        self.header_bytes, self.opening_bytes = header_bytes, self.bytes_read

    @property
    def bytes_read(self) -> int:
        return self.reader.total

    @property
    def bytes_by_part(self) -> dict[str, int]:
        """bytes_read by purpose: norms and routers, embedding rows, attention and dense layers, experts, lm_head."""
        return dict(self.reader.bytes)

    @property
    def hits(self) -> int:
        return self.cache.hits

    @property
    def misses(self) -> int:
        return self.cache.misses

    @property
    def hit_rate(self) -> float:
        """The share of requested experts that were in memory; each expert counts once per layer and pass."""
        return self.hits / max(1, self.hits + self.misses)

    @property
    def held_bytes(self) -> int:
        """Bytes allocated for weights and by live KV caches, without the work space of a running pass."""
        return self.budget.weights + sum(cache.bytes for cache in self.kv_caches)

    @property
    def bytes_per_second(self) -> float | None:
        """Average read speed so far; None if too little was read. The page cache is faster than the disk."""
        enough = self.bytes_read >= LEAST_FOR_A_SPEED and self.reader.seconds > 0
        return self.bytes_read / self.reader.seconds if enough else None

    def note_held(self) -> None:
        """Update `peak_bytes`; must be called after each allocation."""
        self.peak_bytes = max(self.peak_bytes, self.held_bytes)

    def __str__(self) -> str:
        speed = f", {units(round(self.bytes_per_second))}/s" if self.bytes_per_second else ""
        requested = self.hits + self.misses
        experts = f", {self.hit_rate:.1%} of {requested:,} experts were in memory" if requested else ""
        return (
            f"read {units(self.bytes_read)}{speed}{experts}; held {units(self.peak_bytes)} at most, "
            f"of a budget of {units(self.budget.ram)}"
        )

    @contextmanager
    def one_pass(self, tokens: int) -> Iterator[Callable[[int], None]]:
        """Record a forward pass. The yielded function must be called after every layer, with the layer's number."""
        began, start = time.perf_counter(), self.bytes_read
        before, layers, counts = (self.hits, self.misses), [], []

        def after_layer(number: int) -> None:
            nonlocal before
            now = (self.hits, self.misses)
            if now != before:
                layers.append(number)
                counts.append((now[0] - before[0], now[1] - before[1]))
            before = now
            bar.set_postfix_str(f"layer {number + 1} of {self.budget.layers.stop}, hit rate {self.hit_rate:.0%}")

        with self.bar(tokens) as bar:
            self.reader.after_reading = bar.update
            try:
                yield after_layer
            finally:
                self.reader.after_reading = lambda count: None
        hits, misses = zip(*counts, strict=True) if counts else ((), ())
        seconds = time.perf_counter() - began
        self.passes.append(PassRecord(tokens, self.bytes_read - start, seconds, tuple(layers), hits, misses))

    def bar(self, tokens: int) -> Any:
        """A progress bar of the bytes of this pass, with speed and remaining time; disabled for a short pass."""
        first = tokens > 1 or not self.passes
        expected = self.budget.prefill_bytes(tokens) if first else self.budget.token_bytes()
        short = expected < SHOW_PROGRESS_FROM if first else expected < PATIENCE * (self.bytes_per_second or expected)
        return tqdm(
            total=expected, unit="B", unit_scale=True, desc="prompt" if tokens > 1 else "token", disable=short,
            leave=not first,
        )  # fmt: skip


def hits_of_trace(trace: RoutingTrace, slots: int, skip: int = 0) -> float:
    """The hit rate of a cache of `slots` slots on these tokens, taken one by one and layer by layer, as in decoding.

    skip: leading tokens that fill the cache and do not count. Raises BadArgument for an invalid `slots` or `skip`.
    """
    tokens = trace.experts.shape[1]
    if type(slots) is not int or slots < 1:
        raise BadArgument(f"slots is {slots!r}, expected a number of experts, 1 or more.")
    if not 0 <= skip < tokens:
        raise BadArgument(f"skip is {skip!r}, but the trace holds {tokens} tokens.")
    cache = ExpertCache(slots, 1, lambda key, memory: NOTHING)
    selected, layers = trace.experts.sort(dim=-1).values.tolist(), trace.layers.tolist()
    for token in range(tokens):
        if token == skip:
            cache.hits = cache.misses = 0
        for index, layer in enumerate(layers):
            for expert in selected[index][token]:
                cache.get((layer, expert))
    return cache.hits / (cache.hits + cache.misses)
