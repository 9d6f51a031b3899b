"""The tensor names of a config: counted for the released models, compared with a real index, and without gaps."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from minimoe import ModelConfig, Transformer
from minimoe.checkpoint.layout import Expected, concerns, expected_tensors
from minimoe.checkpoint.shard_writer import split
from tests.checkpoint.fake import DENSE, TINY

FUSED = {f"model.layers.{layer}.mlp.experts.down_proj" for layer in TINY.moe_layers}


def test_the_235b_has_36945_names_and_470187269120_bytes() -> None:
    tensors = list(expected_tensors(ModelConfig.named("Qwen3-235B-A22B")))
    assert len({tensor.name for tensor in tensors}) == len(tensors) == 36_945
    assert sum(tensor.values for tensor in tensors) * 2 == 470_187_269_120
    shards = split(iter(tensors), 2, 4_000_000_000)
    assert len(shards) == 118
    first = [tensor.name for tensor in shards[0]]
    assert "model.layers.0.mlp.experts.68.gate_proj.weight" in first
    assert "model.layers.0.mlp.experts.69.down_proj.weight" not in first


def test_a_real_index_key_for_key(reference: Path) -> None:
    folder = reference / "Qwen3-Coder-30B-A3B-Instruct"
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    tensors = {tensor.name: tensor for tensor in expected_tensors(ModelConfig.from_file(folder / "config.json"))}
    assert len(tensors) == 18_867
    assert tensors.keys() == index["weight_map"].keys()
    assert sum(tensor.values for tensor in tensors.values()) * 2 == index["metadata"]["total_size"]


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("config", [TINY, DENSE, replace(TINY, tie_word_embeddings=True)], ids=["moe", "dense", "tied"])
@pytest.mark.parametrize("layers", [range(0, 4), range(0, 1), range(1, 3), range(2, 4)])
def test_pieces_cover_the_model_and_the_tensors(config: ModelConfig, layers: range, fused: bool) -> None:
    """Naive oracle: number every value of every row of the real module, and find each number once among the pieces."""
    with torch.device("meta"):
        model = Transformer(config, layers)
    wanted = {}
    for name, parameter in model.named_parameters():
        rows = enumerate(parameter) if parameter.dim() == 3 else [(None, parameter)]
        wanted |= {(name, expert): tuple(row.shape) for expert, row in rows}
    found = {}
    for tensor in expected_tensors(config, layers, FUSED if fused else ()):
        assert concerns(tensor.name, config, layers)
        position = 0
        for piece in tensor.pieces:
            assert (piece.parameter, piece.expert) not in found
            found[piece.parameter, piece.expert] = piece.shape
            assert piece.begin == position
            position += piece.values
        assert position == tensor.values
    assert found == wanted


def test_each_name_belongs_to_one_slice() -> None:
    for config in (TINY, replace(TINY, tie_word_embeddings=True)):
        parts = [set(names(config, layers)) for layers in (range(0, 1), range(1, 3), range(3, 4))]
        assert set.union(*parts) == set(names(config, range(4)))
        assert parts[0] & parts[2] == ({"model.embed_tokens.weight"} if config.tie_word_embeddings else set())


def names(config: ModelConfig, layers: range) -> list[str]:
    return [tensor.name for tensor in expected_tensors(config, layers)]


def test_the_router_is_not_a_gate_projection() -> None:
    by_name: dict[str, Expected] = {tensor.name: tensor for tensor in expected_tensors(TINY)}
    router, gate = by_name["model.layers.0.mlp.gate.weight"], by_name["model.layers.0.mlp.experts.3.gate_proj.weight"]
    assert router.pieces[0].parameter == "layers.0.mlp.gate.weight" and router.shape == (12, 16)
    assert gate.pieces[0][:2] == ("layers.0.mlp.experts.gate_proj", 3) and gate.shape == (24, 16)
    assert by_name["model.layers.1.mlp.gate_proj.weight"].pieces[0].parameter == "layers.1.mlp.gate_proj.weight"


@pytest.mark.parametrize("name", ["model.layers.00.x", "model.layers.-1.x", "model.layers.9.x", "model.norm", "x"])
def test_unknown_names_belong_to_every_slice(name: str) -> None:
    assert all(concerns(name, TINY, layers) for layers in (range(0, 1), range(1, 2), range(0, 4)))
