"""Small checkpoints in every format, random damages drawn from a seed, and an independent reader for the result.

A damage changes files of a folder in place. Damages that can change values, directly or through config.json, are
listed in CHANGES_VALUES: after them the model must hold the values that the safetensors library reads from the files.
Not included: templates that do not terminate (see the tests of the chat templates), and devices.
"""

import json
import os
import random
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

import minimoe
from minimoe.checkpoint.folder_transaction import DECIDED, JOURNAL, STAGING
from minimoe.checkpoint.layout import INDEX, SINGLE
from minimoe.checkpoint.quantise import quantise
from minimoe.model.transformer import Transformer
from minimoe.quantisation.modules import Packed, stored_tensors
from minimoe.text.tokenizer_files import FILE_NAMES as TOKENIZER_FILES
from tests.checkpoint.fake import TINY, edit_header, join_file, save_tiny, split_file
from tests.quantisation.packing import GPTQ, PACKABLE, symmetric, write_packed

SMALL = replace(TINY, num_hidden_layers=2, num_experts=3, vocab_size=16, tie_word_embeddings=True)
TALKING = replace(TINY, num_hidden_layers=2, num_experts=3, vocab_size=2048, bos_token_id=1964, eos_token_id=1966)
WIDE = replace(PACKABLE, num_hidden_layers=2, num_experts=2, vocab_size=16)
Damage = Callable[[random.Random, Path], Any]


def write_base(kind: str, folder: Path) -> Path:
    """An undamaged checkpoint of that kind."""
    if kind == "plain":
        save_tiny(folder, SMALL, shard_bytes=6000)
    elif kind == "with tokenizer":
        save_tiny(folder, TALKING, shard_bytes=10**9)
        for name in TOKENIZER_FILES:
            if (source := minimoe.find("data/mini") / name).exists():
                shutil.copy(source, folder)
    elif kind in ("int4", "int8"):
        save_tiny(folder / "plain", WIDE)
        quantise(folder / "plain", kind, folder, max_shard_bytes=30_000)
        shutil.rmtree(folder / "plain")
    else:
        settings = GPTQ | {"sym": True} if kind == "gptq" else None
        packed, plain = write_packed(folder, kind, WIDE, symmetric if kind == "gptq" else None, settings)
        shutil.rmtree(plain)
        for file in packed.iterdir():
            file.rename(folder / file.name)
        packed.rmdir()
    return folder


KINDS = ("plain", "with tokenizer", "fp8", "gptq", "int4", "int8")


# ------------------------------------------------------------------ an independent reading


def contents(model: Transformer) -> dict[str, bytes]:
    """Every parameter and packed part: dtype, shape and bytes."""
    return {name: as_bytes(tensor) for name, tensor in stored_tensors(model).items()}


def as_bytes(tensor: Tensor) -> bytes:
    values = tensor.detach().contiguous().view(-1).view(torch.uint8).numpy().tobytes()
    return f"{tensor.dtype}{tuple(tensor.shape)}".encode() + values


def expected_contents(folder: Path, model: Transformer) -> dict[str, bytes]:
    """What a model of this folder has to hold, read with the safetensors library: for each of its tensors the one (or
    the stack of those) of that name; plain ones converted to the dtype that config.json names.
    """
    raw = json.loads((folder / "config.json").read_text(encoding="utf-8-sig"))
    dtype = getattr(torch, raw.get("torch_dtype") or raw.get("dtype") or "bfloat16")
    files = [SINGLE]
    if (folder / INDEX).exists():
        files = sorted(set(json.loads((folder / INDEX).read_text())["weight_map"].values()))
    elif not (folder / SINGLE).exists():
        files = [file.name for file in folder.glob("*.safetensors")]
    stored: dict[str, Tensor] = {}
    for file in files:
        stored |= load_file(folder / file)
    packed = [f"{name}." for name, module in model.named_modules() if isinstance(module, Packed)]
    found = {}
    for name, tensor in stored_tensors(model).items():
        value = read_one(stored, name, len(tensor) if ".experts." in name else None)
        found[name] = as_bytes(value if name.startswith(tuple(packed)) else value.to(dtype))
    return found


def read_one(stored: dict[str, Tensor], name: str, experts: int | None) -> Tensor:
    """The tensor of a parameter, or of all experts' rows of a bank."""
    if experts is None:
        return stored[name if name.startswith("lm_head") else f"model.{name}"]
    bank, kind = name.split(".experts.")
    kind = kind if "." in kind else f"{kind}.weight"
    return torch.stack([stored[f"model.{bank}.experts.{expert}.{kind}"] for expert in range(experts)])


