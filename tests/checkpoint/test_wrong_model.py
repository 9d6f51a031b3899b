"""Config and files of different models, or missing tensors: a helpful error before any weight is read."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from minimoe import ModelConfig
from minimoe.checkpoint import load as read
from minimoe.checkpoint.load import load_model
from minimoe.errors import (
    IncompleteLoad,
    IndexMismatch,
    PlanTooBig,
    UnsupportedModel,
    WrongModel,
)
from tests.checkpoint.fake import (
    edit_header,
    edit_json,
    refused,
    rewrite,
    save_tiny,
    write_sparse,
)


@pytest.fixture
def no_payload(monkeypatch: pytest.MonkeyPatch) -> None:
    def touched(*_: Any) -> None:
        raise AssertionError("weights were read before the checkpoint was checked")

    monkeypatch.setattr(read, "fill", touched)
    monkeypatch.setattr(read, "same_values", touched)


@pytest.mark.usefixtures("no_payload")
@pytest.mark.parametrize(
    ("change", "kind", "sentence"),
    [
        ({"num_hidden_layers": 5}, WrongModel, "config says 5 layers x 16, file has 4 x 16."),
        ({"hidden_size": 32}, WrongModel, "config says 4 layers x 32, file has 4 x 16."),
        ({"num_experts": 13}, WrongModel, "config says experts 13, file has experts 12."),
        ({"moe_intermediate_size": 16}, WrongModel, "config says expert width 16, file has expert width 24."),
        ({"num_attention_heads": 8}, WrongModel, "config says query rows 64, file has query rows 32."),
        ({"vocab_size": 49}, WrongModel, "config says vocab 49, file has vocab 48."),
        (
            {"intermediate_size": 21},
            WrongModel,
            "layers.1.mlp.gate_proj.weight is [20, 16], config.json implies [21, 16]",
        ),
        (
            {"num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16},
            WrongModel,
            "_norm.weight is [8], config.json implies [16]",
        ),
        ({"model_type": "qwen3"}, WrongModel, "experts none, expert width none, file has experts 12, expert width 24"),
        ({"mlp_only_layers": []}, WrongModel, "the files lack model.layers.1.mlp.gate.weight"),
        ({"mlp_only_layers": [0, 1]}, WrongModel, "and hold 'model.layers.0.mlp.experts.0.down_proj.weight'"),
        ({"tie_word_embeddings": True}, None, ""),
        (
            {"quantization_config": {"quant_method": "awq"}},
            UnsupportedModel,
            "quantization_config (quant_method 'awq')",
        ),
    ],
)
def test_a_config_of_another_model(tiny: Path, change: dict[str, Any], kind: Any, sentence: str) -> None:
    edit_json(tiny / "config.json", lambda config: config.update(change))
    if kind is None:
        with pytest.raises(AssertionError, match="weights were read"):
            load_model(tiny)
    else:
        assert sentence in refused(tiny, kind)


@pytest.mark.usefixtures("no_payload")
def test_the_actual_model_is_named(tmp_path: Path) -> None:
    write_sparse(tmp_path, ModelConfig.named("Qwen3-30B-A3B"))
    (tmp_path / "config.json").write_text(json.dumps(ModelConfig.named("Qwen3-235B-A22B").to_dict()))
    message = refused(tmp_path, WrongModel)
    assert "config says 94 layers x 4096, file has 48 x 2048: this is Qwen3-30B-A3B." in message
    (tmp_path / "config.json").write_text(json.dumps(ModelConfig.named("Qwen3-30B-A3B").to_dict()))
    layer = refused(tmp_path, AssertionError, layers=range(40, 41))  # all checks passed, reading would begin
    assert "weights were read" in layer


@pytest.mark.usefixtures("no_payload")
def test_a_model_larger_than_memory(tmp_path: Path) -> None:
    write_sparse(tmp_path, ModelConfig.named("Qwen3-235B-A22B"))
    if os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") > 470_187_269_120:
        pytest.skip("this machine holds the 235B")
    assert "the weights need 470,187,269,120 bytes on cpu" in refused(tmp_path, PlanTooBig)
    assert "the weights need 940,374,538,240 bytes" in refused(tmp_path, PlanTooBig, dtype="fp32")


def without(name: str) -> Callable[[dict[str, Tensor]], None]:
    return lambda tensors: tensors.__delitem__(name)


@pytest.mark.usefixtures("no_payload")
def test_a_lost_expert(tmp_path: Path) -> None:
    save_tiny(tmp_path)
    rewrite(tmp_path, without("model.layers.2.mlp.experts.7.up_proj.weight"))
    message = refused(tmp_path, IncompleteLoad)
    assert "layer 2 experts.up_proj: expert 7 would not be filled" in message
    assert "no file holds model.layers.2.mlp.experts.7.up_proj.weight" in message
    with pytest.raises(AssertionError, match="weights were read"):
        load_model(tmp_path, layers=range(0, 2))


@pytest.mark.usefixtures("no_payload")
@pytest.mark.parametrize("name", ["lm_head.weight", "model.norm.weight", "model.layers.0.mlp.gate.weight"])
def test_a_lost_tensor(tmp_path: Path, name: str) -> None:
    save_tiny(tmp_path)
    rewrite(tmp_path, without(name))
    assert f"{name.removeprefix('model.')} would not be filled" in refused(tmp_path, IncompleteLoad)


@pytest.mark.usefixtures("no_payload")
@pytest.mark.parametrize(
    "name", ["model.layers.0.mlp.experts.12.up_proj.weight", "model.layers.0.mlp.bias", "norm.weight"]
)
def test_an_unexpected_tensor(tmp_path: Path, name: str) -> None:
    save_tiny(tmp_path)
    rewrite(tmp_path, lambda tensors: tensors.update({name: torch.zeros(12, 16, dtype=torch.bfloat16)}))
    assert f"hold {name!r}" in refused(tmp_path, IndexMismatch)


@pytest.mark.usefixtures("no_payload")
def test_a_tensor_that_holds_no_plain_floats(tmp_path: Path) -> None:
    save_tiny(tmp_path)
    rewrite(tmp_path, lambda t: t.update({"model.norm.weight": t["model.norm.weight"].to(torch.float8_e4m3fn)}))
    message = refused(tmp_path, WrongModel)
    assert "model.norm.weight is stored as F8_E4M3, but config.json has no quantization_config for it" in message


@pytest.mark.usefixtures("no_payload")
def test_swapped_shapes(tiny: Path) -> None:
    for path in tiny.glob("*.safetensors"):

        def turn(header: dict[str, Any]) -> None:
            for name, entry in header.items():
                if name.endswith("experts.5.down_proj.weight"):
                    entry["shape"].reverse()

        edit_header(path, turn)
    assert "experts.5.down_proj.weight is [24, 16], config.json implies [16, 24]" in refused(tiny, WrongModel)
