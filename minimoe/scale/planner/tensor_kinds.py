"""The kinds of tensors in a checkpoint: each name once, with its shape, its layers and its experts.

The 36,945 tensors of the 235B are 15 kinds. A planner that walks kinds instead of tensors answers at once. The shapes
are not written down a second time: they come from `minimoe.checkpoint.layout`.
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
    """One kind of tensor. `name` is "self_attn.q_proj" inside the layers, "mlp.experts.gate_proj" for all experts."""

    name: str
    shape: tuple[int, ...]  # of one tensor on disk: (outs, ins), or (width,) of a norm
    layers: tuple[int, ...]  # which layers have one; empty if it stands outside of them
    experts: int = 0  # so many in each of these layers; 0 if it does not belong to an expert

    @property
    def tensors(self) -> int:
        return max(1, len(self.layers)) * max(1, self.experts)

    @property
    def parameters(self) -> int:
        return self.tensors * math.prod(self.shape)

    @property
    def part(self) -> str:
        """The row of the size table that it belongs to."""
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
        """Whether FP8, int4 and the like pack it; all else stays in 16 bits."""
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
    """All kinds of `config`: the embedding, what stands in the layers, the final norm, lm_head (unless tied)."""
    plain = replace(config, rope_scaling=None, quantization_config=None, eos_token_id=None)  # so that it has a hash
    return walk(replace(plain, mlp_only_layers=tuple(config.mlp_only_layers)))


@lru_cache(maxsize=64)
def walk(config: ModelConfig) -> tuple[Kind, ...]:
    """Read the layout of the few layers in which every kind occurs; remembered, as a search for plans asks often."""
    everything, moe = tuple(range(config.num_hidden_layers)), config.moe_layers
    dense = tuple(layer for layer in everything if layer not in moe)
    probes = sorted({0, everything[-1], *moe[:1], *dense[:1]})
    found: dict[str, Kind] = {}
    for probe in probes:
        for tensor in expected_tensors(config, range(probe, probe + 1)):
            inside = LAYER.fullmatch(tensor.name)
            name = (inside[2] if inside else tensor.name.removeprefix("model.")).removesuffix(".weight")
            name, per_expert = EXPERT.subn("mlp.experts.", name)
            layers = everything if inside else ()
            if inside and name.startswith("mlp."):
                layers = moe if probe in moe else dense
            found.setdefault(name, Kind(name, tensor.shape, layers, config.num_experts if per_expert else 0))
    ends = [found.pop(each.removeprefix("model.").removesuffix(".weight"), None) for each in (EMBEDDING, NORM, HEAD)]
    return tuple(kind for kind in (ends[0], *found.values(), *ends[1:]) if kind)
