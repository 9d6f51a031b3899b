"""Which member of the family is this? The sizes on a model card, from config.json and from the files, compared."""

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
    """The sizes on a model card, as config.json gives them."""
    sizes = {"layers": config.num_hidden_layers, "hidden": config.hidden_size, "vocab": config.vocab_size}
    sizes |= {
        "query rows": config.num_attention_heads * config.head_dim,
        "key rows": config.num_key_value_heads * config.head_dim,
    }
    if config.moe_layers:
        sizes |= {"experts": config.num_experts, "expert width": config.moe_intermediate_size}
    return sizes


def sizes_of_files(shards: Shards) -> Sizes:
    """The same sizes as far as they can be told from the names and the headers."""
    inside = [found for name in shards.names if (found := LAYER.fullmatch(name))]
    experts = [int(found[1]) for name in inside if (found := EXPERT.match(name[2]))]
    sizes = {"layers": max(int(name[1]) for name in inside) + 1} if inside else {}
    if experts:
        sizes["experts"] = max(experts) + 1
    for header in shards.headers.values():
        for name, entry in header.tensors.items():
            sizes |= sizes_of_tensor(name, entry.shape)
    return sizes


def sizes_of_tensor(name: str, shape: tuple[int, ...]) -> Sizes:
    """What one tensor's shape says about the model's sizes; most say nothing new."""
    name, shape = unpacked(name, shape)
    found = LAYER.fullmatch(name)
    kind = found[2] if found else name
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
    """Name and shape (outs, ins) of the matrix that these packed numbers stand for; of others as they are."""
    module, dot, suffix = name.rpartition(".")
    if len(shape) == 2 and suffix in ("qweight", "weight_int4", "weight_int8"):
        outs_ins = {"qweight": (shape[1], 8 * shape[0]), "weight_int4": (shape[0], 2 * shape[1])}
        return f"{module}.weight", outs_ins.get(suffix, shape)
    return name, shape


def compare_sizes(config: ModelConfig, shards: Shards) -> None:
    """Raise WrongModel, in the terms of a model card, if config and files are of models of different sizes."""
    said, found = sizes_of_config(config), sizes_of_files(shards)
    different = [key for key in said if found.get(key, said[key]) != said[key]]
    different += [key for key in found if key not in said]
    different += [
        key for key in ("layers", "experts") if key in said and key not in found
    ]  # so that no loop below can run away
    if not different:
        return
    keys = ["layers", "hidden"] if {"layers", "hidden"} & set(different) else different  # these two say enough

    def words(sizes: Sizes) -> str:
        first = f"{sizes.get('layers', '?')} layers x {sizes.get('hidden', '?')}" if "layers" in keys else ""
        rest = [f"{key} {sizes.get(key, 'none')}" for key in keys if key not in ("layers", "hidden")]
        return ", ".join(([first] if first else []) + rest)

    member = next((name for name, config in family() if found.items() <= sizes_of_config(config).items()), None)
    says, has = words(said), words(found).replace(" layers", "")
    known = f": this is {member}" if member and "layers" in found else ""
    raise WrongModel(
        f"{shards.directory}: config says {says}, file has {has}{known}. Put the config.json of the same model beside "
        "the files."
    )


def family() -> Iterator[tuple[str, ModelConfig]]:
    """The known members of the real family, shortest name first (variants of one size are told apart by nothing in the
    files).
    """
    for name in sorted(
        (file.stem for file in paths.models_folder().glob("*.json")), key=lambda name: (len(name), name)
    ):
        try:
            yield name, ModelConfig.named(name)
        except (MinimoeError, KeyError, ValueError, OSError):
            continue
