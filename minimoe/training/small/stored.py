"""The recorded small runs of data/training, made by scripts/make_runs.py, and what is computed from one."""

import json
from collections.abc import Mapping
from functools import cache
from typing import Any

import torch
from einops import reduce
from torch import Tensor

from minimoe.paths import find
from minimoe.training.small.rows import DOMAINS

Run = Mapping[str, Any]
DEAD = 0.1  # of an even share


@cache
def stored_runs() -> dict[str, Run]:
    """name -> record, as written by `record_run`, with its plan."""
    runs: dict[str, Run] = json.loads((find("data/training") / "small_runs.json").read_text(encoding="utf-8"))
    return runs


def load_of(record: Run) -> Tensor:
    """(record, layer, expert): the share of the choices of a layer that each expert got, for every ten steps."""
    load = torch.tensor(record["load"], dtype=torch.float32)
    return load / reduce(load, "record layer expert -> record layer 1", "sum")


def dead_of(record: Run) -> Tensor:
    """(record, layer): how many experts got less than a tenth of an even share."""
    load = load_of(record)
    return (load * load.shape[-1] < DEAD).sum(dim=-1)


def held_out_of(record: Run) -> tuple[list[int], list[float]]:
    """(steps, losses): the held-out loss in nats per token, averaged over the domains."""
    entries = record["held_out"]
    return [entry["step"] for entry in entries], [sum(entry[d] for d in DOMAINS) / len(DOMAINS) for entry in entries]


def final_loss(record: Run) -> float:
    """The held-out loss at the end, averaged over the domains, in nats per token."""
    return held_out_of(record)[1][-1]


def domain_information(record: Run) -> float:
    """How much a single choice of an expert says about the domain, in bits, averaged over layers.

    The mutual information of the chosen expert and the domain, all domains being equally likely: at most 2 bits.
    """
    counts = torch.tensor([record["counts"][domain] for domain in DOMAINS], dtype=torch.float64)
    share = counts / reduce(counts, "domain layer expert -> domain layer 1", "sum")
    mean = reduce(share, "domain layer expert -> layer expert", "mean")
    ratio = torch.where(share > 0, share / mean.clamp(min=1e-12), torch.ones_like(share))
    return float(reduce(share * ratio.log2(), "domain layer expert -> domain layer", "sum").mean())
