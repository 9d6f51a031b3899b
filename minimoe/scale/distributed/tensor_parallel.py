"""The tensor split: every rank works on every layer, with its own heads, its own experts, its own vocabulary rows.

All ranks run the same code on the same tokens. A sharded module computes a partial sum on each rank, and an all-reduce
adds these up: in each layer one after attention and one after the feed-forward. Replicated modules (norms, routers)
compute the same values on every rank as long as their inputs are bit-identical. So the input of a router is always the
result of an all-reduce: with a partial sum it would select other experts.

sharding.py assigns heads, experts and rows to ranks. Source of the scheme: Megatron-LM (Shoeybi et al. 2019), with
whole experts on a rank; every rank sees every token, so no token is sent anywhere.
"""

from dataclasses import replace
from typing import Any

import torch
import torch.distributed as dist
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from minimoe.model.attention import Attention
from minimoe.model.cache import KVCache
from minimoe.model.config import ModelConfig
from minimoe.model.experts import ExpertBank, run_experts
from minimoe.model.layer import FeedForward
from minimoe.model.router import Routing
from minimoe.model.transformer import Transformer
from minimoe.scale.distributed.shared_draw import draw_of_first
from minimoe.scale.planner.sharding import Cut, cuts, share


def sum_over_ranks(part: Tensor) -> Tensor:
    """The sum of `part` over all ranks, bit-identical on each of them; `part` is overwritten."""
    dist.all_reduce(part)
    return part


def run_local_experts(x: Tensor, routing: Routing, bank: ExpertBank, first: int) -> Tensor:
    """The contribution of experts first .. first + len(bank) - 1 to the output of `run_experts`. The contributions of
    all ranks sum to that output.

    x: (token, hidden) -> (token, hidden), zero for tokens without a local expert. `routing` numbers all experts, `bank`
    holds only the local ones. Each assignment to a local expert becomes a separate token with one slot, so that all
    engines work unchanged.
    """
    if len(bank.gate_proj) == routing.logits.shape[1]:  # all experts are local
        return run_experts(x, routing, bank)
    here = (routing.experts >= first) & (routing.experts < first + len(bank.gate_proj))
    token = here.nonzero()[:, 0]
    if len(token) == 0:
        return torch.zeros_like(x)
    experts = rearrange(routing.experts[here] - first, "token -> token 1")
    weights = rearrange(routing.weights[here], "token -> token 1")
    outputs = run_experts(x[token], Routing(routing.logits[token], experts, weights), bank)
    # A token's outputs are adjacent, in the order of its slots, and are summed in that order; with index_add_ the
    # threads of a GPU would add them in any order. unsafe: skips a check of the lengths, which would wait for the GPU.
    return torch.segment_reduce(outputs, "sum", lengths=here.sum(dim=1), unsafe=True)


class LocalExperts(ExpertBank):
    """The experts of this rank; the expert at index 0 is number `first`."""

    def __init__(self, local: ModelConfig, first: int):
        super().__init__(local)
        self.first = first

    def forward(self, x: Tensor, routing: Routing) -> Tensor:
        return sum_over_ranks(run_local_experts(x, routing, self, self.first))


class LocalAttention(Attention):
    """Attention with this rank's heads. o_proj has only the columns of these heads, so its output is a partial sum."""

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, mask: Tensor | None, cache: KVCache | None = None) -> Tensor:
        return sum_over_ranks(super().forward(x, cos, sin, mask, cache))


class LocalFeedForward(FeedForward):
    """A dense feed-forward with this rank's slice of the inner width."""

    def forward(self, x: Tensor) -> Tensor:
        return sum_over_ranks(super().forward(x))


class LocalEmbedding(nn.Embedding):
    """This rank's rows of the embedding. The rank that holds a token's row looks it up, the others contribute zeros."""

    def __init__(self, rows: range, hidden: int):
        super().__init__(len(rows), hidden, _weight=torch.empty(len(rows), hidden))  # nothing to initialise
        self.rows = rows

    def forward(self, token_ids: Tensor) -> Tensor:
        """(batch, position) -> (batch, position, hidden)."""
        here = (token_ids >= self.rows.start) & (token_ids < self.rows.stop)
        embedded = super().forward((token_ids - self.rows.start).where(here, 0))
        return sum_over_ranks(embedded.where(rearrange(here, "batch position -> batch position 1"), 0))


class LocalHead(nn.Linear):
    """This rank's rows of lm_head; the logits of all ranks are concatenated on every rank."""

    def __init__(self, hidden: int, vocab: int, rank: int, world: int):
        self.rows = [len(share(vocab, world, other)) for other in range(world)]
        super().__init__(hidden, self.rows[rank], bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(..., hidden) -> (..., vocab)."""
        local = super().forward(x)
        local = F.pad(local, (0, max(self.rows) - local.shape[-1]))  # all_gather needs equal shapes
        gathered = [torch.empty_like(local) for _ in self.rows]
        dist.all_gather(gathered, local)
        return torch.cat([logits[..., :rows] for logits, rows in zip(gathered, self.rows, strict=True)], dim=-1)


class TensorSplit(Transformer):
    """The part of a model on `rank` of `world`, with the module tree and the methods of the whole model. Every rank
    must make each call, and gets the same logits.

    `config` is the whole model's; `local` has this rank's numbers of heads and experts and its inner width. Build it
    under `torch.device("meta")`; load_shard.py fills it. Running it needs a process group of `world`.
    """

    def __init__(self, config: ModelConfig, rank: int, world: int, layers: range | None = None):
        super().__init__(config, layers)
        table = {cut.kind.name: cut for cut in cuts(config, world, rank)}
        self.local = local_config(config, table)
        for number in self.layer_range:
            layer = self.layers[number]
            layer.self_attn = LocalAttention(self.local, number)
            if config.is_moe(number):
                layer.mlp.experts = LocalExperts(self.local, table["mlp.experts.gate_proj"].experts.start)
            else:
                layer.mlp = LocalFeedForward(self.local)
        if self.is_first:
            rows = table["embed_tokens"]
            self.embed_tokens = LocalEmbedding(range(rows.start, rows.stop), config.hidden_size)
        if self.is_last:
            self.lm_head = LocalHead(config.hidden_size, config.vocab_size, rank, world)
            if config.tie_word_embeddings and self.is_first:
                self.lm_head.weight = self.embed_tokens.weight

    def new_cache(self, batch: int = 1, capacity: int = 4096) -> KVCache:
        """An empty KV cache for this rank's key/value heads."""
        return KVCache(self.local, self.layer_range, batch, capacity, self.dtype, self.device)

    def agree_on(self, drawn: Tensor) -> int:
        """The draw of rank 0."""
        return draw_of_first(drawn)


def local_config(config: ModelConfig, table: dict[str, Cut]) -> ModelConfig:
    """`config` with the counts of one rank, from its rows of the sharding table."""
    counts: dict[str, Any] = {
        "num_attention_heads": table["self_attn.q_proj"].shape[0] // config.head_dim,
        "num_key_value_heads": table["self_attn.k_proj"].shape[0] // config.head_dim,
    }
    if "mlp.experts.gate_proj" in table:
        counts["num_experts"] = len(table["mlp.experts.gate_proj"].experts)
    if "mlp.gate_proj" in table:
        counts["intermediate_size"] = table["mlp.gate_proj"].shape[0]
    return replace(config, **counts)
