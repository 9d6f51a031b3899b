"""The tensor split: every rank works on every layer, with its own heads, its own experts, its own vocabulary rows.

All ranks run the same code on the same tokens. Where a piece of the model is cut, a rank's answer is a part of a sum,
and one all-reduce puts the parts together: one after attention, one after the feed-forward, in each layer. What is not
cut (norms, routers) computes the same on every rank, as long as its input is the same to the last bit. That is why a
router only ever sees what came out of an all-reduce: from a part of the sum it would choose other experts.

Which heads, experts and rows are whose stands in cuts.py. Source of the scheme: Megatron-LM (Shoeybi et al. 2019), with
whole experts on a rank; as every rank sees every token, no token has to travel.
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
    """The sum of every rank's `part`, the same bits on all of them; `part` is overwritten."""
    dist.all_reduce(part)
    return part


def run_local_experts(x: Tensor, routing: Routing, bank: ExpertBank, first: int) -> Tensor:
    """The share of experts first .. first + len(bank) - 1 in what `run_experts` answers; the shares of all ranks sum
    to it.

    x: (token, hidden) -> (token, hidden), zero where none of a token's experts is here. `routing` counts all experts,
    `bank` holds these alone. Each choice that falls here becomes a token of its own with one slot, so that all engines
    work unchanged.
    """
    if len(bank.gate_proj) == routing.logits.shape[1]:  # a single rank has them all
        return run_experts(x, routing, bank)
    here = (routing.experts >= first) & (routing.experts < first + len(bank.gate_proj))
    token = here.nonzero()[:, 0]
    if len(token) == 0:
        return torch.zeros_like(x)
    experts = rearrange(routing.experts[here] - first, "choice -> choice 1")
    weights = rearrange(routing.weights[here], "choice -> choice 1")
    answers = run_experts(x[token], Routing(routing.logits[token], experts, weights), bank)
    # A token's answers lie together, in the order of its slots, and are added up in that order: index_add_ would let
    # the threads of a GPU add in any order. unsafe: the lengths are right, and checking them would wait for the GPU.
    return torch.segment_reduce(answers, "sum", lengths=here.sum(dim=1), unsafe=True)


class LocalExperts(ExpertBank):
    """The experts of this rank; row 0 is expert `first`."""

    def __init__(self, local: ModelConfig, first: int):
        super().__init__(local)
        self.first = first

    def forward(self, x: Tensor, routing: Routing) -> Tensor:
        return sum_over_ranks(run_local_experts(x, routing, self, self.first))


class LocalAttention(Attention):
    """Attention with this rank's heads. Its o_proj has the columns of these heads, so it answers with a part of the
    sum.
    """

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, mask: Tensor | None, cache: KVCache | None = None) -> Tensor:
        return sum_over_ranks(super().forward(x, cos, sin, mask, cache))


class LocalFeedForward(FeedForward):
    """A dense feed-forward with this rank's slice of the inner width."""

    def forward(self, x: Tensor) -> Tensor:
        return sum_over_ranks(super().forward(x))


class LocalEmbedding(nn.Embedding):
    """This rank's rows of the embedding: a token is looked up by the one rank that has it, the others add zeros."""

    def __init__(self, rows: range, hidden: int):
        super().__init__(len(rows), hidden, _weight=torch.empty(len(rows), hidden))  # nothing to initialise
        self.rows = rows

    def forward(self, token_ids: Tensor) -> Tensor:
        """(batch, position) -> (batch, position, hidden)."""
        here = (token_ids >= self.rows.start) & (token_ids < self.rows.stop)
        found = super().forward((token_ids - self.rows.start).where(here, 0))
        return sum_over_ranks(found.where(rearrange(here, "batch position -> batch position 1"), 0))


class LocalHead(nn.Linear):
    """This rank's rows of lm_head; the logits of all ranks are put side by side, on every rank."""

    def __init__(self, hidden: int, vocab: int, rank: int, world: int):
        self.rows = [len(share(vocab, world, each)) for each in range(world)]
        super().__init__(hidden, self.rows[rank], bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(..., hidden) -> (..., vocab)."""
        mine = super().forward(x)
        mine = F.pad(mine, (0, max(self.rows) - mine.shape[-1]))  # a collective wants equal shapes
        everyone = [torch.empty_like(mine) for _ in self.rows]
        dist.all_gather(everyone, mine)
        return torch.cat([logits[..., :rows] for logits, rows in zip(everyone, self.rows, strict=True)], dim=-1)


class TensorSplit(Transformer):
    """What `rank` of `world` holds of a model. Same tree of modules, same calls as the whole; every rank makes each
    call, and gets the same logits.

    `config` is the whole model's, `local` one with this rank's heads, experts and inner width. Build it under
    `torch.device("meta")`; rank_load.py fills it. Running it needs a process group of `world`.
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
    """`config` with the counts of one rank, read off its cuts."""
    counts: dict[str, Any] = {
        "num_attention_heads": table["self_attn.q_proj"].shape[0] // config.head_dim,
        "num_key_value_heads": table["self_attn.k_proj"].shape[0] // config.head_dim,
    }
    if "mlp.experts.gate_proj" in table:
        counts["num_experts"] = len(table["mlp.experts.gate_proj"].experts)
    if "mlp.gate_proj" in table:
        counts["intermediate_size"] = table["mlp.gate_proj"].shape[0]
    return replace(config, **counts)
