"""load: the right bytes in the right rows, only those that are needed, and no model unless all of it is there."""

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import minimoe.checkpoint.fill as fill_module
from minimoe import ModelConfig, Transformer
from minimoe.checkpoint import read
from minimoe.checkpoint.ledger import Ledger
from minimoe.checkpoint.positioned import PositionedFile
from minimoe.checkpoint.read import load_model
from minimoe.errors import (
    BadArgument,
    IncompleteLoad,
    IndexMismatch,
    PlanTooBig,
    ReadFailed,
    UnsupportedModel,
    WrongModel,
)
from tests.checkpoint.fake import (
    DENSE,
    TINY,
    edit_header,
    edit_json,
    random_model,
    save_tiny,
    split_file,
    weights,
    write_sparse,
)

IDS = torch.tensor([[3, 1, 4, 1, 5, 9, 2, 6]])
CONFIGS = {"moe": TINY, "dense": DENSE, "tied": replace(TINY, tie_word_embeddings=True), "fp32": replace(TINY, dtype="float32")}


@pytest.mark.parametrize("shard_bytes", [1, 1000, 9000, 10**9])
@pytest.mark.parametrize("name", CONFIGS)
def test_what_was_saved_is_what_is_loaded(tmp_path: Path, name: str, shard_bytes: int) -> None:
    model = save_tiny(tmp_path, CONFIGS[name], shard_bytes=shard_bytes)
    loaded = load_model(tmp_path)
    assert weights(loaded) == weights(model)
    assert loaded.config == model.config and not loaded.training
    assert not any(parameter.requires_grad for parameter in loaded.parameters())
    assert torch.equal(loaded(IDS), model(IDS))


def test_three_matrices_of_one_expert_in_different_files(tmp_path: Path) -> None:
    save_tiny(tmp_path, shard_bytes=1000)
    weight_map = json.loads((tmp_path / "model.safetensors.index.json").read_text())["weight_map"]
    files = [{weight_map[f"model.layers.0.mlp.experts.{e}.{kind}_proj.weight"] for kind in ("gate", "up", "down")} for e in range(12)]
    assert any(len(found) > 1 for found in files)


@pytest.mark.parametrize("dtype", ["fp32", "float32", torch.float32, "fp16", "bf16", torch.float64])
@pytest.mark.parametrize("staging", [64, 1000, 32 * 2**20])
def test_converting_while_reading(original: Path, dtype: Any, staging: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fill_module, "STAGING_BYTES", staging)
    loaded = load_model(original, dtype=dtype)
    expected = random_model(TINY).to(loaded.dtype)
    assert weights(loaded) == weights(expected)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"dtype": "int4"}, "dtype is 'int4', expected None, one of bf16"),
        ({"dtype": torch.int8}, "dtype is torch.int8"),
        ({"dtype": 16}, "dtype is 16"),
        ({"dtype": []}, "dtype is []"),
        ({"device": "gpu"}, "device is 'gpu', which cannot be used here"),
        ({"device": "meta"}, "holds no values"),
        ({"device": 3.5}, "device is 3.5"),
        ({"layers": range(0, 5)}, "layers is range(0, 5), expected range(a, b) with 0 <= a < b <= 4"),
        ({"layers": range(2, 2)}, "layers is range(2, 2)"),
        ({"layers": range(0, 4, 2)}, "layers is range(0, 4, 2)"),
        ({"layers": range(-1, 2)}, "layers is range(-1, 2)"),
        ({"layers": [0, 1]}, "layers is [0, 1]"),
    ],
)
def test_bad_arguments(original: Path, arguments: dict[str, Any], sentence: str) -> None:
    with pytest.raises(BadArgument) as caught:
        load_model(original, **arguments)
    assert sentence in str(caught.value)


# ---------------------------------------------------------------- slices


@pytest.mark.parametrize("name", CONFIGS)
def test_two_slices_compose_to_the_whole(tmp_path: Path, name: str) -> None:
    save_tiny(tmp_path, CONFIGS[name])
    whole = load_model(tmp_path)
    for cut in (1, 2, 3):
        first, last = load_model(tmp_path, layers=range(0, cut)), load_model(tmp_path, layers=range(cut, 4))
        assert weights(first).items() <= weights(whole).items()
        assert (first.layer_range, last.layer_range) == (range(0, cut), range(cut, 4))
        assert torch.equal(last(hidden=first(IDS)), whole(IDS))


