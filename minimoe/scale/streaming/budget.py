"""What a streamed model keeps in memory under a budget of RAM, and what it has to read: arithmetic, nothing is opened.

The budget covers everything that the model allocates; Python and torch themselves, some 300 MB, come on top.

    small   all norms and routers, in the model's dtype: they stay
    head    lm_head, in the model's dtype: every token needs it, and a buffer to read it into would be as large
    cache   keys and values of `context` tokens
    work    the forward pass of `context` tokens at once, last logits only (memory.py), and what unpacking takes
    dense   a layer's attention projections, or with them its feed-forward if it has no experts, as stored
    slots   one expert each, as stored

Weights are held as they are stored, each tensor at a multiple of 64 bytes. The least that works: small, head, cache,
work, one place for the largest dense part, one slot. What there is beyond goes, in this order, to a second place for
dense parts (one is read while the layer in the other computes), to places of their own for the dense parts of the first
layers, and to slots. Dense parts come first because every token needs them: a byte that stays saves one byte a token,
whereas an expert that stays is wanted again with probability 8/128.

Expected reads suppose that routers choose uniformly. Then T tokens need E (1 - (1 - K/E)^T) of a layer's E experts. A
cache that has room for what the last T tokens needed, in all layers, finds the share 1 - (1 - K/E)^T of what the next
one asks for. With less room than for one token it finds nothing, as each layer throws out what the others will want.
Real routers repeat themselves: measure.
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

CONTEXT = 4096  # tokens, where nobody says how many
LEAST_CONTEXT = 64  # a default context shrinks to this before too little RAM is refused


@dataclass(frozen=True)
class Budget:
    """How `ram` bytes are divided. Sizes in bytes; `dense` are those of the layers `layers`, in their order."""

    ram: int
    config: ModelConfig
    format: str
    layers: range
    context: int
    width: int  # bytes of a value that is computed with
    routing_only: bool
    small: int
    head: int
    cache: int
    work: int
    dense: tuple[int, ...]
    slot: int
    experts: int  # that there are to read, of all layers
    shared: int  # places in which dense parts take turns
    resident: int  # layers, from the first one on, whose dense part has a place of its own
    slots: int

    @property
    def places(self) -> tuple[int, ...]:
        """The sizes of all places for dense parts, the shared ones first."""
        return (max(self.dense),) * self.shared + self.dense[: self.resident]

    @property
    def weights(self) -> int:
        """What weights occupy, whatever happens."""
        return self.small + self.head + sum(self.places) + self.slots * self.slot

    @property
    def total(self) -> int:
        return self.weights + self.cache + self.work

    @property
    def least(self) -> int:
        """The smallest `ram` for this context."""
        return self.needed + max(self.dense)

    @property
    def needed(self) -> int:
        """What every budget holds: all but dense parts, and one slot if there are experts to read."""
        return self.small + self.head + self.cache + self.work + (self.slot if self.experts else 0)

    # ---------------------------------------------------------------- what is read

    @property
    def moe_layers(self) -> tuple[int, ...]:
        """Layers whose experts are read."""
        skipped = self.layers[-1] if self.routing_only else None
        return tuple(layer for layer in self.layers if self.config.is_moe(layer) and layer != skipped)

    @property
    def hit_rate(self) -> float:
        """The share of experts that a decoded token finds in the cache, were routing uniform."""
        if not self.experts:
            return 0.0
        sizes = (len(self.moe_layers), self.config.num_experts, self.config.num_experts_per_tok)
        return uniform_hit_rate(self.slots, *sizes)

    def prefill_parts(self, tokens: int) -> dict[str, int]:
        """Bytes that a first pass of `tokens` tokens reads, by what they are for."""
        check_count("tokens", tokens, "tokens", 1)
        experts = self.config.num_experts
        chosen = experts * (1 - (1 - self.config.num_experts_per_tok / experts) ** tokens) if self.experts else 0
        return self.named(tokens, sum(self.dense), round(chosen * len(self.moe_layers) * self.slot), self.head)

    def token_parts(self) -> dict[str, int]:
        """Bytes that a decoded token reads once the memory is full."""
        wanted = len(self.moe_layers) * self.config.num_experts_per_tok * self.slot
        turns = self.dense[self.resident :]  # they stay, if there are no more of them than places to take turns in
        return self.named(1, sum(turns) if len(turns) > self.shared else 0, round(wanted * (1 - self.hit_rate)), 0)

    def named(self, tokens: int, dense: int, experts: int, head: int) -> dict[str, int]:
        width = WIDTHS[self.config.dtype]
        rows = tokens * self.config.hidden_size * width if self.layers.start == 0 else 0
        return {"embedding rows": rows, "attention and dense layers": dense, "experts": experts, "lm_head": head}

    def prefill_bytes(self, tokens: int) -> int:
        return sum(self.prefill_parts(tokens).values())

    def token_bytes(self) -> int:
        return sum(self.token_parts().values())

    def prefill_seconds(self, tokens: int, bytes_per_second: float) -> float:
        """Reading alone; what is computed comes on top where it does not fit between two reads."""
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
    """What a cache of `slots` slots would find if each token chose `wanted` of `experts` uniformly in each layer."""
    if slots >= layers * experts:
        return 1.0
    if slots < layers * wanted:
        return 0.0
    share = wanted / experts
    tokens = int(log(1 - slots / (layers * experts)) / log(1 - share) + 1e-9)  # whose experts have room together
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
    """Divide `ram` ("12GB", or bytes; None: the least that works) for a streamed model of `config`.

    format: how the files are packed, by default what the config says. context: tokens that the KV cache and the longest
    single pass have room for; by default 4,096, or as many fewer as `ram` demands, down to 64. dtype: the name of the
    one to compute in, by default the config's. routing_only: the experts of the last layer are never read, nor is the
    head; says nothing about a last layer that has no experts.
    Raises PlanTooBig, which says what would do; BadArgument.
    """
    size = parse_bytes(ram, "ram") if isinstance(ram, str) else ram
    if size is not None:
        check_count("ram", size, "bytes", 1)
    wanted = min(CONTEXT, context_length(config)) if context is None else context
    check_count("context", wanted, "tokens", 1)
    layers = check_layers(config, layers)
    least = wanted if context is not None else min(LEAST_CONTEXT, wanted)
    while True:
        plan = demands(config, format or format_of(config), layers, wanted, dtype or config.dtype, routing_only)
        if size is None or plan.least <= size:
            return share_out(plan, plan.least if size is None else size)
        if wanted == least:
            raise too_little(plan, size)
        wanted = max(least, wanted // 2)


def demands(
    config: ModelConfig, format: Format, layers: range, context: int, dtype: str, routing_only: bool
) -> Budget:
    """What has to be there, before anything is shared out."""
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


def share_out(plan: Budget, ram: int) -> Budget:
    """Give what `ram` has beyond the least to dense parts and slots, in the order that the file's beginning says."""
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
    """The refusal, with what needs the memory and the least that works."""
    needs = {"norms and routers": plan.small, "lm_head": plan.head, "KV cache": plan.cache, "work space": plan.work}
    needs |= {"one layer's attention": max(plan.dense), "one expert": plan.slot if plan.experts else 0}
    words = ", ".join(f"{name} {units(size)}" for name, size in needs.items() if size)
    return PlanTooBig(
        f"ram is {units(ram)}, but {units(plan.least)} ({plan.least:,} bytes) is the least that works for layers "
        f"{plan.layers.start}:{plan.layers.stop} and a context of {plan.context:,} tokens: {words}. Give more ram, a "
        "smaller context, or fewer layers."
    )
