"""save: the released layout on disk, atomic replacement, and no change to unrelated files."""

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open

from minimoe import ModelConfig, Transformer
from minimoe.checkpoint import save as save_module
from minimoe.checkpoint import shard_writer
from minimoe.checkpoint.folder_transaction import DECIDED, JOURNAL
from minimoe.checkpoint.load import load_model
from minimoe.checkpoint.save import save
from minimoe.checkpoint.verify import verify
from minimoe.errors import BadArgument, UnsafeIndex, WriteFailed
from minimoe.scale.distributed.pipeline_parallel import LayerSplit
from minimoe.scale.distributed.tensor_parallel import TensorSplit
from minimoe.scale.streaming.stream import stream_model
from tests.checkpoint.fake import DENSE, SHARD_BYTES, TINY, random_model, save_tiny, weights

INDEX = "model.safetensors.index.json"


class FakeTokenizer:
    """The part of a tokenizer that save uses."""

    def __init__(self, **files: bytes):
        self.files = {name.replace("__", "."): content for name, content in files.items()}


def listing(directory: Path) -> set[str]:
    return {str(path.relative_to(directory)) for path in directory.rglob("*")}


def test_the_released_layout(tmp_path: Path) -> None:
    model = save_tiny(tmp_path)
    index = json.loads((tmp_path / INDEX).read_text())
    shards = sorted(tmp_path.glob("*.safetensors"))
    assert [path.name for path in shards] == [
        f"model-{n:05}-of-{len(shards):05}.safetensors" for n in range(1, len(shards) + 1)
    ]
    assert len(shards) > 2
    assert index["metadata"]["total_size"] == sum(parameter.nbytes for parameter in model.parameters())
    seen: dict[str, str] = {}
    for path in shards:
        with safe_open(path, "pt") as opened:
            names = list(opened.offset_keys())
            assert names == sorted(names) and opened.metadata() == {"format": "pt"}
            assert sum(opened.get_tensor(name).nbytes for name in names) <= SHARD_BYTES
            seen |= dict.fromkeys(names, path.name)
            for name in names:
                if name == "model.layers.2.mlp.experts.10.down_proj.weight":
                    assert torch.equal(opened.get_tensor(name), model.layers[2].mlp.experts.down_proj[10])
    assert seen == index["weight_map"] and "model.layers.2.mlp.experts.10.down_proj.weight" in seen
    config = json.loads((tmp_path / "config.json").read_text())
    assert {"num_experts", "torch_dtype", "rope_theta"} <= config.keys() and config["torch_dtype"] == "bfloat16"


def test_one_shard_has_no_index(tmp_path: Path) -> None:
    save(random_model(), None, tmp_path)
    assert listing(tmp_path) == {"config.json", "model.safetensors"}


def test_the_dtype_is_that_of_the_parameters(tmp_path: Path) -> None:
    model = random_model().to(torch.float32)
    save(model, None, tmp_path)
    assert load_model(tmp_path).dtype == torch.float32


