"""A decoder layer: attention mixes positions, a feed-forward treats each position separately; both add to the residual
stream.
"""

from einops import rearrange
from torch import Tensor, nn

from minimoe.model.attention import Attention
from minimoe.model.cache import KVCache
from minimoe.model.config import ModelConfig
from minimoe.model.experts import ExpertBank, swiglu
from minimoe.model.norm import RMSNorm
from minimoe.model.router import Router


class FeedForward(nn.Module):
    """The dense feed-forward: one SwiGLU for all tokens."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.gate_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.up_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.down_proj = nn.Linear(config.intermediate_size, config.hidden_size, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return swiglu(x, self.gate_proj.weight, self.up_proj.weight, self.down_proj.weight)


class MixtureOfExperts(nn.Module):
    """A router and its experts: each token runs through its selected experts only."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.gate = Router(config)
        self.experts = ExpertBank(config)

    def forward(self, x: Tensor) -> Tensor:
        tokens = rearrange(x, "batch position hidden -> (batch position) hidden")
        output = self.experts(tokens, self.gate(tokens))
        return rearrange(output, "(batch position) hidden -> batch position hidden", batch=x.shape[0])


class DecoderLayer(nn.Module):
    """norm, attention, add; norm, feed-forward, add. Layers are numbered from 0, as in the checkpoint."""

    def __init__(self, config: ModelConfig, layer: int):
        super().__init__()
        self.input_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.self_attn = Attention(config, layer)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.mlp = MixtureOfExperts(config) if config.is_moe(layer) else FeedForward(config)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, mask: Tensor | None, cache: KVCache | None = None) -> Tensor:
        """x: (batch, position, hidden) -> the same shape."""
        x = x + self.self_attn(self.input_layernorm(x), cos, sin, mask, cache)
        return x + self.mlp(self.post_attention_layernorm(x))
