"""Small modules that take the place of those whose weights stay on disk. What they compute is the library's own code.

A weight is held as it is stored, packed if the files are, and unpacked or converted when it is used.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from minimoe.errors import BadArgument
from minimoe.model.config import ModelConfig
from minimoe.model.experts import ExpertBank
from minimoe.model.router import Routing
from minimoe.quantisation import Format
from minimoe.scale.streaming.buffer_layout import Reader, Stored
from minimoe.scale.streaming.expert_cache import ExpertCache

KINDS = ("gate_proj", "up_proj", "down_proj")


class StreamedLinear(nn.Module):
    """A linear layer whose weight is there only while its own layer runs: `parts` are its stored tensors, or None."""

    def __init__(self, name: str, format: Format, dtype: torch.dtype):
        super().__init__()
        self.name, self.format, self.dtype = name, format, dtype
        self.parts: dict[str, Tensor] | None = None

    @property
    def weight(self) -> Tensor:
        """The matrix (outs, ins), good until its layer has run: then a later layer's weights take its memory, so keep a
        clone. Raises BadArgument where its memory may hold another layer's.
        """
        if self.parts is None:
            raise BadArgument(f"{self.name} is streamed: its weight is in memory only while its own layer runs.")
        return self.format.unpack(self.parts, self.dtype)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight)


class StreamedEmbedding(nn.Module):
    """Reads only the rows of the tokens that are asked for: 8 kB each in the 235B, of 1.2 GB."""

    def __init__(self, stored: Stored, reader: Reader, dtype: torch.dtype):
        super().__init__()
        self.stored, self.reader, self.dtype = stored, reader, dtype

    def forward(self, token_ids: Tensor) -> Tensor:
        """(batch, position) -> (batch, position, hidden)."""
        numbers, place = token_ids.unique(return_inverse=True)
        layout = self.stored.rows(numbers.tolist())
        memory = torch.empty(layout.nbytes, dtype=torch.uint8)
        self.reader.read(layout, memory, "embedding rows")
        rows = torch.stack([found[""] for found in layout.views(memory).values()])
        return F.embedding(place, rows.to(self.dtype))


class Matrices(Sequence[Tensor]):
    """One kind of matrix of all experts of a layer: `[e]` gets expert e from the cache, which may have to read it."""

    def __init__(self, bank: "StreamedBank", kind: str):
        self.bank, self.kind = bank, kind

    def __len__(self) -> int:
        return self.bank.experts

    def __getitem__(self, expert: Any) -> Any:
        if type(expert) is not int or not 0 <= expert < len(self):
            raise BadArgument(f"expert is {expert!r}, expected one number from 0 to {len(self) - 1}.")
        return self.bank.matrix(self.kind, expert)


class StreamedBank(ExpertBank):
    """The experts of one layer, which come from the cache one after the other. Engine: `loop`, and no other.

    With `absent` none is ever read and the answer is NaN: for a last layer of which only the routing is wanted.
    """

    def __init__(
        self, config: ModelConfig, layer: int, format: Format, dtype: torch.dtype, cache: ExpertCache, absent: bool
    ):
        nn.Module.__init__(self)  # not ExpertBank's own, which would allocate the stacks
        self.layer, self.experts, self.absent = layer, config.num_experts, absent
        self.format, self.dtype, self.cache = format, dtype, cache
        self.gate_proj, self.up_proj, self.down_proj = (Matrices(self, kind) for kind in KINDS)
        self.values_of_matrix = config.moe_intermediate_size * config.hidden_size
        self.engine = "loop"
        self.visited: set[int] = set()

    def forward(self, x: Tensor, routing: Routing) -> Tensor:
        if self.absent:
            return torch.full_like(x, torch.nan)
        self.visited.clear()
        return super().forward(x, routing)

    def matrix(self, kind: str, expert: int) -> Tensor:
        """(out, in). Of the three matrices of an expert the first one counts as a hit or a miss, in each pass once."""
        slot = self.cache.get((self.layer, expert), count=expert not in self.visited)
        self.visited.add(expert)
        return self.format.unpack(slot.parts(kind), self.dtype)
