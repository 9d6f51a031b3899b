"""Checkpoints in other formats: load and verify name each format and the next step.

For all of them, verify reports as whole exactly what load accepts.
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file, save_file
from torch import Tensor

import minimoe
from minimoe.checkpoint.load import load_model
from minimoe.checkpoint.resolve import find_checkpoint
from minimoe.checkpoint.verify import verify
from minimoe.cli import cli
from minimoe.errors import IndexMismatch, MinimoeError, MissingShard, NotFound, NotSafetensors
from tests.checkpoint.fake import edit_json, first_shard, random_model, refused, rewrite, weights

INDEX = "model.safetensors.index.json"
Change = Callable[[Path], Any]


class Case(NamedTuple):
    """A change to a copy of the tiny checkpoint, and words expected in the message."""

    name: str
    change: Change
    words: tuple[str, ...]


def only(*files: str, keep: tuple[str, ...] = ()) -> Change:
    """A folder with only these dummy files; a name with a trailing slash is a folder."""

    def change(folder: Path) -> None:
        for entry in list(folder.iterdir()):
            if entry.name not in keep:
                entry.unlink()
        for name in files:
            (folder / name).parent.mkdir(exist_ok=True, parents=True)
            (folder / name).mkdir() if name.endswith("/") else (folder / name).write_bytes(b"\x80\x02x")

    return change


def with_config(*files: str) -> Change:
    return only(*files, keep=("config.json",))


def config(**changes: Any) -> Change:
    return lambda folder: edit_json(folder / "config.json", lambda raw: raw.update(changes))


def packed_as(**settings: Any) -> Change:
    return config(quantization_config=settings)


def compressed(scheme: str, bits: int = 4, kind: str = "int", dynamic: Any = None) -> Change:
    group = {"weights": {"num_bits": bits, "type": kind}, "input_activations": dynamic, "targets": ["Linear"]}
    return packed_as(quant_method="compressed-tensors", format=scheme, config_groups={"group_0": group})


def tensors(change: Callable[[dict[str, Tensor]], Any]) -> Change:
    return lambda folder: rewrite(folder, change)


def renamed(old: str, new: str) -> Change:
    """Every name that begins with `old` begins with `new`."""

    def change(stored: dict[str, Tensor]) -> None:
        for name in list(stored):
            stored[(new + name.removeprefix(old)) if name.startswith(old) else new + name] = stored.pop(name)

    return tensors(change)


def parts(*suffixes: str) -> Change:
    """Every projection of attention becomes tensors with these endings."""

    def change(stored: dict[str, Tensor]) -> None:
        for name in [name for name in stored if "_proj.weight" in name]:
            stored.pop(name)
            stored.update({name.removesuffix("weight") + suffix: torch.zeros(2) for suffix in suffixes})

    return tensors(change)


def adapter(folder: Path) -> None:
    with_config()(folder)
    save_file({"base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight": torch.zeros(2)},
              folder / "adapter_model.safetensors")  # fmt: skip
    (folder / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "Qwen/Qwen3-30B-A3B"}))


def switch(stored: dict[str, Tensor]) -> None:
    """MLX stacks the experts under another name."""
    for name in [name for name in stored if ".experts." in name]:
        stored.pop(name)
    stored["model.layers.0.mlp.switch_mlp.up_proj.weight"] = torch.zeros(2)


READS = "minimoe reads plain checkpoints"
CASES = [
    Case("GGUF alone", only("Qwen3-30B-A3B-Q4_K_M.gguf"), ("GGUF", "llama.cpp", "hf download Qwen/Qwen3-30B-A3B ")),
    Case("GGUF and config.json", with_config("x.GGUF"), ("x.GGUF", "GGUF", "llama.cpp")),
    Case("MLX, both keys", config(quantization={"group_size": 64, "bits": 4},
                                  quantization_config={"group_size": 64, "bits": 4}), ("MLX (Apple), 4 bits", READS)),
    Case("MLX, its key", config(quantization={"group_size": 64, "bits": 4}), ("MLX (Apple), 4 bits", READS)),
    Case("MLX, the other key", packed_as(group_size=64, bits=8), ("MLX (Apple), 8 bits", READS)),
    Case("MLX, names alone", parts("weight", "scales", "biases"), ("MLX (Apple)", READS)),
    Case("MLX, switch_mlp", tensors(switch), ("MLX (Apple)", READS)),
    Case("MLX, old", with_config("weights.npz"), ("MLX (Apple)",)),
    Case("AWQ", packed_as(quant_method="awq", bits=4, version="gemm"), ("quant_method 'awq'", "AWQ, int4", READS)),
    Case("AWQ, names alone", parts("qweight", "qzeros", "scales"), ("AWQ, int4", READS)),
    Case("GPTQ, names alone", parts("qweight", "qzeros", "scales", "g_idx"), ("GPTQ", "no quantization_config")),
    Case("FP8, names alone", parts("weight", "weight_scale_inv"), ("FP8 in blocks", "no quantization_config")),
    Case("int4, names alone", parts("weight_int4", "weight_scale"), ("minimoe quantise", "no quantization_config")),
    Case("W4A16", compressed("pack-quantized"), ("compressed-tensors, W4A16", READS)),
    Case("FP8-dynamic", compressed("float-quantized", 8, "float", {"dynamic": True}), ("FP8-dynamic", READS)),
    Case("FP8, static", compressed("float-quantized", 8, "float", {"dynamic": False}), ("FP8, static", READS)),
    Case("W8A8", compressed("int-quantized", 8, "int", {"dynamic": True}), ("compressed-tensors, W8A8", READS)),
    Case("NVFP4", compressed("nvfp4-pack-quantized", 4, "float"), ("compressed-tensors, NVFP4", READS)),
    Case("compressed, old", packed_as(config_groups={"group_0": {"weights": {"num_bits": 4}}}, format="pack-quantized"),
         ("compressed-tensors, W4A16",)),
    Case("compressed, odd", packed_as(quant_method="compressed-tensors", config_groups=[3]), ("scheme not known",)),
    Case("W4A16, names alone", parts("weight_packed", "weight_scale", "weight_shape"), ("such as W4A16", READS)),
    Case("NVFP4, names alone", parts("weight_packed", "weight_scale", "weight_global_scale"), ("NVFP4", READS)),
    Case("FP8 a row, names alone", parts("weight", "weight_scale"), ("scale for each matrix or row", READS)),
    Case("bitsandbytes", packed_as(quant_method="bitsandbytes", load_in_4bit=True), ("bitsandbytes, 4 bits", READS)),
    Case("bitsandbytes, old", packed_as(load_in_8bit=True), ("bitsandbytes, 8 bits", READS)),
    Case("bitsandbytes, _old", packed_as(_load_in_4bit=True), ("bitsandbytes, 4 bits", READS)),
    Case("bitsandbytes, names", parts("weight", "weight.absmax", "weight.quant_map"), ("bitsandbytes, 4 bits", READS)),
    Case("LLM.int8, names", parts("weight", "SCB"), ("bitsandbytes, int8", READS)),
    Case("torchao", packed_as(quant_method="torchao", quant_type={}), ("torchao", READS)),
    Case("ModelOpt", packed_as(quant_method="modelopt", quant_algo="NVFP4"), ("NVIDIA ModelOpt NVFP4", READS)),
    Case("ModelOpt, names", parts("weight", "weight_scale", "weight_scale_2", "input_scale"), ("NVFP4", READS)),
    Case("MXFP4", packed_as(quant_method="mxfp4"), ("MXFP4", READS)),
    Case("MXFP4, names", parts("weight_blocks", "weight_scales"), ("MXFP4", READS)),
    Case("AutoRound", packed_as(quant_method="auto-round", bits=4), ("AutoRound (Intel)", READS)),
    Case("AutoRound, intel/", packed_as(quant_method="intel/auto-round"), ("AutoRound (Intel)", READS)),
    Case("EXL2", packed_as(quant_method="exl2"), ("EXL2", READS)),
    Case("EXL3", packed_as(quant_method="exl3"), ("EXL3", READS)),
    Case("EXL3, names", parts("trellis", "suh", "svh"), ("EXL3", READS)),
    Case("Marlin", packed_as(quant_method="marlin"), ("Marlin, int4", READS)),
    Case("Marlin, names", parts("B", "s"), ("Marlin, int4", READS)),
    Case("an unknown method", packed_as(quant_method="x7"), ("quant_method 'x7'", READS)),
    Case("no method", packed_as(foo=1), ("quant_method None", READS)),
    Case("LoRA", adapter, ("adapter (LoRA) for 'Qwen/Qwen3-30B-A3B'", "merge_and_unload")),
    Case("LoRA in the weights", tensors(lambda t: t.update({"model.layers.0.mlp.x.lora_A.weight": torch.zeros(2)})),
         ("LoRA adapter that was not merged",)),
    Case("a pickle", with_config("pytorch_model-00001-of-00002.bin"), ("pickle", "never opens one")),
    Case("a pickle without config", only("model.pth"), ("pickle", "never opens one")),
    Case("Mistral's layout", with_config("consolidated.safetensors", "params.json"), ("Mistral or Llama",)),
    Case("DCP", only("__0_0.distcp", ".metadata"), ("PyTorch DCP or FSDP",)),
    Case("Megatron", only("latest_checkpointed_iteration.txt", "iter_0001/mp_rank_00/x.pt"), ("Megatron checkpoint",)),
    Case("DeepSpeed", only("zero_to_fp32.py", "global_step9/"), ("DeepSpeed ZeRO", "--safe_serialization")),
    Case("ONNX", with_config("onnx/", "model.onnx"), ("ONNX",)),
    Case("OpenVINO", with_config("openvino_model.xml", "openvino_model.bin"), ("OpenVINO",)),
    Case("TensorFlow", with_config("tf_model.h5"), ("TensorFlow or Keras",)),
    Case("Flax", with_config("flax_model.msgpack"), ("Flax or JAX",)),
    Case("diffusers", only("model_index.json", "unet/"), ("diffusers pipeline",)),
    Case("sentence-transformers", only("modules.json", "1_Pooling/"), ("sentence-transformers",)),
    Case("NeMo", only("qwen3.nemo"), ("NeMo checkpoint",)),
    Case("Modelfile", only("Modelfile"), ("Ollama Modelfile", "GGUF")),
    Case("Ollama's store", only("blobs/sha256-00", "manifests/x"), ("folder of Ollama", "GGUF")),
    Case("vision prefix", renamed("model.", "model.language_model."),
         ("found 'model.language_model.layers.0.", "expected names such as 'model.layers.0.", "images and text")),
    Case("vision prefix, old", renamed("", "language_model."), ("found 'language_model.model.layers.0", "images")),
    Case("PEFT prefix", renamed("", "base_model.model."), ("found 'base_model.model.model.layers.0", "PEFT wrapper")),
    Case("compiled", renamed("", "_orig_mod."), ("found '_orig_mod.model.layers.0", "torch.compile")),
    Case("DDP", renamed("", "module."), ("found 'module.model.layers.0", "DDP wrapper")),
    Case("GPT-2's names", renamed("model.layers.", "transformer.h."), ("found 'transformer.h.0", "first Qwen")),
    Case("no prefix", renamed("model.", ""), ("found 'layers.0.", "Qwen3Model instead of Qwen3ForCausalLM")),
    Case("other names", renamed("model.", "net."), ("found 'net.layers.0.", "Is it a Qwen3 checkpoint?")),
    Case("another family", config(model_type="llama"), ("model_type is llama",)),
    Case("an empty folder", only(), ("holds neither model.safetensors nor", "hf download")),
    Case("a file is missing", lambda folder: first_shard(folder).unlink(), ("1 of 7 files are absent",)),
    Case("all as it should be", lambda folder: None, ()),
    Case("one file of another name", lambda folder: one_file(folder, "weights.safetensors"), ()),
    Case("without its index", lambda folder: (folder / INDEX).unlink(), ()),
]  # fmt: skip


def one_file(folder: Path, name: str) -> None:
    rewrite(folder, lambda stored: None)
    (folder / "model.safetensors").rename(folder / name)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_each_format_is_named_and_verify_agrees_with_load(tiny: Path, case: Case) -> None:
    case.change(tiny)
    report = verify(tiny)
    try:
        load_model(tiny)
    except MinimoeError as error:
        message = str(error)
        assert case.words, message
        assert not report.ok and report.verdict != "whole"
        assert CliRunner().invoke(cli, ["verify", str(tiny)]).exit_code == 1
        for text in (message, str(report)):
            assert all(word in text for word in case.words), text
            assert "fp8, gptq, minimoe" not in text and "..." not in message.replace("... (", "") and len(message) < 700
            assert str(tiny) in text
        return
    assert not case.words
    assert report.ok and report.verdict == "whole"


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("Qwen3-30B-A3B-Q4_K_M.gguf", b"GGUF\3\0\0\0", ("GGUF", "hf download Qwen/Qwen3-30B-A3B ")),
        ("blob", b"GGUF\3\0\0\0", ("GGUF", "Ollama")),
        ("model.onnx", b"", ("ONNX",)),
        ("Modelfile", b"FROM x", ("Ollama",)),
        ("x.pth", b"", ("pickle", "never opens one")),
    ],
)
def test_a_path_to_a_file(tmp_path: Path, name: str, content: bytes, words: tuple[str, ...]) -> None:
    (tmp_path / name).write_bytes(content)
    message = refused(tmp_path / name, NotSafetensors)
    assert all(word in message for word in words) and name in message


def test_a_path_to_a_weight_file_names_its_folder(tiny: Path) -> None:
    assert f"the .safetensors files: {tiny}" in refused(first_shard(tiny), NotFound)


# ------------------------------------------------------------------ without an index


def test_the_index_is_rebuilt_from_the_headers(tiny: Path) -> None:
    before = verify(tiny)
    (tiny / INDEX).unlink()
    assert weights(load_model(tiny)) == weights(random_model())
    part = load_model(tiny, layers=range(1, 3))
    assert weights(part).items() <= weights(random_model()).items()
    after = verify(tiny)
    assert after.ok and (after.files, after.tensors) == (before.files, before.tensors)
    assert f"there is no {INDEX}" in after.notes[0]


def test_a_rebuilt_index_requires_all_numbered_files(tiny: Path) -> None:
    (tiny / INDEX).unlink()
    second = sorted(tiny.glob("*.safetensors"))[1]
    second.rename(tiny / "aside")
    message = refused(tiny, MissingShard)
    assert "of 7 numbered files 1 are absent, first number 2" in message and "hf download" in message
    (tiny / "aside").rename(tiny / "part.safetensors")  # without a number nothing tells that it is the missing one
    assert "of 7 numbered files 1 are absent" in refused(tiny, MissingShard)


def test_a_rebuilt_index_rejects_duplicate_tensors(tiny: Path) -> None:
    (tiny / INDEX).unlink()
    shutil.copy(first_shard(tiny), tiny / "model-00001-of-00007 (1).safetensors")
    assert "is both in" in refused(tiny, IndexMismatch)


def test_a_save_keeps_files_outside_the_index(tiny: Path) -> None:
    """A rebuilt index is only for reading: unrelated files in the folder are not deleted."""
    model = random_model()
    (tiny / INDEX).unlink()
    others = {file.name for file in tiny.glob("*.safetensors")}
    minimoe.save(model, None, tiny)
    assert others <= {file.name for file in tiny.iterdir()}


# ------------------------------------------------------------------ the hub's cache


@pytest.fixture
def cached(original: Path, tmp_path: Path) -> Path:
    """models--Qwen--Tiny as the hub's cache holds it: snapshots of links into blobs."""
    folder = tmp_path / "hub" / "models--Qwen--Tiny"
    snapshot = folder / "snapshots" / ("a" * 40)
    (folder / "blobs").mkdir(parents=True)
    (folder / "refs").mkdir()
    snapshot.mkdir(parents=True)
    for number, file in enumerate(sorted(original.iterdir())):
        shutil.copy(file, folder / "blobs" / f"{number:064x}")
        (snapshot / file.name).symlink_to(f"../../blobs/{number:064x}")
    (folder / "refs" / "main").write_text("a" * 40)
    return folder


