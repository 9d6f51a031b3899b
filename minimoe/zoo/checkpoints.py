"""The numbers of 27 released checkpoints: data/models/families as objects."""

import json
from dataclasses import dataclass, replace
from typing import Any

from minimoe.paths import models_folder
from minimoe.zoo.families import FAMILIES
from minimoe.zoo.rule import Rule


@dataclass(frozen=True)
class Checkpoint:
    """One released model: its router and its sizes. None where a size was not confirmed (DBRX)."""

    model: str
    family: str  # a key of FAMILIES; or "phimoe", whose router is `sparsemixer`
    rule: Rule | None  # None for sparsemixer
    experts: int  # in each layer with a router, without shared ones
    top_k: int
    layers: int  # all layers, also those without experts
    moe_layers: int | None  # layers with a router
    hidden: int | None
    expert_width: int | None
    shared_width: int | None  # of the shared experts together; 0 without
    total: int  # parameters
    active: int  # without the routed experts that a token does not use; both embedding matrices count
    released: str  # year-month
    released_source: str
    counted: bool  # False: as its makers published it, rounded

    @property
    def expert_parameters(self) -> int | None:
        """Parameters of one routed expert: gate, up and down; in gpt-oss also their biases."""
        if self.hidden is None or self.expert_width is None:
            return None
        biases = 2 * self.expert_width + self.hidden if self.family == "gpt_oss" else 0
        return 3 * self.hidden * self.expert_width + biases

    @property
    def routed(self) -> int | None:
        """Parameters of all routed experts. active = total - routed · (1 - top_k / experts)."""
        each = self.expert_parameters
        return None if each is None or self.moe_layers is None else self.moe_layers * self.experts * each


def read(name: str, key: str) -> list[dict[str, Any]]:
    """The entries under `key` of a file in data/models/families."""
    entries: list[dict[str, Any]] = json.loads((models_folder() / "families" / name).read_text(encoding="utf-8"))[key]
    return entries


def checkpoints() -> list[Checkpoint]:
    """All checkpoints, smallest first: 26 counted ones, and DBRX as published."""
    routers = {entry["model"]: entry for entry in read("routers.json", "models")}
    return [checkpoint(counts, routers[counts["model"]]) for counts in read("parameters.json", "models")]


def checkpoint(counts: dict[str, Any], router: dict[str, Any]) -> Checkpoint:
    """One checkpoint from its entries in parameters.json and routers.json."""
    family = FAMILIES.get(router["family"])
    sizes = {key: counts[key] for key in ("model", "experts", "top_k", "layers", "total", "active")}
    widths = {key: router[key] for key in ("family", "moe_layers", "hidden", "expert_width", "shared_width")}
    return Checkpoint(
        **sizes,
        **widths,
        rule=replace(family.rule, **router["rule"]) if family else None,
        released=router["released"],
        released_source=router["released_source"],
        counted=counts["status"] == "counted",
    )
