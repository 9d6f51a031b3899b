"""Hash routing: the token's id alone decides, by a fixed table (Hash Layers, arXiv:2106.04426; DeepSeek V4)."""

import torch
from torch import Tensor

from minimoe.model.router import Routing
from minimoe.zoo.router import scores_of, weigh
from minimoe.zoo.rule import Rule


def hash_route(logits: Tensor, token_ids: Tensor, table: Tensor, rule: Rule) -> Routing:
    """Look up the experts of each token, and weigh them by their scores.

    logits: (token, expert). token_ids: (token) int64. table: (vocab, slot) int64. DeepSeek V4 routes its first three
    layers so, with weights from a learned gate. The original paper has one expert a token and no weights.
    """
    experts = table[token_ids]
    return Routing(logits, experts, weigh(scores_of(logits, rule).gather(-1, experts), rule))


def balanced_table(vocab: int, experts: int, top_k: int, seed: int = 0) -> Tensor:
    """A random table (vocab, slot) in which all experts have equally many entries, up to one; none twice in a row.

    Equally many token ids are not equally many tokens: frequent ids keep their experts busy.
    """
    draw = torch.Generator().manual_seed(seed)
    shuffled = torch.randperm(experts, generator=draw)
    first = torch.randperm(vocab, generator=draw)
    return shuffled[(first[:, None] * top_k + torch.arange(top_k)) % experts]
