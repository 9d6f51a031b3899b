"""The cache of experts: a fixed number of slots, and who has not been asked for longest gives up theirs.

"Least recently used" is the plainest rule that remembers. It has a cliff: a model asks for its layers in turn, so with
fewer slots than one token needs (8 experts x 94 layers in the 235B) every expert has been thrown out before its layer's
turn comes again, and nothing is ever found. Above that every slot counts.
"""

import weakref
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from minimoe.errors import BadArgument
from minimoe.scale.streaming.buffer_layout import Layout

Key = tuple[int, int]  # layer, expert


@dataclass
class Slot:
    """Memory for one expert, and how its parts lie in it."""

    memory: Tensor
    layout: Layout
    lent: list["weakref.ref[Any]"] = field(default_factory=list)

    @property
    def in_use(self) -> bool:
        """Whether somebody still holds a tensor that looks into this memory."""
        self.lent = [each for each in self.lent if each() is not None]
        return bool(self.lent)

    def parts(self, kind: str) -> dict[str, Tensor]:
        """The stored tensors of gate_proj, up_proj or down_proj by suffix: views that are valid while they, or views
        of them, are held.
        """
        loan = self.memory.numpy()  # a new array each time: every view of what comes out keeps it alive
        self.lent = [each for each in self.lent if each() is not None] + [weakref.ref(loan)]
        return self.layout.views(torch.from_numpy(loan), kind)[kind]


class ExpertCache:
    """`slots` slots of `slot_bytes` each, allocated once. `load(key, memory)` fills a slot and says how it lies there.

    `hits` and `misses` count the calls of `get`.
    """

    def __init__(self, slots: int, slot_bytes: int, load: Callable[[Key, Tensor], Layout]):
        self.memory = torch.empty(slots * slot_bytes, dtype=torch.uint8)
        self.free = list(self.memory.split(slot_bytes)) if slots else []
        self.slots: OrderedDict[Key, Slot] = OrderedDict()  # the one that was not asked for longest comes first
        self.load = load
        self.hits = self.misses = 0

    def __len__(self) -> int:
        return len(self.slots)

    def get(self, key: Key, count: bool = True) -> Slot:
        """The slot of this expert, read into the place of another if it has none.

        Whatever `load` raises leaves the cache without this expert, never with a half-filled slot. Raises BadArgument
        if all slots are in use.
        """
        slot = self.slots.get(key)
        self.hits += count and slot is not None
        self.misses += count and slot is None
        if slot is None:
            memory = self.make_room()
            try:
                slot = Slot(memory, self.load(key, memory))
            except BaseException:
                self.free.append(memory)
                raise
            self.slots[key] = slot
        self.slots.move_to_end(key)
        return slot

    def make_room(self) -> Tensor:
        """The memory of a slot that is free, or of the one that was not asked for longest and that nobody looks at."""
        if self.free:
            return self.free.pop()
        for key, slot in self.slots.items():
            if not slot.in_use:
                del self.slots[key]
                return slot.memory
        raise BadArgument(
            f"the weights of {len(self.slots)} experts are held at once, and the cache has no more slots. Use one "
            "expert after the other, as engine 'loop' does, or give more ram."
        )
