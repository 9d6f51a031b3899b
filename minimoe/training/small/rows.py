"""Batches for small runs: full rows, each with consecutive documents of one domain."""

from functools import lru_cache
from random import Random

import torch
from torch import Tensor

from minimoe.training.corpus.batches import GeneratedSource

DOMAINS = ("en", "zh", "code", "math")
EACH, LENGTH = 2, 64  # rows of each domain in a batch, and tokens of a row
HELD_OUT = 6  # rows of each domain


def batch(source: GeneratedSource, seed: int, step: int) -> Tensor:
    """(row, token): LENGTH + 1 ids a row; EACH rows of every domain, in the order of DOMAINS."""
    rng = Random(f"small/{seed}/{step}")
    rows = [source.passage(rng, LENGTH + 1, "train", domain) for domain in DOMAINS for _ in range(EACH)]
    return torch.tensor(rows)


@lru_cache(maxsize=8)
def held_out(source: GeneratedSource, domain: str) -> Tensor:
    """(row, token): fixed rows of one domain that were never trained on."""
    rng = Random(f"small/held-out/{domain}")
    return torch.tensor([source.passage(rng, LENGTH + 1, "held-out", domain) for _ in range(HELD_OUT)])
