"""verify: complete or not, from index and headers; at full size too, counting every byte read."""

import hashlib
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import minimoe.checkpoint.verify as verify_module
from minimoe import ModelConfig
from minimoe.checkpoint.checksums import JOURNAL_NAME
from minimoe.checkpoint.folder_transaction import DECIDED, JOURNAL
from minimoe.checkpoint.verify import verify
from minimoe.errors import NotFound
from tests.checkpoint.fake import TINY, edit_json, first_shard, write_sparse

INDEX = "model.safetensors.index.json"
FP8 = {"quant_method": "fp8", "fmt": "e4m3", "activation_scheme": "dynamic", "weight_block_size": [128, 128]}


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[int, int]]]:
    """(offset, bytes) of every positioned read."""
    reads: list[tuple[int, int]] = []
    plain = os.preadv

    def preadv(descriptor: int, parts: list[Any], offset: int) -> int:
        count = plain(descriptor, parts, offset)
        reads.append((offset, count))
        return count

    monkeypatch.setattr(os, "preadv", preadv)
    yield reads


def test_the_235b_at_true_size_reading_headers_only(tmp_path: Path, counted: list[tuple[int, int]]) -> None:
    write_sparse(tmp_path, ModelConfig.named("Qwen3-235B-A22B"))
    files = sorted(tmp_path.glob("*.safetensors"))
    assert sum(file.stat().st_size for file in files) > 470_187_269_120
    report = verify(tmp_path)
    assert report.ok, report
    assert (report.files, report.tensors, report.parameters) == (118, 36_945, 235_093_634_560)
    assert report.payload_bytes == 470_187_269_120
    headers = 0
    for file in files:
        with file.open("rb") as opened:
            headers += 8 + int.from_bytes(opened.read(8), "little")
    assert report.bytes_read == sum(count for _, count in counted) == headers + (tmp_path / INDEX).stat().st_size
    assert report.bytes_read < 10_000_000

    os.truncate(files[16], files[16].stat().st_size - 4096)
    files[17].unlink()
    report = verify(tmp_path)
    assert [problem.split(":")[0] for problem in report.problems] == ["MissingShard", "TruncatedShard"]
    assert "1 of 118 files are absent" in report.problems[0] and files[16].name in report.problems[1]


def test_a_small_checkpoint(original: Path) -> None:
    report = verify(original)
    assert report.ok and "whole" in str(report) and not report.notes
    assert report.payload_bytes == 2 * report.parameters > 0


def test_a_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        verify(tmp_path / "absent")
    assert verify(tmp_path).problems[0].startswith("NotFound: ")


def test_a_config_of_another_model(tiny: Path) -> None:
    edit_json(tiny / "config.json", lambda config: config.update(num_hidden_layers=5))
    assert verify(tiny).problems[0].startswith("WrongModel: ")
    (tiny / "config.json").unlink()
    assert verify(tiny).problems[0].startswith("BadConfig: ")


def test_an_unsupported_format_is_not_reported_as_whole(tiny: Path) -> None:
    edit_json(tiny / "config.json", lambda config: config.update(quantization_config={"quant_method": "fp8"}))
    report = verify(tiny)
    assert not report.ok and report.problems[0].startswith("UnsupportedModel: ")
    assert str(report).endswith("files whole, but minimoe cannot read this format")
    first_shard(tiny).unlink()
    assert str(verify(tiny)).endswith("1 problem(s)")


def test_files_that_the_index_does_not_name_are_noted(tiny: Path) -> None:
    (tiny / "extra.safetensors").write_bytes(b"?")
    assert "extra.safetensors" in verify(tiny).notes[0]


def test_an_interrupted_save_is_completed(tiny: Path) -> None:
    (tiny / DECIDED).mkdir()
    (tiny / INDEX).rename(tiny / DECIDED / INDEX)
    (tiny / DECIDED / JOURNAL).write_text(f'{{"files": ["{INDEX}"], "remove": []}}')
    assert verify(tiny).ok and not (tiny / DECIDED).exists()


# ---------------------------------------------------------------- sha256


def test_a_flipped_bit_is_detected_by_the_checksum_only(tiny: Path) -> None:
    file = first_shard(tiny)
    before = verify(tiny, sha256=True)
    assert before.ok and all("no expected sha256 is recorded" in note for note in before.notes)
    assert before.bytes_read == verify(tiny).bytes_read + sum(
        path.stat().st_size for path in tiny.glob("*.safetensors")
    )
    (tiny / f"{file.name}.sha256").write_text(f"{before.sha256[file.name].upper()}  {file.name}\n")
    assert verify(tiny, sha256=True).ok
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    assert verify(tiny).ok
    problem = verify(tiny, sha256=True).problems[0]
    assert problem.startswith("ChecksumMismatch: ") and before.sha256[file.name] in problem and str(file) in problem


