"""Prefetch of dense parts: a layer's attention projections, and its feed-forward if it has no experts.

A dense part has a permanent buffer if the budget allows it; the others alternate in one or two shared buffers. While a
layer computes, a background thread reads the next dense part into a free buffer. Experts are not prefetched: the next
layer's router selects them from the output of this layer, which is not yet known.
"""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from minimoe.huge_pages import with_huge_pages
from minimoe.model.transformer import Transformer
from minimoe.scale.streaming.budget import Budget
from minimoe.scale.streaming.buffer_layout import TensorMap, WeightReader
from minimoe.scale.streaming.modules import StreamedLinear

PURPOSE = "attention and dense layers"


@dataclass(eq=False)
class Buffer:
    """Memory for one dense part, and the number of the layer that it belongs to (None: nothing)."""

    memory: Tensor
    holds: int | None = None


class DenseParts:
    """Sets the weights of a layer's StreamedLinear modules before the layer runs, and removes them after it."""

    def __init__(self, model: Transformer, stored: TensorMap, reader: WeightReader, budget: Budget):
        self.stored, self.reader = stored, reader
        self.after_layer: Callable[[int], None] | None = None
        self.layers = list(budget.layers)
        buffers = [Buffer(with_huge_pages(torch.empty(size, dtype=torch.uint8))) for size in budget.places]
        shared, permanent = buffers[: budget.shared], buffers[budget.shared :]
        self.buffers = dict(zip(self.layers, permanent, strict=False))
        for turn, number in enumerate(self.layers[budget.resident :]):
            self.buffers[number] = shared[turn % len(shared)]
        self.modules: dict[int, list[tuple[str, StreamedLinear]]] = {}
        self.worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="minimoe-prefetch")
        self.pending: tuple[Buffer, Future[None]] | None = None
        for number in self.layers:
            layer = model.layers[number]
            self.modules[number] = [
                (f"layers.{number}.{name}", module)
                for name, module in layer.named_modules()
                if isinstance(module, StreamedLinear)
            ]
            layer.register_forward_pre_hook(partial(self.before_layer_runs, number))
            layer.register_forward_hook(partial(self.after_layer_ran, number), always_call=True)

    def before_layer_runs(self, number: int, module: nn.Module, args: tuple[Any, ...]) -> None:
        """Set the layer's weights, and prefetch those of a later layer. Raises ReadFailed."""
        buffer = self.buffers[number]
        if self.pending is not None and self.pending[0] is buffer:
            self.pending[1].exception()  # waits; a read that failed in the background is retried here, and may raise
            self.pending = None
        self.fill(buffer, number)
        tensors = self.stored.dense(number).views(buffer.memory)
        for name, linear in self.modules[number]:
            linear.parts = tensors[name]
        self.prefetch(number)

    def after_layer_ran(self, number: int, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        """Remove the layer's weights, also if it raised: another layer may soon reuse the buffer."""
        for _, linear in self.modules[number]:
            linear.parts = None
        if self.after_layer is not None:
            self.after_layer(number)

    def fill(self, buffer: Buffer, number: int) -> None:
        """Read a layer's dense part, unless the buffer already holds it."""
        if buffer.holds != number:
            buffer.holds = None
            self.reader.read(self.stored.dense(number), buffer.memory, PURPOSE)
            buffer.holds = number

    def prefetch(self, running: int) -> None:
        """Read the next missing part in the background, if its buffer holds no part that is in use or needed before."""
        if self.pending is not None and not self.pending[1].done():
            return
        self.pending = None
        needed_before = [running]
        for number in self.layers[self.layers.index(running) + 1 :]:
            buffer = self.buffers[number]
            if buffer.holds != number:
                if buffer.holds not in needed_before:
                    self.pending = (buffer, self.worker.submit(self.fill, buffer, number))
                return
            needed_before.append(number)
