"""The header reader: it accepts what the safetensors library accepts, and each error has its own message."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from minimoe.checkpoint.safetensors.header import read_header
from minimoe.checkpoint.safetensors.pread import PositionedFile
from minimoe.dtypes import BYTES_PER_VALUE
from minimoe.errors import CorruptHeader, MinimoeError, NotSafetensors, ReadFailed, TruncatedShard
from tests.checkpoint.fake import join_file

F32 = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


def entry(dtype: Any = "F32", shape: Any = (2,), offsets: Any = (0, 8)) -> dict[str, Any]:
    return {"a": {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "x.safetensors"


def test_agrees_with_the_safetensors_library(file: Path) -> None:
    dtypes = [torch.float32, torch.bfloat16, torch.float16, torch.int64, torch.uint8, torch.bool, torch.float8_e4m3fn]
    tensors = {f"t{n}": torch.ones(n, 3).to(dtype) for n, dtype in enumerate(dtypes)}
    tensors["scalar"] = torch.tensor(1.5)
    save_file(tensors, file, metadata={"format": "pt"})
    header = read_header(file)
    with safe_open(file, "pt") as theirs:
        assert set(header.tensors) == set(theirs.keys())
        for name, ours in header.tensors.items():
            part = theirs.get_slice(name)
            assert (list(ours.shape), ours.dtype) == (part.get_shape(), part.get_dtype())
        assert header.metadata == theirs.metadata()
    data = file.read_bytes()
    for name, ours in header.tensors.items():
        stored = tensors[name].reshape(-1).view(torch.uint8).numpy().tobytes()
        assert data[ours.start : ours.start + ours.nbytes] == stored


def test_reads_the_header_and_nothing_else(file: Path) -> None:
    save_file({"a": torch.ones(1000, 1000)}, file)
    header = read_header(file)
    assert header.bytes_read == 8 + int.from_bytes(file.read_bytes()[:8], "little") < 200


@pytest.mark.parametrize(
    ("content", "kind", "sentence"),
    [
        (b"", NotSafetensors, "is empty (0 bytes)"),
        (b"\0" * 4096, NotSafetensors, "space was reserved but nothing was downloaded"),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\n",
            NotSafetensors,
            "starts with 'version https://git-lfs",
        ),
        (b"<!DOCTYPE html><html>" + b" " * 99, NotSafetensors, "this is a web page"),
        (b"\n<html><head>" + b" " * 99, NotSafetensors, "this is a web page"),
        (b"PK\x03\x04" + b"\x08" * 99, NotSafetensors, "PyTorch pickle"),
        (b"\x80\x02\x8a\x0a" + b"\x08" * 99, NotSafetensors, "PyTorch pickle"),
        (b"GGUF\x03\0\0\0" + b"\x08" * 99, NotSafetensors, "GGUF"),
        (b"\x10\0\0", TruncatedShard, "is 3 bytes"),
        ((2**40).to_bytes(8, "little") + b"{}", CorruptHeader, "claims to be 1,099,511,627,776 bytes"),
        ((50).to_bytes(8, "little") + b"{}", CorruptHeader, "claims to be 50 bytes, but the file has 10"),
        (join_file(b"[]", b""), CorruptHeader, "begins with b'[]', expected '{'"),
        (join_file(b'{"a": ', b""), CorruptHeader, "is not JSON"),
        (join_file(b'{"a\xff": 1}', b""), CorruptHeader, "byte 3 is not UTF-8"),
        (join_file(b'{"a":' * 100_000 + b"1" + b"}" * 100_000, b""), CorruptHeader, "nested too deeply"),
        (join_file(b'{"a": NaN}', b""), CorruptHeader, "NaN is not JSON"),
        (join_file(b'{"a": 1' + b"0" * 5000 + b"}", b""), CorruptHeader, "is not JSON"),
        (join_file(b'{"a": 1, "a": 1}', b""), CorruptHeader, "the key 'a' appears twice"),
        (join_file(b'{"a": {"shape": [1], "shape": [2]}}', b""), CorruptHeader, "the key 'shape' appears twice"),
    ],
)
def test_invalid_headers(file: Path, content: bytes, kind: type[MinimoeError], sentence: str) -> None:
    file.write_bytes(content)
    with pytest.raises(kind) as caught:
        read_header(file)
    assert sentence in str(caught.value) and str(file) in str(caught.value)


@pytest.mark.parametrize(
    ("header", "sentence"),
    [
        ({"a": 7}, "tensor 'a': its entry is 7"),
        ({"a": {}}, "dtype is None"),
        (entry(dtype="F31"), "dtype is 'F31'"),
        (entry(dtype=["F32"]), "dtype is ['F32']"),
        (entry(shape=[-2]), "shape is [-2]"),
        (entry(shape=[True, 2]), "shape is [True, 2]"),
        (entry(shape=[2.0]), "shape is [2.0]"),
        (entry(shape=[2**64]), "shape is [18446744073709551616]"),
        (entry(shape=[2**40, 2**40]), "bytes, data_offsets [0, 8] span 8"),
        (entry(shape=[1] * 65 + [2]), "expected a list of integers"),
        (entry(shape=[3]), "[3] values of F32 are 12 bytes, data_offsets [0, 8] span 8"),
        (entry(dtype="BF16"), "[2] values of BF16 are 4 bytes"),
        (entry(offsets=[8, 0]), "data_offsets is [8, 0]"),
        (entry(offsets=[-8, 0]), "data_offsets is [-8, 0]"),
        (entry(offsets=[0]), "data_offsets is [0]"),
        (entry(offsets=[0, 8, 8]), "data_offsets is [0, 8, 8]"),
        (entry(offsets=[False, 8]), "data_offsets is [False, 8]"),
        (entry(offsets=[0, 8.0]), "data_offsets is [0, 8.0]"),
        ({"a": F32, "b": F32}, "it overlaps the tensor before it"),
        ({"a": F32, "b": F32 | {"data_offsets": [4, 12]}}, "it overlaps the tensor before it"),
        ({"a": F32, "b": F32 | {"data_offsets": [12, 20]}}, "it leaves a gap after the tensor before it"),
        ({"a": F32 | {"data_offsets": [4, 12]}}, "it leaves a gap"),
        ({"a": F32, "__metadata__": {"format": 3}}, "__metadata__ is {'format': 3}"),
        ({"a": F32, "__metadata__": "pt"}, "__metadata__ is 'pt'"),
    ],
)
def test_inconsistent_numbers(file: Path, header: dict[str, Any], sentence: str) -> None:
    file.write_bytes(join_file(header, bytes(8)))
    with pytest.raises(CorruptHeader) as caught:
        read_header(file)
    assert sentence in str(caught.value)


@pytest.mark.parametrize(
    ("size", "sentence"),
    [
        (7, "bytes, its header describes"),
        (0, "The download did not finish"),
        (9, "has 1 extra bytes"),
        (1000, "has 992 extra bytes"),
    ],
)
def test_a_file_shorter_or_longer_than_it_says(file: Path, size: int, sentence: str) -> None:
    file.write_bytes(join_file({"a": F32}, bytes(size)))
    with pytest.raises(TruncatedShard) as caught:
        read_header(file)
    assert sentence in str(caught.value)


def test_a_hostile_name_stays_short_and_printable(file: Path) -> None:
    file.write_bytes(join_file(b'{"\\ud800\\u001b[31m' + b"x" * 10_000 + b'": 1}', b""))
    with pytest.raises(CorruptHeader) as caught:
        read_header(file)
    message = str(caught.value).replace(str(file), "")
    assert len(message) < 300 and message.isprintable() and message.encode()


def test_pipes_and_folders_do_not_block(tmp_path: Path) -> None:
    (tmp_path / "folder.safetensors").mkdir()
    os.mkfifo(tmp_path / "pipe.safetensors")
    for name in ("folder.safetensors", "pipe.safetensors"):
        with pytest.raises(NotSafetensors, match="is not a regular file"):
            read_header(tmp_path / name)
    with pytest.raises(ReadFailed, match="cannot be opened"):
        read_header(tmp_path / "absent.safetensors")


def test_the_same_bytes_without_preadv(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_file({"a": torch.arange(2**19)}, file)  # 4 MiB, more than one read
    header = read_header(file)

    def all_bytes() -> bytes:
        with PositionedFile(file) as opened:
            return opened.read(header.tensors["a"].start, header.tensors["a"].nbytes)

    with_preadv = all_bytes()
    monkeypatch.delattr(os, "preadv")
    assert all_bytes() == with_preadv
    assert read_header(file) == header


def failing(error: int) -> Callable[..., int]:
    def read(*_: Any) -> int:
        raise OSError(error, os.strerror(error))

    return read


def test_a_read_error(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_file({"a": torch.ones(9)}, file)
    monkeypatch.setattr(os, "preadv", failing(5))
    with pytest.raises(ReadFailed, match=r"reading 8 bytes at 0 failed: Input/output error"):
        read_header(file)


def test_every_width_is_torchs() -> None:
    names = {
        "BOOL": "bool",
        "BF16": "bfloat16",
        "F16": "float16",
        "F32": "float32",
        "F64": "float64",
        "C64": "complex64",
        "F8_E4M3": "float8_e4m3fn",
        "F8_E5M2": "float8_e5m2",
        "F8_E8M0": "float8_e8m0fnu",
    }
    names |= {f"{'U' if sign else 'I'}{bits}": f"{sign}int{bits}" for bits in (8, 16, 32, 64) for sign in ("", "u")}
    assert BYTES_PER_VALUE == {code: getattr(torch, name).itemsize for code, name in names.items()}