# ------------------------------------------------------------------ helpers


JUNK: list[Any] = [
    None, True, False, 0, 1, 2, 3, 16, -1, 2**31, 2**31 - 1, 2**53 + 1, 2**63, 10**400, 0.5, 16.0, 1e308, float("nan"),
    float("inf"), "", "x", "16", "bfloat16", "float16", "float32", "F32", "F16", "BF16", "I8", "F8_E4M3",
    "../x.safetensors", "\ud800", "\0", "a" * 10_000, [], [0], [-1], [1, 2], ["x"], [[]], [2**40] * 3, {}, {"a": 1},
    {"rope_type": "yarn"}, {"rope_type": "yarn", "factor": "x"}, {"quant_method": 3}, {"group_size": 64, "bits": 4},
    {"quant_method": "awq"}, {"quant_method": "gptq"}, {"quant_method": "compressed-tensors", "config_groups": [1]},
]  # fmt: skip


def pick(draw: random.Random, items: Any) -> Any:
    return draw.choice(sorted(items, key=str))


def any_file(draw: random.Random, folder: Path, *patterns: str) -> Path | None:
    """A regular file of the folder that matches one of the patterns (default: any)."""
    files = [file for pattern in patterns or ("*",) for file in folder.glob(pattern) if file.is_file()]
    return pick(draw, files) if files else None


def shard(draw: random.Random, folder: Path) -> Path | None:
    return any_file(draw, folder, "*.safetensors")


def in_json(draw: random.Random, path: Path, change: Callable[[Any], Any]) -> None:
    """Edit a JSON file that is still readable (reading a pipe would block)."""
    if not path.is_file():
        return
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        change(content)
        path.write_text(json.dumps(content), encoding="utf-8")
    except (OSError, ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError):
        return  # damaged already


def in_header(folder: Path, draw: random.Random, change: Callable[[dict[str, Any], str], Any]) -> None:
    """Edit the header of a file that is still readable; `change` receives the header and the name of a tensor."""
    file = shard(draw, folder)
    if file is None:
        return
    try:
        header, _ = split_file(file)
        names = [name for name in header if name != "__metadata__" and "shape" in header[name]]
        if names:
            name = pick(draw, names)
            edit_header(file, lambda content: change(content, name))
    except (OSError, ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError):
        return


# ------------------------------------------------------------------ damages to bytes and files


def change_byte(draw: random.Random, folder: Path) -> None:
    """A byte of a JSON text, of a header or of a template becomes another, or the text ends there."""
    if (file := any_file(draw, folder)) is None:
        return
    data = file.read_bytes()
    text = 8 + int.from_bytes(data[:8], "little") if file.suffix == ".safetensors" else len(data)
    if 0 < text <= len(data):
        at = draw.randrange(text)
        new = bytes([draw.choice(b'0123456789"{}[],:.-eNx \\\x00\xff')])
        file.write_bytes(data[:at] if draw.random() < 0.25 else data[:at] + new + data[at + 1 :])


def change_length(draw: random.Random, folder: Path) -> None:
    if (file := any_file(draw, folder)) is None:
        return
    data = file.read_bytes()
    kinds = [lambda: data[: draw.randrange(len(data) + 1)], lambda: data + bytes(draw.randint(1, 5000)), lambda: b"",
             lambda: draw.randrange(2 ** draw.choice([8, 16, 64])).to_bytes(8, "little") + data[8:]]  # fmt: skip
    file.write_bytes(draw.choice(kinds)())


def become_something_else(draw: random.Random, folder: Path) -> None:
    if (file := any_file(draw, folder)) is None:
        return
    file.write_bytes(draw.choice([
        b"version https://git-lfs.github.com/spec/v1\n", b"<!DOCTYPE html>", bytes(1000), b"GGUF" + bytes(99),
        b"PK\x03\x04" + bytes(99), b"\x80\x02cos\nsystem\n", b"[" * 100_000, b'{"a":' * 100_000, b"null", b"{}", b"[]",
    ]))  # fmt: skip


def byte_order_mark(draw: random.Random, folder: Path) -> None:
    if (file := any_file(draw, folder, "*.json", "*.jinja", "*.txt")) is not None:
        data = file.read_bytes()
        try:
            file.write_bytes(draw.choice([b"\xef\xbb\xbf" + data, data.decode().encode("utf-16"), data + b"\0"]))
        except UnicodeDecodeError:
            return


def remove(draw: random.Random, folder: Path) -> None:
    if (file := any_file(draw, folder)) is not None:
        file.unlink()


