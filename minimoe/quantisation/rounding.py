"""Rounding to the grid of a format: what weights become, without packing them.

A grid of few numbers is stretched by a scale, and every weight moves to the nearest point. The formats differ in the
grid and in the weights that share a scale:

    integers   -7 .. 7 (4 bits), evenly spaced       a group of inputs of one output        scale in bfloat16
    FP8        E4M3, 253 numbers up to 448           a block of 128 x 128                   scale in float32
    MXFP4      E2M1, 15 numbers up to 6              32 inputs of one output                a power of two
    NVFP4      E2M1                                  16 inputs of one output                E4M3, times one float32

MXFP4: OCP Microscaling Formats (MX) Specification 1.0. NVFP4: NVIDIA's format for Blackwell. The files of FP8
checkpoints round their scales to bfloat16, which is not repeated here.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from einops import rearrange, reduce
from torch import Tensor, nn
from torch.nn import functional as F

from minimoe.errors import BadArgument

E2M1 = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)  # the magnitudes of four bits: sign, two of exponent, one of mantissa
E4M3_MAX, E4M3_LEAST = 448.0, 2.0**-9  # the largest and the smallest positive number of FP8
BLOCK, MX_GROUP, NV_GROUP = 128, 32, 16

Rounding = Callable[[Tensor], Tensor]


def grouped(weight: Tensor, group: int) -> Tensor:
    """(..., ins) -> (..., group, member) in float32, padded with zeros to whole groups."""
    if type(group) is not int or group < 1:
        raise BadArgument(f"group is {group!r}, expected a number of inputs, at least 1.")
    padded = F.pad(weight.float(), (0, -weight.shape[-1] % group))
    return rearrange(padded, "... (group member) -> ... group member", member=group)


def ungrouped(rounded: Tensor, weight: Tensor) -> Tensor:
    """The inverse of `grouped`, in shape and dtype of `weight`."""
    flat = rearrange(rounded, "... group member -> ... (group member)")
    return flat[..., : weight.shape[-1]].to(weight.dtype)


def absmax(values: Tensor) -> Tensor:
    """(..., group, member) -> (..., group, 1): the largest magnitude of each group."""
    return reduce(values.abs(), "... group member -> ... group 1", "max")


def nearest_e2m1(values: Tensor) -> Tensor:
    """Each value moved to the nearest number of E2M1, beyond 6 to 6; halfway to the one with an even last bit."""
    grid = values.new_tensor(E2M1)
    middles = (grid[1:] + grid[:-1]) / 2
    up, down = (torch.bucketize(values.abs(), middles, right=right) for right in (True, False))
    return grid[torch.where(up % 2 == 0, up, down)] * values.sign()


def nearest_e4m3(values: Tensor) -> Tensor:
    """Each value rounded to FP8 E4M3, beyond 448 to 448."""
    return values.clamp(-E4M3_MAX, E4M3_MAX).to(torch.float8_e4m3fn).to(values.dtype)


def round_int(weight: Tensor, bits: int, group: int | None = None) -> Tensor:
    """weight (..., ins) rounded to 2^bits - 1 evenly spaced numbers, with one scale for `group` inputs, or for all.

    Equal to packing and unpacking with int4 and int8 (groupwise.py), whose groups have 128 inputs. Raises BadArgument.
    """
    if type(bits) is not int or not 2 <= bits <= 8:
        raise BadArgument(f"bits is {bits!r}, expected 2 to 8.")
    values, largest = grouped(weight, group or weight.shape[-1]), 2 ** (bits - 1) - 1
    scale = (absmax(values) / largest).bfloat16().float()
    numbers = (values / scale.masked_fill(scale == 0, 1)).round().clamp(-largest, largest)
    return ungrouped(numbers * scale, weight)


def round_fp8(weight: Tensor) -> Tensor:
    """weight (..., outs, ins) rounded to E4M3, with one scale for each block of 128 x 128."""
    outs, ins = weight.shape[-2:]
    padded = F.pad(weight.float(), (0, -ins % BLOCK, 0, -outs % BLOCK))
    blocks = rearrange(
        padded, "... (row high) (column wide) -> ... row column (high wide)", high=BLOCK, wide=BLOCK
    )
    scale = absmax(blocks) / E4M3_MAX
    rounded = nearest_e4m3(blocks / scale.masked_fill(scale == 0, 1)) * scale
    whole = rearrange(rounded, "... row column (high wide) -> ... (row high) (column wide)", high=BLOCK)
    return whole[..., :outs, :ins].to(weight.dtype)


def round_mxfp4(weight: Tensor) -> Tensor:
    """weight (..., ins) rounded to E2M1, with a power of two for every 32 inputs.

    The scale puts the largest magnitude between 4 and 8, as the specification has it; what is beyond 6 becomes 6.
    """
    values = grouped(weight, MX_GROUP)
    _, exponent = torch.frexp(absmax(values))  # magnitude = mantissa · 2^exponent, mantissa in [0.5, 1)
    scale = torch.ldexp(torch.ones_like(values[..., :1]), exponent - 3)
    return ungrouped(nearest_e2m1(values / scale) * scale, weight)


def round_nvfp4(weight: Tensor) -> Tensor:
    """weight (..., outs, ins) rounded to E2M1, with a scale in E4M3 for every 16 inputs and one in float32 for all."""
    values, largest = grouped(weight, NV_GROUP), E2M1[-1]
    whole = rearrange(reduce(values.abs(), "... out group member -> ...", "max"), "... -> ... 1 1 1")
    whole = whole.masked_fill(whole == 0, 1) / (largest * E4M3_MAX)
    scale = nearest_e4m3((absmax(values) / largest / whole).clamp_min(E4M3_LEAST)) * whole
    return ungrouped(nearest_e2m1(values / scale) * scale, weight)


@contextmanager
def rounded_weights(model: nn.Module, rounding: Rounding, selects: Callable[[str], bool]) -> Iterator[None]:
    """Run `model` with some of its matrices rounded inside the block; afterwards it is as before.

        with rounded_weights(model, lambda weight: round_int(weight, 4, 128), is_packed):
            ...

    selects: name of a parameter -> whether it is rounded. A bank of experts is one tensor (expert, outs, ins).
    """
    before: dict[nn.Parameter, Tensor] = {}
    try:
        for name, parameter in model.named_parameters():
            if selects(name):
                before[parameter] = parameter.data
                parameter.data = rounding(parameter.data)
        yield
    finally:
        for parameter, weight in before.items():
            parameter.data = weight
