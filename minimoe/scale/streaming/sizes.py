"""The sizes in a budget: one matrix, one expert, a layer's dense part as stored; the work space of a pass."""

from math import prod

from minimoe.checkpoint.layout import matrices
from minimoe.dtypes import BYTES_PER_VALUE, WIDTHS
from minimoe.model.config import ModelConfig
from minimoe.quantisation import Format
from minimoe.scale.planner.rank_memory import unpacking, work_bytes
from minimoe.scale.planner.sharding import cuts

ALIGNMENT = 64  # bytes


def aligned(size: int) -> int:
    """`size` rounded up to a multiple of ALIGNMENT, where the next tensor begins."""
    return -(-size // ALIGNMENT) * ALIGNMENT


def stored_bytes(format: Format, outs: int, ins: int, width: int) -> int:
    """Bytes of one matrix as stored, of the largest form if the format allows several dtypes."""
    total = 0
    for part in format.components(outs, ins).values():
        sizes = [BYTES_PER_VALUE[code] if code else width for code in (part.code, *part.also)]
        total += aligned(prod(part.shape) * max(sizes))
    return total


def feed_forward_bytes(format: Format, ffn: int, hidden: int, width: int) -> int:
    """Bytes of gate_proj, up_proj and down_proj as stored."""
    return sum(stored_bytes(format, *shape, width) for shape in matrices(ffn, hidden).values())


def attention_shapes(config: ModelConfig) -> list[tuple[int, int]]:
    """(outs, ins) of q_proj, k_proj, v_proj and o_proj."""
    hidden, head_dim = config.hidden_size, config.head_dim
    queries, keys = config.num_attention_heads * head_dim, config.num_key_value_heads * head_dim
    return [(queries, hidden), (keys, hidden), (keys, hidden), (hidden, queries)]


def dense_bytes(config: ModelConfig, format: Format, layer: int, width: int) -> int:
    """Bytes of a layer's weights as stored, without experts, norms and router."""
    total = sum(stored_bytes(format, *shape, width) for shape in attention_shapes(config))
    if not config.is_moe(layer):
        total += feed_forward_bytes(format, config.intermediate_size, config.hidden_size, width)
    return total


def pass_bytes(
    config: ModelConfig, format: Format, positions: int, context: int, width: int, last_only: bool = True,
    eager: bool = False,
) -> int:  # fmt: skip
    """Work space of a pass of `positions` (summed over all sequences), with `context` tokens in the cache after it.

    The formula of rank_memory.py for values of `width` bytes, with one matrix being unpacked and two unpacked ones.
    Added to it: the logits of all positions unless `last_only`, and the attention scores if `eager`.
    """
    precision = {2: "bf16"}.get(width, "fp32")
    held = cuts(config, 1, 0)
    work = work_bytes(config, held, context, precision, precision, positions, kernel="cpu") * max(1, width // 4)
    work += unpacking_bytes(config, format, width)
    work += 0 if last_only else 2 * positions * config.vocab_size * width
    work += config.num_attention_heads * positions * context * (4 + 2 * width) if eager else 0
    return work


def unpacking_bytes(config: ModelConfig, format: Format, width: int) -> int:
    """Peak bytes while a matrix is unpacked, result included; all three matrices of a feed-forward coexist."""
    plain = format.name == "plain"
    if plain and width == WIDTHS[config.dtype]:
        return 0

    def while_unpacked(outs: int, ins: int) -> int:
        return outs * ins * width if plain else unpacking(format.name, outs, ins, width)

    sizes = [while_unpacked(*shape) for shape in attention_shapes(config)]
    for ffn in (config.moe_intermediate_size, config.intermediate_size):
        sizes += [2 * outs * ins * width + while_unpacked(outs, ins)
                  for outs, ins in matrices(ffn, config.hidden_size).values()]  # fmt: skip
    return max(sizes)
