"""The sharding table: for each rank and kind of tensor, a range of rows or columns, of layers and of experts.

There are two ways to divide a model:

- "tensor": every rank works on every layer. Attention is divided by heads, experts are distributed whole, and the two
  vocabulary matrices are divided by rows. Two sums over all ranks (all-reduce) in each layer combine the partial
  results. With more ranks than key/value heads, neighbouring ranks hold the same head.
- "layers": each rank holds a contiguous range of whole layers and sends the hidden state to the next. Nothing has to be
  divisible, but only one rank works at a time.

Source of the table: Megatron-LM (Shoeybi et al. 2019) for heads and vocabulary; whole experts per rank as in "expert
parallelism" of the MoE literature (Lepikhin et al. 2020), here without moving tokens, as all ranks see all of them.
"""

from dataclasses import dataclass
from math import prod
from typing import Any

from minimoe.model.config import ModelConfig
from minimoe.scale.planner.precision import linear_bytes, plain_bytes
from minimoe.scale.planner.tensor_kinds import Kind, kinds

SPLITS = ("tensor", "layers")
EXPERT_SPLITS = ("whole", "split")


@dataclass(frozen=True)
class Cut:
    """The part of one kind of tensor that one rank holds.

    `axis` is "rows", "columns", or "" if tensors are held whole; `start` and `stop` are positions along it. `copies` is
    the number of ranks that hold the same values.
    """

    kind: Kind
    axis: str
    start: int
    stop: int
    layers: tuple[int, ...]
    experts: range
    copies: int = 1

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one tensor on this rank."""
        whole, length = self.kind.shape, self.stop - self.start
        return {"rows": (length, *whole[1:]), "columns": (*whole[:1], length)}.get(self.axis, whole)

    @property
    def tensors(self) -> int:
        return (len(self.layers) if self.kind.layers else 1) * (len(self.experts) if self.kind.experts else 1)

    @property
    def parameters(self) -> int:
        return self.tensors * prod(self.shape)

    def bytes(self, precision: str) -> int:
        """Bytes of all tensors of this kind on this rank."""
        return self.tensors * tensor_bytes(self.kind, self.shape, precision)

    def names(self) -> list[str]:
        """The names on disk of the tensors from which this rank reads."""
        return list(self.kind.names(self.layers, self.experts))

    def to_dict(self, precision: str) -> dict[str, Any]:
        """Plain JSON values. Ranges are half-open: start is included, stop is not."""
        return {
            "tensor": self.kind.name,
            "whole_shape": list(self.kind.shape),
            "axis": self.axis or "whole",
            "start": self.start,
            "stop": self.stop,
            "shape": list(self.shape),
            "layers": list(self.layers),
            "experts": [self.experts.start, self.experts.stop] if self.kind.experts else None,
            "copies": self.copies,
            "parameters": self.parameters,
            "bytes": self.bytes(precision),
        }


def tensor_bytes(kind: Kind, shape: tuple[int, ...], precision: str) -> int:
    """Bytes of one tensor of `kind`, or of a slice of it with this shape."""
    if kind.packed:
        return linear_bytes(shape[0], shape[1], precision)
    return prod(shape) * plain_bytes(precision)


def share(total: int, devices: int, rank: int) -> range:
    """The range of `total` items that belongs to `rank`; the sizes of two ranges differ by at most one."""
    return range(total * rank // devices, total * (rank + 1) // devices)


def key_heads(config: ModelConfig, devices: int, rank: int) -> range:
    """The key/value heads on `rank`: a share of them, or one that neighbours also hold if ranks outnumber heads."""
    heads = config.num_key_value_heads
    if devices <= heads:
        return share(heads, devices, rank)
    return range(rank * heads // devices, rank * heads // devices + 1)


def cuts(config: ModelConfig, devices: int, rank: int, split: str = "tensor", experts: str = "whole") -> list[Cut]:
    """The table of `rank`, one of `devices`. The arguments must have passed `refuse_uneven` (divisibility.py)."""
    if split == "layers":
        return layer_cuts(config, devices, rank)
    return [tensor_cut(kind, config, devices, rank, experts) for kind in kinds(config)]


def tensor_cut(kind: Kind, config: ModelConfig, devices: int, rank: int, experts: str) -> Cut:
    """The part of one kind of tensor under the tensor split."""
    all_experts, replicas = range(kind.experts), max(1, devices // config.num_key_value_heads)

    def cut(axis: str, part: range, unit: int = 1, copies: int = 1) -> Cut:
        return Cut(kind, axis, part.start * unit, part.stop * unit, kind.layers, all_experts, copies)

    heads = share(config.num_attention_heads, devices, rank)
    if kind.name in ("embed_tokens", "lm_head"):
        return cut("rows", share(config.vocab_size, devices, rank))
    if kind.name == "self_attn.q_proj":
        return cut("rows", heads, config.head_dim)
    if kind.name in ("self_attn.k_proj", "self_attn.v_proj"):
        return cut("rows", key_heads(config, devices, rank), config.head_dim, replicas)
    if kind.name == "self_attn.o_proj":
        return cut("columns", heads, config.head_dim)
    if kind.part == "experts" and experts == "whole":
        return Cut(kind, "", 0, 0, kind.layers, share(kind.experts, devices, rank))
    if kind.part in ("experts", "dense feed-forward"):
        axis = "columns" if kind.name.endswith("down_proj") else "rows"
        return cut(axis, share(kind.shape[axis == "columns"], devices, rank))
    return Cut(kind, "", 0, 0, kind.layers, all_experts, copies=devices)


def layer_cuts(config: ModelConfig, devices: int, rank: int) -> list[Cut]:
    """The table of one rank under the layer split: embedding on the first rank, final norm and lm_head on the last.

    A tied lm_head shares its values with the embedding, so the last rank then holds a second copy. All ranks hold the
    routers: they are small, and a trace is checked against them on the rank that records it.
    """
    own_layers, table = layers_of(config, devices, rank), []
    for kind in kinds(config):
        if kind.part == "router":
            table.append(Cut(kind, "", 0, 0, kind.layers, range(kind.experts), devices))
            continue
        layers = tuple(layer for layer in kind.layers if layer in own_layers)
        tied = kind.name == "embed_tokens" and config.tie_word_embeddings and devices > 1
        here = bool(layers) if kind.layers else rank == (0 if kind.name == "embed_tokens" else devices - 1)
        if here or (tied and rank == devices - 1):
            table.append(Cut(kind, "", 0, 0, layers, range(kind.experts), 2 if tied else 1))
    return table


def layers_of(config: ModelConfig, devices: int, rank: int) -> range:
    """The contiguous range of layers on `rank`. If they do not divide evenly, the first ranks hold one more (94 layers
    on 8 ranks: six times 12, twice 11).
    """
    quotient, extra = divmod(config.num_hidden_layers, devices)
    return range(rank * quotient + min(rank, extra), (rank + 1) * quotient + min(rank + 1, extra))
