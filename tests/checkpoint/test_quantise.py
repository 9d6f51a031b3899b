"""A checkpoint converted to int4 or int8 equals one packed while loading."""

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from click.testing import CliRunner

import minimoe
from minimoe.checkpoint import quantise as module
from minimoe.checkpoint.load import load_model
from minimoe.checkpoint.quantise import prepare, quantise
from minimoe.checkpoint.safetensors.pread import PositionedFile
from minimoe.checkpoint.save import save
from minimoe.checkpoint.verify import verify
from minimoe.checkpoint.weights.convert import MatrixReader
from minimoe.cli import cli
from minimoe.errors import BadArgument, IncompleteLoad, ReadFailed, UnsupportedModel, WriteFailed, WrongModel
from minimoe.paths import find
from minimoe.quantisation import is_packed
from minimoe.quantisation.modules import stored_tensors
from minimoe.text.tokenizer_files import FILE_NAMES as TOKENIZER_FILES
from tests.checkpoint.fake import edit_json, random_model, save_tiny, split_file
from tests.quantisation.packing import PACKABLE, write_packed

IDS = torch.tensor([[1, 7, 40, 2, 2, 33, 9, 5]])


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint in several files. Do not modify it."""
    folder = tmp_path_factory.mktemp("plain") / "checkpoint"
    save_tiny(folder, PACKABLE, shard_bytes=300_000)
    return folder


def listing(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()} if folder.exists() else {}


def assert_equal_models(left: Any, right: Any) -> None:
    assert left.config == right.config
    ours, theirs = stored_tensors(left), stored_tensors(right)
    assert ours.keys() == theirs.keys()
    for name in ours:
        assert ours[name].dtype == theirs[name].dtype and torch.equal(ours[name], theirs[name]), name


@pytest.mark.parametrize("to", ["int4", "int8"])
@pytest.mark.parametrize("shard_bytes", [10**9, 50_000])
@pytest.mark.parametrize("kind", ["plain", "fp8", "gptq"])
def test_the_result_equals_packing_in_a_load(kind: str, shard_bytes: int, to: str, plain: Path, tmp_path: Path) -> None:
    source = plain if kind == "plain" else write_packed(tmp_path, kind)[0]
    work = quantise(source, to, tmp_path / "out", max_shard_bytes=shard_bytes)
    assert verify(tmp_path / "out").ok
    files = list((tmp_path / "out").glob("*.safetensors"))
    assert len(files) == len(work.shards) == (1 if shard_bytes == 10**9 else len(files)) and len(files) < 100
    payload = sum(len(split_file(file)[1]) for file in files)
    assert payload == work.bytes_to_write == verify(tmp_path / "out").payload_bytes
    found = load_model(tmp_path / "out")
    assert_equal_models(found, load_model(source, precision=to))
    assert found.config.quantization_config == {"quant_method": "minimoe", "bits": int(to[3]), "group_size": 128}


def test_the_files_equal_those_of_save(plain: Path, tmp_path: Path) -> None:
    """File by file, the same bytes as packing in memory and saving."""
    quantise(plain, "int4", tmp_path / "streamed", max_shard_bytes=50_000)
    save(load_model(plain, precision="int4"), None, tmp_path / "saved", max_shard_bytes=50_000)
    assert listing(tmp_path / "streamed") == listing(tmp_path / "saved")


def test_every_byte_is_read_once(plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work = prepare(plain, "int4", tmp_path / "out")
    read = []
    original = PositionedFile.read_into

    def watched(self: PositionedFile, destination: memoryview, offset: int) -> None:
        read.append((self.path.name, offset, len(destination)))
        original(self, destination, offset)

    monkeypatch.setattr(PositionedFile, "read_into", watched)
    module.carry_out(work)
    assert sum(count for _, _, count in read) == work.bytes_to_read == sum(
        header.payload_bytes for header in work.opened.shards.headers.values()
    )
    assert len(set(read)) == len(read)


def test_memory_for_one_matrix_and_one_buffer(tmp_path: Path, plain: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No allocation for reading is larger than a matrix or the buffer, whatever the embedding is."""
    sizes = []
    original = torch.empty

    def counted(*args: Any, **options: Any) -> torch.Tensor:
        made = original(*args, **options)
        sizes.append(made.nbytes)
        return made

    monkeypatch.setattr(module, "STAGING_BYTES", 512)
    monkeypatch.setattr(torch, "empty", counted)
    quantise(plain, "int8", tmp_path / "out")
    monkeypatch.undo()
    largest = 260 * 136 * 2  # the dense feed-forward
    assert max(sizes) == largest
    assert_equal_models(load_model(tmp_path / "out"), load_model(plain, precision="int8"))


