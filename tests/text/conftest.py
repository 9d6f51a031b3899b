"""A tiny tokenizer and a tiny random model."""

from pathlib import Path

import pytest
import torch

from minimoe.model.config import ModelConfig
from minimoe.model.transformer import Transformer
from minimoe.text.tokenizer import Tokenizer
from tests.text.tiny import write_tokenizer


@pytest.fixture(scope="session")
def tiny_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tokenizer(tmp_path_factory.mktemp("tokenizer"))


@pytest.fixture(scope="session")
def tiny(tiny_directory: Path) -> Tokenizer:
    return Tokenizer.from_directory(tiny_directory)


@pytest.fixture(scope="session")
def model(tiny: Tokenizer) -> Transformer:
    """Two layers, eight experts, and 15 rows of padding after the tokenizer's vocabulary."""
    torch.manual_seed(2)
    config = ModelConfig(
        vocab_size=tiny.vocabulary_size + 15, hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, head_dim=8, moe_intermediate_size=16, num_experts=8, num_experts_per_tok=2,
        norm_topk_prob=True, max_position_embeddings=128, initializer_range=0.2, dtype="float32",
    )  # fmt: skip
    return Transformer(config)
