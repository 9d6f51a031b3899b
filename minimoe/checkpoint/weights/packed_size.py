"""Bits per parameter of a packed model, measured from its actual bytes.

A quantiser that skips the experts, because they are not ordinary linear layers, leaves nine tenths of the model
unpacked and still reports success. So the packed size is measured.
"""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

from minimoe.checkpoint.layout import expected_tensors
from minimoe.errors import IncompleteLoad
from minimoe.model.config import ModelConfig
from minimoe.model.transformer import Transformer
from minimoe.quantisation.detect import format_of
from minimoe.quantisation.format import BLOCK, is_packed
from minimoe.quantisation.modules import stored_tensors

EXPERT = re.compile(r"(model\.)?layers\.[0-9]+\.mlp\.experts\..+")
ALLOWANCE = 0.075  # bits per weight besides number and scale: 4.2 and 8.2 in total


def part_of(name: str) -> str:
    """The part of the model: "experts", "other linear layers", or "not packed" (router, norms, embedding, lm_head)."""
    if not is_packed(name):
        return "not packed"
    return "experts" if EXPERT.fullmatch(name) else "other linear layers"


def bits_per_parameter(config: ModelConfig, nbytes: Mapping[str, int], layers: range | None = None) -> dict[str, float]:
    """Part of the model -> bits per parameter. nbytes: size by tensor name, on disk or in memory."""
    parameters, sizes = Counter[str](), Counter[str]()
    for tensor in expected_tensors(replace(config, quantization_config=None), layers):
        parameters[part_of(tensor.name)] += tensor.values
    for name, size in nbytes.items():
        sizes[part_of(name)] += size
    return {part: 8 * sizes[part] / count for part, count in parameters.items()}


def require_packed(
    config: ModelConfig, nbytes: Mapping[str, int], layers: range | None = None, plain_bits: int = 16
) -> None:
    """Raise IncompleteLoad if the matrices to pack in int4 or int8 take more than 4.2 or 8.2 bits per parameter (more
    if the last group of 128 is partly filled), or if anything else does not take `plain_bits`.
    """
    bits = getattr(format_of(config), "bits", None)
    if bits is None:
        return
    scales, values = Counter[str](), Counter[str]()
    for tensor in expected_tensors(replace(config, quantization_config=None), layers):
        outs, ins = tensor.shape if is_packed(tensor.name) else (0, 0)
        scales[part_of(tensor.name)] += outs * -(-ins // BLOCK)
        values[part_of(tensor.name)] += tensor.values
    for part, measured in bits_per_parameter(config, nbytes, layers).items():
        packed = part != "not packed"
        most = bits + 16 * scales[part] / values[part] + ALLOWANCE if packed else plain_bits
        if measured > most or (measured < most and not packed):
            raise IncompleteLoad(
                f"{part}: {measured:.2f} bits a parameter after packing to int{bits}, expected "
                f"{'at most ' if packed else ''}{most:.2f}. Please report this."
            )


def weigh(model: Transformer) -> None:
    """`require_packed` for a model in memory."""
    nbytes = {name: tensor.nbytes for name, tensor in stored_tensors(model).items()}
    require_packed(model.config, nbytes, model.layer_range, 8 * model.dtype.itemsize)