def test_the_packed_mini_computes_nearly_the_same_logits(tmp_path: Path) -> None:
    """With its tokenizer; in int8 its routing hardly changes."""
    quantise("data/mini", "int8", tmp_path)
    mini = find("data/mini")
    for name in TOKENIZER_FILES:
        assert (tmp_path / name).exists() == (mini / name).exists()
        assert not (mini / name).exists() or (tmp_path / name).read_bytes() == (mini / name).read_bytes()
    model, tokenizer = minimoe.load(tmp_path, dtype="fp32")
    reference, _ = minimoe.load("data/mini", dtype="fp32")
    ids = torch.tensor([tokenizer.encode("The cat sees a red bird. 3 + 4 = 7")])
    with torch.no_grad():
        ours, theirs = model(ids), reference(ids)
    assert (ours - theirs).std() < 0.1 * theirs.std()
    assert (ours.argmax(-1) == theirs.argmax(-1)).float().mean() >= 0.8


@pytest.mark.parametrize("tied", [True, False])
def test_float32_becomes_bfloat16_and_a_tied_head_stays_tied(tied: bool, tmp_path: Path) -> None:
    config = replace(PACKABLE, dtype="float32", tie_word_embeddings=tied)
    save(random_model(config), None, tmp_path / "plain")
    quantise(tmp_path / "plain", "int4", tmp_path / "out")
    found, wanted = load_model(tmp_path / "out"), load_model(tmp_path / "plain", dtype="bf16", precision="int4")
    assert found.config == replace(wanted.config, dtype="bfloat16")
    for name, tensor in stored_tensors(wanted).items():
        assert torch.equal(stored_tensors(found)[name], tensor), name
    assert ("lm_head.weight" in split_file(tmp_path / "out" / "model.safetensors")[0]) != tied


def test_an_old_result_is_replaced_and_other_files_are_kept(plain: Path, tmp_path: Path) -> None:
    quantise(plain, "int8", tmp_path, max_shard_bytes=60_000)
    (tmp_path / "notes.txt").write_text("mine")
    quantise(plain, "int4", tmp_path)
    assert set(listing(tmp_path)) == {"config.json", "model.safetensors", "notes.txt"}
    assert_equal_models(load_model(tmp_path), load_model(plain, precision="int4"))


# ------------------------------------------------------------------ what is refused, before anything is written