def test_replacing_removes_old_files_and_keeps_unrelated_ones(tmp_path: Path) -> None:
    save(random_model(seed=1), FakeTokenizer(vocab__json=b"old", merges__txt=b"old"), tmp_path, SHARD_BYTES)
    foreign = {
        "notes.txt": b"mine",
        "optimizer.pt": b"mine",
        "adapter.safetensors": b"mine",
        "model-00001-of-00099.safetensors": b"mine",
    }
    for name, content in foreign.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "config.json").write_bytes(b"mine")
    for seed, shard_bytes in ((2, SHARD_BYTES // 2), (3, 10**9), (4, SHARD_BYTES)):
        model = random_model(seed=seed)
        save(model, FakeTokenizer(tokenizer__json=b"new"), tmp_path, shard_bytes)
        assert weights(load_model(tmp_path)) == weights(model)
        index = (
            json.loads((tmp_path / INDEX).read_text())
            if shard_bytes < 10**9
            else {"weight_map": {"": "model.safetensors"}}
        )
        own = {"config.json", "tokenizer.json", *index["weight_map"].values()} | (
            {INDEX} if shard_bytes < 10**9 else set()
        )
        assert listing(tmp_path) == own | foreign.keys() | {"runs", "runs/config.json"}
        assert {name: (tmp_path / name).read_bytes() for name in foreign} == foreign
        assert (tmp_path / "runs" / "config.json").read_bytes() == b"mine"


def test_without_a_tokenizer_its_files_are_kept(tmp_path: Path) -> None:
    save(random_model(), FakeTokenizer(tokenizer__json=b"kept"), tmp_path)
    save(random_model(seed=1), None, tmp_path)
    assert (tmp_path / "tokenizer.json").read_bytes() == b"kept"


def test_a_link_is_replaced_not_followed(original: Path, tmp_path: Path) -> None:
    for file in original.iterdir():
        (tmp_path / file.name).symlink_to(file)
    before = {file.name: file.read_bytes() for file in original.iterdir()}
    model = save_tiny(tmp_path, seed=5)
    assert weights(load_model(tmp_path)) == weights(model)
    assert {file.name: file.read_bytes() for file in original.iterdir()} == before


def meta_model() -> Transformer:
    with torch.device("meta"):
        return Transformer(TINY)


def mixed_model() -> Transformer:
    model = random_model()
    model.norm.float()
    return model


@pytest.mark.parametrize(
    ("model", "arguments", "sentence"),
    [
        (lambda: Transformer(TINY, range(1, 4)), {}, "model holds layers 1..3 of 4; only a whole model can be saved"),
        (meta_model, {}, "on the meta device"),
        (mixed_model, {}, "model has parameters of"),
        (random_model, {"max_shard_bytes": 0}, "max_shard_bytes is 0"),
        (random_model, {"max_shard_bytes": "4GB"}, "max_shard_bytes is '4GB'"),
        (random_model, {"tokenizer": FakeTokenizer(**{"../x": b""})}, "names '../x'"),
    ],
)
def test_invalid_models_and_arguments(tmp_path: Path, model: Any, arguments: dict[str, Any], sentence: str) -> None:
    with pytest.raises(BadArgument) as caught:
        save(model(), arguments.pop("tokenizer", None), tmp_path / "new", **arguments)
    assert sentence in str(caught.value) and not (tmp_path / "new").exists()


@pytest.mark.parametrize("config", [TINY, DENSE, replace(DENSE, tie_word_embeddings=True)])
def test_a_part_of_a_model_cannot_be_saved(tmp_path: Path, config: ModelConfig) -> None:
    save_tiny(tmp_path, config)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    parts = [TensorSplit(config, 0, 2), TensorSplit(config, 1, 2), LayerSplit(config, 0, 2), LayerSplit(config, 1, 2)]
    for part in [*parts, stream_model(tmp_path, 10**8)]:
        with pytest.raises(BadArgument, match="only a whole model can be saved"):
            save(part, None, tmp_path)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_target_that_cannot_be_replaced(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(BadArgument, match="which is a file"):
        save(random_model(), None, tmp_path / "file")
    (tmp_path / "config.json").mkdir()
    with pytest.raises(BadArgument, match="is a folder, where a file of that name is to be saved"):
        save(random_model(), None, tmp_path)
    assert listing(tmp_path) == {"file", "config.json"}


def test_a_full_disk_leaves_the_old_checkpoint(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {path: path.read_bytes() for path in tiny.iterdir()}

    def full(*_: Any) -> bytes:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shard_writer, "memory_of", full)
    with pytest.raises(WriteFailed, match=r"No space left on device\. Its previous files are unchanged"):
        save(random_model(seed=1), None, tiny)
    assert {path: path.read_bytes() for path in tiny.iterdir()} == before


def test_a_save_needs_memory_for_one_tensor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every tensor is written from a parameter's own memory."""
    model = random_model()
    own = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    plain = save_module.values_of

    def watched(*args: Any) -> torch.Tensor:
        value = plain(*args)
        assert value.untyped_storage().data_ptr() in own
        return value

    monkeypatch.setattr(save_module, "values_of", watched)
    save(model, None, tmp_path)


def decide(directory: Path, journal: str) -> None:
    (directory / DECIDED).mkdir()
    (directory / DECIDED / JOURNAL).write_text(journal)


@pytest.mark.parametrize(
    "journal",
    [
        "",
        "[]",
        "{}",
        "[" * 100_000,
        '{"files": ["../x"], "remove": []}',
        '{"files": [], "remove": ["../x"]}',
        '{"files": [], "remove": ["/etc/x"]}',
        '{"files": [], "remove": [".."]}',
        '{"files": [3], "remove": []}',
        '{"files": 3, "remove": []}',
    ],
)
def test_a_downloaded_journal_is_validated(tiny: Path, journal: str) -> None:
    (tiny.parent / "x").write_bytes(b"outside")
    decide(tiny, journal)
    with pytest.raises(UnsafeIndex, match="is not a journal of plain file names"):
        load_model(tiny)
    assert (tiny.parent / "x").read_bytes() == b"outside"


def test_a_committed_folder_that_is_a_link_is_ignored(tiny: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "config.json").write_bytes(b"{}")
    (elsewhere / JOURNAL).write_text('{"files": ["config.json"], "remove": []}')
    (tiny / DECIDED).symlink_to(elsewhere)
    load_model(tiny)
    assert (elsewhere / "config.json").exists()


def test_a_read_only_folder(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {path: path.read_bytes() for path in tiny.iterdir()}

    def denied(*_: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "rename", denied)
    with pytest.raises(WriteFailed, match="Permission denied"):
        save(random_model(seed=1), None, tiny)
    assert {path: path.read_bytes() for path in tiny.iterdir()} == before


def test_saved_models_verify(tmp_path: Path) -> None:
    for config in (TINY, replace(TINY, tie_word_embeddings=True), ModelConfig.from_dict(TINY.to_dict())):
        save_tiny(tmp_path, config)
        report = verify(tmp_path)
        assert report.ok and report.parameters == config.total_parameters


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes of POSIX")
def test_a_pipe_with_the_name_of_a_file(tmp_path: Path) -> None:
    index = tmp_path / "model.safetensors.index.json"
    os.mkfifo(index)
    with pytest.raises(BadArgument, match="is a pipe, where a file of that name is to be saved"):
        save(random_model(), None, tmp_path, max_shard_bytes=SHARD_BYTES)
    assert list(tmp_path.iterdir()) == [index]
    save(random_model(), None, tmp_path)  # a single shard needs no index
    assert index.is_fifo()


def test_a_new_folder_is_removed_if_nothing_was_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("minimoe.checkpoint.save.write_weights", lambda *_: 1 / 0)
    for folder in (tmp_path / "new", tmp_path / "old"):
        (tmp_path / "old").mkdir(exist_ok=True)
        with pytest.raises(ZeroDivisionError):
            save(random_model(), None, folder)
    assert [path.name for path in tmp_path.iterdir()] == ["old"]
