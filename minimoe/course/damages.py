"""Ten ways to damage a checkpoint, a loader that asks nothing, and what the library's loader says to each."""

import re
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from einops import rearrange
from safetensors.torch import save
from torch import Tensor

from minimoe.atomic import write
from minimoe.checkpoint.layout import EMBEDDING, HEAD, SINGLE, expected_tensors
from minimoe.checkpoint.load import load_model
from minimoe.checkpoint.save import values_of
from minimoe.checkpoint.shard_writer import as_json
from minimoe.dtypes import CODES, TORCH_DTYPES
from minimoe.errors import MinimoeError
from minimoe.model.config import ModelConfig
from minimoe.model.transformer import Transformer

Weights = Mapping[str, Tensor]  # name in the checkpoint -> values
Change = Callable[[Weights, ModelConfig], tuple[Weights, ModelConfig]]


def on_disk(model: Transformer) -> dict[str, Tensor]:
    """The model's weights by their names in the checkpoint, each expert's matrix on its own."""
    parameters: dict[str, Tensor] = dict(model.named_parameters())
    return {tensor.name: values_of(tensor, parameters) for tensor in expected_tensors(model.config)}


def load_leniently(weights: Weights, config: ModelConfig) -> Transformer:
    """A loader that asks nothing: what is there is copied, in whatever shape; the rest stays random."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Transformer(config).eval().requires_grad_(False)
    parameters: Weights = dict(model.named_parameters())
    for tensor in expected_tensors(config):
        if tensor.name in weights:
            [piece] = tensor.pieces
            place = parameters[piece.parameter]
            place = place if piece.expert is None else place[piece.expert]
            place.copy_(weights[tensor.name].reshape(place.shape))
    return model


def refusal(weights: Weights, config: ModelConfig) -> str:
    """What the library's loader says to these weights, written to a file: its error in one line, or "" if it loads."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        dtype = TORCH_DTYPES[CODES[config.dtype]]
        write(folder / SINGLE, save({name: values.to(dtype).contiguous() for name, values in weights.items()}))
        write(folder / "config.json", as_json(config.to_dict()))
        try:
            load_model(folder)
        except MinimoeError as error:
            says = str(error).replace(f"{folder / SINGLE}: ", "").replace(f"{folder}: ", "")
            return f"{type(error).__name__}: {says}"
    return ""


# The ten -------------------------------------------------------------------------------------------------------------


def without(pattern: str) -> Change:
    """Tensors whose names hold the pattern are missing."""
    return lambda weights, config: ({k: v for k, v in weights.items() if not re.search(pattern, k)}, config)


def exchanged(one: str, other: str) -> Change:
    """Two names are exchanged wherever they stand."""
    names = {one: other, other: one}
    return lambda weights, config: (
        {re.sub("|".join(names), lambda match: names[match[0]], name): values for name, values in weights.items()},
        config,
    )


def transposed(weights: Weights, config: ModelConfig) -> tuple[Weights, ModelConfig]:
    """Every o_proj is stored as (in, out)."""
    return {
        name: rearrange(values, "out into -> into out") if "o_proj" in name else values
        for name, values in weights.items()
    }, config


def another_theta(weights: Weights, config: ModelConfig) -> tuple[Weights, ModelConfig]:
    """The base of RoPE is that of the first transformers with RoPE."""
    return weights, replace(config, rope_theta=10_000.0)


def tied(weights: Weights, config: ModelConfig) -> tuple[Weights, ModelConfig]:
    """The config says that the head is the embedding."""
    return weights, replace(config, tie_word_embeddings=True)


def neighbours(weights: Weights, config: ModelConfig) -> tuple[Weights, ModelConfig]:
    """Expert n has the number n + 1, the last one the number 0."""

    def renamed(name: str) -> str:
        return re.sub(r"experts\.(\d+)", lambda match: f"experts.{(int(match[1]) + 1) % config.num_experts}", name)

    return {renamed(name): values for name, values in weights.items()}, config


def one_row_off(weights: Weights, config: ModelConfig) -> tuple[Weights, ModelConfig]:
    """Row n of the head stands in row n + 1."""
    head = weights.get(HEAD, weights[EMBEDDING])
    return {**weights, HEAD: head.roll(1, dims=0)}, config


@dataclass(frozen=True)
class Damage:
    """A change of a checkpoint. says: it in a few words, as the end of "In this checkpoint ..."."""

    says: str
    change: Change


DAMAGES: Mapping[str, Damage] = {
    "missing head": Damage("lm_head.weight is missing", without("lm_head")),
    "transposed o_proj": Damage("every o_proj is stored as (in, out)", transposed),
    "gate and up": Damage("gate_proj and up_proj are exchanged", exchanged("gate_proj", "up_proj")),
    "rope_theta": Damage("config.json says rope_theta 10,000", another_theta),
    "tied head": Damage("config.json says tie_word_embeddings true", tied),
    "keys and values": Damage("k_proj and v_proj are exchanged", exchanged("k_proj", "v_proj")),
    "neighbours": Damage("every expert has the number of its neighbour", neighbours),
    "missing routers": Damage("every mlp.gate is missing", without(r"mlp\.gate\.")),
    "one row off": Damage("each row of lm_head stands one row too low", one_row_off),
    "query and key norms": Damage("q_norm and k_norm are exchanged", exchanged("q_norm", "k_norm")),
}
FIVE = tuple(DAMAGES)[:5]  # those of the lesson; the exercise has all ten
