"""The kinds of tensors in a checkpoint: each name once, with its shape, layers and experts.

The 36,945 tensors of the 235B are of 15 kinds, so a planner that iterates over kinds instead of tensors is fast. The
shapes come from `minimoe.checkpoint.layout` and are not repeated here.
"""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache

from minimoe.checkpoint.layout import EMBEDDING, HEAD, LAYER, NORM, expected_tensors
from minimoe.model.config import ModelConfig

EXPERT = re.compile(r"mlp\.experts\.[0-9]+\.")
PARTS = ("embeddings", "attention", "router", "experts", "dense feed-forward", "norms")


@dataclass(frozen=True)
class Kind:
    """One kind of tensor. `name` is relative to its layer ("self_attn.q_proj") and without the expert's number
    ("mlp.experts.gate_proj").
    """

    name: str
    shape: tuple[int, ...]  # of one tensor on disk: (outs, ins), or (width,) of a norm
    layers: tuple[int, ...]  # the layers that have one; empty for tensors outside the layers
    experts: int = 0  # number of experts in each of these layers; 0 for tensors that belong to no expert

    @property
    def tensors(self) -> int:
        return max(1, len(self.layers)) * max(1, self.experts)

    @property
    def parameters(self) -> int:
        return self.tensors * math.prod(self.shape)

    @property
    def part(self) -> str:
        """Its row in the table of sizes."""
        if self.name in ("embed_tokens", "lm_head"):
            return "embeddings"
        if len(self.shape) == 1:
            return "norms"
        if self.name == "mlp.gate":
            return "router"
        if self.experts:
            return "experts"
        return "attention" if self.name.startswith("self_attn.") else "dense feed-forward"

    @property
    def packed(self) -> bool:
        """Whether packed formats (FP8, int4, ...) pack it; other tensors stay in 16 bits."""
        return self.part in ("attention", "experts", "dense feed-forward")

    def names(self, layers: tuple[int, ...], experts: range) -> Iterator[str]:
        """Tensor names on disk, for some layers and experts."""
        if not self.layers:
            yield self.name + ".weight" if self.name == "lm_head" else f"model.{self.name}.weight"
        for layer in layers:
            if not self.experts:
                yield f"model.layers.{layer}.{self.name}.weight"
            for expert in experts if self.experts else ():
                matrix = self.name.removeprefix("mlp.experts.")
                yield f"model.layers.{layer}.mlp.experts.{expert}.{matrix}.weight"


def kinds(config: ModelConfig) -> tuple[Kind, ...]:
    """All kinds of `config`: the embedding, those inside the layers, the final norm, and lm_head unless it is tied."""
    plain = replace(config, rope_scaling=None, quantization_config=None, eos_token_id=None)  # hashable fields only
    return walk(replace(plain, mlp_only_layers=tuple(config.mlp_only_layers)))


@lru_cache(maxsize=64)
def walk(config: ModelConfig) -> tuple[Kind, ...]:
    """Collect the kinds from the layout of a few layers that together have all of them. Cached, because a search for
    alternatives calls it often.
    """
    all_layers, moe = tuple(range(config.num_hidden_layers)), config.moe_layers
    dense = tuple(layer for layer in all_layers if layer not in moe)
    probes = sorted({0, all_layers[-1], *moe[:1], *dense[:1]})
    by_name: dict[str, Kind] = {}
    for probe in probes:
        for tensor in expected_tensors(config, range(probe, probe + 1)):
            inside = LAYER.fullmatch(tensor.name)
            name = (inside[2] if inside else tensor.name.removeprefix("model.")).removesuffix(".weight")
            name, per_expert = EXPERT.subn("mlp.experts.", name)
            layers = all_layers if inside else ()
            if inside and name.startswith("mlp."):
                layers = moe if probe in moe else dense
            by_name.setdefault(name, Kind(name, tensor.shape, layers, config.num_experts if per_expert else 0))
    ends = [by_name.pop(name.removeprefix("model.").removesuffix(".weight"), None) for name in (EMBEDDING, NORM, HEAD)]
    return tuple(kind for kind in (ends[0], *by_name.values(), *ends[1:]) if kind)
