"""GPTQ: round a matrix column by column, and let the columns that are not rounded yet make up for each error.

Frantar et al. 2022, arXiv 2210.17323. `inputs` are what the matrix multiplies in a run on calibration texts: they say
which errors matter. This is the algorithm for one matrix, without its blocks for speed and without reordering.
"""

import torch
from einops import einsum, repeat
from torch import Tensor

from minimoe.errors import BadArgument
from minimoe.quantisation.rounding import absmax, grouped, ungrouped


def gptq_round(weight: Tensor, inputs: Tensor, bits: int, group: int, damping: float = 0.01) -> Tensor:
    """weight (outs, ins) rounded to `bits` with one scale for `group` inputs; the scales are those of `round_int`.

    inputs: (token, ins), at least one token. damping: added to the diagonal of the inputs' products, as a share of its
    mean. Raises BadArgument.
    """
    if inputs.ndim != 2 or inputs.shape[1] != weight.shape[1] or not len(inputs):
        raise BadArgument(f"inputs have shape {tuple(inputs.shape)}, expected (token, {weight.shape[1]}).")
    largest, left, rounded = 2 ** (bits - 1) - 1, weight.float().clone(), torch.zeros_like(weight.float())
    scales = (absmax(grouped(weight, group)) / largest).bfloat16().float()
    scale = ungrouped(repeat(scales.masked_fill(scales == 0, 1), "out group 1 -> out group member", member=group), left)
    products = einsum(inputs.float(), inputs.float(), "token into, token other -> into other")
    products.diagonal().add_(damping * products.diagonal().mean() + 1e-9)
    spread = torch.linalg.cholesky(torch.linalg.inv(products), upper=True)
    for column in range(weight.shape[1]):
        numbers = (left[:, column] / scale[:, column]).round().clamp(-largest, largest)
        rounded[:, column] = numbers * scale[:, column]
        error = (left[:, column] - rounded[:, column]) / spread[column, column]
        left[:, column:] -= einsum(error, spread[column, column:], "out, into -> out into")
    return rounded.to(weight.dtype)
