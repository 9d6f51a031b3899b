"""Hash routing: the token's id alone decides, by a fixed table (Hash Layers, arXiv:2106.04426; DeepSeek V4)."""

import torch
from einops import rearrange
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
    """A random table (vocab, slot) int64 in which each expert has equally many token ids, and none twice for an id.

    Each permutation of the experts is dealt to the next `experts // top_k` ids. (If top_k does not divide the number of
    experts, the rest of a permutation is left out, and the numbers differ a little.) Equally many ids are not equally
    many tokens: the experts of a frequent id are chosen often.
    """
    ids = experts // top_k
    permutations = torch.rand(-(-vocab // ids), experts, generator=torch.Generator().manual_seed(seed)).argsort(dim=-1)
    dealt = permutations[:, : ids * top_k]
    return rearrange(dealt, "batch (token slot) -> (batch token) slot", slot=top_k)[:vocab]
