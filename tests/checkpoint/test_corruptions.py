"""The catalogue of damaged checkpoints seen in practice, each with its error message.

Each goes through `verify`, through `load`, and through `minimoe verify` on the command line: the same kind of error,
the same message, exit code 1 (a problem was found) or 2 (the input was rejected), no traceback. Damage that a check
alone cannot detect (a file that changes while it is read, a flipped bit) is tested at the end.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from click.testing import CliRunner

from minimoe import ModelConfig, errors
from minimoe.checkpoint.load import load_model
from minimoe.checkpoint.sparse_checkpoint import write_sparse
from minimoe.checkpoint.verify import verify
from minimoe.cli import cli
from tests.checkpoint.fake import edit_header, edit_json, first_shard, join_file, rewrite, split_file

INDEX = "model.safetensors.index.json"
EXPERT = "model.layers.2.mlp.experts.7.up_proj.weight"
Damage = Callable[[Path], Any]


class Case(NamedTuple):
    """A damage to a copy of the tiny checkpoint, and the expected error."""

    name: str
    damage: Damage
    kind: str
    sentence: str


# ---------------------------------------------------------------- damages


def overwrite(content: bytes) -> Damage:
    """The first weight file becomes something else."""
    return lambda folder: first_shard(folder).write_bytes(content)


def resize(by: int) -> Damage:
    return lambda folder: os.truncate(first_shard(folder), first_shard(folder).stat().st_size + by)


def in_header(change: Callable[[dict[str, Any]], Any]) -> Damage:
    """A change to the first file's header; `change` gets the entries in the order of their bytes."""

    def damage(folder: Path) -> None:
        def ordered(header: dict[str, Any]) -> None:
            header.pop("__metadata__", None)
            entries = sorted(header.items(), key=lambda item: item[1]["data_offsets"])
            header.clear()
            header.update(entries)
            change(header)

        edit_header(first_shard(folder), ordered)

    return damage


def shift_third(by: int) -> Callable[[dict[str, Any]], None]:
    """Move one entry of the header by that many bytes, into its neighbour or away from it."""

    def change(header: dict[str, Any]) -> None:
        entry = list(header.values())[2]
        entry["data_offsets"] = [offset + by for offset in entry["data_offsets"]]

    return change


def name_twice(folder: Path) -> None:
    file = first_shard(folder)
    header, payload = split_file(file)
    header.pop("__metadata__", None)
    name, entry = next(iter(header.items()))
    text = json.dumps(header)
    file.write_bytes(join_file((text[:-1] + f', "{name}": {json.dumps(entry)}}}').encode(), payload))


def tensor_in_two_files(folder: Path) -> None:
    first, second = sorted(folder.glob("*.safetensors"))[:2]
    name, entry = next((n, e) for n, e in split_file(first)[0].items() if n.endswith("q_norm.weight"))
    header, payload = split_file(second)
    size = entry["data_offsets"][1] - entry["data_offsets"][0]
    header[name] = entry | {"data_offsets": [len(payload), len(payload) + size]}
    second.write_bytes(join_file(header, payload + bytes(size)))


def point_to(place: str) -> Damage:
    return lambda folder: edit_json(
        folder / INDEX, lambda index: index["weight_map"].update({"lm_head.weight": place})
    )


def in_tensors(change: Callable[[dict[str, torch.Tensor]], Any]) -> Damage:
    return lambda folder: rewrite(folder, change)


def in_config(**changes: Any) -> Damage:
    return lambda folder: edit_json(folder / "config.json", lambda config: config.update(changes))


def in_index(change: Callable[[dict[str, Any]], Any]) -> Damage:
    return lambda folder: edit_json(folder / INDEX, change)


def only_a_pickle(folder: Path) -> None:
    for file in [*folder.glob("*.safetensors"), folder / INDEX]:
        file.unlink()
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x02cos\nsystem\n")


def transposed(folder: Path) -> None:
    """One matrix stored (in, out): as many bytes, another shape."""
    for file in folder.glob("*.safetensors"):
        edit_header(file, lambda header: [e["shape"].reverse() for n, e in header.items() if n == EXPERT])


def as_bytes(tensors: dict[str, torch.Tensor]) -> None:
    tensors["model.norm.weight"] = tensors["model.norm.weight"].char()


def of_the_30b(folder: Path) -> None:
    """Files of the 30B under the 235B's config.json: the mix-up of two downloads."""
    for file in folder.iterdir():
        file.unlink()
    write_sparse(folder, ModelConfig.named("Qwen3-30B-A3B"))
    (folder / "config.json").write_text(json.dumps(ModelConfig.named("Qwen3-235B-A22B").to_dict()))


def of_the_235b_with_holes(folder: Path) -> None:
    for file in folder.iterdir():
        file.unlink()
    write_sparse(folder, ModelConfig.named("Qwen3-235B-A22B"), drop=range(31, 48))


LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 3993004560\n"
PAGE = b"<!DOCTYPE html><html><head><title>Sign in</title></head></html>"
PICKLE = b"PK\x03\x04" + b"\x08" * 99

CASES = [
    Case("cut file", resize(-100), "TruncatedShard", "The download did not finish; run it again."),
    Case("grown file", resize(10), "TruncatedShard", "has 10 extra bytes"),
    Case("empty file", overwrite(b""), "NotSafetensors", "is empty (0 bytes)"),
    Case("reserved but not downloaded", overwrite(bytes(9999)), "NotSafetensors", "nothing was downloaded into it"),
    Case("LFS pointer", overwrite(LFS), "NotSafetensors", "this is a Git LFS pointer, not weights"),
    Case("web page", overwrite(PAGE), "NotSafetensors", "this is a web page, not weights"),
    Case("pickle under the name", overwrite(PICKLE), "NotSafetensors", "PyTorch pickle, which can run code"),
    Case("GGUF under the name", overwrite(b"GGUF" + bytes(99)), "NotSafetensors", "this is a GGUF file"),
    Case("pickle instead", only_a_pickle, "NotSafetensors", "minimoe never opens one"),
    Case("header of 2^40", overwrite((2**40).to_bytes(8, "little") + b"{}"), "CorruptHeader", "1,099,511,627,776"),
    Case("header no JSON", overwrite(join_file(b'{"a": ', b"")), "CorruptHeader", "the header is not JSON"),
    Case("overlap", in_header(shift_third(-2)), "CorruptHeader", "it overlaps the tensor before it"),
    Case("gap", in_header(shift_third(2)), "CorruptHeader", "it leaves a gap after the tensor before it"),
    Case("key twice in a header", name_twice, "CorruptHeader", "appears twice"),
    Case("tensor in two files", tensor_in_two_files, "IndexMismatch", "the same tensor is in two files"),
    Case("missing file", lambda f: first_shard(f).unlink(), "MissingShard", "1 of 7 files are absent"),
    Case("path upwards", point_to("../x.safetensors"), "UnsafeIndex", "points to '../x.safetensors'; only plain file"),
    Case("absolute path", point_to("/x.safetensors"), "UnsafeIndex", "points to '/x.safetensors'; only plain file"),
    Case("backslash", point_to("..\\x.safetensors"), "UnsafeIndex", "only plain file names"),
    Case("drive", point_to("C:x.safetensors"), "UnsafeIndex", "only plain file names"),
    Case("NUL", point_to("x\0.safetensors"), "UnsafeIndex", "only plain file names"),
    Case("an address", point_to("https://host/x.safetensors"), "UnsafeIndex", "only plain file names"),
    Case("index no JSON", lambda f: (f / INDEX).write_text("{"), "IndexMismatch", "cannot be used"),
    Case("total_size", in_index(lambda i: i["metadata"].update(total_size=7)), "IndexMismatch", "total_size is 7"),
    Case("tensor elsewhere", in_index(lambda i: i["weight_map"].update({EXPERT: "model-00001-of-00007.safetensors"})),
         "IndexMismatch", "not found in the file's own header"),
    Case("not in the index", in_index(lambda i: i["weight_map"].pop(EXPERT)), "IndexMismatch", "does not mention"),
    Case("wrong dtype", in_tensors(as_bytes), "WrongModel", "model.norm.weight is stored as I8, but config.json has"),
    Case("swapped shape", transposed, "WrongModel", "is [16, 24], config.json implies [24, 16]"),
    Case("lost expert", in_tensors(lambda t: t.pop(EXPERT)), "IncompleteLoad", "layer 2 experts.up_proj: expert 7"),
    Case("lost norm", in_tensors(lambda t: t.pop("model.norm.weight")), "IncompleteLoad", "norm.weight would not be"),
    Case("foreign tensor", in_tensors(lambda t: t.update(foreign=torch.zeros(2))), "IndexMismatch", "no place for"),
    Case("another depth", in_config(num_hidden_layers=5), "WrongModel", "config says 5 layers x 16, file has 4 x 16"),
    Case("no config", lambda f: (f / "config.json").unlink(), "BadConfig", "config.json"),
    Case("30B files, 235B config", of_the_30b, "WrongModel", "config says 94 layers x 4096, file has 48 x 2048"),
    Case("235B with 17 files absent", of_the_235b_with_holes, "MissingShard",
         "17 of 118 files are absent in "),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_each_damage_has_its_message(tiny: Path, case: Case) -> None:
    case.damage(tiny)
    report = verify(tiny)
    assert [problem.split(":")[0] for problem in report.problems][:1] == [case.kind] and not report.ok
    assert case.sentence in report.problems[0]
    with pytest.raises(getattr(errors, case.kind)) as caught:
        load_model(tiny)
    assert case.sentence in str(caught.value)
    result = CliRunner().invoke(cli, ["verify", str(tiny)])
    assert result.exit_code == 1 and case.sentence in result.output and "Traceback" not in result.output


def test_the_catalogue_is_long_and_its_names_are_distinct() -> None:
    assert len({case.name for case in CASES}) == len(CASES) >= 30


@pytest.mark.parametrize("name", ["cut file", "header of 2^40", "pickle instead"])
def test_exit_code_and_message_of_the_program(tiny: Path, name: str) -> None:
    """In a separate process: verify exits with 1 and the message, chat with 2 and one line on stderr."""
    case = next(case for case in CASES if case.name == name)
    case.damage(tiny)
    done = run("verify", tiny)
    assert done.returncode == 1 and case.sentence in done.stdout and not done.stderr
    done = run("chat", "--model", tiny, "Hello")
    assert done.returncode == 2 and case.sentence in done.stderr and done.stderr.count("\n") == 1


def run(*arguments: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "minimoe", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def test_an_extra_file_is_a_note(tiny: Path) -> None:
    (tiny / "model-00008-of-00007.safetensors").write_bytes(first_shard(tiny).read_bytes())
    report = verify(tiny)
    assert report.ok and "never opened: model-00008-of-00007.safetensors" in report.notes[0]
    load_model(tiny)
    assert CliRunner().invoke(cli, ["verify", str(tiny)]).exit_code == 0


# ---------------------------------------------------------------- while it is read


@contextmanager
def at_the_first_weights(monkeypatch: pytest.MonkeyPatch, file: Path, happens: Callable[[], Any]) -> Iterator[None]:
    """`happens` before the first read behind the header of `file`."""
    start = 8 + int.from_bytes(file.read_bytes()[:8], "little")
    plain, number, done = os.preadv, file.stat().st_ino, []

    def preadv(descriptor: int, parts: list[Any], offset: int) -> int:
        if not done and offset >= start and os.fstat(descriptor).st_ino == number:
            done.append(happens())
        return plain(descriptor, parts, offset)

    with monkeypatch.context() as patch:
        patch.setattr(os, "preadv", preadv)
        yield
    assert done


def rewritten(file: Path) -> None:
    """Other bytes, as many."""
    size = file.stat().st_size
    state = file.stat()
    file.write_bytes(os.urandom(size))
    os.utime(file, ns=(state.st_atime_ns, state.st_mtime_ns + 1))


@pytest.mark.parametrize("dtype", [None, "fp32"])
@pytest.mark.parametrize(
    ("happens", "sentence"),
    [
        (lambda file: os.truncate(file, 3000), "It was cut while being read"),
        (lambda file: os.truncate(file, 0), "It was cut while being read"),
        (rewritten, "was changed while the checkpoint was being loaded"),
        (lambda file: os.truncate(file, file.stat().st_size + 8), "was changed while the checkpoint"),
    ],
)
def test_a_file_that_changes_while_it_is_read(
    tiny: Path, monkeypatch: pytest.MonkeyPatch, happens: Callable[[Path], Any], sentence: str, dtype: str | None
) -> None:
    """Positioned reads end in an error; through a memory map the first of these would be a SIGBUS."""
    file = first_shard(tiny)
    with (
        at_the_first_weights(monkeypatch, file, lambda: happens(file)),
        pytest.raises(errors.ReadFailed) as caught,
    ):
        load_model(tiny, dtype=dtype)
    assert sentence in str(caught.value) and str(file) in str(caught.value)


def test_a_file_that_changes_while_its_checksum_is_taken(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = first_shard(tiny)
    plain = os.preadv

    def preadv(descriptor: int, parts: list[Any], offset: int) -> int:
        if offset == 0 and len(parts[0]) > 8 and os.fstat(descriptor).st_ino == file.stat().st_ino:
            os.truncate(file, 6000)
        return plain(descriptor, parts, offset)

    monkeypatch.setattr(os, "preadv", preadv)
    report = verify(tiny, sha256=True)
    assert [problem.split(":")[0] for problem in report.problems] == ["ReadFailed"]
    assert "It was cut while being read" in report.problems[0]


def test_a_flipped_bit(tiny: Path) -> None:
    """Only the checksum detects it, not load."""
    file = first_shard(tiny)
    (tiny / f"{file.name}.sha256").write_text(f"{verify(tiny, sha256=True).sha256[file.name]}  {file.name}\n")
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    assert verify(tiny).ok
    result = CliRunner().invoke(cli, ["verify", "--sha256", str(tiny)])
    assert result.exit_code == 1
    assert "ChecksumMismatch: " in result.output and "Download this file again." in result.output
