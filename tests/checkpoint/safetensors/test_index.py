"""The index: errors before any weight file is opened, and contradictions between index and headers."""

import codecs
import json
from pathlib import Path
from typing import Any

import pytest

from minimoe import paths
from minimoe.checkpoint.load import load_model
from minimoe.errors import IndexMismatch, MissingShard, NotFound, NotSafetensors, UnsafeIndex
from tests.checkpoint.fake import TINY, edit_header, edit_json, first_shard, refused, split_file

INDEX = "model.safetensors.index.json"


@pytest.mark.parametrize(
    "name",
    [
        "../x.safetensors",
        "/etc/x.safetensors",
        "sub/x.safetensors",
        "..\\x.safetensors",
        "C:x.safetensors",
        "x\0.safetensors",
        "model.bin",
        "pytorch_model.pt",
        "",
        ".safetensors/",
        "x.safetensors\n",
        "~/x.safetensors",
        "ä.safetensors",
        None,
        7,
        ["x.safetensors"],
    ],
)
def test_only_plain_file_names(tiny: Path, name: Any) -> None:
    edit_json(tiny / INDEX, lambda index: index["weight_map"].update({"lm_head.weight": name}))
    message = refused(tiny, UnsafeIndex)
    assert f"index entry for 'lm_head.weight' points to {name!r}; only plain file names" in message


@pytest.mark.parametrize(
    ("total", "shown"),
    [
        ("NaN", "NaN"),
        ("-1", "-1"),
        ('"7"', "'7'"),
        (str(2**63), str(2**63)),
        ("1e999", "inf"),
        ("true", "True"),
        ("7.0", "is 7.0"),
        ("[1]", "[1]"),
        ("7", "is 7 bytes"),
        ("0", "0 bytes"),
    ],
)
def test_invalid_total_sizes(tiny: Path, total: str, shown: str) -> None:
    text = (tiny / INDEX).read_text()
    right = str(json.loads(text)["metadata"]["total_size"])
    (tiny / INDEX).write_text(text.replace(f'"total_size": {right}', f'"total_size": {total}'))
    message = refused(tiny, IndexMismatch)
    assert shown in message and INDEX in message


@pytest.mark.parametrize("metadata", [None, {}, {"total_size": None}])
def test_the_total_size_is_optional(tiny: Path, metadata: Any) -> None:
    edit_json(tiny / INDEX, lambda index: index.update(metadata=metadata))
    load_model(tiny)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("[]", "it holds a list"),
        ("", "Expecting value"),
        ("{}", "weight_map is None"),
        ('{"weight_map": {}}', "weight_map is {}"),
        ('{"weight_map": [1]}', "weight_map is [1]"),
        ('{"weight_map": {"a": "a.safetensors"}, "metadata": 3}', "metadata is 3"),
        ('{"weight_map": {"a": "a.safetensors", "a": "b.safetensors"}}', "the key 'a' appears twice"),
        ('{"a":' * 100_000, "nested too deeply"),
        ("version https://git-lfs.github.com/spec/v1", "Expecting value"),
    ],
)
def test_invalid_indexes(tiny: Path, content: str, sentence: str) -> None:
    (tiny / INDEX).write_text(content)
    assert sentence in refused(tiny, IndexMismatch)


def test_a_byte_order_mark_is_accepted(tiny: Path) -> None:
    """Notepad and PowerShell write one at the beginning of a file."""
    (tiny / INDEX).write_bytes(codecs.BOM_UTF8 + (tiny / INDEX).read_bytes())
    (tiny / "config.json").write_bytes(codecs.BOM_UTF8 + (tiny / "config.json").read_bytes())
    load_model(tiny)


def test_absent_files_are_counted(tiny: Path) -> None:
    names = sorted(file.name for file in tiny.glob("*.safetensors"))
    for name in names[1:3]:
        (tiny / name).unlink()
    message = refused(tiny, MissingShard)
    assert f"2 of {len(names)} files are absent" in message and f"first: {names[1]} (holds layer" in message
    assert "Resume with: hf download <owner>/tiny --local-dir" in message


