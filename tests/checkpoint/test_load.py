"""load: the right bytes in the right rows, no unneeded reads, and no incomplete model."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import minimoe.checkpoint.weights.tensor_reader as fill_module
from minimoe.checkpoint.load import load, load_model
from minimoe.checkpoint.safetensors.pread import PositionedFile
from minimoe.checkpoint.save import save
from minimoe.errors import (
    BadArgument,
    BadTokenizer,
    IndexMismatch,
    WrongModel,
)
from minimoe.text.tokenizer import Tokenizer
from tests.checkpoint.fake import (
    DENSE,
    TINY,
    edit_json,
    random_model,
    rewrite,
    save_tiny,
    split_file,
    weights,
)
from tests.text.tiny import write_tokenizer

IDS = torch.tensor([[3, 1, 4, 1, 5, 9, 2, 6]])
CONFIGS = {
    "moe": TINY,
    "dense": DENSE,
    "tied": replace(TINY, tie_word_embeddings=True),
    "fp32": replace(TINY, dtype="float32"),
}


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
    files = [
        {weight_map[f"model.layers.0.mlp.experts.{e}.{kind}_proj.weight"] for kind in ("gate", "up", "down")}
        for e in range(12)
    ]
    assert any(len(found) > 1 for found in files)


@pytest.mark.parametrize("dtype", ["fp32", "float32", torch.float32, "fp16", "bf16", torch.float64])
@pytest.mark.parametrize("staging", [64, 1000, 8 * 2**20])
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


def test_the_tokenizer_is_loaded(tmp_path: Path) -> None:
    write_tokenizer(tmp_path, template="{{ messages[0].content }}")
    size = Tokenizer.from_directory(tmp_path).vocabulary_size
    model = save_tiny(tmp_path, replace(TINY, vocab_size=size + 3))
    loaded, tokenizer = load(tmp_path)
    assert weights(loaded) == weights(model) and tokenizer.decode(tokenizer.encode("a b")) == "a b"
    save(loaded, tokenizer, tmp_path / "again")
    _, again = load(tmp_path / "again")
    assert again.files == tokenizer.files and {"vocab.json", "merges.txt"} <= again.files.keys()


def test_a_tokenizer_of_a_larger_model_is_refused(tmp_path: Path) -> None:
    write_tokenizer(tmp_path)
    size = Tokenizer.from_directory(tmp_path).vocabulary_size
    save_tiny(tmp_path, replace(TINY, vocab_size=size - 1))
    with pytest.raises(BadTokenizer, match=f"the tokenizer has {size:,} tokens"):
        load(tmp_path)
    for file in tmp_path.glob("vocab*"):
        file.unlink()
    with pytest.raises(BadTokenizer):
        load(tmp_path)
    load_model(tmp_path)


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
            inside = [
                key
                for key, entry in split_file(path)[0].items()
                if key != "__metadata__" and entry["data_offsets"] == [offset - start, offset - start + count]
            ]
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


def fuse(tensors: dict[str, Tensor]) -> None:
    for layer in TINY.moe_layers:
        prefix = f"model.layers.{layer}.mlp.experts."
        parts = [[tensors.pop(f"{prefix}{e}.{kind}_proj.weight") for e in range(12)] for kind in ("gate", "up", "down")]
        tensors[prefix + "gate_up_proj"] = torch.cat([torch.stack(parts[0]), torch.stack(parts[1])], dim=1)
        tensors[prefix + "down_proj"] = torch.stack(parts[2])


@pytest.mark.parametrize("dtype", [None, "fp32"])
def test_fused_experts(tmp_path: Path, dtype: str | None) -> None:
    model = save_tiny(tmp_path)
    rewrite(tmp_path, fuse)
    loaded = load_model(tmp_path, dtype=dtype)
    assert weights(loaded) == weights(model.to(loaded.dtype))


def test_fused_and_single_experts_in_one_layer_are_refused(tmp_path: Path) -> None:
    save_tiny(tmp_path)
    one = "model.layers.0.mlp.experts.3.up_proj.weight"

    def both(tensors: dict[str, Tensor]) -> None:
        kept = tensors[one].clone()
        fuse(tensors)
        tensors[one] = kept

    rewrite(tmp_path, both)
    with pytest.raises(IndexMismatch, match=f"hold '{one}', which the model of config.json has no place for"):
        load_model(tmp_path)


def test_a_tied_head_may_be_stored_if_it_is_the_embedding(tmp_path: Path) -> None:
    model = save_tiny(tmp_path, CONFIGS["tied"])
    assert "lm_head.weight" not in weights(model)
    rewrite(tmp_path, lambda t: t.update({"lm_head.weight": t["model.embed_tokens.weight"].clone()}))
    loaded = load_model(tmp_path)
    assert weights(loaded) == weights(model) and loaded.lm_head.weight is loaded.embed_tokens.weight
    assert torch.equal(load_model(tmp_path, layers=range(3, 4)).lm_head.weight, model.embed_tokens.weight)
    rewrite(tmp_path, lambda t: t["lm_head.weight"][47, 15].add_(1))
    for layers in (None, range(3, 4)):
        with pytest.raises(WrongModel, match=r"lm_head\.weight differs from model\.embed_tokens\.weight"):
            load_model(tmp_path, layers=layers)
