"""save: a model and its tokenizer -> a folder in the released layout, which transformers and vLLM load too.

The save is atomic (see folder_transaction.py): after a failure or a crash the folder holds the old checkpoint or the
new one.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from minimoe.atomic import write
from minimoe.checkpoint.folder_transaction import PLAIN_NAME, replacing
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
    """Write `model` and the tokenizer's files to `directory`: config.json, shards of at most `max_shard_bytes`, and
    their index.

    A model that fits in one shard becomes `model.safetensors` without an index. An existing checkpoint is replaced as a
    whole; unrelated files are not changed. With `tokenizer` None, existing tokenizer files are kept. A model that is
    packed in memory is written in its packed format. Needs memory for one tensor besides the model. Raises BadArgument
    (a slice, one rank's part, a streamed model, one on the meta device, mixed dtypes), WriteFailed.
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
    """The model's config with the current dtype of the parameters. Raises BadArgument unless this is a whole model
    with values.
    """
    config, layers = model.config, model.layer_range
    if layers != range(config.num_hidden_layers):
        raise BadArgument(
            f"model holds layers {layers.start}..{layers.stop - 1} of {config.num_hidden_layers}; only a whole model "
            "can be saved. Load it without layers=."
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
    """Raise BadArgument if a tensor of the checkpoint is not in memory, or has another shape there."""
    parameters = stored_tensors(model)
    for tensor in expected_tensors(config):
        [piece] = tensor.pieces
        shape = piece.shape if piece.expert is None else (config.num_experts, *piece.shape)
        parameter = parameters.get(piece.parameter)
        if parameter is None or tuple(parameter.shape) != shape:
            what = "is not in memory" if parameter is None else f"is {list(parameter.shape)}, not {list(shape)}"
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
    """The tensor with its dtype in memory, if it is packed: some formats allow several dtypes."""
    if tensor.code is None:
        return tensor
    dtype = parameters[tensor.pieces[0].parameter].dtype
    return replace(tensor, code=next(code for code, torch_dtype in TORCH_DTYPES.items() if torch_dtype == dtype))


def values_of(tensor: Expected, parameters: dict[str, Tensor]) -> Tensor:
    """The values of a tensor on disk: a parameter, or one expert's row of a bank, as a contiguous CPU tensor (not
    copied if it is one already).
    """
    piece = tensor.pieces[0]
    source = parameters[piece.parameter]
    return (source if piece.expert is None else source[piece.expert]).to("cpu").contiguous()


def files_of_checkpoint(directory: Path, with_tokenizer: bool) -> set[str]:
    """The files of the existing checkpoint: weights (as named by its index), index, config, and with `with_tokenizer`
    those of the tokenizer.
    """
    try:
        weights = set(read_index(directory).files)
    except MinimoeError:
        weights = set()  # no index, or an unreadable one: its weight files are unknown
    return weights | {SINGLE, INDEX, "config.json"} | set(TOKENIZER_FILES if with_tokenizer else ())
