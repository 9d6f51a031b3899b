"""Reading ahead: of the experts that a layer has selected, the next few are read while one of them runs.

Several reads at a time use a disk or a server better than one, and they overlap with the computation. Slots are
assigned in the order in which the experts run, so hits, misses and evictions are the same as with one read at a time.
"""

from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor

from torch import Tensor

from minimoe.scale.streaming.buffer_layout import BufferLayout, TensorMap, WeightReader
from minimoe.scale.streaming.expert_cache import ExpertCache, Key, Slot

READERS = 4  # concurrent reads


class ReadAhead:
    """The experts of a streamed model, in a cache of `slots` slots of `slot_bytes` each.

    With fewer than three slots nothing is read ahead: one expert may be in use, and another one just used.
    """

    def __init__(self, stored: TensorMap, reader: WeightReader, slots: int, slot_bytes: int):
        self.stored, self.reader = stored, reader
        self.cache = ExpertCache(slots, slot_bytes, self.begin)
        self.ahead = max(0, min(READERS, slots - 2))
        self.workers = ThreadPoolExecutor(max_workers=READERS, thread_name_prefix="minimoe-experts")
        self.reads: dict[int, Future[None]] = {}  # reads that nobody has waited for, by the address of their memory
        self.order: list[Key] = []
        self.requested = self.used = 0
        self.current: Key | None = None

    def announce(self, keys: Iterable[Key]) -> None:
        """The experts that will be used next, in this order. Replaces an earlier announcement."""
        self.order, self.requested, self.used, self.current = list(keys), 0, 0, None

    def get(self, key: Key) -> Slot:
        """The slot of this expert, with its weights. Counts as one use until another expert is requested.

        Raises ReadFailed, WrongModel or NotFinite if reading failed twice, and BadArgument if all slots are in use; the
        cache does not contain the expert then.
        """
        if key != self.current:
            self.request(key)
        slot = self.cache.slots[key]
        read = self.reads.get(slot.memory.data_ptr())
        if read is not None:
            failed = read.exception() is not None  # waits
            del self.reads[slot.memory.data_ptr()]
            if failed:
                self.read_again(key, slot)
        return slot

    def request(self, key: Key) -> None:
        """Assign slots to this expert and, if it was announced, to those after it."""
        self.current = None
        if key in self.order[self.used :]:
            self.used = self.order.index(key, self.used) + 1
            for later in self.order[self.requested : self.used + self.ahead]:
                self.cache.get(later)
                self.requested += 1
        else:
            self.cache.get(key)
        self.current = key

    def begin(self, key: Key, memory: Tensor) -> BufferLayout:
        """Begin to read an expert into `memory`; without reading ahead, read it."""
        layout = self.stored.expert(*key)
        if not self.ahead:
            self.reader.read(layout, memory, "experts")
            return layout
        unused = self.reads.pop(memory.data_ptr(), None)
        if unused is not None:  # of a pass that was interrupted
            unused.exception()  # waits
        self.reads[memory.data_ptr()] = self.workers.submit(self.reader.read, layout, memory, "experts")
        return layout

    def read_again(self, key: Key, slot: Slot) -> None:
        """Read in this thread what failed in the background, perhaps in an earlier pass."""
        try:
            self.reader.read(slot.layout, slot.memory, "experts")
        except BaseException:
            self.cache.remove(key)
            self.current = None
            raise
