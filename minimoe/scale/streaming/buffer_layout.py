"""Buffer layouts: the file extents of a group of tensors (a layer's attention, an expert) and their offsets in memory.

Adjacent tensors of a file are read together: an expert's three matrices are usually one extent, because writers sort by
name or by layer. In the buffer every tensor begins at a multiple of 64 bytes, as in torch's own allocations; with
another alignment kernels may round differently.
"""

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby

from torch import Tensor

from minimoe.checkpoint.layout import EMBEDDING, HEAD, NORM, attention_tensors, dense_tensors, linear, matrices
from minimoe.checkpoint.safetensors.header import Header, TensorEntry
from minimoe.checkpoint.safetensors.shards import Shards
from minimoe.checkpoint.weights.tensor_reader import Filler, memory_of
from minimoe.checkpoint.weights.values import check_values
from minimoe.dtypes import TORCH_DTYPES
from minimoe.errors import IncompleteLoad
from minimoe.model.config import ModelConfig
from minimoe.quantisation import Format, format_of
from minimoe.scale.streaming.sizes import aligned


@dataclass(frozen=True)
class TensorPart:
    """One tensor in a file, or a slice of one.

    name: in the file. owner: the module that it belongs to ("layers.3.mlp.gate", or "up_proj" of an expert). suffix:
    its name within the owner ("weight"). code: its dtype in the header. start, nbytes: its bytes in the file.
    """

    name: str
    owner: str
    suffix: str
    header: Header
    start: int
    nbytes: int
    code: str
    shape: tuple[int, ...]

    def view(self, memory: Tensor, at: int) -> Tensor:
        """The tensor whose bytes begin at `at` of `memory` (uint8)."""
        return memory[at : at + self.nbytes].view(TORCH_DTYPES[self.code]).reshape(self.shape)


@dataclass
class Extent:
    """A contiguous range of a file (`nbytes` from `start` on) that is read to offset `at` of the buffer."""

    header: Header
    start: int
    nbytes: int
    at: int


class BufferLayout:
    """The offsets of some parts in one buffer of `nbytes` bytes, and the `extents` of files that fill it."""

    def __init__(self, parts: Iterable[TensorPart]):
        self.nbytes = 0
        self.extents: list[Extent] = []
        self.places: list[tuple[TensorPart, int]] = []  # each part and its offset
        for part in sorted(parts, key=lambda part: (str(part.header.file), part.start)):
            last = self.extents[-1] if self.extents else None
            self.nbytes = aligned(self.nbytes)
            follows = last is not None and last.header is part.header and last.start + last.nbytes == part.start
            if last is not None and follows and last.at + last.nbytes == self.nbytes:
                last.nbytes += part.nbytes
            else:
                self.extents.append(Extent(part.header, part.start, part.nbytes, self.nbytes))
            self.places.append((part, self.nbytes))
            self.nbytes += part.nbytes

    @property
    def payload(self) -> int:
        """Bytes that are read: the buffer without the padding for alignment."""
        return sum(extent.nbytes for extent in self.extents)

    def views(self, memory: Tensor, owner: str | None = None) -> dict[str, dict[str, Tensor]]:
        """owner -> suffix -> a view of the tensor in `memory` (uint8), of all owners or of one."""
        tensors: dict[str, dict[str, Tensor]] = {}
        for part, at in self.places:
            if owner in (None, part.owner):
                tensors.setdefault(part.owner, {})[part.suffix] = part.view(memory, at)
        return tensors


