"""Recognises checkpoints in other formats and layouts by the names of their files and tensors.

The errors name the format and the next step. No file whose format could run code is opened here.
"""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from minimoe import paths
from minimoe.checkpoint.layout import EMBEDDING, INDEX, LAYER, SINGLE
from minimoe.errors import NotFound, NotSafetensors, UnsupportedModel, WrongModel, shown
from minimoe.quantisation import unsupported_formats as packed

ADAPTER = "adapter_model.safetensors"
SAFETENSORS = "Download the safetensors checkpoint of the same model"
PICKLE = (
    "a pickle, which can run code when opened; minimoe never opens one. Download the safetensors files of this model, "
    "or save it as safetensors with the library that wrote it"
)


class Kind(NamedTuple):
    """Another format: patterns of file or folder names, a description, and advice for the user."""

    patterns: tuple[str, ...]
    what: str
    advice: str = SAFETENSORS


KINDS = (
    Kind(("*.gguf", "*.ggml"), "GGUF, the format of llama.cpp and Ollama, which minimoe does not read",
         "Run it with llama.cpp or Ollama, or download the safetensors checkpoint that it was made from"),
    Kind(("model_index.json",), "a diffusers pipeline (images or video), not a language model",
         "Expected the folder of a Qwen3 language model"),
    Kind(("modules.json", "config_sentence_transformers.json"), "a sentence-transformers model, which gives vectors",
         "Expected the folder of a Qwen3 language model"),
    Kind((".metadata", "*.distcp"), "a sharded training checkpoint (PyTorch DCP or FSDP), which is stored in pickles",
         "Convert it with the training program to safetensors (save_pretrained, or its export command)"),
    Kind(("latest_checkpointed_iteration.txt", "iter_*", "mp_rank_*"), "a Megatron checkpoint, stored in pickles",
         "Export it to the Hugging Face layout with the program that trained it (Megatron Bridge, mbridge)"),
    Kind(("zero_to_fp32.py", "global_step*"), "a DeepSpeed ZeRO checkpoint, stored in pickles",
         "Merge it to safetensors: python zero_to_fp32.py . OUT --safe_serialization"),
    Kind(("*.nemo", "model_weights"), "a NeMo checkpoint",
         "Export it to the Hugging Face layout with NeMo (llm.export_ckpt, target hf)"),
    Kind(("*.onnx", "onnx"), "ONNX", SAFETENSORS),
    Kind(("openvino_model.xml",), "OpenVINO", SAFETENSORS),
    Kind(("*.mlpackage", "*.mlmodelc"), "Core ML", SAFETENSORS),
    Kind(("*.engine", "rank0.safetensors"), "TensorRT-LLM, made for one kind of GPU", SAFETENSORS),
    Kind(("mlc-chat-config.json", "params_shard_0.bin"), "MLC-LLM", SAFETENSORS),
    Kind(("weights.npz",), "MLX (Apple)", SAFETENSORS),
    Kind(("*.h5", "saved_model.pb", "*.keras", "*.tflite"), "TensorFlow or Keras", SAFETENSORS),
    Kind(("flax_model*.msgpack", "_CHECKPOINT_METADATA", "*.orbax*"), "Flax or JAX", SAFETENSORS),
    Kind(("modelfile",), "an Ollama Modelfile, which names a model in GGUF",
         "Run it with Ollama, or download the safetensors checkpoint of the same model"),
    Kind(("manifests", "sha256-*"), "a folder of Ollama, which keeps its models in GGUF",
         "Run them with Ollama, or download the safetensors checkpoint of the same model"),
    Kind(("consolidated*.safetensors", "params.json", "consolidated*.pth"),
         "a checkpoint in the layout of Mistral or Llama, whose tensors have other names",
         "Expected a Qwen3 checkpoint in the Hugging Face layout"),
    Kind(("*.bin", "*.pt", "*.pth", "*.pkl", "*.ckpt"), PICKLE, ""),
)  # fmt: skip

# Unexpected prefix of the tensor names, instead of "model." -> explanation
PREFIXES = {
    "model.language_model.": "This is a model for images and text, or was saved by a tool as if it were one",
    "language_model.": "This is a model for images and text, or was saved by a tool as if it were one",
    "thinker.": "This is an Omni model (speech, images and text)",
    "base_model.": "It was saved inside its PEFT wrapper: call merge_and_unload() before saving",
    "_orig_mod.": "It was saved inside torch.compile's wrapper: save model._orig_mod instead",
    "module.": "It was saved inside a DataParallel or DDP wrapper: save model.module instead",
    "transformer.h.": "This is the first Qwen, or a model of another family",
    "decoder.": "These are Megatron's names: export it to the Hugging Face layout",
    "blk.": "These are GGUF's names: download the safetensors checkpoint",
    "layers.": "It was saved without its output head (Qwen3Model instead of Qwen3ForCausalLM), or in another library's "
    "layout",
    "model.model.": "It was saved inside a wrapper: save the inner model",
}
EXPECTED = "model.layers.0.self_attn.q_proj.weight"