def rename(draw: random.Random, folder: Path) -> None:
    if (file := any_file(draw, folder)) is not None:
        names = [file.name.upper(), f"{file.stem} (1){file.suffix}", "x.safetensors", "x.bin"]
        file.rename(folder / draw.choice(names))


def copy(draw: random.Random, folder: Path) -> None:
    """A copy of a file, under a new name or under that of another file."""
    if (file := any_file(draw, folder)) is not None:
        other = any_file(draw, folder, f"*{file.suffix}")
        name = draw.choice([f"copy-{file.name}", f"{file.stem} (1){file.suffix}", other.name if other else "x"])
        if name != file.name:
            shutil.copyfile(file, folder / name)


def replace_by_node(draw: random.Random, folder: Path) -> None:
    """A folder, a pipe, or a link that leads to nothing, to itself, to a folder, or to the file's own bytes."""
    if (file := any_file(draw, folder)) is None:
        return
    kind = draw.choice(["folder", "pipe", "nothing", "itself", "to a folder", "to its bytes", "hard link"])
    elsewhere = folder.parent / "elsewhere"
    elsewhere.mkdir(exist_ok=True)
    file.rename(elsewhere / file.name)
    if kind == "folder":
        file.mkdir()
    elif kind == "pipe":
        os.mkfifo(file)
    elif kind == "hard link":
        os.link(elsewhere / file.name, file)
    else:
        target = {"nothing": "absent", "itself": file.name, "to a folder": "../elsewhere"}
        file.symlink_to(target.get(kind, f"../elsewhere/{file.name}"))


def no_permission(draw: random.Random, folder: Path) -> None:
    if (file := any_file(draw, folder)) is not None:
        file.chmod(0)


def add_a_file(draw: random.Random, folder: Path) -> None:
    """A file that other programs write beside a checkpoint, or of another format."""
    name = draw.choice([
        "adapter_config.json", "adapter_model.safetensors", "x.gguf", "training_args.bin", "model_index.json",
        ".metadata", "weights.npz", "Modelfile", "extra.safetensors", ".cache", "config.json.bak",
        "model.safetensors.sha256", "onnx", "\u6a21\u578b.txt", "vocab.json", "merges.txt", "added_tokens.json",
        "consolidated.safetensors",
    ])  # fmt: skip
    if not (folder / name).exists():
        draw.choice([lambda: (folder / name).write_bytes(b"{}"), lambda: (folder / name).mkdir()])()


def interrupted_save(draw: random.Random, folder: Path) -> None:
    """The remains of a killed save, themselves damaged."""
    place = folder / draw.choice([STAGING, DECIDED])
    if place.exists():
        return
    place.mkdir()
    if draw.random() < 0.8:
        (place / JOURNAL).write_text(draw.choice([
            "", "{", "[]", '{"files": [], "remove": []}', '{"files": ["config.json"], "remove": []}', '{"files": 3}',
            '{"files": ["../x"], "remove": []}', '{"files": [], "remove": ["/etc/hostname", "../x"]}',
        ]))  # fmt: skip


# ------------------------------------------------------------------ damages to headers, index and config


def change_header(draw: random.Random, folder: Path) -> None:
    def change(header: dict[str, Any], name: str) -> None:
        kind = draw.choice(["dtype", "shape", "data_offsets", "reverse", "drop", "rename", "add", "entry", "metadata"])
        if kind in ("dtype", "shape", "data_offsets"):
            header[name][kind] = draw.choice(JUNK)
        elif kind == "reverse":
            header[name]["shape"].reverse()
        elif kind == "drop":
            del header[name]
        elif kind == "rename":
            new = ["x", "lm_head.weight", "model.layers.7.x", name + "x", name.replace("1", "0"), "", "\0", "\ud800"]
            header[draw.choice(new)] = header.pop(name)
        elif kind == "add":
            header["extra"] = {"dtype": "BF16", "shape": [0], "data_offsets": [0, 0]}
        elif kind == "entry":
            header[name] = draw.choice(JUNK)
        else:
            header["__metadata__"] = draw.choice(JUNK)

    in_header(folder, draw, change)


def change_dtype(draw: random.Random, folder: Path) -> None:
    """The header gives one tensor another dtype of the same width."""
    same = [["BF16", "F16", "I16", "U16"], ["F32", "I32", "U32"], ["I8", "U8", "F8_E4M3", "F8_E5M2", "BOOL"]]

    def change(header: dict[str, Any], name: str) -> None:
        codes = next(codes for codes in same if header[name]["dtype"] in codes)
        header[name]["dtype"] = draw.choice(codes)

    in_header(folder, draw, change)


