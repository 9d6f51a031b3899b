"""Damaged checkpoints, drawn at random from a list of damages: a MinimoeError, or a load equal to the original.

Never another exception, a hang, or silently different weights. Two damages are not in the list, because nothing but a
checksum can see them: flipped bits
of the weights, and two tensors of one shape that exchange their places.
"""

import json
import tempfile
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from minimoe.checkpoint.read import load_model
from minimoe.checkpoint.verify import verify
from minimoe.errors import MinimoeError
from tests.checkpoint.fake import TINY, join_file, random_model, save_tiny, weights

SMALL = replace(TINY, num_hidden_layers=2, num_experts=3, vocab_size=16, tie_word_embeddings=True)
INDEX = "model.safetensors.index.json"
Files = dict[str, bytes | None]  # None: a folder in the file's place

JUNK = st.sampled_from(
    [
        None,
        True,
        False,
        0,
        1,
        2,
        3,
        16,
        -1,
        2**31,
        2**31 - 1,
        2**53 + 1,
        2**63,
        10**400,
        0.5,
        16.0,
        1e308,
        float("nan"),
        float("inf"),
        "",
        "x",
        "16",
        "bfloat16",
        "float16",
        "F32",
        "BF16",
        "../x.safetensors",
        "\ud800",
        "\0",
        [],
        [0],
        [-1],
        [1, 2],
        ["x"],
        [[]],
        [2**40] * 3,
        {},
        {"a": 1},
        {"rope_type": "yarn"},
        {"rope_type": "yarn", "factor": "x"},
        {"quant_method": 3},
    ]
)


@cache
def original() -> tuple[tuple[tuple[str, bytes], ...], str]:
    with tempfile.TemporaryDirectory() as folder:
        save_tiny(Path(folder), SMALL, shard_bytes=6000)
        return tuple((path.name, path.read_bytes()) for path in sorted(Path(folder).iterdir())), folder


@cache
def original_weights() -> dict[str, bytes]:
    return weights(random_model(SMALL))


def dump(value: Any) -> bytes:
    return json.dumps(value).encode()


def split_bytes(data: bytes) -> tuple[dict[str, Any], bytes]:
    length = int.from_bytes(data[:8], "little")
    return json.loads(data[8 : 8 + length]), data[8 + length :]


# ---------------------------------------------------------------- the damages: each changes `files`


def damage_bytes(draw: Callable, files: Files) -> None:
    """A byte of a JSON text is replaced, or the text is cut there."""
    name = draw(st.sampled_from(sorted(files)))
    data = files[name] or b""
    text = 8 + int.from_bytes(data[:8], "little") if name.endswith(".safetensors") else len(data)
    if text == 0 or text > len(data):
        return
    position = draw(st.integers(0, text - 1))
    if draw(st.integers(0, 3)) == 0:
        files[name] = data[:position]
    else:
        new = draw(st.sampled_from(b'0123456789"{}[],:.-eNx \\\x00\xff'))
        files[name] = data[:position] + bytes([new]) + data[position + 1 :]


def damage_length(draw: Callable, files: Files) -> None:
    """A file is shorter, longer, absent, a folder, or something else."""
    name = draw(st.sampled_from(sorted(files)))
    data = files[name] or b""
    kind = draw(st.sampled_from(["shorter", "longer", "absent", "folder", "pointer", "page", "zeros", "header length"]))
    if kind == "shorter":
        files[name] = data[: draw(st.integers(0, max(0, len(data) - 1)))]
    elif kind == "longer":
        files[name] = data + bytes(draw(st.integers(1, 5000)))
    elif kind == "absent":
        del files[name]
    elif kind == "folder":
        files[name] = None
    elif kind == "header length":
        files[name] = draw(st.one_of(st.integers(0, 5000), st.integers(0, 2**64 - 1))).to_bytes(8, "little") + data[8:]
    else:
        files[name] = {"pointer": b"version https://git-lfs.github.com/spec/v1\n", "page": b"<!DOCTYPE html>"}.get(
            kind, bytes(100)
        )


