"""The memory budget of a streamed model and its expected reads. Pure arithmetic, no file is opened.

The budget covers everything that the model allocates; Python and torch themselves, about 300 MB, are not included.

    small   all norms and routers, in the model's dtype: always in memory
    head    lm_head, in the model's dtype: every token needs it, and a buffer to read it into would be as large
    cache   keys and values of `context` tokens
    work    the forward pass of `context` tokens at once, last logits only (rank_memory.py), and memory for unpacking
    dense   a layer's attention projections, and its feed-forward if it has no experts, as stored
    slots   one expert each, as stored

Weights are held as they are stored, each tensor at a multiple of 64 bytes. The minimum is: small, head, cache, work,
one buffer for the largest dense part, one slot. The rest is spent, in this order, on a second buffer for dense parts
(one is read while the layer in the other computes), on permanent buffers for the dense parts of the first layers, and
on slots. Dense parts come first because every token needs them: a resident byte saves one byte per token, whereas a
resident expert is needed by the next token with probability 8/128.

Expected reads assume uniform routing. Then T tokens need E (1 - (1 - K/E)^T) of a layer's E experts. A cache that holds
the experts of the last T tokens, in all layers, has the hit rate 1 - (1 - K/E)^T for the next token. A cache smaller
than the experts of one token has the hit rate 0, because each layer evicts the experts of the others. Real routers
repeat themselves, so measure the hit rate.
"""

from dataclasses import dataclass
from math import log
from typing import Any

from minimoe.dtypes import WIDTHS
from minimoe.errors import BadArgument, PlanTooBig
from minimoe.humanize import parse_bytes, units
from minimoe.model.checks import check_layers
from minimoe.model.config import ModelConfig
from minimoe.quantisation import Format, format_of
from minimoe.scale.planner.load_time import checked_speed
from minimoe.scale.planner.precision import check_count
from minimoe.scale.streaming.sizes import aligned, dense_bytes, feed_forward_bytes, pass_bytes
from minimoe.text.generate import context_length

CONTEXT = 4096  # tokens, by default
LEAST_CONTEXT = 64  # the default context shrinks down to this before too little RAM is refused


@dataclass(frozen=True)
class Budget:
    """The division of `ram` bytes. Sizes in bytes; `dense` has one entry for each of `layers`, in their order."""

    ram: int
    config: ModelConfig
    format: str
    layers: range
    context: int
    width: int  # bytes per value of the compute dtype
    routing_only: bool
    small: int
    head: int
    cache: int
    work: int
    dense: tuple[int, ...]
    slot: int
    experts: int  # number of experts that may be read, over all layers
    shared: int  # number of buffers that the other dense parts share
    resident: int  # number of layers, from the first one on, with a permanent buffer for their dense part
    slots: int

    @property
    def places(self) -> tuple[int, ...]:
        """The sizes of all buffers for dense parts, the shared ones first."""
        return (max(self.dense),) * self.shared + self.dense[: self.resident]

    @property
    def weights(self) -> int:
        """Bytes allocated for weights, constant for the life of the model."""
        return self.small + self.head + sum(self.places) + self.slots * self.slot

    @property
    def total(self) -> int:
        return self.weights + self.cache + self.work

    @property
    def least(self) -> int:
        """The minimum `ram` for this context."""
        return self.needed + max(self.dense)

    @property
    def needed(self) -> int:
        """The fixed part of every budget: everything but dense parts, with one slot if any experts are read."""
        return self.small + self.head + self.cache + self.work + (self.slot if self.experts else 0)

    # ---------------------------------------------------------------- expected reads

    @property
    def moe_layers(self) -> tuple[int, ...]:
        """Layers whose experts are read."""
        skipped = self.layers[-1] if self.routing_only else None
        return tuple(layer for layer in self.layers if self.config.is_moe(layer) and layer != skipped)

    @property
    def hit_rate(self) -> float:
        """The expected share of a decoded token's experts that are in the cache, under uniform routing."""
        if not self.experts:
            return 0.0
        sizes = (len(self.moe_layers), self.config.num_experts, self.config.num_experts_per_tok)
        return uniform_hit_rate(self.slots, *sizes)

    def prefill_parts(self, tokens: int) -> dict[str, int]:
        """Bytes that a first pass of `tokens` tokens reads, by purpose."""
        check_count("tokens", tokens, "tokens", 1)
        experts = self.config.num_experts
        selected = experts * (1 - (1 - self.config.num_experts_per_tok / experts) ** tokens) if self.experts else 0
        return self.named(tokens, sum(self.dense), round(selected * len(self.moe_layers) * self.slot), self.head)

    def token_parts(self) -> dict[str, int]:
        """Bytes that a decoded token reads once the memory is full, by purpose."""
        selected = len(self.moe_layers) * self.config.num_experts_per_tok * self.slot
        others = self.dense[self.resident :]  # they stay in memory if each has a shared buffer to itself
        return self.named(1, sum(others) if len(others) > self.shared else 0, round(selected * (1 - self.hit_rate)), 0)

    def named(self, tokens: int, dense: int, experts: int, head: int) -> dict[str, int]:
        width = WIDTHS[self.config.dtype]
        rows = tokens * self.config.hidden_size * width if self.layers.start == 0 else 0
        return {"embedding rows": rows, "attention and dense layers": dense, "experts": experts, "lm_head": head}

    def prefill_bytes(self, tokens: int) -> int:
        return sum(self.prefill_parts(tokens).values())

    def token_bytes(self) -> int:
        return sum(self.token_parts().values())

    def prefill_seconds(self, tokens: int, bytes_per_second: float) -> float:
        """Time of the reads alone; computation that does not overlap with them is not included."""
        return self.prefill_bytes(tokens) / checked_speed(bytes_per_second)

    def token_seconds(self, bytes_per_second: float) -> float:
        return self.token_bytes() / checked_speed(bytes_per_second)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        keys = (
            "ram", "format", "context", "routing_only", "small", "head", "cache", "work", "slot", "slots", "experts",
            "shared", "resident", "weights", "total", "least", "hit_rate",
        )  # fmt: skip
        rest = {"layers": [self.layers.start, self.layers.stop], "token_bytes": self.token_bytes()}
        return {key: getattr(self, key) for key in keys} | rest