def test_a_slice_reads_its_own_bytes_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_tiny(tmp_path, shard_bytes=1000)
    read_from: list[tuple[str, int, int]] = []
    plain = PositionedFile.read_into

    def watched(self: PositionedFile, destination: memoryview, offset: int) -> None:
        read_from.append((self.path.name, offset, len(destination)))
        plain(self, destination, offset)

    monkeypatch.setattr(PositionedFile, "read_into", watched)
    model = load_model(tmp_path, layers=range(2, 3))
    payload = 0
    for name, offset, count in read_from:
        path = tmp_path / name
        if path.suffix != ".safetensors":
            continue
        start = 8 + int.from_bytes(path.read_bytes()[:8], "little")
        if offset >= start:
            payload += count
            inside = [key for key, entry in split_file(path)[0].items()
                      if key != "__metadata__" and entry["data_offsets"] == [offset - start, offset - start + count]]  # fmt: skip
            assert len(inside) == 1 and inside[0].startswith("model.layers.2.")
    assert payload == sum(parameter.nbytes for parameter in model.parameters())


def test_a_slice_needs_only_its_own_files(tmp_path: Path) -> None:
    whole = save_tiny(tmp_path, shard_bytes=1000)
    weight_map = json.loads((tmp_path / "model.safetensors.index.json").read_text())["weight_map"]
    needed = {file for name, file in weight_map.items() if name.startswith("model.layers.2.")}
    for path in tmp_path.glob("*.safetensors"):
        if path.name not in needed:
            path.unlink()
    assert weights(load_model(tmp_path, layers=range(2, 3))).items() <= weights(whole).items()


# ---------------------------------------------------------------- fused experts, tied heads


def rewrite(directory: Path, model: Transformer, change: Callable[[dict[str, Tensor]], None]) -> None:
    """Replace the weight files by one of the safetensors library's, after `change` to the tensors by name."""
    from safetensors.torch import load_file, save_file

    tensors: dict[str, Tensor] = {}
    for path in sorted(directory.glob("*.safetensors")):
        tensors |= load_file(path)
        path.unlink()
    (directory / "model.safetensors.index.json").unlink(missing_ok=True)
    change(tensors)
    save_file(tensors, directory / "model.safetensors")


def fuse(tensors: dict[str, Tensor]) -> None:
    for layer in TINY.moe_layers:
        prefix = f"model.layers.{layer}.mlp.experts."
        parts = [[tensors.pop(f"{prefix}{e}.{kind}_proj.weight") for e in range(12)] for kind in ("gate", "up", "down")]
        tensors[prefix + "gate_up_proj"] = torch.cat([torch.stack(parts[0]), torch.stack(parts[1])], dim=1)
        tensors[prefix + "down_proj"] = torch.stack(parts[2])


@pytest.mark.parametrize("dtype", [None, "fp32"])
def test_fused_experts(tmp_path: Path, dtype: str | None) -> None:
    model = save_tiny(tmp_path)
    rewrite(tmp_path, model, fuse)
    loaded = load_model(tmp_path, dtype=dtype)
    assert weights(loaded) == weights(model.to(loaded.dtype))


def test_fused_and_single_experts_in_one_layer_are_refused(tmp_path: Path) -> None:
    model = save_tiny(tmp_path)
    one = "model.layers.0.mlp.experts.3.up_proj.weight"

    def both(tensors: dict[str, Tensor]) -> None:
        kept = tensors[one].clone()
        fuse(tensors)
        tensors[one] = kept

    rewrite(tmp_path, model, both)
    with pytest.raises(IndexMismatch, match=f"hold '{one}', which the model of config.json has no place for"):
        load_model(tmp_path)


def test_a_tied_head_may_be_stored_if_it_is_the_embedding(tmp_path: Path) -> None:
    model = save_tiny(tmp_path, CONFIGS["tied"])
    assert "lm_head.weight" not in weights(model)
    rewrite(tmp_path, model, lambda t: t.update({"lm_head.weight": t["model.embed_tokens.weight"].clone()}))
    loaded = load_model(tmp_path)
    assert weights(loaded) == weights(model) and loaded.lm_head.weight is loaded.embed_tokens.weight
    assert torch.equal(load_model(tmp_path, layers=range(3, 4)).lm_head.weight, model.embed_tokens.weight)
    rewrite(tmp_path, model, lambda t: t["lm_head.weight"][47, 15].add_(1))
    for layers in (None, range(3, 4)):
        with pytest.raises(WrongModel, match=r"lm_head\.weight differs from model\.embed_tokens\.weight"):
            load_model(tmp_path, layers=layers)


# ---------------------------------------------------------------- another model, or not all of one


def refused(directory: Path, kind: type[Exception], **arguments: Any) -> str:
    """The message of the refusal; no payload may have been read before it."""
    with pytest.raises(kind) as caught:
        load_model(directory, **arguments)
    return str(caught.value)


