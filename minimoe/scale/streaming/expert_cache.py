"""The expert cache: a fixed number of slots with least-recently-used (LRU) eviction.

LRU has a cliff: a model uses its layers in turn, so with fewer slots than one token needs (8 experts x 94 layers in the
235B) every expert is evicted before its layer runs again, and the hit rate is 0. Above that number each additional slot
helps.
"""

import weakref
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from minimoe.errors import BadArgument
from minimoe.huge_pages import with_huge_pages
from minimoe.scale.streaming.buffer_layout import BufferLayout

Key = tuple[int, int]  # layer, expert


@dataclass
class Slot:
    """Memory for one expert, and the layout of its tensors there."""

    memory: Tensor
    layout: BufferLayout
    loans: list["weakref.ref[Any]"] = field(default_factory=list)

    @property
    def in_use(self) -> bool:
        """Whether a view of this memory is still referenced."""
        self.loans = [loan for loan in self.loans if loan() is not None]
        return bool(self.loans)

    def parts(self, kind: str) -> dict[str, Tensor]:
        """The stored tensors of gate_proj, up_proj or down_proj by suffix, as views. The slot is in use, and its memory
        is not reused, while these tensors or views of them are referenced.
        """
        base = self.memory.numpy()  # a new array in each call, which every derived view keeps alive
        self.loans = [loan for loan in self.loans if loan() is not None] + [weakref.ref(base)]
        return self.layout.views(torch.from_numpy(base), kind)[kind]


class ExpertCache:
    """`slots` slots of `slot_bytes` each, allocated once. `load(key, memory)` fills a slot, or begins to fill it, and
    returns its layout.

    `hits` and `misses` count the calls of `get`.
    """

    def __init__(self, slots: int, slot_bytes: int, load: Callable[[Key, Tensor], BufferLayout]):
        self.memory = with_huge_pages(torch.empty(slots * slot_bytes, dtype=torch.uint8))
        self.free = list(self.memory.split(slot_bytes)) if slots else []
        self.slots: OrderedDict[Key, Slot] = OrderedDict()  # least recently used first
        self.load = load
        self.hits = self.misses = 0

    def __len__(self) -> int:
        return len(self.slots)

    def get(self, key: Key) -> Slot:
        """The slot of this expert; on a miss the expert is loaded, if necessary in place of another.

        If `load` raises, the cache does not contain the expert: a slot is never partially filled. Raises BadArgument if
        all slots are in use.
        """
        slot = self.slots.get(key)
        self.hits += slot is not None
        self.misses += slot is None
        if slot is None:
            memory = self.evict()
            try:
                slot = Slot(memory, self.load(key, memory))
            except BaseException:
                self.free.append(memory)
                raise
            self.slots[key] = slot
        self.slots.move_to_end(key)
        return slot

    def remove(self, key: Key) -> None:
        """Remove an expert that is in the cache; its slot becomes free."""
        self.free.append(self.slots.pop(key).memory)

    def evict(self) -> Tensor:
        """The memory of a free slot, or of the least recently used one that is not in use, which is evicted."""
        if self.free:
            return self.free.pop()
        for key, slot in self.slots.items():
            if not slot.in_use:
                del self.slots[key]
                return slot.memory
        raise BadArgument(
            f"the weights of {len(self.slots)} experts are held at once, and the cache has no more slots. Use one "
            "expert at a time, as engine 'loop' does, or pass more ram."
        )