def test_invalid_arguments(plain: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(plain, tmp_path / "copy"))
    for arguments, error, sentence in [
        (("no-such", "int4", tmp_path / "out"), minimoe.MinimoeError, "there is no folder"),
        ((plain, "int3", tmp_path / "out"), BadArgument, "to is 'int3', expected int4 or int8"),
        ((plain, "bf16", tmp_path / "out"), BadArgument, "to is 'bf16'"),
        ((plain, "int4", ""), BadArgument, "out is ''"),
        ((plain, "int4", tmp_path / "out", 0), BadArgument, "max_shard_bytes is 0"),
        ((copy, "int4", copy / ".." / "copy"), BadArgument, "the folder that is read"),
    ]:
        with pytest.raises(error) as caught:
            quantise(*arguments)  # type: ignore[arg-type]
        assert sentence in str(caught.value)
    quantise(copy, "int4", tmp_path / "done")
    with pytest.raises(BadArgument, match="is in int4 already"):
        quantise(tmp_path / "done", "int4", tmp_path / "out")
    edit_json(copy / "config.json", lambda raw: raw.update(quantization_config={"quant_method": "awq"}))
    with pytest.raises(UnsupportedModel, match="awq"):
        quantise(copy, "int4", tmp_path / "out")
    edit_json(copy / "config.json", lambda raw: raw.update(quantization_config=None, moe_intermediate_size=12))
    with pytest.raises(WrongModel):
        quantise(copy, "int4", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_full_disk_is_noticed_before_reading(plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=100_000))
    with pytest.raises(WriteFailed, match=r"would need [\d,]+ bytes, and the disk has 100,000 left"):
        quantise(plain, "int4", tmp_path / "a" / "b")
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("when", [0, 7])
def test_a_failure_keeps_the_old_result(
    when: int, plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quantise(plain, "int8", tmp_path / "out")
    before, calls = listing(tmp_path / "out"), []
    original = MatrixReader.read

    def failing(self: MatrixReader, *args: Any) -> torch.Tensor:
        calls.append(None)
        if len(calls) > when:
            raise ReadFailed("the disk has gone")
        return original(self, *args)

    monkeypatch.setattr(MatrixReader, "read", failing)
    with pytest.raises(ReadFailed, match="the disk has gone"):
        quantise(plain, "int4", tmp_path / "out")
    assert listing(tmp_path / "out") == before


def test_a_file_that_changes_while_it_is_read(plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = Path(shutil.copytree(plain, tmp_path / "copy"))
    work = prepare(copy, "int4", tmp_path / "out")
    file = sorted(copy.glob("*.safetensors"))[1]
    os.utime(file, (1, 1))
    with pytest.raises(ReadFailed, match="was changed"):
        module.carry_out(work)
    assert listing(tmp_path / "out") == {}


@pytest.mark.parametrize("name", ["model.norm.weight", "model.layers.0.self_attn.q_proj.weight"])
def test_a_file_that_changes_during_its_last_read(
    name: str, plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = prepare(Path(shutil.copytree(plain, tmp_path / "copy")), "int4", tmp_path / "out")
    original = PositionedFile.read_into

    def changing(self: PositionedFile, destination: memoryview, offset: int) -> None:
        original(self, destination, offset)
        os.utime(self.path, (1, 1))

    monkeypatch.setattr(PositionedFile, "read_into", changing)
    write = module.write_packed if is_packed(name) else module.write_plain
    alone = replace(work, plan=[placed for placed in work.plan if placed.expected.name == name])
    nowhere: Any = SimpleNamespace(write=lambda *_: None, update=lambda _: None)
    with pytest.raises(ReadFailed, match="was changed"):
        write(alone, nowhere, nowhere)


def test_an_unwritten_tensor_is_an_error(plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "write_plain", lambda *_: None)
    with pytest.raises(IncompleteLoad, match="was not written in full"):
        quantise(plain, "int4", tmp_path / "out")
    assert listing(tmp_path / "out") == {}


# ------------------------------------------------------------------ the command


def test_the_command(plain: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = CliRunner().invoke(cli, ["quantise", str(plain), "--to", "int4", "--out", str(out), "--dry-run"])
    work = prepare(plain, "int4", out)
    assert result.exit_code == 0 and not out.exists()
    sizes = f"(bfloat16, {work.bytes_to_read:,} bytes) -> {out} (int4, {work.bytes_to_write:,} bytes in 1 file(s))"
    assert sizes in result.output
    assert "not packed 16.000" in result.output and "nothing was written" in result.output
    result = CliRunner().invoke(cli, ["quantise", str(plain), "--to", "int4", "--out", str(out)])
    assert result.exit_code == 0 and f"written to {out}" in result.output
    assert json.loads((out / "config.json").read_text())["quantization_config"]["bits"] == 4
    result = CliRunner().invoke(cli, ["quantise", str(out), "--to", "int4", "--out", str(tmp_path / "x")])
    assert result.exit_code == 2
