"""The bytes on one rank: weights, KV cache, and the work space of a forward pass. Formulas, no measurements.

Work space, for a pass of `chunk` positions behind a cache of up to `context` tokens, values of w bytes (4 for fp32,
else 2), with Q query rows and K key rows (heads x head_dim) on the rank:

    stream     3 chunk hidden w                    the residual stream, its normed copy, what a sublayer answers
    attention  chunk (2 Q + 2 K) w                 q and its normed copy; k and v
               + chunk 4 Q w, or the kernel        four copies while RoPE turns q; or what the attention kernel keeps
                                                   (see kernels.py), if that is more
               + 2 context K w                     keys and values of one layer in 16 bits, if the cache is narrower
    experts    chunk (4 hidden + 3 ffn) w          the layer's input, an expert's rows in and out, the answer of the
                                                   expert before, gate, up and their product: the worst case is that
                                                   all tokens of the chunk go to each of two experts
               + choices (2 hidden + experts) w    a rank with a part of the experts makes each choice that falls here a
                                                   token of its own (`run_local_experts`): its input, scores of all
                                                   experts and answer; choices = chunk x min(experts a token, experts
                                                   here), the worst case again
    head       vocab (w / ranks + 4)               logits of the last position: own rows, then all of them in float32
                                                   (of several ranks in fp32 2 w for 4: gathered, then put together)
    unpacked   two matrices of a feed-forward in 16 bits and a third one while it is being unpacked, or one attention
               projection while it is, if that is more (see `unpacking`); nothing for fp32, bf16, fp16

    work = stream + the largest of (attention, experts, head) + unpacked

An upper bound of what is alive at once in this library's forward pass; tests/scale/planner/test_work_space.py measures
the tensors themselves. It holds for the model's default, attention "sdpa"; for "eager" add query heads x chunk x
context x (4 + 2 w) bytes. Routing itself, some 40 bytes for each token and slot and twice that on a rank with a part of
the experts, is left out.
"""

from dataclasses import dataclass
from typing import Any

from minimoe.dtypes import PLAIN_BYTES
from minimoe.model.config import CHUNK, ModelConfig
from minimoe.scale.planner.attention_kernels import UNKNOWN_DEVICE, kernel_bytes, kernel_for
from minimoe.scale.planner.precision import BLOCK, KV_PRECISIONS, plain_bytes
from minimoe.scale.planner.sharding import Cut
from minimoe.scale.planner.tensor_kinds import PARTS

# Bytes alive for each value of a matrix being unpacked, beside the result: tests/scale/planner/test_work_space.py
BESIDE = {"fp8": 0, "int8": 0, "int4": 1, "gptq-int4": 6}


@dataclass(frozen=True)
class RankMemory:
    """What one rank holds, in bytes."""

    rank: int
    parts: dict[str, int]  # weights, by the rows of the size table
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
    """Bytes of a rank that holds the cuts `held`, for `context` tokens in the cache (of all sequences together)."""
    parts = {part: sum(cut.bytes(precision) for cut in held if cut.kind.part == part) for part in PARTS}
    return RankMemory(
        rank=rank,
        parts={part: size for part, size in parts.items() if size},
        cache=cache_bytes(held, context, kv_precision),
        work=work_bytes(config, held, context, precision, kv_precision, chunk, kernel),
    )


def cache_bytes(held: list[Cut], context: int, kv_precision: str) -> int:
    """Keys and values of `context` tokens: as many rows as k_proj and v_proj have here, in each layer held here."""
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
    """The formula above, for the cuts on one rank and a device with this attention kernel (see kernels.py)."""
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
        choices = chunk * min(config.num_experts_per_tok, local)
        experts += choices * (2 * config.hidden_size + config.num_experts) * width
    rows = next((shapes[name][0] for name in ("lm_head", "embed_tokens") if name in shapes), 0)
    each = 4 if rows == config.vocab_size else max(4, 2 * width)
    head = (rows * width + each * config.vocab_size) if "norm" in shapes else 0
    stream = 3 * chunk * config.hidden_size * width
    return stream + max(attention, experts, head) + unpacked_bytes(held, precision)


def unpacked_bytes(held: list[Cut], precision: str) -> int:
    """What is alive of unpacked matrices at once: nothing if nothing is packed."""
    if precision in PLAIN_BYTES:
        return 0
    found = []
    for cut in held:
        if cut.kind.packed:
            before = 0 if cut.kind.part == "attention" else 2 * 2 * cut.shape[0] * cut.shape[1]
            found.append(before + unpacking(precision, *cut.shape))
    return max(found)


def unpacking(precision: str, outs: int, ins: int, width: int = 2) -> int:
    """Bytes alive at most while one packed matrix becomes (outs, ins) values of `width` bytes, these included.

    A matrix whose blocks or groups are all full is unpacked in place, but for a few numbers for each group of 128. One
    with part filled ones is padded first and cut out of that afterwards, which takes up to three copies.
    """
    high = BLOCK if precision == "fp8" else 1
    groups, rows = -(-ins // BLOCK), -(-outs // high) * high
    if ins % BLOCK == 0 and outs % high == 0:
        return outs * ins * (width + BESIDE.get(precision, 0)) + 8 * outs * groups
    return rows * groups * BLOCK * max(3 * width, 11 if precision == "gptq-int4" else 0)
