"""Do the files hold the model that config.json describes? Answered from names, shapes and dtypes, before any weight is
read.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from minimoe import paths
from minimoe.checkpoint.header import Header, TensorEntry
from minimoe.checkpoint.layout import EMBEDDING, HEAD, LAYER, Expected, Piece, concerns, expected_tensors
from minimoe.checkpoint.shards import Shards, listed
from minimoe.checkpoint.strict_json import shown
from minimoe.errors import IncompleteLoad, IndexMismatch, MinimoeError, UnsupportedModel, WrongModel
from minimoe.model.config import ModelConfig

EXPERT = re.compile(r"mlp\.experts\.([0-9]{1,6})\.")
CODES = {"float16": "F16", "bfloat16": "BF16", "float32": "F32", "float64": "F64"}  # config.json -> safetensors


@dataclass(frozen=True)
class Placed:
    """One expected tensor and where it was found: `header.file` from `entry.start` on."""

    expected: Expected
    header: Header
    entry: TensorEntry


def match(config: ModelConfig, shards: Shards, layers: range | None = None) -> list[Placed]:
    """Every tensor that `layers` needs with its place, sorted by file and position: the plan of a load.

    A tied `lm_head` that is present all the same comes with no pieces, to be compared with the embedding.
    Raises UnsupportedModel (quantised files), WrongModel (other sizes, shapes or dtypes), IncompleteLoad (a tensor is
    nowhere), IndexMismatch (a tensor that this model has no place for).
    """
    if config.quantization_config is not None:
        method = shown(config.quantization_config.get("quant_method"))
        raise UnsupportedModel(
            f"{shards.directory}/config.json has a quantization_config (quant_method {method}); minimoe loads plain "
            "bfloat16, float16 or float32 "
            "checkpoints only. Download the unquantised one of the same name."
        )
    layers = range(config.num_hidden_layers) if layers is None else layers
    compare_sizes(config, shards)
    names = set(shards.names)
    expected = {tensor.name: tensor for tensor in expected_tensors(config, layers, names)}
    if config.tie_word_embeddings and HEAD in names and layers.stop == config.num_hidden_layers:
        expected[HEAD] = Expected(HEAD, (config.vocab_size, config.hidden_size), ())
    compare_names(shards.directory, expected, (name for name in names if concerns(name, config, layers)))
    plan = [Placed(tensor, *found) for tensor in expected.values() if (found := shards.find(tensor.name))]
    for placed in plan:
        compare_one(config, placed)
    return sorted(plan, key=lambda placed: (placed.header.file.name, placed.entry.start))


def compare_names(directory: Path, expected: dict[str, Expected], found: Iterable[str]) -> None:
    """The names that concern the slice are exactly the expected ones."""
    present = set(found)
    absent = [tensor for name, tensor in expected.items() if name not in present]
    foreign = sorted(shown(name) for name in present if name not in expected)
    if absent and foreign:
        raise WrongModel(
            f"{directory}: the files lack {listed([tensor.name for tensor in absent])} and hold {listed(foreign)}, "
            "which config.json has no place for. "
            "Config and files are of different models; download both again."
        )
    if absent:
        holes = [hole for tensor in absent for hole in (map(place, tensor.pieces) if tensor.pieces else [tensor.name])]
        raise IncompleteLoad(
            f"{directory}: {listed(holes)} would not be filled: no file holds {listed([t.name for t in absent])}. "
            "Download again."
        )
    if foreign:
        raise IndexMismatch(
            f"{directory}: the files hold {listed(foreign)}, which the model of config.json has no place for. Is it of "
            "this model?"
        )


def place(piece: Piece) -> str:
    """A destination in words: "layer 12 experts.up_proj: expert 57", or the parameter's name."""
    match = LAYER.fullmatch("model." + piece.parameter)
    if match is None or piece.expert is None:
        return piece.parameter
    return f"layer {match[1]} {match[2].removeprefix('mlp.')}: expert {piece.expert}"


def compare_one(config: ModelConfig, placed: Placed) -> None:
    """The shape and the dtype of one tensor are those that config.json implies."""
    entry, code = placed.entry, CODES[config.dtype]
    if entry.shape != placed.expected.shape:
        raise WrongModel(
            f"{placed.header.file}: {entry.name} is {list(entry.shape)}, config.json implies "
            f"{list(placed.expected.shape)}. "
            "Config and files are of different models; download both again."
        )
    if entry.dtype != code:
        raise WrongModel(
            f"{placed.header.file}: {entry.name} is stored as {entry.dtype}, config.json says torch_dtype "
            f"{config.dtype} ({code}). "
            "Correct torch_dtype if all tensors agree with each other; otherwise download again."
        )


# ---------------------------------------------------------------- another member of the family?

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
