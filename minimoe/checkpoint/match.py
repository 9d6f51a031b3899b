"""Matches the tensors of the files with those that config.json implies, by name, shape and dtype, before any weight is
read.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from minimoe.checkpoint.layout import HEAD, LAYER, Expected, Piece, concerns, expected_tensors
from minimoe.checkpoint.other_formats import refuse_names
from minimoe.checkpoint.safetensors.header import Header, TensorEntry
from minimoe.checkpoint.safetensors.shards import Shards, listed
from minimoe.checkpoint.size_mismatch import compare_sizes
from minimoe.dtypes import CODES
from minimoe.errors import IncompleteLoad, IndexMismatch, UnsupportedModel, WrongModel, shown
from minimoe.model.config import ModelConfig
from minimoe.quantisation import format_of


@dataclass(frozen=True)
class Placed:
    """An expected tensor and its location: `header.file`, from byte `entry.start` on."""

    expected: Expected
    header: Header
    entry: TensorEntry


def match(config: ModelConfig, shards: Shards, layers: range | None = None) -> list[Placed]:
    """The plan of a load: every tensor that `layers` needs with its location, sorted by file and position.

    A tied `lm_head` that is stored nevertheless has no pieces; it is compared with the embedding later. Packed
    checkpoints are matched like plain ones: the parts of each matrix follow from quantization_config. Raises
    UnsupportedModel (an unknown format), WrongModel (other sizes, shapes or dtypes), IncompleteLoad (a missing tensor),
    IndexMismatch (a tensor that is not part of the model).
    """
    try:
        format_of(config)
    except UnsupportedModel as error:
        raise UnsupportedModel(f"{shards.directory}: {error}") from error
    layers = range(config.num_hidden_layers) if layers is None else layers
    names = set(shards.names)
    refuse_names(shards.directory, names, config.quantization_config is None)
    compare_sizes(config, shards)
    expected = {tensor.name: tensor for tensor in expected_tensors(config, layers, names)}
    if config.tie_word_embeddings and HEAD in names and layers.stop == config.num_hidden_layers:
        expected[HEAD] = Expected(HEAD, (config.vocab_size, config.hidden_size), ())
    compare_names(shards.directory, expected, (name for name in names if concerns(name, config, layers)))
    plan = [Placed(tensor, *location) for tensor in expected.values() if (location := shards.find(tensor.name))]
    for placed in plan:
        compare_one(config, placed)
    compare_packed_dtypes(plan)
    return sorted(plan, key=lambda placed: (placed.header.file.name, placed.entry.start))


def compare_names(directory: Path, expected: dict[str, Expected], names: Iterable[str]) -> None:
    """Check that `names`, the tensors of the slice, are the expected ones. Raises WrongModel, IncompleteLoad,
    IndexMismatch.
    """
    present = set(names)
    absent = [tensor for name, tensor in expected.items() if name not in present]
    foreign = sorted(shown(name) for name in present if name not in expected)
    if absent and foreign:
        raise WrongModel(
            f"{directory}: the files lack {listed([tensor.name for tensor in absent])} and hold {listed(foreign)}, "
            "which are not part of the model of config.json. "
            "Config and files are of different models; download both again."
        )
    if absent:
        unfilled = [
            parameter
            for tensor in absent
            for parameter in (map(destination, tensor.pieces) if tensor.pieces else [tensor.name])
        ]
        raise IncompleteLoad(
            f"{directory}: {listed(unfilled)} would not be filled: no file holds {listed([t.name for t in absent])}. "
            "Download again."
        )
    if foreign:
        raise IndexMismatch(
            f"{directory}: the files hold {listed(foreign)}, which the model of config.json has no place for. Check "
            "that config.json and files are of the same model."
        )


def destination(piece: Piece) -> str:
    """A destination for a message: "layer 12 experts.up_proj: expert 57", or the parameter's name."""
    match = LAYER.fullmatch("model." + piece.parameter)
    if match is None or piece.expert is None:
        return piece.parameter
    return f"layer {match[1]} {match[2].removeprefix('mlp.')}: expert {piece.expert}"


def compare_one(config: ModelConfig, placed: Placed) -> None:
    """Check that a tensor's shape is the one implied by config.json, and that its dtype can be read as the one named
    there. Raises WrongModel.
    """
    entry, code = placed.entry, placed.expected.code or CODES[config.dtype]
    if entry.shape != placed.expected.shape:
        raise WrongModel(
            f"{placed.header.file}: {entry.name} is {list(entry.shape)}, config.json implies "
            f"{list(placed.expected.shape)}. "
            "Config and files are of different models; download both again."
        )
    if placed.expected.code and entry.dtype not in (code, *placed.expected.also):
        raise WrongModel(
            f"{placed.header.file}: {entry.name} is stored as {entry.dtype}, but in format {format_of(config).name} it "
            f"is {' or '.join((code, *placed.expected.also))}. Config and files are of different checkpoints; download "
            "both again."
        )
    if placed.expected.code is None and entry.dtype not in CODES.values():
        raise WrongModel(
            f"{placed.header.file}: {entry.name} is stored as {entry.dtype}, but config.json has no "
            f"quantization_config for it; expected {', '.join(CODES.values())}. Put the config.json of the same "
            "checkpoint beside the files."
        )


def other_dtypes(config: ModelConfig, plan: list[Placed]) -> dict[str, list[str]]:
    """The plain tensors stored in another dtype than that of config.json, by stored dtype. Loading converts them."""
    names: dict[str, list[str]] = {}
    for placed in plan:
        if placed.expected.code is None and placed.entry.dtype != CODES[config.dtype]:
            names.setdefault(placed.entry.dtype, []).append(placed.entry.name)
    return names


def compare_packed_dtypes(plan: list[Placed]) -> None:
    """Check that the packed parts of each bank have one dtype, also where the format allows several: they are stacked
    in memory without conversion. (Plain values are converted to the model's dtype, so theirs may differ.) Raises
    WrongModel.
    """
    dtypes: dict[str, TensorEntry] = {}
    for placed in plan:
        for piece in placed.expected.pieces if placed.expected.code else ():
            first = dtypes.setdefault(piece.parameter, placed.entry)
            if first.dtype != placed.entry.dtype:
                raise WrongModel(
                    f"{placed.header.file}: {placed.entry.name} is stored as {placed.entry.dtype}, but {first.name} as "
                    f"{first.dtype}. The files are of different checkpoints; download all of them again."
                )
