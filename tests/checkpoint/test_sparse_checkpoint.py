"""Sparse checkpoints: full size in names, headers and index, almost no disk space."""

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from safetensors import safe_open

from minimoe import ModelConfig
from minimoe.checkpoint import sparse_checkpoint as sparse
from minimoe.checkpoint.load import load_model
from minimoe.checkpoint.resolve import INDEX
from minimoe.checkpoint.safetensors.header import read_header
from minimoe.checkpoint.sparse_checkpoint import MARKER, disk_bytes, remove_sparse, write_sparse
from minimoe.checkpoint.verify import verify
from minimoe.errors import BadArgument, MissingShard, NotFound, WriteFailed
from minimoe.scale.planner.model_size import plan
from tests.checkpoint.fake import TINY, refused, save_tiny

BIG = ModelConfig.named("Qwen3-235B-A22B")


def test_the_235b_has_its_full_size_and_uses_some_megabytes(tmp_path: Path) -> None:
    folder = write_sparse(tmp_path / "big", BIG)
    headers = [read_header(file) for file in sorted(folder.glob("*.safetensors"))]
    assert len(headers) == 118
    assert sum(len(header.tensors) for header in headers) == 36_945
    assert sum(header.payload_bytes for header in headers) == 470_187_269_120
    index = json.loads((folder / INDEX).read_text())
    assert index["metadata"]["total_size"] == 470_187_269_120
    assert {name: header.file.name for header in headers for name in header.tensors} == index["weight_map"]
    assert ModelConfig.from_file(folder) == BIG
    says, takes = disk_bytes(folder)
    assert says > 470_187_269_120
    assert takes < 32_000_000
    remove_sparse(folder)
    assert not folder.exists()


def test_the_safetensors_library_reads_it_and_finds_zeros(tmp_path: Path) -> None:
    folder = write_sparse(tmp_path / "tiny", TINY, shard_bytes=16_000)
    with safe_open(folder / "model-00001-of-00007.safetensors", framework="pt") as file:
        shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
        assert shapes["model.embed_tokens.weight"] == (48, 16)
        assert not any(file.get_tensor(name).any() for name in shapes)
    assert not any(parameter.any() for parameter in load_model(folder).parameters())


OWN = {"quant_method": "minimoe", "group_size": 128}
PACKED = {
    "fp8": ModelConfig.named("Qwen3-235B-A22B-FP8"),
    "gptq-int4": ModelConfig.named("Qwen3-235B-A22B-GPTQ-Int4"),
    "int4": replace(BIG, quantization_config=OWN | {"bits": 4}),
    "int8": replace(BIG, quantization_config=OWN | {"bits": 8}),
}


@pytest.mark.parametrize("precision", PACKED)
def test_packed_formats_have_the_size_that_the_planner_gives_them(tmp_path: Path, precision: str) -> None:
    config = replace(PACKED[precision], num_hidden_layers=6)
    folder = write_sparse(tmp_path / precision, config)
    report = verify(folder)
    assert report.ok, report
    plain = replace(config, quantization_config=None)
    assert report.payload_bytes == plan(config).weight_bytes == plan(plain, precision=precision).weight_bytes
    packed = 6 * (4 + 3 * 128)
    assert report.tensors == 3 + 6 * (9 + 3 * 128) + packed * (3 if precision == "gptq-int4" else 1)


@pytest.mark.parametrize("bits", [4, 8])
def test_a_packed_checkpoint_loads_as_zeros(tmp_path: Path, bits: int) -> None:
    folder = write_sparse(tmp_path, replace(TINY, quantization_config=OWN | {"bits": bits}), shard_bytes=9_000)
    model = load_model(folder)
    assert not model.layers[0].mlp.experts.gate_proj[0].any()
    assert not model.layers[0].self_attn.q_proj.weight.any()


def test_shards_can_be_left_out(tmp_path: Path) -> None:
    folder = write_sparse(tmp_path / "part", TINY, shard_bytes=16_000, drop=[2])
    assert "1 of 7 files" in refused(folder, MissingShard)
    remove_sparse(folder)
    assert not folder.exists()


def test_a_small_model_is_one_file_without_an_index(tmp_path: Path) -> None:
    folder = write_sparse(tmp_path, TINY)
    assert {file.name for file in folder.iterdir()} == {"model.safetensors", "config.json", MARKER}
    assert load_model(folder).config == TINY


def test_existing_weights_are_neither_overwritten_nor_deleted(tmp_path: Path) -> None:
    save_tiny(tmp_path)
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    with pytest.raises(BadArgument, match="Choose an empty folder"):
        write_sparse(tmp_path, TINY)
    with pytest.raises(NotFound, match="Nothing was deleted"):
        remove_sparse(tmp_path)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


def test_other_files_are_kept(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    write_sparse(tmp_path, TINY)
    remove_sparse(tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["notes.txt"]


def test_a_modified_marker_deletes_nothing_outside(tmp_path: Path) -> None:
    folder, outside = tmp_path / "in", tmp_path / "out.safetensors"
    write_sparse(folder, TINY)
    outside.write_text("mine")
    marker = json.loads((folder / MARKER).read_text())
    (folder / MARKER).write_text(json.dumps(marker | {"files": ["../out.safetensors", *marker["files"]]}))
    remove_sparse(folder)
    assert outside.read_text() == "mine"


def filled(path: Path, size: int) -> None:
    """A file system without sparse files."""
    assert size <= sparse.TRIAL_BYTES, "a large file was made before holes were tried"
    Path(path).write_bytes(bytes(size))


def too_large(path: Path, size: int) -> None:
    """A file system with a smaller limit on file sizes."""
    if size > sparse.TRIAL_BYTES:
        raise OSError(27, "File too large")


def no_room(path: Path, size: int) -> None:
    """A disk that is full after the second shard."""
    if len(list(Path(path).parent.glob("model-*"))) == 2:
        raise OSError(28, "No space left on device")


@pytest.mark.parametrize("new", [True, False])
@pytest.mark.parametrize(
    ("truncate", "sentence"),
    [(filled, "without sparse files"), (too_large, "File too large"), (no_room, "No space left on device")],
)
def test_an_unsuitable_file_system_leaves_nothing_behind(
    truncate: Any, sentence: str, new: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, folder = os.truncate, tmp_path / "sparse" if new else tmp_path

    def pretend(path: Path, size: int) -> None:
        plain(path, size)
        truncate(path, size)

    monkeypatch.setattr(os, "truncate", pretend)
    with pytest.raises(WriteFailed, match=sentence):
        write_sparse(folder, ModelConfig.named("Qwen3-30B-A3B"))
    assert not list(tmp_path.iterdir())
