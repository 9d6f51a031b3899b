"""Dual chunk attention: a trained model reads a longer text without ever using a distance that it was not trained on.

The text is divided into chunks, and positions are counted within a chunk. A key is rotated once, by its place in its
chunk. A query is rotated three times: for keys of its own chunk, of the chunk before, and of all older ones. The scores
are then chosen pair by pair, and one softmax runs over all keys. No weight changes.

An et al. 2024, "Training-Free Long-Context Scaling of Large Language Models" (arXiv:2402.17463); Qwen2.5-1M and the
2507 models of Qwen3 use it beyond their native context.
"""

from dataclasses import dataclass

import torch
from einops import einsum, rearrange
from torch import Tensor

from minimoe.errors import BadArgument
from minimoe.model.config import ModelConfig
from minimoe.model.rope import apply_rope, rotary_tables_at


@dataclass(frozen=True)
class Chunks:
    """How a text is divided. chunk_size: the largest distance that is used, at most the trained length. local_size:
    pairs that are at most this far apart keep their true distance, also across the border of two chunks.
    """

    chunk_size: int
    local_size: int

    def __post_init__(self) -> None:
        if self.chunk_size < 1 or not 0 <= 2 * self.local_size <= self.chunk_size:
            raise BadArgument(
                f"local_size is {self.local_size}, expected 0 to half of chunk_size, which is {self.chunk_size}: near "
                "tokens must be in the same chunk or in neighbouring ones."
            )

    @property
    def stride(self) -> int:
        """Tokens of a chunk: the two sizes differ because a query reaches `local_size` into the chunk before."""
        return self.chunk_size - self.local_size

    def key_positions(self, keys: Tensor) -> Tensor:
        """The position (key) to which each key is rotated: its place in its chunk."""
        return keys % self.stride

    def query_positions(self, queries: Tensor) -> Tensor:
        """The positions (case, query) to which each query is rotated: for its own chunk, the one before, older ones."""
        place = queries % self.stride
        before = (place + self.stride).clamp(max=self.chunk_size)
        older = torch.full_like(place, min(2 * self.stride - 1, self.chunk_size))
        return torch.stack((place, before, older))

    def case(self, queries: Tensor, keys: Tensor) -> Tensor:
        """Which of the three applies to each pair, (query, key): 0, 1 or 2. Keys after their query count as case 0."""
        chunks_apart = rearrange(queries // self.stride, "query -> query 1") - keys // self.stride
        return chunks_apart.clamp(0, 2)

    def distances(self, queries: Tensor, keys: Tensor) -> Tensor:
        """The distance (query, key) that is used for each pair: what the three rotations amount to."""
        of_case = rearrange(self.query_positions(queries), "case query -> case query 1") - self.key_positions(keys)
        return by_case(of_case, self.case(queries, keys))


def by_case(values: Tensor, case: Tensor) -> Tensor:
    """values (case, ..., query, key): of each pair, the one of its case (query, key)."""
    own, before, older = values
    return torch.where(case == 0, own, torch.where(case == 1, before, older))


def dual_chunk_scores(config: ModelConfig, q: Tensor, k: Tensor, chunks: Chunks) -> Tensor:
    """The scores of attention, (batch, head, query, key), not yet scaled or masked.

    q, k: (batch, head, query or key, head_dim) after their norms and **not rotated**; the queries are the last of the
    keys. The rotation is that of the config.
    """
    keys = torch.arange(k.shape[2], device=k.device)
    queries = keys[len(keys) - q.shape[2] :]

    def rotated(x: Tensor, positions: Tensor) -> Tensor:
        return apply_rope(x, *rotary_tables_at(config, positions, x.dtype))

    k = rotated(k, chunks.key_positions(keys))
    pattern = "batch head query head_dim, batch head key head_dim -> batch head query key"
    scores = torch.stack([einsum(rotated(q, places), k, pattern) for places in chunks.query_positions(queries)])
    return by_case(scores, chunks.case(queries, keys))
