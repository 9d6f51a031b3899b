"""Attention projections and dense feed-forwards, brought just in time.

A layer's part has a place of its own if the budget has room for it; the others take turns in one or two shared places.
While a layer computes, a background thread reads the next one's part into a place that is free. Only that: which
experts the next layer will want is decided by its router, from what this layer has not computed yet.
"""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from minimoe.model.transformer import Transformer
from minimoe.scale.streaming.budget import Budget
from minimoe.scale.streaming.buffer_layout import Reader, Stored
from minimoe.scale.streaming.modules import StreamedLinear

WHAT = "attention and dense layers"


@dataclass(eq=False)
class Place:
    """Memory for one layer's part, and the number of the layer whose part it holds."""

    memory: Tensor
    holds: int | None = None


class DenseParts:
    """Puts the weights of a layer's StreamedLinear modules in before it runs, and takes them away after it."""

    def __init__(self, model: Transformer, stored: Stored, reader: Reader, budget: Budget):
        self.stored, self.reader = stored, reader
        self.after_layer: Callable[[int], None] | None = None
        self.layers = list(budget.layers)
        places = [Place(torch.empty(size, dtype=torch.uint8)) for size in budget.places]
        shared, own = places[: budget.shared], places[budget.shared :]
        self.place = dict(zip(self.layers, own, strict=False))
        for turn, number in enumerate(self.layers[budget.resident :]):
            self.place[number] = shared[turn % len(shared)]
        self.modules: dict[int, list[tuple[str, StreamedLinear]]] = {}
        self.worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="minimoe-prefetch")
        self.pending: tuple[Place, Future[None]] | None = None
        for number in self.layers:
            layer = model.layers[number]
            self.modules[number] = [
                (f"layers.{number}.{name}", module)
                for name, module in layer.named_modules()
                if isinstance(module, StreamedLinear)
            ]
            layer.register_forward_pre_hook(partial(self.arrive, number))
            layer.register_forward_hook(partial(self.leave, number), always_call=True)

    def arrive(self, number: int, module: nn.Module, args: tuple[Any, ...]) -> None:
        """Before a layer runs. Raises ReadFailed."""
        place = self.place[number]
        if self.pending is not None and self.pending[0] is place:
            self.pending[1].exception()  # waits; a read that failed there is tried again here, where it can be told
            self.pending = None
        self.fill(place, number)
        found = self.stored.dense(number).views(place.memory)
        for name, linear in self.modules[number]:
            linear.parts = found[name]
        self.prefetch(number)

    def leave(self, number: int, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        """After it, also if it raised: the place may soon hold another layer's."""
        for _, linear in self.modules[number]:
            linear.parts = None
        if self.after_layer is not None:
            self.after_layer(number)

    def fill(self, place: Place, number: int) -> None:
        """Read a layer's part, unless it is there already."""
        if place.holds != number:
            place.holds = None
            self.reader.read(self.stored.dense(number), place.memory, WHAT)
            place.holds = number

    def prefetch(self, running: int) -> None:
        """Have the next part that is absent read in the background, if that disturbs nobody who still runs or waits."""
        if self.pending is not None and not self.pending[1].done():
            return
        self.pending = None
        waiting = [running]
        for number in self.layers[self.layers.index(running) + 1 :]:
            place = self.place[number]
            if place.holds != number:
                if place.holds not in waiting:
                    self.pending = (place, self.worker.submit(self.fill, place, number))
                return
            waiting.append(number)
