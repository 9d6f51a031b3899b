"""Chapter 11: what the mini's routers selected at ten steps of its training, from data/mini/history."""

from itertools import combinations
from pathlib import Path

import torch
from einops import rearrange
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional as F

from minimoe.training.small.rows import DOMAINS

Snapshot = dict[str, Tensor]


def read_history(model: Path) -> dict[int, Snapshot]:
    """step -> the snapshot after so many steps. model: the folder of the checkpoint."""
    files = sorted((model / "history").glob("step_*.safetensors"))
    return {int(file.stem.removeprefix("step_")): load_file(file) for file in files}


def selections(snapshot: Snapshot, num_experts: int) -> tuple[Tensor, Tensor, Tensor]:
    """(tokens (token), domains (token), chosen (layer, token, expert) of 0 and 1) of all passages together."""
    tokens = torch.cat([snapshot[f"{domain}.tokens"] for domain in DOMAINS])
    domains = torch.cat([torch.full_like(snapshot[f"{d}.tokens"], n) for n, d in enumerate(DOMAINS)])
    experts = torch.cat([snapshot[f"{domain}.experts"].long() for domain in DOMAINS], dim=1)
    return tokens, domains, F.one_hot(experts, num_experts).sum(dim=2)


def saturation(snapshot: Snapshot, last: Snapshot, num_experts: int) -> Tensor:
    """(layer): the share of the final choices that a token has already (router saturation, OLMoE, arXiv 2409.02060)."""
    then, final = (selections(each, num_experts)[2] for each in (snapshot, last))
    return (then & final).sum(dim=(1, 2)) / final.sum(dim=(1, 2))


def alike(snapshot: Snapshot, num_experts: int) -> tuple[float, float, int, int]:
    """How many experts two occurrences of one token share: in one passage, and in two; averaged over layers.

    There is one passage for each domain. Each token id that occurs twice in one and also in another counts once.
    Returns both means, the number of token ids, and the number of pairs.
    """
    tokens, domains, chosen = selections(snapshot, num_experts)
    within, across, pairs = [], [], 0
    for token in tokens.unique().tolist():
        places = (tokens == token).nonzero().flatten().tolist()
        same: list[float] = []
        other: list[float] = []
        for a, b in combinations(places, 2):
            shared = float((chosen[:, a] & chosen[:, b]).sum(dim=-1).float().mean())
            (same if domains[a] == domains[b] else other).append(shared)
        if same and other:
            within.append(sum(same) / len(same))
            across.append(sum(other) / len(other))
            pairs += len(same) + len(other)
    return sum(within) / len(within), sum(across) / len(across), len(within), pairs


def gate_drift(snapshot: Snapshot, last: Snapshot) -> float:
    """Mean cosine between the rows of the routers now and at the end."""
    names = sorted(name for name in last if name.startswith("gate."))
    now, end = (rearrange([each[name].float() for name in names], "layer expert hidden -> (layer expert) hidden")
                for each in (snapshot, last))  # fmt: skip
    return float(F.cosine_similarity(now, end).mean())
