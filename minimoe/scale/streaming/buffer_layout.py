"""Which bytes of which files one thing is made of (a layer's attention, an expert), and how they lie in one buffer.

Tensors that follow each other in a file are read together: an expert's three matrices are usually one run of bytes,
because writers sort by name or by layer. In the buffer every tensor begins at a multiple of 64 bytes, as torch itself
places them; kernels may round differently elsewhere.
"""

import threading
import time
from collections.abc import Callable, Iterable, Iterator
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
class Part:
    """One tensor in a file, or a piece of one: `name` there; `owner` what it is a part of ("layers.3.mlp.gate", or
    "up_proj" of an expert) and `suffix` which part of it; `code` its dtype as the header calls it.
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
class Run:
    """`nbytes` of a file from `start` on, which belong at `at` in the buffer."""

    header: Header
    start: int
    nbytes: int
    at: int


class Layout:
    """Places for some parts in one buffer of `nbytes`, and the `runs` of bytes that fill it."""

    def __init__(self, parts: Iterable[Part]):
        self.nbytes = 0
        self.runs: list[Run] = []
        self.places: list[tuple[Part, int]] = []
        for part in sorted(parts, key=lambda part: (str(part.header.file), part.start)):
            last = self.runs[-1] if self.runs else None
            self.nbytes = aligned(self.nbytes)
            follows = last is not None and last.header is part.header and last.start + last.nbytes == part.start
            if last is not None and follows and last.at + last.nbytes == self.nbytes:
                last.nbytes += part.nbytes
            else:
                self.runs.append(Run(part.header, part.start, part.nbytes, self.nbytes))
            self.places.append((part, self.nbytes))
            self.nbytes += part.nbytes

    @property
    def payload(self) -> int:
        """Bytes that are read; the buffer also has the gaps before aligned places."""
        return sum(run.nbytes for run in self.runs)

    def views(self, memory: Tensor, owner: str | None = None) -> dict[str, dict[str, Tensor]]:
        """owner -> suffix -> the tensor in `memory` (uint8). Nothing is copied; with `owner` that one's alone."""
        found: dict[str, dict[str, Tensor]] = {}
        for part, at in self.places:
            if owner in (None, part.owner):
                found.setdefault(part.owner, {})[part.suffix] = part.view(memory, at)
        return found


class Reader:
    """Fills buffers, and counts the bytes and the seconds by what they were for. Several threads may use it."""

    def __init__(self, format: Format) -> None:
        self.format = format
        self.bytes: dict[str, int] = {}
        self.seconds = 0.0
        self.after_reading: Callable[[int], None] = lambda count: None
        self._lock = threading.Lock()

    def read(self, layout: Layout, memory: Tensor, what: str) -> None:
        """Fill `memory` (uint8, at least layout.nbytes). Raises ReadFailed, also if a file is no longer the one whose
        header was read, and WrongModel or NotFinite if the values cannot be used; the memory then holds nothing of use.
        """
        for _, group in groupby(layout.runs, key=lambda run: str(run.header.file)):
            runs, began = list(group), time.perf_counter()
            header, count = runs[0].header, sum(run.nbytes for run in runs)
            with header.open() as file:
                file.require_unchanged(header.identity)
                for run in runs:
                    file.read_into(memory_of(memory[run.at : run.at + run.nbytes]), run.start)
                file.require_unchanged(header.identity)
            self.note(what, count, time.perf_counter() - began)
        for part, at in layout.places:
            check_values(self.format, part.header, part.name, part.view(memory, at))

    def read_converting(self, part: Part, destination: Tensor, what: str) -> None:
        """Fill `destination` with one large tensor, in another dtype if need be, through a staging buffer of 8 MiB."""
        began = time.perf_counter()
        entry = TensorEntry(part.name, part.code, part.shape, part.start, part.nbytes)
        with part.header.open() as file:
            file.require_unchanged(part.header.identity)
            Filler().fill(destination, file, entry)
            file.require_unchanged(part.header.identity)
        self.note(what, part.nbytes, time.perf_counter() - began)

    def note(self, what: str, count: int, seconds: float) -> None:
        with self._lock:
            self.bytes[what] = self.bytes.get(what, 0) + count
            self.seconds += seconds
        self.after_reading(count)

    @property
    def total(self) -> int:
        with self._lock:
            return sum(self.bytes.values())


class Stored:
    """Where everything that a streamed model needs lies on disk."""

    def __init__(self, config: ModelConfig, shards: Shards):
        self.config, self.shards = config, shards
        self.format = format_of(config)
        self.experts_shape = matrices(config.moe_intermediate_size, config.hidden_size)

    def dense(self, layer: int) -> Layout:
        """Attention's projections, and the feed-forward of a layer that has no experts."""
        prefix = f"model.layers.{layer}."
        expected = list(attention_tensors(self.config, prefix, self.format))
        if not self.config.is_moe(layer):
            expected += dense_tensors(self.config, prefix, self.format)
        names = (tensor.name for tensor in expected)
        return Layout(self.part(name) for name in names if "_norm." not in name)

    def small(self, layer: int) -> Layout:
        """The four norms and the router: read once, and kept."""
        names = ["input_layernorm", "post_attention_layernorm", "self_attn.q_norm", "self_attn.k_norm"]
        names += ["mlp.gate"] if self.config.is_moe(layer) else []
        return Layout(self.part(f"model.layers.{layer}.{name}.weight") for name in names)

    def norm(self) -> Layout:
        return Layout([self.part(NORM)])

    def head(self) -> Part:
        return self.part(EMBEDDING if self.config.tie_word_embeddings else HEAD)

    def rows(self, numbers: list[int]) -> Layout:
        """Rows of the embedding, by rising number; each is one part, named by its number."""
        table = self.part(EMBEDDING)
        width = table.nbytes // self.config.vocab_size
        shape = (self.config.hidden_size,)
        starts = ((str(number), table.start + number * width) for number in numbers)
        return Layout(Part(EMBEDDING, row, "", table.header, at, width, table.code, shape) for row, at in starts)

    def expert(self, layer: int, expert: int) -> Layout:
        """The three matrices of one expert, however they are stored."""
        return Layout(self.expert_parts(f"model.layers.{layer}.mlp.experts.", expert))

    def expert_parts(self, bank: str, expert: int) -> Iterator[Part]:
        """Each expert's tensors by themselves, or in fused files its rows of the two tensors of all experts."""
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
            yield Part(whole.name, kind, "weight", whole.header, whole.start + begin * size, size, whole.code, shape)

    def part(self, name: str, owner: str | None = None) -> Part:
        """The tensor of that name as a part."""
        found = self.shards.find(name)
        if found is None:  # names were compared when the checkpoint was opened
            raise IncompleteLoad(f"{self.shards.directory}: no opened file holds {name}. Please report this.")
        header, entry = found
        module, _, suffix = name.rpartition(".")
        owner = module.removeprefix("model.") if owner is None else owner
        return Part(name, owner, suffix, header, entry.start, entry.nbytes, entry.dtype, entry.shape)
