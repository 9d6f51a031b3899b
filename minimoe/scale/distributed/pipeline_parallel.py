"""The layer split: each rank holds a contiguous range of whole layers and sends the hidden state to the next rank.

Nothing has to be divisible, so it works with 3 or 7 ranks and with different GPUs; one rank works at a time. The model
keeps all layer numbers, but the layers of other ranks are placeholders without weights: they return their input, and
the two next to this rank's range also receive and send. So `Transformer.forward` runs unchanged on every rank, and
rejects bad input before anything is sent.

All ranks hold the weights of all routers, but only the owner of a layer runs its router. If routing is recorded, the
owner sends its decisions to all ranks after each pass.
"""

from collections.abc import Callable

import torch
import torch.distributed as dist
from torch import Tensor, nn

from minimoe.model.cache import KVCache
from minimoe.model.config import ModelConfig
from minimoe.model.router import Routing
from minimoe.model.transformer import Transformer
from minimoe.routing.trace.hooks import on_routers, router, router_layers
from minimoe.scale.distributed.shared_draw import draw_of_first
from minimoe.scale.planner.sharding import layers_of


class RemoteLayer(nn.Module):
    """Placeholder for a layer on another rank. Next to this rank's layers it receives or sends the hidden state."""

    def __init__(self, config: ModelConfig, number: int, receive_from: int | None, send_to: int | None):
        super().__init__()
        self.receive_from, self.send_to = receive_from, send_to
        if config.is_moe(number):
            self.mlp = nn.Module()
            self.mlp.gate = RemoteRouter(config)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, mask: Tensor | None, cache: KVCache | None = None) -> Tensor:
        """x: (batch, position, hidden). Returns x, or before the first own layer the state from the previous rank."""
        if self.receive_from is not None:
            x = torch.empty_like(x)
            dist.recv(x, self.receive_from)
        if self.send_to is not None:
            dist.send(x.contiguous(), self.send_to)
        return x


class RemoteRouter(nn.Module):
    """The router of a layer on another rank. It returns the owner's routing, so that hooks on it receive that routing.
    Its weight identifies the model of a trace.
    """

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(config.num_experts, config.hidden_size))

    def forward(self, routing: Routing) -> Routing:
        return routing


class RemoteEmbedding(nn.Module):
    """Placeholder for the embedding: a hidden state of the right shape, whose values are never used."""

    def __init__(self, hidden: int, dtype: Callable[[], torch.dtype]):
        super().__init__()
        self.hidden, self.dtype = hidden, dtype

    def forward(self, token_ids: Tensor) -> Tensor:
        return torch.zeros(*token_ids.shape, self.hidden, dtype=self.dtype(), device=token_ids.device)


class SharedHead(nn.Linear):
    """lm_head on the last rank, which broadcasts the logits."""

    def forward(self, x: Tensor) -> Tensor:
        logits = super().forward(x)
        dist.broadcast(logits, src=dist.get_rank())
        return logits


class RemoteHead(nn.Module):
    """Placeholder for lm_head: receives the logits from the last rank."""

    def __init__(self, vocab: int, last: int):
        super().__init__()
        self.vocab, self.last = vocab, last

    def forward(self, x: Tensor) -> Tensor:
        """(..., hidden) -> (..., vocab)."""
        logits = x.new_empty(*x.shape[:-1], self.vocab)
        dist.broadcast(logits, src=self.last)
        return logits


class LayerSplit(Transformer):
    """The layers of a model on `rank` of `world`, and placeholders for the rest. Every rank must make each call, and
    gets the same logits. Build it under `torch.device("meta")`; load_shard.py fills it. Running it needs a process
    group.
    """

    def __init__(self, config: ModelConfig, rank: int, world: int):
        super().__init__(config)
        self.rank, self.world, self.mine = rank, world, layers_of(config, world, rank)
        last = world - 1
        for number in self.layer_range:
            if number not in self.mine:
                before = rank - 1 if number == self.mine.start - 1 else None
                after = rank + 1 if number == self.mine.stop else None
                self.layers.add_module(str(number), RemoteLayer(config, number, before, after))
        self.lm_head = SharedHead(config.hidden_size, config.vocab_size, bias=False)
        if rank == 0 == last and config.tie_word_embeddings:
            self.lm_head.weight = self.embed_tokens.weight
        if rank > 0:
            self.embed_tokens = RemoteEmbedding(config.hidden_size, lambda: self.dtype)
        if rank < last:
            self.add_module("norm", nn.Identity())
            self.add_module("lm_head", RemoteHead(config.vocab_size, last))
        self.moe_layers = router_layers(self)
        self.decided: dict[int, Routing] = {}

    def forward(
        self,
        token_ids: Tensor | None = None,
        cache: KVCache | None = None,
        hidden: Tensor | None = None,
        last_only: bool = False,
    ) -> Tensor:
        """As Transformer.forward; the KV cache of a rank holds only its own layers."""
        own = [number for number in self.moe_layers if number in self.mine]
        with on_routers(self, self.keep, own, first=True):
            logits = super().forward(token_ids, cache, hidden, last_only)
        self.share_routing()
        return logits

    def new_cache(self, batch: int = 1, capacity: int = 4096) -> KVCache:
        """An empty KV cache for this rank's layers."""
        return KVCache(self.config, self.mine, batch, capacity, self.dtype, self.device)

    def agree_on(self, drawn: Tensor) -> int:
        """The draw of rank 0."""
        return draw_of_first(drawn)

    def keep(self, number: int, gate: nn.Module, routing: Routing) -> None:
        """Store the routing of one of this rank's layers for the current pass."""
        self.decided[number] = routing

    def share_routing(self) -> None:
        """Broadcast the routing of this pass to all ranks, if a hook on any router of any rank needs it."""
        is_needed = torch.tensor([self.is_watched()], dtype=torch.int32, device=self.device)
        dist.all_reduce(is_needed, op=dist.ReduceOp.MAX)
        decided, self.decided = self.decided, {}
        if not int(is_needed):
            return
        for owner in range(self.world):
            owned = layers_of(self.config, self.world, owner)
            numbers = [number for number in self.moe_layers if number in owned]
            if not numbers:
                continue
            routings = [decided[number] for number in numbers] if owner == self.rank else None
            for number, routing in zip(numbers, broadcast_routing(routings, owner, len(numbers), self), strict=True):
                if owner != self.rank:
                    router(self, number)(routing)

    def is_watched(self) -> bool:
        """Whether a router has a hook; this class's own are there during a pass only."""
        return any(router(self, number)._forward_hooks for number in self.moe_layers)


def broadcast_routing(routings: list[Routing] | None, owner: int, layers: int, model: LayerSplit) -> list[Routing]:
    """Broadcast the routings of `layers` layers from their owner. `routings`: those to send, None on other ranks."""
    sizes = torch.zeros(1, dtype=torch.int64, device=model.device)
    if routings is not None:
        sizes += len(routings[0].logits)
    dist.broadcast(sizes, src=owner)
    tokens, slots, experts = int(sizes), model.config.num_experts_per_tok, model.config.num_experts
    if routings is not None:
        parts = [torch.stack(field) for field in zip(*routings, strict=True)]
    else:
        parts = [
            torch.empty(layers, tokens, experts, dtype=model.dtype, device=model.device),
            torch.empty(layers, tokens, slots, dtype=torch.int64, device=model.device),
            torch.empty(layers, tokens, slots, dtype=model.dtype, device=model.device),
        ]
    for part in parts:
        dist.broadcast(part.contiguous() if routings is not None else part, src=owner)
    return [Routing(*fields) for fields in zip(*parts, strict=True)]