def exchange_tensors(draw: random.Random, folder: Path) -> None:
    """Two tensors of one file exchange their names."""

    def change(header: dict[str, Any], name: str) -> None:
        other = pick(draw, set(header) - {"__metadata__"})
        header[name], header[other] = header[other], header[name]

    in_header(folder, draw, change)


def rewrite_header(draw: random.Random, folder: Path) -> None:
    """The header's text changes but not its content, or a key is duplicated."""
    if (file := shard(draw, folder)) is None:
        return
    try:
        header, payload = split_file(file)
        name = pick(draw, set(header) - {"__metadata__"})
    except (ValueError, IndexError, AttributeError, OverflowError, RecursionError):
        return
    text = json.dumps(header)
    file.write_bytes(join_file(draw.choice([
        text + "   ", "  " + text, "\ufeff" + text, text + "\n", text + "{}", json.dumps(header, indent=4),
        text[:-1] + f", {json.dumps(name)}: {json.dumps(header[name])}}}", text.replace(": ", ":"),
    ]).encode(), payload))  # fmt: skip


def add_prefix(draw: random.Random, folder: Path) -> None:
    prefix = draw.choice(["model.language_model.", "language_model.model.", "_orig_mod.model.", "", "module.model."])
    for file in folder.glob("*.safetensors"):
        if not file.is_file():
            continue
        try:
            header, payload = split_file(file)
            renamed = {name.replace("model.", prefix, 1): entry for name, entry in header.items()}
            file.write_bytes(join_file(renamed, payload))
        except (ValueError, AttributeError, OverflowError, RecursionError):
            continue
    if draw.random() < 0.8:
        (folder / INDEX).unlink(missing_ok=True) if not (folder / INDEX).is_dir() else None


def change_index(draw: random.Random, folder: Path) -> None:
    def change(index: dict[str, Any]) -> None:
        names = index["weight_map"]
        kinds = ["junk", "elsewhere", "drop", "add", "total", "map", "metadata", "all"]
        name, kind = pick(draw, names), draw.choice(kinds)
        if kind == "junk":
            names[name] = draw.choice(JUNK)
        elif kind == "elsewhere":
            names[name] = pick(draw, set(map(str, names.values())))
        elif kind == "drop":
            del names[name]
        elif kind == "add":
            names[draw.choice(["extra", "", "\ud800", "model.layers.9.mlp.gate.weight"])] = names[name]
        elif kind == "total":
            index["metadata"]["total_size"] = draw.choice(JUNK)
        elif kind == "all":
            index["weight_map"] = dict.fromkeys(names, names[name])
        else:
            index["weight_map" if kind == "map" else "metadata"] = draw.choice(JUNK)

    in_json(draw, folder / INDEX, change)


def change_config(draw: random.Random, folder: Path) -> None:
    others = ["num_local_experts", "dtype", "rope_parameters", "rope_scaling", "quantization_config", "quantization",
              "layer_types", "sliding_window", "torch_dtype", "auto_map", "text_config"]  # fmt: skip

    def change(config: dict[str, Any]) -> None:
        key = pick(draw, config)
        if draw.random() < 0.2:
            del config[key]
        else:
            config[draw.choice([key, key, key, draw.choice(others)])] = draw.choice(JUNK)

    in_json(draw, folder / "config.json", change)


def change_quantisation(draw: random.Random, folder: Path) -> None:
    values = [*JUNK, "gptq", "gptq_v2", "fp8", "minimoe", [128, 128], 128, 4, 8, "e4m3", "dynamic"]

    def change(config: dict[str, Any]) -> None:
        settings = config["quantization_config"]
        key = pick(draw, settings)
        if draw.random() < 0.3:
            del settings[key]
        else:
            settings[key] = draw.choice(values)

    in_json(draw, folder / "config.json", change)


def repeat_a_key(draw: random.Random, folder: Path) -> None:
    if (file := any_file(draw, folder, "*.json")) is not None:
        text = file.read_text(encoding="utf-8", errors="replace").rstrip()
        if text.endswith("}") and len(text) > 2:
            key = pick(draw, ["hidden_size", "weight_map", "model", "eos_token_id"])
            file.write_text(f'{text[:-1]}, "{key}": {json.dumps(draw.choice(JUNK))}}}', encoding="utf-8")


# ------------------------------------------------------------------ damages to values