def refuse_foreign(directory: Path) -> None:
    """Raise if the folder holds a recognised format other than config.json and safetensors files.

    Raises NotSafetensors, naming a file, UnsupportedModel for weights packed by MLX, and NotFound for a folder with
    checkpoints in its subfolders.
    """
    try:
        names = sorted(entry.name for entry in directory.iterdir())
    except OSError:
        return  # reported by the steps that follow
    if "config.json" in names and (INDEX in names or SINGLE in names):
        refuse_mlx(directory)
        return
    if "adapter_config.json" in names or ADAPTER in names:
        raise NotSafetensors(adapter(directory))
    if weight_files(names) and "config.json" in names:
        refuse_mlx(directory)
        return
    recognised = recognise(names)
    if recognised is not None:
        name, kind = recognised
        raise NotSafetensors(f"{directory} holds {name} but no {SINGLE}: {explain(name, kind, directory.name)}")
    folders = [name for name in names if is_checkpoint(directory / name)] if "config.json" not in names else []
    if folders:
        raise NotFound(
            f"{directory} holds no config.json, but the folders in it do: {', '.join(folders[:5])}. Give one of them: "
            f"{directory / folders[0]}"
        )


def is_checkpoint(folder: Path) -> bool:
    """Whether a folder looks like a checkpoint, or like a model's folder in the hub's cache."""
    try:
        return (folder / "config.json").is_file() or (folder.name.startswith("models--") and folder.is_dir())
    except OSError:
        return False


def refuse_file(path: Path) -> None:
    """Raise NotSafetensors for the path of a single file in a recognised format."""
    recognised = recognise([path.name])
    if recognised is None and first_bytes(path) == b"GGUF":  # Ollama names them sha256-...
        recognised = path.name, KINDS[0]
    if recognised is not None:
        raise NotSafetensors(f"{path}: {explain(*recognised, path.parent.name)}")


def weight_files(names: Iterable[str]) -> list[str]:
    """The names of safetensors files that can be shards of a model."""
    others = ("adapter_", "consolidated", "optimizer", "rank0", ".")
    return [name for name in names if name.endswith(".safetensors") and not name.startswith(others)]


def recognise(names: Iterable[str]) -> tuple[str, Kind] | None:
    """The first name that matches a format, and that format; None if no name matches."""
    names = list(names)
    for kind in KINDS:
        for name in names:
            if any(Path(name.lower()).match(pattern.lower()) for pattern in kind.patterns):
                return name, kind
    return None


def explain(name: str, kind: Kind, folder: str) -> str:
    """Description and advice, with the download command if the file or folder name contains a known model."""
    model = known_model(name) or known_model(folder)
    command = ""
    if model and "safetensors checkpoint" in kind.advice:
        command = f": hf download Qwen/{model} --local-dir data/{model}"
    return f"this is {kind.what}. {kind.advice}{command}".rstrip(". ") + "."


def known_model(text: str) -> str | None:
    """The longest name of a released model in `text`: "Qwen3-30B-A3B" in "Qwen3-30B-A3B-Q4_K_M.gguf"."""
    known = [file.stem for file in paths.models_folder().glob("*.json") if file.stem.lower() in text.lower()]
    return max(known, key=len, default=None)


def adapter(directory: Path) -> str:
    """The message for a LoRA adapter, with the name of its base model if known."""
    base = read_json(directory / "adapter_config.json").get("base_model_name_or_path")
    of = f" for {shown(base)}" if isinstance(base, str) and base else ""
    return (
        f"{directory} holds an adapter (LoRA){of}, not a model: a small change to a base model's weights. Merge it "
        "into its base with the peft library (AutoPeftModelForCausalLM.from_pretrained(FOLDER).merge_and_unload()"
        ".save_pretrained(OUT)) and load the result, or load the base model alone."
    )


def refuse_mlx(directory: Path) -> None:
    """Raise UnsupportedModel for weights packed by MLX, which stores its settings under `quantization`, a key that
    other libraries ignore, and often under `quantization_config` as well.
    """
    settings = read_json(directory / "config.json").get("quantization")
    if isinstance(settings, dict) and packed.is_mlx(settings):
        raise UnsupportedModel(
            f"{directory / 'config.json'}: quantization is {shown(settings)}: {packed.describe(settings)}. "
            f"{packed.READS}. {packed.ADVICE}"
        )


def refuse_names(directory: Any, names: Iterable[str], is_plain: bool) -> None:
    """Raise WrongModel if the tensor names are those of another format or layout. Checked before the names are compared
    one by one, which would only report all of them as missing.
    """
    names = list(names)
    if is_plain and (what := packed.describe_names(names)):
        if what.startswith(packed.READABLE):
            raise WrongModel(
                f"{directory}: the files hold packed weights ({what}), but config.json has no quantization_config for "
                "them. Put the config.json of the same checkpoint beside the files."
            )
        raise WrongModel(f"{directory}: the files hold packed weights: {what}. {packed.READS}. {packed.ADVICE}")
    if EMBEDDING in names or any(LAYER.fullmatch(name) for name in names):
        return
    in_layers = [name for name in names if "layers.0." in name or "blk.0." in name or ".h.0." in name]
    example = min(in_layers or names, default="")
    reason = next((why for prefix, why in PREFIXES.items() if example.startswith(prefix)), "Is it a Qwen3 checkpoint?")
    raise WrongModel(
        f"{directory}: the tensors in the files have other names: found {shown(example)}, expected names such as "
        f"{EXPECTED!r}. {reason.rstrip('?.')}{'?' if reason.endswith('?') else '.'}"
    )


def read_json(path: Path) -> dict[str, Any]:
    """A small JSON object, {} for anything else; errors in the file are reported where it is needed."""
    try:
        if not path.is_file():  # checked first: opening a pipe would block
            return {}
        with path.open("rb") as file:
            value = json.loads(file.read(10**7))
    except (OSError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def first_bytes(path: Path) -> bytes:
    """The first four bytes of a regular file."""
    try:
        if not path.is_file():
            return b""
        with path.open("rb") as file:
            return file.read(4)
    except OSError:
        return b""
