"""Routing whose truth is known: uniform, or uniform with something planted. Sizes are pairwise distinct on purpose."""

import torch

LAYERS, TOKENS, SLOTS, EXPERTS = 3, 1200, 4, 32


def uniform(seed, layers=LAYERS, tokens=TOKENS, top_k=SLOTS, num_experts=EXPERTS):
    """(layer, token, slot): every set of top_k experts equally likely, in random order."""
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(layers, tokens, num_experts, generator=generator).argsort(-1)[..., :top_k]


def weighted(weights, seed, top_k=SLOTS):
    """(layer, token, slot) from weights (layer, token, expert): one after the other, without replacement (Gumbel)."""
    generator = torch.Generator().manual_seed(seed)
    noise = -torch.rand(weights.shape, generator=generator).log()
    return (noise / weights).argsort(-1)[..., :top_k]


def split(tokens=TOKENS, documents=80, domains=4):
    """(documents, domains) of each token: documents of unequal length, neighbours of one domain."""
    sizes = torch.arange(documents) % 5 + 3
    bounds = (sizes.cumsum(0) * tokens / sizes.sum()).long()
    of_token = torch.searchsorted(bounds, torch.arange(tokens), right=True).clamp(max=documents - 1)
    return of_token, of_token * domains // documents
