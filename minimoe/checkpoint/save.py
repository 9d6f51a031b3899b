"""save: a model and its tokenizer -> a folder in the released layout, which transformers and vLLM load too.

The whole folder changes at once (see commit.py): whatever happens while saving, the old checkpoint or the new one is
there.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from minimoe.atomic import write
from minimoe.checkpoint.atomic_save import PLAIN_NAME, replacing
from minimoe.checkpoint.layout import INDEX, SINGLE, Expected, expected_tensors
from minimoe.checkpoint.resolve import folder_name
from minimoe.checkpoint.safetensors.index import read_index
from minimoe.checkpoint.shard_writer import ShardWriter, as_json, split
from minimoe.dtypes import BYTES_PER_VALUE, CODES, TORCH_DTYPES
from minimoe.errors import BadArgument, MinimoeError
from minimoe.model.config import ModelConfig
from minimoe.model.transformer import Transformer
from minimoe.quantisation.modules import is_model_packed, stored_tensors
from minimoe.text.tokenizer_files import FILE_NAMES as TOKENIZER_FILES


def save(model: Transformer, tokenizer: Any, directory: str | Path, max_shard_bytes: int = 4_000_000_000) -> None:
    """Write `model` and the tokenizer's files into `directory`: config.json, shards of at most `max_shard_bytes`, and
    their index.

    A model that fits one shard becomes `model.safetensors` without an index. A checkpoint that is there already is
    replaced as a whole; files that belong to none are not touched. `tokenizer` may be None: then tokenizer files that
    are there stay as they are. A model that is packed in memory is written in the format that it is packed in. Needs
    memory for one tensor beside the model. Raises BadArgument (a slice, one rank's part, a streamed model, one on the
    meta device, mixed dtypes), WriteFailed.
    """
    if not isinstance(model, Transformer):
        raise BadArgument(f"model is {type(model).__name__}, expected a minimoe.Transformer.")
    if tokenizer is not None and not hasattr(tokenizer, "files"):
        raise BadArgument(f"tokenizer is {type(tokenizer).__name__}, expected a minimoe.Tokenizer or None.")
    target = Path(folder_name(directory, "directory")).expanduser()
    config = config_to_save(model)
    if type(max_shard_bytes) is not int or max_shard_bytes < 1:
        raise BadArgument(
            f"max_shard_bytes is {max_shard_bytes!r}, expected a positive number of bytes, such as 4_000_000_000."
        )
    files: dict[str, bytes] = {} if tokenizer is None else dict(tokenizer.files)
    for name in files:
        if not PLAIN_NAME.fullmatch(name):
            raise BadArgument(f"tokenizer.files names {name!r}; expected plain file names like tokenizer.json.")
    files["config.json"] = as_json(config.to_dict())
    with replacing(
        target, obsolete=lambda: files_of_checkpoint(target, with_tokenizer=tokenizer is not None)
    ) as staging:
        write_weights(model, config, staging, max_shard_bytes)
        for name, content in files.items():
            write(staging / name, content, durable=False)


def config_to_save(model: Transformer) -> ModelConfig:
    """The model's config with the dtype that the parameters have now. Raises BadArgument if this is no whole model
    with values.
    """
    config, here = model.config, model.layer_range
    if here != range(config.num_hidden_layers):
        raise BadArgument(
            f"model holds layers {here.start}..{here.stop - 1} of {config.num_hidden_layers}; only a whole model can "
            "be saved. Load it without layers=."
        )
    settings = config.quantization_config if is_model_packed(model) else None
    require_whole(model, replace(config, quantization_config=settings))
    dtypes = {parameter.dtype for parameter in model.parameters()}
    name = str(dtypes.pop()).removeprefix("torch.")
    if dtypes or name not in CODES:
        raise BadArgument(
            f"model has parameters of {', '.join([name, *map(str, dtypes)])}; expected one of {', '.join(CODES)}. Use "
            "model.to(dtype)."
        )
    if any(parameter.is_meta for parameter in model.parameters()):
        raise BadArgument(
            "model is on the meta device, where parameters have no values. Load it, or build it on another device."
        )
    return replace(config, dtype=name, quantization_config=settings)


def require_whole(model: Transformer, config: ModelConfig) -> None:
    """Raises BadArgument if a tensor of the checkpoint is not in memory, or has another shape there."""
    held = stored_tensors(model)
    for tensor in expected_tensors(config):
        [piece] = tensor.pieces
        shape = piece.shape if piece.expert is None else (config.num_experts, *piece.shape)
        found = held.get(piece.parameter)
        if found is None or tuple(found.shape) != shape:
            what = "is not in memory" if found is None else f"is {list(found.shape)}, not {list(shape)}"
            raise BadArgument(
                f"model is streamed or one rank's part: {piece.parameter} {what}; only a whole model can be saved. "
                "Load it with minimoe.load."
            )


def write_weights(model: Transformer, config: ModelConfig, folder: Path, max_shard_bytes: int) -> None:
    """Write the shards and, if there are several, the index."""
    code = CODES[config.dtype]
    parameters = stored_tensors(model)
    tensors = (as_stored(tensor, parameters) for tensor in expected_tensors(config))
    shards = split(tensors, BYTES_PER_VALUE[code], max_shard_bytes)
    with ShardWriter(folder, shards, code) as writer:
        for shard in shards:
            for tensor in shard:
                writer.write(tensor.name, values_of(tensor, parameters))


def as_stored(tensor: Expected, parameters: dict[str, Tensor]) -> Expected:
    """The same, with the dtype that a packed tensor has in memory, where the format leaves a choice."""
    if tensor.code is None:
        return tensor
    dtype = parameters[tensor.pieces[0].parameter].dtype
    return replace(tensor, code=next(code for code, torch_dtype in TORCH_DTYPES.items() if torch_dtype == dtype))


def values_of(tensor: Expected, parameters: dict[str, Tensor]) -> Tensor:
    """What is stored under this name: a parameter, or one expert's row of a bank, as a contiguous CPU tensor (no copy
    where it is one).
    """
    piece = tensor.pieces[0]
    source = parameters[piece.parameter]
    return (source if piece.expert is None else source[piece.expert]).to("cpu").contiguous()


def files_of_checkpoint(directory: Path, with_tokenizer: bool) -> set[str]:
    """The files of the checkpoint that is there: weights (those that its index names), index, config, and the
    tokenizer's if that is replaced.
    """
    try:
        weights = set(read_index(directory).files)
    except MinimoeError:
        weights = set()  # none, or unreadable: then nothing says which files would be its
    return weights | {SINGLE, INDEX, "config.json"} | set(TOKENIZER_FILES if with_tokenizer else ())
