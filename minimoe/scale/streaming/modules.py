"""Modules whose weights stay on disk; the computation is the library's own code.

Weights are held as they are stored, packed if the files are, and are unpacked or converted when they are used.
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
from minimoe.scale.streaming.buffer_layout import TensorMap, WeightReader
from minimoe.scale.streaming.read_ahead import ReadAhead

KINDS = ("gate_proj", "up_proj", "down_proj")


class StreamedLinear(nn.Module):
    """A linear layer whose weight is in memory only while its own layer runs. `parts`: its stored tensors or None."""

    def __init__(self, name: str, format: Format, dtype: torch.dtype):
        super().__init__()
        self.name, self.format, self.dtype = name, format, dtype
        self.parts: dict[str, Tensor] | None = None

    @property
    def weight(self) -> Tensor:
        """The matrix (outs, ins). Valid until its layer has run, because a later layer reuses the memory: clone it for
        later use. Raises BadArgument while its layer is not running.
        """
        if self.parts is None:
            raise BadArgument(f"{self.name} is streamed: its weight is in memory only while its own layer runs.")
        return self.format.unpack(self.parts, self.dtype)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight)


class StreamedEmbedding(nn.Module):
    """An embedding that reads only the rows of the requested tokens: 8 kB each in the 235B, of 1.2 GB."""

    def __init__(self, stored: TensorMap, reader: WeightReader, dtype: torch.dtype):
        super().__init__()
        self.stored, self.reader, self.dtype = stored, reader, dtype

    def forward(self, token_ids: Tensor) -> Tensor:
        """(batch, position) -> (batch, position, hidden)."""
        numbers, positions = token_ids.unique(return_inverse=True)
        layout = self.stored.rows(numbers.tolist())
        memory = torch.empty(layout.nbytes, dtype=torch.uint8)
        self.reader.read(layout, memory, "embedding rows")
        rows = torch.stack([tensors[""] for tensors in layout.views(memory).values()])
        return F.embedding(positions, rows.to(self.dtype))


class Matrices(Sequence[Tensor]):
    """One matrix of all experts of a layer (all gate_proj, ...). `[e]` gets that of expert e from the cache."""

    def __init__(self, bank: "StreamedBank", kind: str):
        self.bank, self.kind = bank, kind

    def __len__(self) -> int:
        return self.bank.experts

    def __getitem__(self, expert: Any) -> Any:
        if type(expert) is not int or not 0 <= expert < len(self):
            raise BadArgument(f"expert is {expert!r}, expected one number from 0 to {len(self) - 1}.")
        return self.bank.matrix(self.kind, expert)


class StreamedBank(ExpertBank):
    """The experts of one layer, taken from the cache one at a time. Supports only the engine `loop`.

    With `absent` no expert is read and the output is NaN: for a last layer of which only the routing is needed.
    """

    def __init__(
        self, config: ModelConfig, layer: int, format: Format, dtype: torch.dtype, stored: ReadAhead, absent: bool
    ):
        nn.Module.__init__(self)  # not ExpertBank.__init__, which would allocate the weights
        self.layer, self.experts, self.absent = layer, config.num_experts, absent
        self.format, self.dtype, self.stored = format, dtype, stored
        self.gate_proj, self.up_proj, self.down_proj = (Matrices(self, kind) for kind in KINDS)
        self.values_of_matrix = config.moe_intermediate_size * config.hidden_size
        self.engine = "loop"

    def forward(self, x: Tensor, routing: Routing) -> Tensor:
        if self.absent:
            return torch.full_like(x, torch.nan)
        self.stored.announce((self.layer, expert) for expert in routing.experts.unique().tolist())  # in loop's order
        return super().forward(x, routing)

    def matrix(self, kind: str, expert: int) -> Tensor:
        """One matrix (outs, ins). An expert counts as a hit or miss once per pass, with the first of its matrices."""
        return self.format.unpack(self.stored.get((self.layer, expert)).parts(kind), self.dtype)
