"""Products with int4 weights that stay packed, through PyTorch's kernels for CPUs.

Unpacking a matrix for every token takes ten times as long as reading it in bfloat16. PyTorch multiplies with four-bit
weights directly, in a layout of its own that depends on the processor; so it is made after loading and never stored.
With many rows the ordinary product of an unpacked matrix is faster. So both layouts are kept: 8.25 bits per weight.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._pytree import tree_map
from tqdm.auto import tqdm

from minimoe.errors import BadArgument
from minimoe.quantisation.format import BLOCK
from minimoe.quantisation.groupwise import INT4
from minimoe.quantisation.modules import Packed, PackedBank, PackedLinear

# Measured with 1536 x 4096: for 32 rows the packed product takes 0.3 (AVX512) and 0.7 (AVX2) of the time of unpacking
# and multiplying, for 128 rows 1.1 and 2.6.
FEW_ROWS = 32
OUTS = 16  # the kernel takes multiples of it


class PackedMatrix:
    """A matrix (outs, ins) in both layouts: `F.linear(x, matrix)` uses one or the other, by the number of rows."""

    def __init__(self, numbers: Tensor, scales: Tensor, unpack: Callable[[], Tensor]):
        self.numbers, self.scales, self.unpack = numbers, scales, unpack

    def multiply(self, x: Tensor) -> Tensor:
        """x: (..., ins) bfloat16 -> (..., outs)."""
        rows = rearrange(x, "... into -> (...) into")
        if len(rows) > FEW_ROWS:
            return F.linear(x, self.unpack())
        return self.packed_product(rows).reshape(*x.shape[:-1], -1)

    def packed_product(self, rows: Tensor) -> Tensor:
        """rows: (row, ins) bfloat16 -> (row, outs)."""
        return torch.ops.aten._weight_int4pack_mm_for_cpu(rows.contiguous(), self.numbers, BLOCK, self.scales)

    @classmethod
    def __torch_function__(
        cls, function: Any, types: Sequence[type], arguments: tuple[Any, ...] = (), named: Any = None
    ) -> Any:
        """Called by PyTorch for a function of such a matrix: https://docs.pytorch.org/docs/stable/notes/extending.html.

        Functions other than F.linear get the unpacked matrix.
        """
        if function is F.linear and isinstance(arguments[1], PackedMatrix):
            return arguments[1].multiply(arguments[0])
        plain = tree_map(lambda value: value.unpack() if isinstance(value, PackedMatrix) else value, arguments)
        return function(*plain, **(named or {}))


def add_packed_products(model: nn.Module) -> int:
    """Let products with few rows use the packed int4 weights of `model`; returns the number of matrices.

    For a model on a CPU that computes in bfloat16. It needs the memory of the packed weights a second time. A matrix
    whose shape the kernel does not take is unpacked for each use, as before. `.to()` removes the second layout.
    Raises BadArgument for a model without int4 weights, in another dtype, or on another device.
    """
    modules = [module for module in model.modules() if isinstance(module, Packed) and module.format is INT4]
    if not modules:
        raise BadArgument("model has no weights in int4. Make a checkpoint with `minimoe quantise PATH --bits 4`.")
    for module in modules:
        device = module.parts[INT4.numbers].device
        if device.type != "cpu" or module.dtype != torch.bfloat16:
            raise BadArgument(f"model is on {device} in {module.dtype}; packed products need the CPU and bfloat16.")
    added = 0
    for module in tqdm(modules, desc="packing int4 for this processor", leave=False):
        if isinstance(module, PackedLinear):
            module.product = product_of(module.parts, partial(getattr, module, "weight"))
            added += module.product is not None
        elif isinstance(module, PackedBank):
            products = [
                product_of(module.parts_of(expert), partial(module.unpack, expert))
                for expert in range(len(module))
            ]
            module.products = products if all(products) else None
            added += len(products) if module.products else 0
    return added


def product_of(parts: dict[str, Tensor], unpack: Callable[[], Tensor]) -> PackedMatrix | None:
    """The matrix in PyTorch's layout; None if its kernel does not take the shape."""
    stored, scale = parts[INT4.numbers], parts["weight_scale"]
    outs, groups = scale.shape
    if outs % OUTS or stored.shape[1] * 2 != groups * BLOCK:
        return None
    numbers = torch.stack((stored & 15, stored >> 4), dim=-1)
    numbers = rearrange(numbers, "out pair two -> out (pair two)").int()
    scales = torch.stack((scale, torch.zeros_like(scale)), dim=-1)  # a scale and a zero point
    scales = rearrange(scales, "out group two -> group out two").contiguous()
    return PackedMatrix(torch.ops.aten._convert_weight_to_int4pack_for_cpu(numbers, 1), scales, unpack)
