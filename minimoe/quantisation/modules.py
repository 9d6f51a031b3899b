"""Linear layers and expert banks that stay packed in memory: a matrix is unpacked when it is used, and then forgotten.

What is stored are buffers under the suffixes of the format, in a bank with the expert in front. `.to(dtype)` changes
the dtype that comes out, never what is stored.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from minimoe.dtypes import TORCH_DTYPES
from minimoe.errors import BadArgument
from minimoe.model.experts import ExpertBank
from minimoe.quantisation.format import Format, is_packed


class Packed(nn.Module):
    """The buffers of one matrix, or with `experts` of that many, and the format that can read them."""

    def __init__(self, format: Format, parts: Mapping[str, Tensor], dtype: torch.dtype):
        super().__init__()
        self.format, self.dtype = format, dtype
        self._buffers.update(parts)  # not register_buffer: fp8 has a part called "weight", which is also a property

    @property
    def parts(self) -> dict[str, Tensor]:
        """The stored tensors by suffix."""
        return {suffix: stored for suffix, stored in self._buffers.items() if stored is not None}

    @classmethod
    def empty(cls, format: Format, outs: int, ins: int, dtype: torch.dtype, *stacked: int) -> Any:
        """One without values, on the current default device: (outs, ins), behind `stacked` experts."""
        parts = {
            suffix: torch.empty((*stacked, *part.shape), dtype=TORCH_DTYPES[part.code] if part.code else dtype)
            for suffix, part in format.components(outs, ins).items()
        }
        return cls(format, parts, dtype)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "Packed":
        """What `.to()`, `.half()`, `.cuda()` ... do to every tensor. As bytes, the stored ones can only be moved."""
        self.dtype = fn(torch.empty(0, dtype=self.dtype)).dtype
        for suffix, stored in self.parts.items():
            self._buffers[suffix] = fn(stored.view(torch.uint8)).view(stored.dtype)
        return self


class PackedLinear(Packed):
    """Takes the place of nn.Linear (without bias)."""

    @property
    def weight(self) -> Tensor:
        """The matrix (outs, ins), unpacked anew each time."""
        return self.format.unpack(self.parts, self.dtype)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight)


class PackedBank(Packed, Sequence[Tensor]):
    """One kind of matrix of all experts of a layer; bank[e] unpacks that of expert e and no other."""

    def __len__(self) -> int:
        return len(next(iter(self.parts.values())))

    def __getitem__(self, expert: Any) -> Any:
        if not isinstance(expert, int):
            raise BadArgument(f"expert is {expert!r}, expected one number: a packed bank has no slices.")
        return self.format.unpack({suffix: stored[expert] for suffix, stored in self.parts.items()}, self.dtype)

    def __iter__(self) -> Iterator[Tensor]:
        return (self[expert] for expert in range(len(self)))


def pack_modules(model: nn.Module, format: Format, dtype: torch.dtype) -> None:
    """Put packed modules, without values, in the places of all linear layers that `format` packs (on the current
    default device). `dtype` is what they will unpack to.
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
    """Whether the linear layers of this model are packed in memory."""
    return any(isinstance(module, Packed) for module in model.modules())


def stored_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Parameters and packed parts by name: everything that a load fills and a save writes."""
    return {name: parameter.data for name, parameter in model.named_parameters()} | {
        f"{name}.{suffix}": part
        for name, module in model.named_modules()
        if isinstance(module, Packed)
        for suffix, part in module.parts.items()
    }