@pytest.fixture
def no_payload(monkeypatch: pytest.MonkeyPatch) -> None:
    def touched(*_: Any) -> None:
        raise AssertionError("weights were read before the checkpoint was checked")

    monkeypatch.setattr(read, "fill", touched)
    monkeypatch.setattr(read, "same_bytes", touched)


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
        ({"intermediate_size": 21}, WrongModel, "layers.1.mlp.gate_proj.weight is [20, 16], config.json implies [21, 16]"),
        ({"num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16}, WrongModel, "_norm.weight is [8], config.json implies [16]"),
        ({"model_type": "qwen3"}, WrongModel, "experts none, expert width none, file has experts 12, expert width 24"),
        ({"mlp_only_layers": []}, WrongModel, "the files lack model.layers.1.mlp.gate.weight"),
        ({"mlp_only_layers": [0, 1]}, WrongModel, "and hold 'model.layers.0.mlp.experts.0.down_proj.weight'"),
        ({"torch_dtype": "float16"}, WrongModel, "is stored as BF16, config.json says torch_dtype float16 (F16)"),
        ({"tie_word_embeddings": True}, None, ""),
        ({"quantization_config": {"quant_method": "fp8"}}, UnsupportedModel, "quantization_config (quant_method 'fp8')"),
    ],
)  # fmt: skip
def test_a_config_of_another_model(tiny: Path, change: dict[str, Any], kind: Any, sentence: str) -> None:
    edit_json(tiny / "config.json", lambda config: config.update(change))
    if kind is None:
        with pytest.raises(AssertionError, match="weights were read"):
            load_model(tiny)
    else:
        assert sentence in refused(tiny, kind)


@pytest.mark.usefixtures("no_payload")
def test_the_other_member_of_the_family_is_named(tmp_path: Path) -> None:
    write_sparse(tmp_path, ModelConfig.named("Qwen3-30B-A3B"))
    (tmp_path / "config.json").write_text(json.dumps(ModelConfig.named("Qwen3-235B-A22B").to_dict()))
    message = refused(tmp_path, WrongModel)
    assert "config says 94 layers x 4096, file has 48 x 2048: this is Qwen3-30B-A3B." in message
    (tmp_path / "config.json").write_text(json.dumps(ModelConfig.named("Qwen3-30B-A3B").to_dict()))
    layer = refused(tmp_path, AssertionError, layers=range(40, 41))  # all checks passed, reading would begin
    assert "weights were read" in layer


@pytest.mark.usefixtures("no_payload")
def test_more_than_the_machine_holds(tmp_path: Path) -> None:
    write_sparse(tmp_path, ModelConfig.named("Qwen3-235B-A22B"))
    if os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") > 470_187_269_120:
        pytest.skip("this machine holds the 235B")
    assert "the weights need 470,187,269,120 bytes on cpu" in refused(tmp_path, PlanTooBig)
    assert "the weights need 940,374,538,240 bytes" in refused(tmp_path, PlanTooBig, dtype="fp32")


def without(name: str) -> Callable[[dict[str, Tensor]], None]:
    return lambda tensors: tensors.__delitem__(name)


@pytest.mark.usefixtures("no_payload")
def test_a_lost_expert(tmp_path: Path) -> None:
    model = save_tiny(tmp_path)
    rewrite(tmp_path, model, without("model.layers.2.mlp.experts.7.up_proj.weight"))
    message = refused(tmp_path, IncompleteLoad)
    assert "layer 2 experts.up_proj: expert 7 would not be filled" in message
    assert "no file holds model.layers.2.mlp.experts.7.up_proj.weight" in message
    with pytest.raises(AssertionError, match="weights were read"):
        load_model(tmp_path, layers=range(0, 2))


@pytest.mark.usefixtures("no_payload")
@pytest.mark.parametrize("name", ["lm_head.weight", "model.norm.weight", "model.layers.0.mlp.gate.weight"])
def test_a_lost_tensor(tmp_path: Path, name: str) -> None:
    model = save_tiny(tmp_path)
    rewrite(tmp_path, model, without(name))
    assert f"{name.removeprefix('model.')} would not be filled" in refused(tmp_path, IncompleteLoad)


@pytest.mark.usefixtures("no_payload")
@pytest.mark.parametrize("name", ["model.layers.0.mlp.experts.12.up_proj.weight", "model.layers.0.mlp.bias", "norm.weight"])
def test_a_tensor_nobody_asked_for(tmp_path: Path, name: str) -> None:
    model = save_tiny(tmp_path)
    rewrite(tmp_path, model, lambda tensors: tensors.update({name: torch.zeros(12, 16, dtype=torch.bfloat16)}))
    assert f"hold {name!r}" in refused(tmp_path, IndexMismatch)


