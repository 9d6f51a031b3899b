"""What a streamed model says about itself while it works: bytes, hits, misses, what it holds, a bar when it is slow."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakSet

from tqdm.auto import tqdm

from minimoe.humanize import units
from minimoe.model.cache import KVCache
from minimoe.scale.streaming.budget import Budget
from minimoe.scale.streaming.buffer_layout import Reader
from minimoe.scale.streaming.expert_cache import ExpertCache

SHOW_PROGRESS_FROM = 10**9  # bytes that a first pass is expected to read
ENOUGH_TO_TELL = 4_000_000  # bytes
PATIENCE = 60  # seconds after which a decoded token gets a bar, too


@dataclass(frozen=True)
class PassRecord:
    """One forward pass. hits, misses: of each layer whose experts were asked for, in the order of the layers."""

    tokens: int
    bytes_read: int
    seconds: float
    layers: tuple[int, ...]
    hits: tuple[int, ...]
    misses: tuple[int, ...]

    @property
    def hit_rate(self) -> float:
        """The share of experts that were in memory; 0.0 if none was asked for."""
        return sum(self.hits) / max(1, sum(self.hits) + sum(self.misses))


@dataclass
class StreamStatistics:
    """Everything since the model was opened. Bytes are those that were asked of the files, headers not counted."""

    budget: Budget
    cache: ExpertCache
    reader: Reader
    header_bytes: int = 0  # index and headers, read when the checkpoint was opened
    opening_bytes: int = 0  # of bytes_read, what was read when it was opened
    passes: list[PassRecord] = field(default_factory=list)
    kv_caches: "WeakSet[KVCache]" = field(default_factory=WeakSet)
    peak_bytes: int = 0

    def __post_init__(self) -> None:
        self.note_held()

    def opened(self, header_bytes: int) -> None:
        """Called once the model is ready."""
        self.header_bytes, self.opening_bytes = header_bytes, self.bytes_read

    @property
    def bytes_read(self) -> int:
        return self.reader.total

    @property
    def bytes_by_part(self) -> dict[str, int]:
        """What the bytes were for: norms and routers, embedding rows, attention and dense layers, experts, lm_head."""
        return dict(self.reader.bytes)

    @property
    def hits(self) -> int:
        return self.cache.hits

    @property
    def misses(self) -> int:
        return self.cache.misses

    @property
    def hit_rate(self) -> float:
        """The share of experts that were in memory when their turn came; each counts once a layer and pass."""
        return self.hits / max(1, self.hits + self.misses)

    @property
    def held_bytes(self) -> int:
        """Allocated for weights, and by KV caches that are alive. The work space of a running pass is not in it."""
        return self.budget.weights + sum(cache.bytes for cache in self.kv_caches)

    @property
    def bytes_per_second(self) -> float | None:
        """Of all reads so far; None if there was too little to tell. From the system's page cache it is no disk's."""
        enough = self.bytes_read >= ENOUGH_TO_TELL and self.reader.seconds > 0
        return self.bytes_read / self.reader.seconds if enough else None

    def note_held(self) -> None:
        """Called whenever something was allocated."""
        self.peak_bytes = max(self.peak_bytes, self.held_bytes)

    def __str__(self) -> str:
        speed = f", {units(round(self.bytes_per_second))}/s" if self.bytes_per_second else ""
        asked = self.hits + self.misses
        experts = f", {self.hit_rate:.1%} of {asked:,} experts were in memory" if asked else ""
        return (
            f"read {units(self.bytes_read)}{speed}{experts}; held {units(self.peak_bytes)} at most, "
            f"of a budget of {units(self.budget.ram)}"
        )

    @contextmanager
    def one_pass(self, tokens: int) -> Iterator[Callable[[int], None]]:
        """Around a forward pass; the function that is given wants to be called after every layer with its number."""
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
        """Bytes of this pass, with MB/s and time to go; silent where it will be over soon."""
        first = tokens > 1 or not self.passes
        expected = self.budget.prefill_bytes(tokens) if first else self.budget.token_bytes()
        soon = expected < SHOW_PROGRESS_FROM if first else expected < PATIENCE * (self.bytes_per_second or expected)
        return tqdm(
            total=expected, unit="B", unit_scale=True, desc="prompt" if tokens > 1 else "token", disable=soon,
            leave=not first,
        )  # fmt: skip