def test_a_tensor_that_is_not_where_the_index_says(tiny: Path) -> None:
    name = "model.layers.0.self_attn.q_norm.weight"
    other = sorted(file.name for file in tiny.glob("*.safetensors"))[-1]
    edit_json(tiny / INDEX, lambda index: index["weight_map"].update({name: other}))
    assert f"names {name!r} (said to be in {other}) not found" in refused(tiny, IndexMismatch)


def test_a_tensor_in_two_files(tiny: Path) -> None:
    files = sorted(tiny.glob("*.safetensors"))
    name, copied = next(item for item in split_file(files[0])[0].items() if item[0].endswith("q_norm.weight"))
    header, payload = split_file(files[1])
    size = copied["data_offsets"][1] - copied["data_offsets"][0]

    def add(header: dict) -> None:
        header[name] = copied | {"data_offsets": [len(payload), len(payload) + size]}

    edit_header(files[1], add)
    files[1].write_bytes(files[1].read_bytes() + bytes(size))
    message = refused(tiny, IndexMismatch)
    assert f"in two files: {name!r} (in {files[1].name} and {files[0].name})" in message


def test_a_tensor_that_the_index_does_not_mention(tiny: Path) -> None:
    edit_json(tiny / INDEX, lambda index: index["weight_map"].pop("model.layers.2.mlp.experts.5.up_proj.weight"))
    message = refused(tiny, IndexMismatch)
    assert "does not mention 'model.layers.2.mlp.experts.5.up_proj.weight'" in message


def test_an_index_beside_a_single_file(tiny: Path) -> None:
    (tiny / "model.safetensors").write_bytes(first_shard(tiny).read_bytes())
    assert "holds both model.safetensors and" in refused(tiny, IndexMismatch)


def test_other_safetensors_files_are_ignored(tiny: Path) -> None:
    (tiny / "adapter.safetensors").write_bytes(b"not even one")
    load_model(tiny)


def test_a_hub_cache_is_made_of_links(original: Path, tmp_path: Path) -> None:
    root = tmp_path / "models--Qwen--Qwen3-Tiny"
    snapshot = root / "snapshots" / "abc123"
    (root / "blobs").mkdir(parents=True)
    snapshot.mkdir(parents=True)
    for number, file in enumerate(sorted(original.iterdir())):
        (root / "blobs" / str(number)).write_bytes(file.read_bytes())
        (snapshot / file.name).symlink_to(f"../../blobs/{number}")
    load_model(snapshot)
    (root / "blobs" / "1").unlink()
    assert "Resume with: hf download Qwen/Qwen3-Tiny" in refused(snapshot, MissingShard)


def test_a_hub_name_gives_the_download_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(NotFound) as caught:
        load_model("Qwen/Qwen3-0.6B")
    assert "hf download Qwen/Qwen3-0.6B --local-dir data/Qwen3-0.6B\nand load 'data/Qwen3-0.6B'" in str(caught.value)
    with pytest.raises(NotFound, match="there is no folder 'data/minni'") as caught:
        load_model("data/minni")
    assert "hf download" not in str(caught.value)


def test_a_relative_path_is_also_tried_from_the_checkout(
    original: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paths, "checkout", lambda: original.parent)
    monkeypatch.chdir(tmp_path)
    load_model("checkpoint")


def test_pickles_are_never_opened(tmp_path: Path) -> None:
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x02")
    (tmp_path / "config.json").write_text(json.dumps(TINY.to_dict()))
    assert "minimoe never opens one" in refused(tmp_path, NotSafetensors)
    (tmp_path / "pytorch_model.bin").unlink()
    assert "holds neither model.safetensors nor" in refused(tmp_path, NotFound)


def test_a_file_is_not_a_folder(original: Path) -> None:
    assert f"is a file; expected the folder that holds config.json and the .safetensors files: {original}" in refused(
        original / "config.json", NotFound
    )