def flip_bits(draw: random.Random, folder: Path) -> None:
    """Bytes behind a header change; now and then a run of zeros."""
    if (file := shard(draw, folder)) is None:
        return
    data = bytearray(file.read_bytes())
    start = 8 + int.from_bytes(data[:8], "little")
    if start >= len(data):
        return
    at = draw.randrange(start, len(data))
    run = draw.choice([1, 1, 2, 300])
    new = bytes(min(run, len(data) - at)) if draw.random() < 0.3 else draw.randbytes(min(run, len(data) - at))
    data[at : at + len(new)] = new
    file.write_bytes(data)


def not_a_number(draw: random.Random, folder: Path) -> None:
    """A value of one tensor becomes NaN or infinity."""
    if (file := shard(draw, folder)) is None:
        return
    try:
        header, payload = split_file(file)
        name = pick(draw, set(header) - {"__metadata__"})
        begin, end = header[name]["data_offsets"]
        width = {"BF16": 2, "F16": 2, "F32": 4, "F8_E4M3": 1}[header[name]["dtype"]]
    except (ValueError, IndexError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        return
    bits = {"BF16": [0x7FC0, 0x7F80, 0xFF80], "F16": [0x7E00, 0x7C00], "F32": [0x7FC00000], "F8_E4M3": [0x7F]}
    if type(begin) is int and type(end) is int and 0 <= begin < end <= len(payload) and (end - begin) % width == 0:
        at = begin + width * draw.randrange((end - begin) // width)
        value = draw.choice(bits[header[name]["dtype"]]).to_bytes(width, "little")
        file.write_bytes(join_file(header, payload[:at] + value + payload[at + width :]))


def set_dtype(draw: random.Random, folder: Path) -> None:
    names = ["float16", "float32", "float64", "bfloat16", None, "int8", "half", "torch.bfloat16"]
    in_json(draw, folder / "config.json", lambda config: config.update(torch_dtype=draw.choice(names)))


# ------------------------------------------------------------------ damages to tokenizer and template


def change_tokenizer(draw: random.Random, folder: Path) -> None:
    """A value in a JSON file of the tokenizer is removed or replaced."""

    def change(content: Any) -> None:
        place = content
        while True:
            keys = list(place) if isinstance(place, dict) else list(range(len(place)))
            key = draw.choice(keys)
            if isinstance(place[key], dict | list) and len(place[key]) and draw.random() < 0.8:
                place = place[key]
                continue
            if draw.random() < 0.4:
                del place[key]
            else:
                place[key] = draw.choice(JUNK)
            return

    if (file := any_file(draw, folder, "tokenizer*.json", "generation_config.json")) is not None:
        in_json(draw, file, change)


def break_template(draw: random.Random, folder: Path) -> None:
    file = folder / "chat_template.jinja"
    if not file.is_file():
        return
    text = file.read_text(encoding="utf-8", errors="replace")
    file.write_text(draw.choice([
        "", "{", "{%", "{% if %}", "{{ absent.x.y }}", "{{ messages | nofilter }}", "{% include 'x' %}", "{{ 1 / 0 }}",
        "{% for m in messages %}", "{{ messages.x() }}", "{{ ''.__class__ }}", "{{ raise_exception('no') }}", "\0",
        text + "{% endif %}", text[: draw.randrange(len(text) + 1)], text.replace("%}", "}"), "{{ messages[9] }}",
        "{% set x = x %}{{ x }}", "{{ [] | first }}", "{{ 'a' | int + 'b' }}", "{{ lipsum() }}", "{{ self }}",
    ]), encoding="utf-8")  # fmt: skip


CHANGES_VALUES: list[Damage] = [flip_bits, not_a_number, set_dtype, change_dtype, exchange_tensors, change_config]
CHANGES_TOKENIZER: list[Damage] = [change_tokenizer, break_template]
DAMAGES: list[Damage] = [
    change_byte, change_byte, change_length, become_something_else, byte_order_mark, remove, rename, copy,
    replace_by_node, no_permission, add_a_file, interrupted_save, change_header, change_header, rewrite_header,
    add_prefix, change_index, change_index, change_quantisation, repeat_a_key, *CHANGES_VALUES, change_config,
]  # fmt: skip


@cache
def base(kind: str) -> Path:
    """The undamaged checkpoint, made once."""
    return write_base(kind, Path(tempfile.mkdtemp(prefix="minimoe-damages-")) / "base")


def draw_case(number: int) -> tuple[str, list[Damage], random.Random]:
    """Case `number`: the kind of checkpoint, one to three damages, and their random generator."""
    draw = random.Random(number)
    kind = KINDS[number % len(KINDS)]
    damages = DAMAGES + 6 * CHANGES_TOKENIZER if kind == "with tokenizer" else DAMAGES
    return kind, [draw.choice(damages) for _ in range(draw.choice([1, 1, 1, 2, 2, 3]))], draw
