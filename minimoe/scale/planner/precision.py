"""Bytes per weight in each precision. Pure arithmetic, no torch.

The rules (a linear layer maps `ins` values to `outs` values):

- fp32, bf16, fp16: 4 or 2 bytes for every parameter.
- fp8: linear layers use one byte per weight and a bf16 scale for each block of 128 x 128, as in the FP8 checkpoints.
- int8: this library's format: one byte per weight and a bf16 scale for each group of 128 inputs (8.125 bits per
  weight).
- int4: this library's format: the same with half a byte per weight (4.125 bits).
- gptq-int4: as in the GPTQ checkpoints, int4 plus packed zero points and the group number (int32) of every input.
- 3-bit: three eighths of a byte per weight and a bf16 scale for each group of 128 inputs (3.125 bits per weight). For
  size estimates only: this library neither reads nor writes it, and alternatives.py never proposes it.

"Linear layers" are the attention projections and the experts (or the dense feed-forward). Embeddings, lm_head, norms
and the router stay in 16 bits in all but the first line: they are small, and a router that is rounded differently
selects other experts.
"""

from minimoe.dtypes import BITS_PER_VALUE, PLAIN_BYTES
from minimoe.errors import BadArgument
from minimoe.model.config import ModelConfig

PRECISIONS = (*PLAIN_BYTES, "fp8", "int8", "int4", "gptq-int4")
SIZE_ONLY = ("3-bit",)
MOST_BYTES = 10**15  # a thousand times the largest device; more is taken for a typing error
MOST_TOKENS = 10**9  # in a cache; a thousand times the longest context of any released model
BLOCK = 128  # side of an fp8 block and length of a group
# Bytes per value of a KV cache; the single scale of an fp8 cache is negligible.
KV_PRECISIONS = {name: BITS_PER_VALUE[name] // 8 for name in (*PLAIN_BYTES, "fp8")}


def own_precision(config: ModelConfig) -> str:
    """The precision of this checkpoint's files; "bf16" if the planner does not know their format."""
    packing = config.quantization_config or {}
    method = packing.get("quant_method")
    if method == "minimoe":
        return {4: "int4", 8: "int8"}.get(packing.get("bits", 0), "bf16")
    if method is not None:
        return {"fp8": "fp8", "gptq": "gptq-int4"}.get(str(method), "bf16")
    return {"float32": "fp32", "float16": "fp16"}.get(config.dtype, "bf16")


def plain_bytes(precision: str) -> int:
    """Bytes per value of unpacked tensors (norms, router, embeddings) and of activations."""
    return PLAIN_BYTES.get(precision, 2)


def linear_bytes(outs: int, ins: int, precision: str) -> int:
    """Bytes of one linear layer's weight (outs, ins) with its scales; blocks or groups at the edge may be partial."""
    weights, groups = outs * ins, -(-ins // BLOCK)
    if precision == "fp8":
        return weights + 2 * -(-outs // BLOCK) * groups
    if precision == "int8":
        return weights + 2 * outs * groups
    if precision == "int4":
        return -(-ins // 2) * outs + 2 * outs * groups
    if precision == "3-bit":
        return -(-3 * ins // 8) * outs + 2 * outs * groups
    if precision == "gptq-int4":
        packed_weights, packed_zeros = 4 * -(-ins // 8) * outs, 4 * groups * -(-outs // 8)
        return packed_weights + packed_zeros + 2 * outs * groups + 4 * ins
    return weights * PLAIN_BYTES[precision]


def whole_units(precision: str) -> dict[str, int]:
    """The units of a packed matrix that must not be split: {"rows": count, "columns": count}.

    For fp8 these are its blocks; for the group formats the groups of 128 inputs (columns). gptq-int4 also packs the
    zero points of eight outputs (rows) in one number.
    """
    if precision in PLAIN_BYTES:
        return {"rows": 1, "columns": 1}
    return {"rows": {"fp8": BLOCK, "gptq-int4": 8}.get(precision, 1), "columns": BLOCK}


def check_precision(precision: str, kv_precision: str = "bf16") -> None:
    """Raise BadArgument unless both are known."""
    if precision not in (*PRECISIONS, *SIZE_ONLY):
        raise BadArgument(f"precision is {precision!r}, expected one of {', '.join((*PRECISIONS, *SIZE_ONLY))}.")
    if kv_precision not in KV_PRECISIONS:
        raise BadArgument(f"kv_precision is {kv_precision!r}, expected one of {', '.join(KV_PRECISIONS)}.")


def check_count(name: str, value: object, unit: str, least: int, most: int = MOST_BYTES) -> None:
    """Raise BadArgument unless `value` is a whole number from `least` to `most`."""
    if type(value) is not int or not least <= value <= most:
        shown = repr(value) if not isinstance(value, int) or abs(value) < 10**30 else "a number of more than 30 digits"
        raise BadArgument(f"{name} is {shown}, expected a number of {unit}, {least} to {most:,}.")