def test_checksums_that_a_hub_download_leaves_behind(tiny: Path) -> None:
    file = first_shard(tiny)
    digest = verify(tiny, sha256=True).sha256[file.name]
    notes = tiny / ".cache" / "huggingface" / "download"
    notes.mkdir(parents=True)
    (notes / f"{file.name}.metadata").write_text(f"{'0' * 40}\n{digest}\n1700000000.0\n")
    assert not [note for note in verify(tiny, sha256=True).notes if file.name in note]
    (notes / f"{file.name}.metadata").write_text(f"{'0' * 40}\n{'f' * 64}\n1700000000.0\n")
    assert verify(tiny, sha256=True).problems[0].startswith("ChecksumMismatch: ")
    (notes / f"{file.name}.metadata").unlink()
    (tiny / "blobs").mkdir()
    file.rename(tiny / "blobs" / digest)
    file.symlink_to(f"blobs/{digest}")
    assert not [note for note in verify(tiny, sha256=True).notes if file.name in note]
    file.unlink()
    (tiny / "blobs" / digest).rename(tiny / "blobs" / ("e" * 64))
    file.symlink_to(f"blobs/{'e' * 64}")
    assert verify(tiny, sha256=True).problems[0].startswith("ChecksumMismatch: ")


# ---------------------------------------------------------------- the journal of an interrupted run


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[list[str]]:
    """The names of the files whose checksums are computed; the fourth one is interrupted, by Ctrl-C."""
    names: list[str] = []
    plain = verify_module.sha256_of

    def interrupted(path: Path, *arguments: Any) -> str:
        if len(names) == 3:
            names.append("interrupted")
            raise KeyboardInterrupt
        names.append(path.name)
        return plain(path, *arguments)

    monkeypatch.setattr(verify_module, "sha256_of", interrupted)
    monkeypatch.setenv("MINIMOE_CACHE", str(tmp_path / "cache"))
    yield names


@pytest.mark.parametrize("is_read_only", [False, True])
def test_an_interrupted_run_resumes_where_it_stopped(
    tiny: Path, hashed: list[str], is_read_only: bool, tmp_path: Path
) -> None:
    files = sorted(file.name for file in tiny.glob("*.safetensors"))
    if is_read_only:  # as seen by anyone, root included: a folder stands where the journal would
        (tiny / JOURNAL_NAME).mkdir()
    with pytest.raises(KeyboardInterrupt):
        verify(tiny, sha256=True)
    where = tmp_path / "cache" / "sha256" if is_read_only else tiny
    assert len(list(where.glob("*sha256.json" if not is_read_only else "*.json"))) == 1
    report = verify(tiny, sha256=True)
    assert report.ok and hashed == [*files[:3], "interrupted", *files[3:]]
    assert report.sha256 == {name: hashlib.sha256((tiny / name).read_bytes()).hexdigest() for name in files}
    assert not list(where.glob("*.json")) or where == tiny
    hashed[:] = [""] * 4
    assert verify(tiny, sha256=True).ok and hashed[4:] == files  # a run that came to its end left no journal


@pytest.mark.parametrize("change", ["bytes", "size", "replaced", "touched"])
def test_a_file_that_changed_since_is_read_again(tiny: Path, hashed: list[str], change: str) -> None:
    with pytest.raises(KeyboardInterrupt):
        verify(tiny, sha256=True)
    file = sorted(tiny.glob("*.safetensors"))[1]
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    if change == "replaced":
        (tiny / "copy").write_bytes(data)
        os.replace(tiny / "copy", file)
    elif change == "touched":
        os.utime(file, (1, 1))
    else:
        file.write_bytes(data if change == "bytes" else data + b"\0")
    report = verify(tiny, sha256=True)
    assert hashed[4:].count(file.name) == 1
    assert report.sha256[file.name] == hashlib.sha256(file.read_bytes()).hexdigest()


@pytest.mark.parametrize(
    "content", ["", "[", "[]", '{"a": 1}', '{"FILE": [1, 2, 3, "x"]}', '{"FILE": [1, 2, 3]}', '{"a":' * 100_000]
)
def test_an_invalid_journal(tiny: Path, content: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MINIMOE_CACHE", str(tmp_path / "cache"))
    (tiny / JOURNAL_NAME).write_text(content.replace("FILE", first_shard(tiny).name))
    report = verify(tiny, sha256=True)
    assert report.ok and report.sha256[first_shard(tiny).name] == hashlib.sha256(
        first_shard(tiny).read_bytes()
    ).hexdigest()


def test_a_mismatch_is_reported_by_the_resumed_run_too(tiny: Path, hashed: list[str]) -> None:
    file = first_shard(tiny)
    (tiny / f"{file.name}.sha256").write_text(f"{'0' * 64}  {file.name}\n")
    with pytest.raises(KeyboardInterrupt):
        verify(tiny, sha256=True)
    assert verify(tiny, sha256=True).problems[0].startswith("ChecksumMismatch: ")
    assert hashed.count(file.name) == 1


def test_a_packed_checkpoint_is_compared_with_its_config(tmp_path: Path) -> None:
    config = replace(TINY, quantization_config=FP8)
    write_sparse(tmp_path, config, shard_bytes=9000)
    report = verify(tmp_path)
    assert report.ok and not report.notes and report.parameters == TINY.total_parameters
    assert report.payload_bytes < 2 * report.parameters
    edit_json(tmp_path / "config.json", lambda content: content.update(moe_intermediate_size=23))
    assert verify(tmp_path).problems[0].startswith("WrongModel: ")