def damage_header(draw: Callable, files: Files) -> None:
    """One entry of one header is changed, dropped, renamed, repeated or added."""
    name = draw(st.sampled_from([name for name in sorted(files) if name.endswith(".safetensors")] or [INDEX]))
    try:
        header, payload = split_bytes(files[name] or b"")
        tensor = draw(st.sampled_from(sorted(set(header) - {"__metadata__"})))
        if set(header[tensor]) != {"dtype", "shape", "data_offsets"} or not isinstance(header[tensor]["shape"], list):
            return  # damaged already
    except (ValueError, TypeError, IndexError):
        return
    kind = draw(
        st.sampled_from(
            ["dtype", "shape", "data_offsets", "reverse", "drop", "rename", "repeat", "add", "entry", "metadata"]
        )
    )
    if kind in ("dtype", "shape", "data_offsets"):
        header[tensor][kind] = draw(JUNK)
    elif kind == "reverse":
        header[tensor]["shape"] = header[tensor]["shape"][::-1]
    elif kind == "drop":
        del header[tensor]
    elif kind == "rename":
        header[
            draw(st.sampled_from(["x", "lm_head.weight", "model.layers.7.x", tensor + "x", tensor.replace("1", "0")]))
        ] = header.pop(tensor)
    elif kind == "add":
        begin = draw(st.sampled_from([0, len(payload)]))
        header["extra"] = {"dtype": "BF16", "shape": [0], "data_offsets": [begin, begin]}
    elif kind == "entry":
        header[tensor] = draw(JUNK)
    elif kind == "metadata":
        header["__metadata__"] = draw(JUNK)
    text = dump(header)
    if kind == "repeat" and tensor in header:
        text = text[:-1] + b", " + dump({tensor: header[tensor]})[1:]
    files[name] = join_file(text, payload)


def damage_index(draw: Callable, files: Files) -> None:
    """An entry of the index points elsewhere, is dropped or added; total_size is something else."""
    try:
        index = json.loads(files[INDEX] or b"")
        tensor = draw(st.sampled_from(sorted(index["weight_map"])))
        kind = draw(st.sampled_from(["junk", "elsewhere", "drop", "add", "total", "weight_map", "metadata"]))
        if kind == "junk":
            index["weight_map"][tensor] = draw(JUNK)
        elif kind == "elsewhere":
            index["weight_map"][tensor] = draw(st.sampled_from(sorted(map(str, index["weight_map"].values()))))
        elif kind == "drop":
            del index["weight_map"][tensor]
        elif kind == "add":
            index["weight_map"]["extra"] = index["weight_map"][tensor]
        elif kind == "total":
            index["metadata"]["total_size"] = draw(JUNK)
        else:
            index[kind] = draw(JUNK)
    except (KeyError, ValueError, TypeError, IndexError, AttributeError):
        return
    files[INDEX] = dump(index)


def damage_config(draw: Callable, files: Files) -> None:
    """A setting is something else, absent, or there in the other spelling too."""
    try:
        config = json.loads(files["config.json"] or b"")
        key = draw(st.sampled_from(sorted(config)))
    except (KeyError, ValueError, TypeError, IndexError):
        return
    other = ["num_local_experts", "dtype", "rope_parameters", "quantization_config", "layer_types", "sliding_window"]
    if draw(st.integers(0, 4)) == 0:
        del config[key]
    else:
        config[draw(st.sampled_from([key, key, key, *other]))] = draw(JUNK)
    files["config.json"] = dump(config)


DAMAGES = [damage_bytes, damage_length, damage_header, damage_header, damage_index, damage_config, damage_config]


@settings(max_examples=max(300, settings().max_examples), suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_an_error_of_ours_or_the_same_weights(data: st.DataObject) -> None:
    files: Files = dict(original()[0])
    for damage in data.draw(st.lists(st.sampled_from(DAMAGES), min_size=1, max_size=2)):
        if files:
            damage(data.draw, files)
    with tempfile.TemporaryDirectory() as folder:
        for name, content in files.items():
            if content is None:
                (Path(folder) / name).mkdir()
            else:
                (Path(folder) / name).write_bytes(content)
        report = verify(folder)
        try:
            model = load_model(folder)
        except MinimoeError as error:
            assert len(str(error)) < 3000 and str(error).encode()
            return
        assert weights(model) == original_weights()
        assert report.ok, "what loads is whole"