class WeightReader:
    """Reads weights into buffers and counts bytes, by purpose, and `seconds` with at least one read. Thread-safe."""

    def __init__(self, format: Format) -> None:
        self.format = format
        self.bytes: dict[str, int] = {}
        self.seconds = 0.0
        self.after_reading: Callable[[int], None] = lambda count: None
        self._lock = threading.Lock()
        self._reads, self._began = 0, 0.0

    def read(self, layout: BufferLayout, memory: Tensor, purpose: str) -> None:
        """Fill `memory` (uint8, at least layout.nbytes bytes). purpose: a key of `bytes`.

        Raises ReadFailed, also if a file was replaced since its header was read, and WrongModel or NotFinite for
        invalid values; the content of the memory is then undefined.
        """
        for _, group in groupby(layout.extents, key=lambda extent: str(extent.header.file)):
            extents = list(group)
            header, count = extents[0].header, sum(extent.nbytes for extent in extents)
            with self.timed(), header.open() as file:
                file.require_unchanged(header.identity)
                for extent in extents:
                    file.read_into(memory_of(memory[extent.at : extent.at + extent.nbytes]), extent.start)
                file.require_unchanged(header.identity)
            self.note(purpose, count)
        for part, at in layout.places:
            check_values(self.format, part.header, part.name, part.view(memory, at))

    def read_converting(self, part: TensorPart, destination: Tensor, purpose: str) -> None:
        """Fill `destination` with one large tensor, converted to its dtype, through a staging buffer of 8 MiB."""
        entry = TensorEntry(part.name, part.code, part.shape, part.start, part.nbytes)
        with self.timed(), part.header.open() as file:
            file.require_unchanged(part.header.identity)
            Filler().fill(destination, file, entry)
            file.require_unchanged(part.header.identity)
        self.note(purpose, part.nbytes)

    @contextmanager
    def timed(self) -> Iterator[None]:
        """Count the time of a read; reads at the same time count once."""
        with self._lock:
            if self._reads == 0:
                self._began = time.perf_counter()
            self._reads += 1
        try:
            yield
        finally:
            with self._lock:
                self._reads -= 1
                if self._reads == 0:
                    self.seconds += time.perf_counter() - self._began

    def note(self, purpose: str, count: int) -> None:
        with self._lock:
            self.bytes[purpose] = self.bytes.get(purpose, 0) + count
        self.after_reading(count)

    @property
    def total(self) -> int:
        with self._lock:
            return sum(self.bytes.values())


class TensorMap:
    """The location on disk of all weights of a streamed model."""

    def __init__(self, config: ModelConfig, shards: Shards):
        self.config, self.shards = config, shards
        self.format = format_of(config)
        self.experts_shape = matrices(config.moe_intermediate_size, config.hidden_size)

    def dense(self, layer: int) -> BufferLayout:
        """The attention projections, and the feed-forward of a layer without experts."""
        prefix = f"model.layers.{layer}."
        expected = list(attention_tensors(self.config, prefix, self.format))
        if not self.config.is_moe(layer):
            expected += dense_tensors(self.config, prefix, self.format)
        names = (tensor.name for tensor in expected)
        return BufferLayout(self.part(name) for name in names if "_norm." not in name)

    def small(self, layer: int) -> BufferLayout:
        """The four norms and the router, which are read once and stay in memory."""
        names = ["input_layernorm", "post_attention_layernorm", "self_attn.q_norm", "self_attn.k_norm"]
        names += ["mlp.gate"] if self.config.is_moe(layer) else []
        return BufferLayout(self.part(f"model.layers.{layer}.{name}.weight") for name in names)

    def norm(self) -> BufferLayout:
        return BufferLayout([self.part(NORM)])

    def head(self) -> TensorPart:
        return self.part(EMBEDDING if self.config.tie_word_embeddings else HEAD)

    def rows(self, numbers: list[int]) -> BufferLayout:
        """Rows of the embedding, in ascending order; each row is one part whose owner is its number."""
        table = self.part(EMBEDDING)
        width = table.nbytes // self.config.vocab_size
        shape = (self.config.hidden_size,)
        starts = ((str(number), table.start + number * width) for number in numbers)
        return BufferLayout(
            TensorPart(EMBEDDING, row, "", table.header, at, width, table.code, shape) for row, at in starts
        )

    def expert(self, layer: int, expert: int) -> BufferLayout:
        """The three matrices of one expert, in any of the stored forms."""
        return BufferLayout(self.expert_parts(f"model.layers.{layer}.mlp.experts.", expert))

    def expert_parts(self, bank: str, expert: int) -> Iterator[TensorPart]:
        """An expert's own tensors or, in fused files, its rows of the two tensors of all experts."""
        fused = self.shards.find(bank + "gate_up_proj")
        for kind, shape in self.experts_shape.items():
            if fused is None:
                for tensor in linear(self.format, f"{bank}{expert}.{kind}", shape):
                    yield self.part(tensor.name, owner=kind)
                continue
            down = kind == "down_proj"
            whole = self.part(bank + ("down_proj" if down else "gate_up_proj"))
            size = whole.nbytes // self.config.num_experts // (1 if down else 2)
            begin = expert if down else 2 * expert + (kind == "up_proj")
            start = whole.start + begin * size
            yield TensorPart(whole.name, kind, "weight", whole.header, start, size, whole.code, shape)

    def part(self, name: str, owner: str | None = None) -> TensorPart:
        """The whole tensor `name` as a part."""
        location = self.shards.find(name)
        if location is None:  # unreachable: names were compared when the checkpoint was opened
            raise IncompleteLoad(f"{self.shards.directory}: no opened file holds {name}. Please report this.")
        header, entry = location
        module, _, suffix = name.rpartition(".")
        owner = module.removeprefix("model.") if owner is None else owner
        return TensorPart(name, owner, suffix, header, entry.start, entry.nbytes, entry.dtype, entry.shape)