def test_a_model_in_the_cache_is_its_main_snapshot(cached: Path) -> None:
    other = cached / "snapshots" / ("b" * 40)
    shutil.copytree(cached / "snapshots" / ("a" * 40), other, symlinks=True)
    assert find_checkpoint(cached) == cached / "snapshots" / ("a" * 40)
    assert weights(load_model(cached)) == weights(random_model())
    assert verify(cached).ok
    (cached / "refs" / "main").write_text("b" * 40)
    assert find_checkpoint(cached) == other


@pytest.mark.parametrize("main", [None, "c" * 40, "../" * 13 + "x", "\xff"])
def test_a_model_in_the_cache_without_main(cached: Path, main: str | None) -> None:
    if main is None:
        (cached / "refs" / "main").unlink()
    else:
        (cached / "refs" / "main").write_text(main)
    assert find_checkpoint(cached) == cached / "snapshots" / ("a" * 40)  # the only one
    (cached / "snapshots" / ("b" * 40)).mkdir()
    message = refused(cached, NotFound)
    assert f"the snapshots {'a' * 40}, {'b' * 40}" in message
    assert f"such as {cached / 'snapshots' / ('a' * 40)}" in message
    shutil.rmtree(cached / "snapshots")
    (cached / "snapshots").mkdir()
    assert "with no snapshot. Run: hf download Qwen/Tiny" in refused(cached, NotFound)


def test_a_folder_of_checkpoints_names_them(cached: Path, original: Path, tmp_path: Path) -> None:
    assert f"Give one of them: {cached}" in refused(cached.parent, NotFound)
    shutil.copytree(original, tmp_path / "run" / "checkpoint-500")
    assert "the folders in it do: checkpoint-500" in refused(tmp_path / "run", NotFound)
    assert not verify(tmp_path / "run").ok


def test_files_of_other_formats_beside_a_checkpoint_are_ignored(tiny: Path) -> None:
    (tiny / "training_args.bin").write_bytes(b"\x80\x02")
    (tiny / "model.gguf").write_bytes(b"GGUF")
    (tiny / "onnx").mkdir()
    assert verify(tiny).ok
    load_model(tiny)
    stored = load_file(first_shard(tiny))
    save_file(stored, tiny / "adapter_model.safetensors")
    load_model(tiny)
