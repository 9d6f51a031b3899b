"""load: a checkpoint's folder -> a model that is filled to the last value, or an error that says why not.

In this order, so that whatever can be refused is refused before the first weight is read: config -> index -> headers
-> names, shapes and dtypes against the config -> tokenizer -> memory -> weights, each once, straight to its place.
"""

from itertools import groupby
from pathlib import Path
from typing import Any

import torch
from torch import nn
from tqdm.auto import tqdm

from minimoe.checkpoint.commit import finish_interrupted_save
from minimoe.checkpoint.compare import Placed, match
from minimoe.checkpoint.fill import Filler, same_bytes
from minimoe.checkpoint.layout import EMBEDDING, HEAD, concerns
from minimoe.checkpoint.ledger import Ledger
from minimoe.checkpoint.locate import find_checkpoint
from minimoe.checkpoint.positioned import PositionedFile
from minimoe.checkpoint.room import require_room
from minimoe.checkpoint.shards import Shards, open_shards
from minimoe.errors import BadArgument, BadTokenizer, WrongModel
from minimoe.model.config import ModelConfig
from minimoe.model.transformer import Transformer, check_layers
from minimoe.text.tokenizer import Tokenizer

SHOW_PROGRESS_FROM = 10**9  # bytes
DTYPES = {
    "bf16": torch.bfloat16, "bfloat16": torch.bfloat16, "fp16": torch.float16, "float16": torch.float16,
    "fp32": torch.float32, "float32": torch.float32, "fp64": torch.float64, "float64": torch.float64,
}  # fmt: skip


def load(
    path: str | Path,
    dtype: str | torch.dtype | None = None,
    device: str | torch.device = "cpu",
    layers: range | None = None,
) -> tuple[Transformer, Tokenizer]:
    """A checkpoint folder in the released layout -> (model, tokenizer). Arguments and errors as `load_model`; also
    BadTokenizer.
    """
    return _load(path, dtype, device, layers, with_tokenizer=True)


def load_model(
    path: str | Path,
    dtype: str | torch.dtype | None = None,
    device: str | torch.device = "cpu",
    layers: range | None = None,
) -> Transformer:
    """The model alone; needs no tokenizer files.

    path: a folder with config.json and safetensors files; a relative one is also tried from the checkout's root.
    dtype: None keeps the checkpoint's own; otherwise a torch dtype or "fp32", "bf16", ...; values are converted while
    they are read.
    layers: range(a, b) reads those layers only, and only the files that hold them need to be there.

    The model is in eval mode and its parameters do not require gradients: most readers only run it, and that is
    faster. To train it further, call `model.train().requires_grad_(True)`.
    Raises NotFound, BadConfig, UnsupportedModel, BadArgument, PlanTooBig, and the kinds of BadCheckpoint. Never
    returns a partly filled model.
    """
    return _load(path, dtype, device, layers, with_tokenizer=False)[0]


def _load(
    path: str | Path, dtype: Any, device: Any, layers: range | None, with_tokenizer: bool
) -> tuple[Transformer, Any]:
    directory = find_checkpoint(path)
    finish_interrupted_save(directory)
    config = ModelConfig.from_file(directory / "config.json")
    chosen, where, layers = check_dtype(dtype, config), check_device(device), check_layers(config, layers)
    shards = open_shards(directory, wanted=lambda name: concerns(name, config, layers))
    plan = match(config, shards, layers)
    tokenizer = read_tokenizer(directory, config) if with_tokenizer else None
    require_room(sum(placed.expected.values for placed in plan if placed.expected.pieces) * chosen.itemsize, where)
    with torch.device("meta"):
        model = Transformer(config, layers)
    allocate(model, chosen, where)
    fill(model, plan)
    compare_tied_head(plan, shards)
    return model.eval(), tokenizer


