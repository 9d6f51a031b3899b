"""The size of a model: parameters, bytes in each precision, and the KV cache. Pure arithmetic on a config, no torch.

`plan` counts one model as a whole; `deploy` (deployment.py) divides it among devices. precision.py has the rules of
each precision.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from minimoe.model.config import ModelConfig
from minimoe.scale.planner.precision import (
    MOST_TOKENS,
    PRECISIONS,
    check_count,
    check_precision,
    linear_bytes,
    own_precision,
    plain_bytes,
)


@dataclass(frozen=True)
class Part:
    """One kind of weight, summed over the layers. `active` and `active_bytes` count the weights that one token uses."""

    name: str
    parameters: int
    active: int
    bytes: int
    active_bytes: int


@dataclass(frozen=True)
class Plan:
    """The sizes of one model in one precision, with a KV cache of `context` tokens. Bytes are exact."""

    name: str
    precision: str
    context: int
    parts: tuple[Part, ...]
    bytes_by_precision: dict[str, int]
    kv_cache_bytes_per_token: int
    kv_precision: str = "bf16"

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
        """Weight bytes that one token uses, with both embedding matrices counted in full."""
        return sum(part.active_bytes for part in self.parts)

    @property
    def kv_cache_bytes(self) -> int:
        return self.context * self.kv_cache_bytes_per_token

    @property
    def total_bytes(self) -> int:
        """Weights and KV cache, without the work space of a forward pass."""
        return self.weight_bytes + self.kv_cache_bytes

    def to_dict(self) -> dict[str, Any]:
        """All fields and sums as plain JSON values: integers, in bytes or counts."""
        sums = ("parameters", "active_parameters", "weight_bytes", "active_bytes", "kv_cache_bytes", "total_bytes")
        return {
            "name": self.name,
            "precision": self.precision,
            "context": self.context,
            "kv_precision": self.kv_precision,
            **{key: getattr(self, key) for key in sums},
            "kv_cache_bytes_per_token": self.kv_cache_bytes_per_token,
            "bytes_by_precision": dict(self.bytes_by_precision),
            "parts": [vars(part) for part in self.parts],
        }


def plan(
    config: ModelConfig,
    context: int | None = None,
    precision: str | None = None,
    name: str = "",
    kv_precision: str = "bf16",
) -> Plan:
    """Count the parts of `config`. Defaults: the model's maximum context, and the precision of its files.

    Raises BadArgument for an unknown precision or a negative context.
    """
    precision = own_precision(config) if precision is None else precision
    context = config.max_position_embeddings if context is None else context
    check_precision(precision, kv_precision)
    check_count("context", context, "tokens", 0, MOST_TOKENS)
    return Plan(
        name=name or config.model_type,
        precision=precision,
        context=context,
        parts=tuple(parts(config, precision)),
        bytes_by_precision={known: sum(part.bytes for part in parts(config, known)) for known in PRECISIONS},
        kv_cache_bytes_per_token=config.kv_cache_bytes_per_token(kv_precision),
        kv_precision=kv_precision,
    )


def parts(config: ModelConfig, precision: str) -> Iterator[Part]:
    """The rows of the table: embeddings, attention, router, experts, dense feed-forward, norms."""
    hidden, layers, moe = config.hidden_size, config.num_hidden_layers, len(config.moe_layers)
    queries, keys = config.num_attention_heads * config.head_dim, config.num_key_value_heads * config.head_dim
    attention = [(queries, hidden), (keys, hidden), (keys, hidden), (hidden, queries)]

    def unpacked(name: str, count: int) -> Part:
        size = count * plain_bytes(precision)
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
