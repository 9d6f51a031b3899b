"""Random Qwen3 checkpoints of other sizes than `data/mini`, with its tokenizer: whatever loads the mini loads them."""

from dataclasses import replace
from pathlib import Path

import torch

import minimoe
from minimoe.checkpoint.open import open_checkpoint
from minimoe.model.config import ModelConfig
from minimoe.model.transformer import Transformer

# What is changed in the mini's config. Every size differs from the mini's; the vocabulary is padded, as in the released
# models, whose embedding has more rows than the tokenizer has tokens.
SHAPES = {
    "narrow and tied": dict(
        vocab_size=2304, hidden_size=96, num_hidden_layers=3, num_attention_heads=6, num_key_value_heads=3,
        head_dim=24, intermediate_size=160, moe_intermediate_size=24, num_experts=24, num_experts_per_tok=3,
        tie_word_embeddings=True,
    ),
    "deep and wide": dict(
        vocab_size=3072, hidden_size=128, num_hidden_layers=5, num_attention_heads=4, num_key_value_heads=1,
        head_dim=64, intermediate_size=256, moe_intermediate_size=16, num_experts=144, num_experts_per_tok=9,
        rope_theta=500_000.0, max_position_embeddings=4096,
    ),
}  # fmt: skip


def random_config(shape: str) -> ModelConfig:
    """The mini's config with the sizes of a shape."""
    mini = open_checkpoint(minimoe.find("data/mini")).config
    return replace(mini, **SHAPES[shape])


def write_random(folder: Path, shape: str) -> Path:
    """Write a seeded random checkpoint in bfloat16, with the tokenizer and the chat template of the mini."""
    generator = torch.Generator().manual_seed(0)
    model = Transformer(random_config(shape)).eval().requires_grad_(False)
    for parameter in model.parameters():
        if parameter.dim() > 1:  # the norms stay at one; deviations as in a trained model, so that routers choose
            parameter.normal_(std=parameter.shape[-1] ** -0.5, generator=generator)
    minimoe.save(model.to(torch.bfloat16), minimoe.load("data/mini")[1], folder)
    return folder