def read_tokenizer(directory: Path, config: ModelConfig) -> Tokenizer:
    """The tokenizer beside the weights. Raises BadTokenizer, also if it knows more tokens than the model has rows."""
    tokenizer = Tokenizer.from_directory(directory)
    if tokenizer.vocabulary_size > config.vocab_size:
        raise BadTokenizer(
            f"{directory}: the tokenizer has {tokenizer.vocabulary_size:,} tokens, but config.json gives the model a "
            f"vocab_size of {config.vocab_size:,}. Copy the tokenizer files of the same model."
        )
    return tokenizer


def allocate(model: nn.Module, dtype: torch.dtype, device: torch.device) -> None:
    """Give every parameter of a meta-device model its memory, once; a parameter under two names (tied) stays one.
    Values are undefined.
    """
    made: dict[nn.Parameter, nn.Parameter] = {}
    for module in model.modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            if parameter not in made:
                memory = torch.empty(parameter.shape, dtype=dtype, device=device)
                made[parameter] = nn.Parameter(memory, requires_grad=False)
            module.register_parameter(name, made[parameter])


def fill(model: Transformer, plan: list[Placed]) -> None:
    """Read every tensor of the plan into its parameter or its rows of a bank. Raises ReadFailed, IncompleteLoad."""
    parameters, ledger, filler = dict(model.named_parameters()), Ledger(model), Filler()
    total = sum(placed.entry.nbytes for placed in plan)
    silent = total < SHOW_PROGRESS_FROM
    with tqdm(total=total, unit="B", unit_scale=True, desc="reading weights", disable=silent) as progress:
        for path, group in groupby(plan, key=lambda placed: placed.header.file):
            with PositionedFile(path) as file:
                for placed in group:
                    file.require_unchanged(placed.header.identity)
                    for piece in placed.expected.pieces:
                        parameter = parameters[piece.parameter]
                        destination = parameter.data if piece.expert is None else parameter.data[piece.expert]
                        ledger.fill(piece.parameter, piece.expert)
                        filler.fill(destination, file, placed.entry, piece.begin)
                    progress.update(placed.entry.nbytes)
                file.require_unchanged(placed.header.identity)
    ledger.close()


def compare_tied_head(plan: list[Placed], shards: Shards) -> None:
    """An lm_head that is stored although config.json ties it to the embedding has to be the embedding. Raises
    WrongModel.
    """
    head = next((placed for placed in plan if placed.expected.name == HEAD and not placed.expected.pieces), None)
    embedding = shards.find(EMBEDDING)
    if head is None or embedding is None:
        return
    with PositionedFile(head.header.file) as file, PositionedFile(embedding[0].file) as other:
        file.require_unchanged(head.header.identity)
        other.require_unchanged(embedding[0].identity)
        if not same_bytes(file, head.entry, other, embedding[1]):
            raise WrongModel(
                f"{head.header.file}: lm_head.weight differs from model.embed_tokens.weight, but config.json says "
                "tie_word_embeddings true. "
                "Set it to false if the head is meant; otherwise download again."
            )


def check_dtype(dtype: Any, config: ModelConfig) -> torch.dtype:
    """The torch dtype that `dtype` means, None being the checkpoint's own."""
    named = DTYPES.get(config.dtype if dtype is None else dtype, dtype) if isinstance(dtype, str | None) else dtype
    if not isinstance(named, torch.dtype) or named not in DTYPES.values():
        raise BadArgument(f"dtype is {dtype!r}, expected None, one of {', '.join(DTYPES)}, or that torch dtype.")
    return named


def check_device(device: Any) -> torch.device:
    """The torch device that `device` means, if this machine has it."""
    try:
        found = torch.empty(0, device=device).device
    except (RuntimeError, TypeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
        raise BadArgument(f'device is {device!r}, which cannot be used here ({reason}). "cpu" always can.') from error
    if found.type == "meta":
        raise BadArgument(
            "device is 'meta', which holds no values. For shapes alone: with torch.device('meta'): Transformer(config)"
        )
    return found
