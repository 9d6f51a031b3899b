"""Compares the model sizes in config.json with those of the files, and names the model that the files are of.

Without it, a config.json of another model would only show as thousands of missing tensors.
"""

import re
from collections.abc import Iterator

from minimoe import paths
from minimoe.checkpoint.layout import EMBEDDING, LAYER
from minimoe.checkpoint.safetensors.shards import Shards
from minimoe.errors import MinimoeError, WrongModel
from minimoe.model.config import ModelConfig

EXPERT = re.compile(r"mlp\.experts\.([0-9]{1,6})\.")

Sizes = dict[str, int]


def sizes_of_config(config: ModelConfig) -> Sizes:
    """The sizes on a model card, from config.json."""
    sizes = {"layers": config.num_hidden_layers, "hidden": config.hidden_size, "vocab": config.vocab_size}
    sizes |= {
        "query rows": config.num_attention_heads * config.head_dim,
        "key rows": config.num_key_value_heads * config.head_dim,
    }
    if config.moe_layers:
        sizes |= {"experts": config.num_experts, "expert width": config.moe_intermediate_size}
    return sizes


def sizes_of_files(shards: Shards) -> Sizes:
    """The same sizes, as far as they follow from the names and the headers."""
    matches = [match for name in shards.names if (match := LAYER.fullmatch(name))]
    experts = [int(expert[1]) for match in matches if (expert := EXPERT.match(match[2]))]
    sizes = {"layers": max(int(match[1]) for match in matches) + 1} if matches else {}
    if experts:
        sizes["experts"] = max(experts) + 1
    for header in shards.headers.values():
        for name, entry in header.tensors.items():
            sizes |= sizes_of_tensor(name, entry.shape)
    return sizes


def sizes_of_tensor(name: str, shape: tuple[int, ...]) -> Sizes:
    """The model sizes that follow from one tensor's shape; none for most tensors."""
    name, shape = unpacked(name, shape)
    match = LAYER.fullmatch(name)
    kind = match[2] if match else name
    if len(shape) == 3 and kind == "mlp.experts.down_proj":
        return {"experts": shape[0], "expert width": shape[2]}
    if len(shape) != 2:
        return {}
    if kind.startswith("mlp.experts.") and kind.endswith(".gate_proj.weight"):
        return {"expert width": shape[0]}
    rows = {
        EMBEDDING: "vocab",
        "mlp.gate.weight": "experts",
        "self_attn.q_proj.weight": "query rows",
        "self_attn.k_proj.weight": "key rows",
    }
    return {rows[kind]: shape[0], "hidden": shape[1]} if kind in rows else {}


def unpacked(name: str, shape: tuple[int, ...]) -> tuple[str, tuple[int, ...]]:
    """Name and shape (outs, ins) of the matrix that a packed tensor represents; others are returned unchanged."""
    module, dot, suffix = name.rpartition(".")
    if len(shape) == 2 and suffix in ("qweight", "weight_int4", "weight_int8"):
        outs_ins = {"qweight": (shape[1], 8 * shape[0]), "weight_int4": (shape[0], 2 * shape[1])}
        return f"{module}.weight", outs_ins.get(suffix, shape)
    return name, shape


def compare_sizes(config: ModelConfig, shards: Shards) -> None:
    """Raise WrongModel, in the terms of a model card, if config and files are of models of different sizes."""
    stated, actual = sizes_of_config(config), sizes_of_files(shards)
    different = [key for key in stated if actual.get(key, stated[key]) != stated[key]]
    different += [key for key in actual if key not in stated]
    different += [
        key for key in ("layers", "experts") if key in stated and key not in actual
    ]  # a hostile config must not make the loops over layers and experts run on
    if not different:
        return
    keys = ["layers", "hidden"] if {"layers", "hidden"} & set(different) else different  # these two identify a model

    def words(sizes: Sizes) -> str:
        first = f"{sizes.get('layers', '?')} layers x {sizes.get('hidden', '?')}" if "layers" in keys else ""
        rest = [f"{key} {sizes.get(key, 'none')}" for key in keys if key not in ("layers", "hidden")]
        return ", ".join(([first] if first else []) + rest)

    member = next((name for name, config in family() if actual.items() <= sizes_of_config(config).items()), None)
    known = f": this is {member}" if member and "layers" in actual else ""
    raise WrongModel(
        f"{shards.directory}: config says {words(stated)}, file has {words(actual).replace(' layers', '')}{known}. Put "
        "the config.json of the same model beside the files."
    )


def family() -> Iterator[tuple[str, ModelConfig]]:
    """The released models, shortest name first (the files of variants of one size do not differ)."""
    for name in sorted(
        (file.stem for file in paths.models_folder().glob("*.json")), key=lambda name: (len(name), name)
    ):
        try:
            yield name, ModelConfig.named(name)
        except (MinimoeError, KeyError, ValueError, OSError):
            continue