def uniform_hit_rate(slots: int, layers: int, experts: int, wanted: int) -> float:
    """The hit rate of a cache of `slots` slots if each token selects `wanted` of `experts` uniformly in each layer."""
    if slots >= layers * experts:
        return 1.0
    if slots < layers * wanted:
        return 0.0
    share = wanted / experts
    tokens = int(log(1 - slots / (layers * experts)) / log(1 - share) + 1e-9)  # whose experts fit together
    return 1 - (1 - share) ** tokens


def budget(
    config: ModelConfig,
    format: Format | None = None,
    ram: int | str | None = None,
    layers: range | None = None,
    context: int | None = None,
    dtype: str | None = None,
    routing_only: bool = False,
) -> Budget:
    """Divide `ram` ("12GB", or bytes; None: the minimum) for a streamed model of `config`.

    format: of the files, by default that of the config. context: tokens that the KV cache and the longest single pass
    have room for; by default 4,096, or as few as `ram` requires, down to 64. dtype: name of the compute dtype, by
    default that of the config. routing_only: never read the experts of the last layer and lm_head; without effect if
    the last layer has no experts.
    Raises PlanTooBig, with the minimum; BadArgument.
    """
    size = parse_bytes(ram, "ram") if isinstance(ram, str) else ram
    if size is not None:
        check_count("ram", size, "bytes", 1)
    tokens = min(CONTEXT, context_length(config)) if context is None else context
    check_count("context", tokens, "tokens", 1)
    layers = check_layers(config, layers)
    least = tokens if context is not None else min(LEAST_CONTEXT, tokens)
    while True:
        plan = requirements(config, format or format_of(config), layers, tokens, dtype or config.dtype, routing_only)
        if size is None or plan.least <= size:
            return distribute(plan, plan.least if size is None else size)
        if tokens == least:
            raise too_little(plan, size)
        tokens = max(least, tokens // 2)


def requirements(
    config: ModelConfig, format: Format, layers: range, context: int, dtype: str, routing_only: bool
) -> Budget:
    """The sizes of all items, before any memory is distributed: ram, shared, resident and slots are 0."""
    if dtype not in WIDTHS:
        raise BadArgument(f"dtype is {dtype!r}, expected one of {', '.join(WIDTHS)}.")
    routing_only = routing_only and config.is_moe(layers[-1])
    width, stored, hidden = WIDTHS[dtype], WIDTHS[config.dtype], config.hidden_size
    last = layers.stop == config.num_hidden_layers and not routing_only
    moe = [layer for layer in layers if config.is_moe(layer)]
    values = len(layers) * (2 * hidden + 2 * config.head_dim) + len(moe) * config.num_experts * hidden
    expert = feed_forward_bytes(format, config.moe_intermediate_size, hidden, stored) if moe else 0
    return Budget(
        ram=0, config=config, format=format.name, layers=layers, context=context, width=width,
        routing_only=routing_only,
        small=(values + last * hidden) * width,
        head=last * aligned(config.vocab_size * hidden * width),
        cache=2 * len(layers) * config.num_key_value_heads * config.head_dim * context * width,
        work=pass_bytes(config, format, context, context, width) if layers else 0,
        dense=tuple(dense_bytes(config, format, layer, stored) for layer in layers),
        slot=expert,
        experts=(len(moe) - (1 if routing_only else 0)) * config.num_experts,
        shared=0, resident=0, slots=0,
    )  # fmt: skip


def distribute(plan: Budget, ram: int) -> Budget:
    """Spend the part of `ram` above the minimum on dense parts and slots, in the order of the module docstring."""
    left = ram - plan.needed
    shared, resident = 0, len(plan.dense)
    if sum(plan.dense) > left:
        largest = max(plan.dense)
        shared = 2 if 2 * largest <= left and len(plan.dense) > 1 else 1
        left -= shared * largest
        resident = 0
        while plan.dense[resident] <= left:
            left -= plan.dense[resident]
            resident += 1
    else:
        left -= sum(plan.dense)
    slots = min(1 + left // plan.slot, plan.experts) if plan.experts else 0
    return Budget(**(vars(plan) | {"ram": ram, "shared": shared, "resident": resident, "slots": slots}))


def too_little(plan: Budget, ram: int) -> PlanTooBig:
    """The error for too little RAM, with the sizes of all items and the minimum."""
    needs = {"norms and routers": plan.small, "lm_head": plan.head, "KV cache": plan.cache, "work space": plan.work}
    needs |= {"one layer's attention": max(plan.dense), "one expert": plan.slot if plan.experts else 0}
    words = ", ".join(f"{name} {units(size)}" for name, size in needs.items() if size)
    return PlanTooBig(
        f"ram is {units(ram)}, but {units(plan.least)} ({plan.least:,} bytes) is the minimum for layers "
        f"{plan.layers.start}:{plan.layers.stop} and a context of {plan.context:,} tokens: {words}. Use more ram, a "
        "smaller context, or fewer layers."
    )
