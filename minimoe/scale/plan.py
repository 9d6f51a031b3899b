"""How large a model is: parameters, bytes in each precision, and the KV cache. Pure arithmetic on a config, no torch.

The rules of each precision (a linear layer maps `ins` values to `outs` values):

- fp32, bf16, fp16: every parameter alike, 4 or 2 bytes.
- fp8: linear layers take one byte a weight and a bf16 scale for each block of 128 x 128, as in the FP8 checkpoints.
- int4: linear layers take half a byte a weight and a bf16 scale for each group of 128 inputs (4.125 bits a weight).
- gptq-int4: as in the GPTQ checkpoints, int4 plus packed zero points and the group number (int32) of every input.

"Linear layers" are the attention projections and the experts (or the dense feed-forward). Embeddings, lm_head, norms
and the router stay in 16 bits in the last three: they are small, and a router that rounds differently selects other
experts.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from minimoe.errors import BadArgument
from minimoe.model.config import ModelConfig

PLAIN_BYTES = {"fp32": 4, "bf16": 2, "fp16": 2}
PRECISIONS = (*PLAIN_BYTES, "fp8", "int4", "gptq-int4")
BLOCK = 128  # side of an fp8 block and length of an int4 group


@dataclass(frozen=True)
class Part:
    """One kind of weight, summed over the layers. `active` and `active_bytes` count what one token goes through."""

    name: str
    parameters: int
    active: int
    bytes: int
    active_bytes: int


@dataclass(frozen=True)
class Plan:
    """The sizes of one model in one precision, with a 16-bit KV cache of `context` tokens. Bytes are exact."""

    name: str
    precision: str
    context: int
    parts: tuple[Part, ...]
    bytes_by_precision: dict[str, int]
    kv_cache_bytes_per_token: int

    @property
    def parameters(self) -> int:
        return sum(part.parameters for part in self.parts)

    @property
    def active_parameters(self) -> int:
        return sum(part.active for part in self.parts)

    @property
    def weight_bytes(self) -> int:
        return sum(part.bytes for part in self.parts)

    @property
    def active_bytes(self) -> int:
        """Weight bytes that one token goes through, both embedding matrices counted whole."""
        return sum(part.active_bytes for part in self.parts)

    @property
    def kv_cache_bytes(self) -> int:
        return self.context * self.kv_cache_bytes_per_token

    @property
    def total_bytes(self) -> int:
        """Weights and KV cache. Working memory of the forward pass is not in it."""
        return self.weight_bytes + self.kv_cache_bytes

    def to_dict(self) -> dict[str, Any]:
        """Everything above as plain JSON values: raw integers, bytes and counts."""
        sums = ("parameters", "active_parameters", "weight_bytes", "active_bytes", "kv_cache_bytes", "total_bytes")
        return {
            "name": self.name,
            "precision": self.precision,
            "context": self.context,
            **{key: getattr(self, key) for key in sums},
            "kv_cache_bytes_per_token": self.kv_cache_bytes_per_token,
            "bytes_by_precision": dict(self.bytes_by_precision),
            "parts": [vars(part) for part in self.parts],
        }


def plan(config: ModelConfig, context: int | None = None, precision: str | None = None, name: str = "") -> Plan:
    """Count the parts of `config`. By default the longest context it was made for and the precision its files have.

    Raises BadArgument for an unknown precision or a negative context.
    """
    precision = own_precision(config) if precision is None else precision
    context = config.max_position_embeddings if context is None else context
    if precision not in PRECISIONS:
        raise BadArgument(f"precision is {precision!r}, expected one of {', '.join(PRECISIONS)}.")
    if type(context) is not int or context < 0:
        raise BadArgument(f"context is {context!r}, expected a number of tokens, 0 or more.")
    return Plan(
        name=name or config.model_type,
        precision=precision,
        context=context,
        parts=tuple(parts(config, precision)),
        bytes_by_precision={each: sum(part.bytes for part in parts(config, each)) for each in PRECISIONS},
        kv_cache_bytes_per_token=config.kv_cache_bytes_per_token("bf16"),
    )


def own_precision(config: ModelConfig) -> str:
    """The precision in which this checkpoint's files are written, as far as plan knows it."""
    method = (config.quantization_config or {}).get("quant_method")
    if method is not None:
        return {"fp8": "fp8", "gptq": "gptq-int4"}.get(str(method), "bf16")
    return {"float32": "fp32", "float16": "fp16"}.get(config.dtype, "bf16")


def parts(config: ModelConfig, precision: str) -> Iterator[Part]:
    """The rows of the table: embeddings, attention, router, experts, dense feed-forward, norms."""
    hidden, layers, moe = config.hidden_size, config.num_hidden_layers, len(config.moe_layers)
    queries, keys = config.num_attention_heads * config.head_dim, config.num_key_value_heads * config.head_dim
    attention = [(queries, hidden), (keys, hidden), (keys, hidden), (hidden, queries)]

    def unpacked(name: str, count: int) -> Part:
        size = count * PLAIN_BYTES.get(precision, 2)
        return Part(name, count, count, size, size)

    def linear(name: str, shapes: list[tuple[int, int]], copies: int, active: int) -> Part:
        count = sum(outs * ins for outs, ins in shapes)
        size = sum(linear_bytes(outs, ins, precision) for outs, ins in shapes)
        return Part(name, copies * count, active * count, copies * size, active * size)

    def feed_forward(width: int) -> list[tuple[int, int]]:
        return [(width, hidden), (width, hidden), (hidden, width)]

    yield unpacked("embeddings", config.vocab_size * hidden * (1 if config.tie_word_embeddings else 2))
    yield linear("attention", attention, layers, layers)
    if moe:
        experts = feed_forward(config.moe_intermediate_size)
        yield unpacked("router", moe * config.num_experts * hidden)
        yield linear("experts", experts, moe * config.num_experts, moe * config.num_experts_per_tok)
    if moe < layers:
        yield linear("dense feed-forward", feed_forward(config.intermediate_size), layers - moe, layers - moe)
    yield unpacked("norms", layers * (2 * hidden + 2 * config.head_dim) + hidden)


def linear_bytes(outs: int, ins: int, precision: str) -> int:
    """Bytes of one linear layer's weight (outs, ins) with its scales; a block or group at the edge may be part full."""
    weights, groups = outs * ins, -(-ins // BLOCK)
    if precision == "fp8":
        return weights + 2 * -(-outs // BLOCK) * groups
    if precision == "int4":
        return -(-ins // 2) * outs + 2 * outs * groups
    if precision == "gptq-int4":
        packed_weights, packed_zeros = 4 * -(-ins // 8) * outs, 4 * groups * -(-outs // 8)
        return packed_weights + packed_zeros + 2 * outs * groups + 4 * ins
    return weights * PLAIN_BYTES[precision]
