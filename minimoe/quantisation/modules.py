"""Linear layers and expert banks that stay packed in memory: a matrix is unpacked for each use, then discarded.

The components are buffers, named by the suffixes of the format; in a bank their first axis is the expert. `.to(dtype)`
changes the dtype of the unpacked matrix, never the stored tensors.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from minimoe.dtypes import TORCH_DTYPES
from minimoe.errors import BadArgument
from minimoe.model.experts import ExpertBank
from minimoe.quantisation.format import Format, is_packed
from minimoe.quantisation.groupwise import GroupwiseInt


class Packed(nn.Module):
    """The components of one matrix, or of one matrix per expert, and their format."""

    def __init__(self, format: Format, parts: Mapping[str, Tensor], dtype: torch.dtype):
        super().__init__()
        self.format, self.dtype = format, dtype
        self.product: Any = None  # of a linear layer, and
        self.products: Sequence[Any] | None = None  # of a bank: see packed_products.py
        self._buffers.update(parts)  # not register_buffer: fp8 has a component "weight", which is also a property

    @property
    def parts(self) -> dict[str, Tensor]:
        """The stored tensors by suffix."""
        return {suffix: stored for suffix, stored in self._buffers.items() if stored is not None}

    @classmethod
    def empty(cls, format: Format, outs: int, ins: int, dtype: torch.dtype, *stacked: int) -> Any:
        """A matrix (outs, ins) without values, on the default device. `stacked`: leading axes, such as experts."""
        parts = {
            suffix: torch.empty((*stacked, *part.shape), dtype=TORCH_DTYPES[part.code] if part.code else dtype)
            for suffix, part in format.components(outs, ins).items()
        }
        return cls(format, parts, dtype)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "Packed":
        """Called by `.to()`, `.half()`, `.cuda()` ...: the stored tensors are passed as bytes, so they only move."""
        self.dtype = fn(torch.empty(0, dtype=self.dtype)).dtype
        self.product = self.products = None
        for suffix, stored in self.parts.items():
            self._buffers[suffix] = fn(stored.view(torch.uint8)).view(stored.dtype)
        return self


class PackedLinear(Packed):
    """A packed replacement for nn.Linear (without bias)."""

    @property
    def weight(self) -> Tensor:
        """The matrix (outs, ins), unpacked at each access."""
        return self.format.unpack(self.parts, self.dtype)

    def forward(self, x: Tensor) -> Tensor:
        format, rows = self.format, rearrange(x, "... into -> (...) into")
        if torch.compiler.is_compiling() and len(rows) == 1 and isinstance(format, GroupwiseInt):
            one = {suffix: rearrange(part, "... -> 1 ...") for suffix, part in self.parts.items()}
            if format.multiplies(one):
                return format.multiply(one, rows).reshape(*x.shape[:-1], -1)
        return F.linear(x, self.weight if self.product is None else self.product)


class PackedBank(Packed, Sequence[Tensor]):
    """One kind of matrix for all experts of a layer; bank[e] unpacks the matrix of expert e only."""

    def __len__(self) -> int:
        return len(next(iter(self.parts.values())))

    def __getitem__(self, expert: Any) -> Any:
        if not isinstance(expert, int):
            raise BadArgument(f"expert is {expert!r}, expected one integer: a packed bank has no slices.")
        return self.unpack(expert) if self.products is None else self.products[expert]

    def unpack(self, expert: int) -> Tensor:
        """The matrix (outs, ins) of one expert."""
        return self.format.unpack(self.parts_of(expert), self.dtype)

    def parts_of(self, expert: int) -> dict[str, Tensor]:
        """The stored tensors of one expert, by suffix."""
        return {suffix: stored[expert] for suffix, stored in self.parts.items()}

    @property
    def multiplies(self) -> bool:
        """Whether `multiply` works for this format and width."""
        return isinstance(self.format, GroupwiseInt) and self.format.multiplies(self.parts)

    def multiply(self, experts: Tensor, rows: Tensor) -> Tensor:
        """Products of the matrices of `experts` (assignment) and rows (assignment, ins) -> (assignment, outs), for
        torch.compile (see GroupwiseInt.multiply).
        """
        assert isinstance(self.format, GroupwiseInt)
        return self.format.multiply({suffix: part[experts] for suffix, part in self.parts.items()}, rows)

    def __iter__(self) -> Iterator[Tensor]:
        return (self[expert] for expert in range(len(self)))


def pack_modules(model: nn.Module, format: Format, dtype: torch.dtype) -> None:
    """Replace all linear layers that `format` packs by packed modules without values, on the default device.
    `dtype`: that of the unpacked matrices.
    """
    for name, module in list(model.named_modules()):
        if isinstance(module, ExpertBank):
            for kind, stack in list(module.named_parameters(recurse=False)):
                experts, outs, ins = stack.shape
                delattr(module, kind)
                setattr(module, kind, PackedBank.empty(format, outs, ins, dtype, experts))
        elif isinstance(module, nn.Linear) and is_packed(name):
            packed = PackedLinear.empty(format, module.out_features, module.in_features, dtype)
            model.set_submodule(name, packed)


def is_model_packed(model: nn.Module) -> bool:
    """Whether linear layers of this model are packed in memory."""
    return any(isinstance(module, Packed) for module in model.modules())


def stored_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Parameters and packed components by name: all tensors that `load` fills and `save` writes."""
    return {name: parameter.data for name, parameter in model.named_parameters()} | {
        f"{name}.{suffix}": part
        for name, module in model.named_modules()
        if isinstance(module, Packed)
        for suffix, part in module.parts.items()
    }