@pytest.mark.usefixtures("no_payload")
def test_one_tensor_of_another_dtype(tmp_path: Path) -> None:
    model = save_tiny(tmp_path)
    rewrite(tmp_path, model, lambda t: t.update({"model.norm.weight": t["model.norm.weight"].half()}))
    assert "model.norm.weight is stored as F16, config.json says torch_dtype bfloat16" in refused(tmp_path, WrongModel)


@pytest.mark.usefixtures("no_payload")
def test_swapped_shapes(tiny: Path) -> None:
    for path in tiny.glob("*.safetensors"):

        def turn(header: dict[str, Any]) -> None:
            for name, entry in header.items():
                if name.endswith("experts.5.down_proj.weight"):
                    entry["shape"].reverse()

        edit_header(path, turn)
    assert "experts.5.down_proj.weight is [24, 16], config.json implies [16, 24]" in refused(tiny, WrongModel)


# ---------------------------------------------------------------- while reading


def test_a_file_cut_while_it_is_read(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    last = sorted(tiny.glob("*.safetensors"))[-1]
    plain = read.fill
    monkeypatch.setattr(read, "fill", lambda *args: (os.truncate(last, last.stat().st_size - 1), plain(*args)))
    assert f"{last} was changed while the checkpoint was being loaded" in refused(tiny, ReadFailed)


def test_a_file_replaced_while_it_is_read(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    last = sorted(tiny.glob("*.safetensors"))[-1]
    (tiny / "copy").write_bytes(last.read_bytes())
    plain = read.fill
    monkeypatch.setattr(read, "fill", lambda *args: (os.replace(tiny / "copy", last), plain(*args)))
    assert "was changed while the checkpoint was being loaded" in refused(tiny, ReadFailed)


def test_short_reads_are_continued_and_an_early_end_is_an_error(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected, plain = weights(load_model(tiny)), os.preadv
    monkeypatch.setattr(os, "preadv", lambda fd, parts, offset: plain(fd, [parts[0][:7]], offset))
    assert weights(load_model(tiny)) == expected
    monkeypatch.setattr(os, "preadv", lambda fd, parts, offset: 0 if offset > 5000 else plain(fd, parts, offset))
    assert "ends at" in refused(tiny, ReadFailed)


def test_the_ledger_takes_every_row_once() -> None:
    ledger = Ledger(random_model(TINY))
    with pytest.raises(IncompleteLoad, match=r"layers\.9\.mlp is no part of the model"):
        ledger.fill("layers.9.mlp", None)
    rows = sorted(ledger.open, key=str)
    for row in rows:
        if row != ("layers.2.mlp.experts.up_proj", 5):
            ledger.fill(*row)
    with pytest.raises(IncompleteLoad, match=r"layers\.2\.mlp\.experts\.up_proj: expert 5 was not filled \(1 such"):
        ledger.close()
    with pytest.raises(IncompleteLoad, match=r"expert 4 was filled twice"):
        ledger.fill("layers.2.mlp.experts.up_proj", 4)
    ledger.fill("layers.2.mlp.experts.up_proj", 5)
    ledger.close()


def test_memory_is_the_parameters_and_one_buffer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted, not measured: what torch.empty hands out while loading."""
    model = save_tiny(tmp_path)
    handed_out, plain = [], torch.empty

    def counted(*args: Any, **kwargs: Any) -> Tensor:
        made = plain(*args, **kwargs)
        if made.device.type == "cpu":
            handed_out.append(made.nbytes)
        return made

    monkeypatch.setattr(torch, "empty", counted)
    load_model(tmp_path)
    assert sum(handed_out) == sum(parameter.nbytes for parameter in model.parameters())
    handed_out.clear()
    load_model(tmp_path, dtype="fp32")
    assert sum(handed_out) == 2 * sum(parameter.nbytes for parameter in model.parameters()) + fill_module.STAGING_BYTES


def test_both_spellings_of_the_config(tiny: Path) -> None:
    expected = load_model(tiny)

    def modern(config: dict[str, Any]) -> None:
        config["num_local_experts"] = config.pop("num_experts")
        config["dtype"] = config.pop("torch_dtype")
        config["rope_parameters"] = {"rope_theta": config.pop("rope_theta"), "rope_type": "default"}
        del config["rope_scaling"]

    edit_json(tiny / "config.json", modern)
    loaded = load_model(tiny)
    assert loaded.config == expected.config and weights(loaded) == weights(expected)
