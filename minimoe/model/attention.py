"""Grouped-query attention with normalised queries and keys.

Many query heads share one key/value head (16 to 1 in the 235B): the KV cache shrinks by that factor. `head_dim` is
a separate setting: heads x head_dim is not the hidden size, so o_proj is not square.
"""

import torch
from einops import einsum, rearrange, repeat
from torch import Tensor, nn
from torch.backends.cuda import SDPAParams, can_use_flash_attention
from torch.nn import functional as F

from minimoe.model.cache import KVCache
from minimoe.model.compilation import uncompiled
from minimoe.model.config import ModelConfig
from minimoe.model.norm import RMSNorm, at_least_float32
from minimoe.model.rope import apply_rope

ATTENTIONS = ("eager", "sdpa")


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    """Scaled dot-product attention, written out.

    q: (batch, head, query, head_dim). k, v: (batch, shared head, key, head_dim); adjacent query heads share one.
    mask: (query, key) bool, True where a query attends to a key; None: everywhere.
    Returns (batch, head, query, head_dim). Scores in the model's dtype, softmax in float32.
    """
    group = q.shape[1] // k.shape[1]
    k, v = (repeat(x, "batch head key head_dim -> batch (head group) key head_dim", group=group) for x in (k, v))
    scores = einsum(q, k, "batch head query head_dim, batch head key head_dim -> batch head query key")
    scores = scores * q.shape[-1] ** -0.5
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf)
    weights = scores.softmax(dim=-1, dtype=at_least_float32(q.dtype)).to(q.dtype)
    return einsum(weights, v, "batch head query key, batch head key head_dim -> batch head query head_dim")


def attend_grouped(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    """`attend` without copying keys and values for every head of a group: for one query of a compiled step, where the
    kernels of `attend_sdpa` that take a mask would copy them.
    """
    q = rearrange(q, "batch (head group) query head_dim -> batch head (group query) head_dim", head=k.shape[1])
    context = attend(q, k, v, mask)
    return rearrange(context, "batch head (group query) head_dim -> batch (head group) query head_dim", query=1)


def attend_sdpa(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    """`attend` through PyTorch's fused kernels. `mask=None`: causal, the queries are the last of the key positions.

    `is_causal` is defined for a square only. For more keys than queries FlashAttention is called directly, as it aligns
    its causal triangle to the last key: with an explicit mask and `enable_gqa` most GPUs fall back to the plain kernel,
    which keeps all scores in float32, and for a single query an H100 chooses cuDNN, which prepares a graph for every
    new number of keys (PyTorch, aten/src/ATen/native/transformers/cuda/sdp_utils.cpp).
    """
    queries, keys = q.shape[2], k.shape[2]
    if queries == 1 and torch.compiler.is_compiling():
        return attend_grouped(q, k, v, mask)
    if mask is None and queries < keys and has_flash(q, k, v):
        return torch.ops.aten._scaled_dot_product_flash_attention(q, k, v, is_causal=True)[0]
    if mask is None and 1 < queries < keys:
        mask = causal_mask(queries, keys, q.device)
    if mask is None and queries > 1:
        return F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=True)


def has_flash(q: Tensor, k: Tensor, v: Tensor) -> bool:
    """Whether PyTorch's FlashAttention supports these tensors, with the causal triangle aligned to the last key.

    AMD's build may align it to the first key, and a head_dim that needs padding is left to PyTorch.
    """
    return q.is_cuda and torch.version.hip is None and q.shape[-1] % 8 == 0 and flash_accepts(q, k, v)


@uncompiled  # queries the device; not an operation of the graph
def flash_accepts(q: Tensor, k: Tensor, v: Tensor) -> bool:
    """PyTorch's own conditions: 16 bits, compute capability 8.0 or higher, head_dim up to 256, a build with it."""
    return can_use_flash_attention(SDPAParams(q, k, v, None, 0.0, False, True))


def causal_mask(queries: int, keys: int, device: torch.device) -> Tensor:
    """(query, key) bool: each of the last `queries` of `keys` positions attends to itself and all before."""
    position = torch.arange(keys, device=device)
    return rearrange(position[keys - queries :], "query -> query 1") >= position


class Attention(nn.Module):
    """Project to heads, normalise and rotate q and k, attend, project back."""

    def __init__(self, config: ModelConfig, layer: int):
        super().__init__()
        self.layer = layer
        self.head_dim = config.head_dim
        self.implementation = "sdpa"
        queries, shared = config.num_attention_heads * config.head_dim, config.num_key_value_heads * config.head_dim
        self.q_proj = nn.Linear(config.hidden_size, queries, bias=False)
        self.k_proj = nn.Linear(config.hidden_size, shared, bias=False)
        self.v_proj = nn.Linear(config.hidden_size, shared, bias=False)
        self.o_proj = nn.Linear(queries, config.hidden_size, bias=False)
        self.q_norm = RMSNorm(config.head_dim, config.rms_norm_eps)
        self.k_norm = RMSNorm(config.head_dim, config.rms_norm_eps)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, mask: Tensor | None, cache: KVCache | None = None) -> Tensor:
        """x: (batch, position, hidden) -> the same shape."""
        q, k, v = (self.split_heads(project(x)) for project in (self.q_proj, self.k_proj, self.v_proj))
        q, k = apply_rope(self.q_norm(q), cos, sin), apply_rope(self.k_norm(k), cos, sin)
        if cache is not None:
            k, v = cache.append(self.layer, k, v)
        context = attend(q, k, v, mask) if self.implementation == "eager" else attend_sdpa(q, k, v, mask)
        return self.o_proj(rearrange(context, "batch head position head_dim -> batch position (head head_dim)"))

    def split_heads(self, x: Tensor) -> Tensor:
        return rearrange(x, "batch position (head head_dim) -> batch head position head_dim", head_dim=self.head_dim)
