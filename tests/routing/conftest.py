"""Small random models with router margins like a trained model's, and a tokenizer just large enough."""

import pytest
import torch

from minimoe.model.config import ModelConfig
from minimoe.model.transformer import Transformer
from tests.small import SIZES


def small_model(seed=0, dtype=torch.float32, layers=None, **changes):
    torch.manual_seed(seed)
    model = Transformer(ModelConfig(**(SIZES | changes)), layers=layers).to(dtype).eval()
    with torch.no_grad():
        for layer in model.layers:
            if hasattr(layer.mlp, "gate"):
                layer.mlp.gate.weight.mul_(2.0)
    return model


class LetterTokenizer:
    """Token n is one letter; enough of the Tokenizer interface to be recorded."""

    vocabulary_size = 60
    source = "letters"

    def __init__(self, first="A"):
        self.first = ord(first)
        self.files = {"tokenizer.json": first.encode(), "generation_config.json": b"{}"}

    def token_bytes(self, token):
        return chr(self.first + token).encode()

    def encode(self, text, special=True):
        return [ord(letter) - self.first for letter in text]


@pytest.fixture
def model():
    return small_model()


@pytest.fixture
def ids():
    return torch.randint(0, 60, (1, 24), generator=torch.Generator().manual_seed(1))


@pytest.fixture
def tokenizer():
    return LetterTokenizer()
