"""The bytes on one rank: weights, KV cache, and the work space of a forward pass. Formulas, no measurements.

Work space, for a pass of `chunk` positions with a cache of up to `context` tokens, values of w bytes (4 for fp32, else
2), with Q query rows and K key rows (heads x head_dim) on the rank:

    stream       3 chunk hidden w                  the residual stream, its normed copy, the output of a sublayer
    attention    chunk (2 Q + 2 K) w               q and its normed copy; k and v
                 + chunk 4 Q w, or the kernel      four copies while RoPE rotates q; or the buffers of the attention
                                                   kernel (see attention_kernels.py), if those are larger
                 + 2 context K w                   keys and values of one layer in 16 bits, if the cache is narrower
    experts      chunk (4 hidden + 3 ffn) w        the layer's input, an expert's input and output rows, the output of
                                                   the previous expert, gate, up and their product: in the worst case
                                                   all tokens of the chunk select each of two experts
                 + local (2 hidden + experts) w    a rank with a subset of the experts treats each assignment to one of
                                                   them as a separate token (`run_local_experts`): input, scores of all
                                                   experts, output; local = chunk x min(experts per token, experts on
                                                   the rank), again the worst case
    head         vocab (w / ranks + 4)             logits of the last position: own rows, then all of them in float32
                                                   (fp32 on several ranks: 2 w instead of 4, gathered then joined)
    unpacked     two matrices of a feed-forward in 16 bits and a third one while it is unpacked, or one attention
                 projection while it is unpacked, if that is larger (see `unpacking`); nothing for fp32, bf16, fp16

    work = stream + the largest of (attention, experts, head) + unpacked

This is an upper bound on the memory allocated at once in this library's forward pass; the tests in
tests/scale/planner/test_work_space.py measure the tensors. It holds for the default attention, "sdpa"; for "eager" add
query heads x chunk x context x (4 + 2 w) bytes. The routing itself is not included: about 40 bytes for each token and
slot, and twice that on a rank with a subset of the experts.
"""

from dataclasses import dataclass
from typing import Any

from minimoe.dtypes import PLAIN_BYTES
from minimoe.model.config import CHUNK, ModelConfig
from minimoe.scale.planner.attention_kernels import UNKNOWN_DEVICE, kernel_bytes, kernel_for
from minimoe.scale.planner.precision import BLOCK, KV_PRECISIONS, plain_bytes
from minimoe.scale.planner.sharding import Cut
from minimoe.scale.planner.tensor_kinds import PARTS

# Bytes allocated per value while a matrix is unpacked, besides the result: see tests/scale/planner/test_work_space.py
BESIDE = {"fp8": 0, "int8": 0, "int4": 1, "gptq-int4": 6}


@dataclass(frozen=True)
class RankMemory:
    """The memory of one rank, in bytes."""

    rank: int
    parts: dict[str, int]  # weights, by row of the table of sizes
    cache: int
    work: int

    @property
    def weights(self) -> int:
        return sum(self.parts.values())

    @property
    def total(self) -> int:
        return self.weights + self.cache + self.work

    def to_dict(self) -> dict[str, Any]:
        return {
            "rank": self.rank, "weight_bytes": self.weights, "kv_cache_bytes": self.cache,
            "work_bytes": self.work, "total_bytes": self.total, "parts": dict(self.parts),
        }  # fmt: skip


def rank_memory(
    config: ModelConfig,
    rank: int,
    held: list[Cut],
    context: int,
    precision: str,
    kv_precision: str,
    chunk: int = CHUNK,
    kernel: str = UNKNOWN_DEVICE,
) -> RankMemory:
    """Bytes on a rank that holds the cuts `held`, for `context` cached tokens (summed over all sequences)."""
    parts = {part: sum(cut.bytes(precision) for cut in held if cut.kind.part == part) for part in PARTS}
    return RankMemory(
        rank=rank,
        parts={part: size for part, size in parts.items() if size},
        cache=cache_bytes(held, context, kv_precision),
        work=work_bytes(config, held, context, precision, kv_precision, chunk, kernel),
    )


def cache_bytes(held: list[Cut], context: int, kv_precision: str) -> int:
    """Bytes of the keys and values of `context` tokens: the rows of k_proj and v_proj on this rank, in its layers."""
    rows = sum(
        len(cut.layers) * cut.shape[0] for cut in held if cut.kind.name in ("self_attn.k_proj", "self_attn.v_proj")
    )
    return rows * context * KV_PRECISIONS[kv_precision]


def work_bytes(
    config: ModelConfig,
    held: list[Cut],
    context: int,
    precision: str,
    kv_precision: str,
    chunk: int = CHUNK,
    kernel: str = UNKNOWN_DEVICE,
) -> int:
    """The formula above for the cuts on one rank and a device with this attention kernel (attention_kernels.py)."""
    width, chunk = plain_bytes(precision), min(chunk, max(1, context))
    shapes = {cut.kind.name: cut.shape for cut in held}
    queries, keys = (shapes[f"self_attn.{name}_proj"][0] for name in "qk")
    ffn = max(shape[0] for name, shape in shapes.items() if name.startswith("mlp.") and name.endswith("gate_proj"))
    kernel = kernel_for(config, precision, kernel)
    inside = kernel_bytes(kernel, chunk, context, queries, keys, config.head_dim, width)
    attention = chunk * (2 * queries + 2 * keys) * width + max(4 * chunk * queries * width, inside)
    attention += 2 * context * keys * width if KV_PRECISIONS[kv_precision] < width else 0
    experts = chunk * (4 * config.hidden_size + 3 * ffn) * width
    local = max((len(cut.experts) for cut in held if cut.kind.name == "mlp.experts.gate_proj"), default=0)
    if local < config.num_experts:
        assignments = chunk * min(config.num_experts_per_tok, local)
        experts += assignments * (2 * config.hidden_size + config.num_experts) * width
    rows = next((shapes[name][0] for name in ("lm_head", "embed_tokens") if name in shapes), 0)
    logit_width = 4 if rows == config.vocab_size else max(4, 2 * width)
    head = (rows * width + logit_width * config.vocab_size) if "norm" in shapes else 0
    stream = 3 * chunk * config.hidden_size * width
    return stream + max(attention, experts, head) + unpacked_bytes(held, precision)


def unpacked_bytes(held: list[Cut], precision: str) -> int:
    """Peak bytes of unpacked matrices; 0 for a precision that is not packed."""
    if precision in PLAIN_BYTES:
        return 0
    sizes = []
    for cut in held:
        if cut.kind.packed:
            unpacked_before = 0 if cut.kind.part == "attention" else 2 * 2 * cut.shape[0] * cut.shape[1]
            sizes.append(unpacked_before + unpacking(precision, *cut.shape))
    return max(sizes)


def unpacking(precision: str, outs: int, ins: int, width: int = 2) -> int:
    """Peak bytes while one packed matrix is unpacked to (outs, ins) values of `width` bytes, including the result.

    A matrix with only full blocks or groups is unpacked in place, except for a few numbers for each group of 128. One
    with partial blocks or groups is padded first and sliced afterwards, which needs up to three copies.
    """
    high = BLOCK if precision == "fp8" else 1
    groups, rows = -(-ins // BLOCK), -(-outs // high) * high
    if ins % BLOCK == 0 and outs % high == 0:
        return outs * ins * (width + BESIDE.get(precision, 0)) + 8 * outs * groups
    return rows * groups * BLOCK * max(3 * width, 11 if precision == "gptq-int4" else 0)
