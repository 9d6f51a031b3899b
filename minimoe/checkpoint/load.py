"""load: a checkpoint's folder -> a model that is filled to the last value, or an error that says why not.

In this order, so that whatever can be refused is refused before the first weight is read: index -> config -> headers
-> names, shapes and dtypes against the config -> tokenizer -> memory -> weights, each once, straight to its place.

Packed weights (formats/) stay packed in memory. Only who asks for another precision has them unpacked or packed anew on
the way, a matrix at a time.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from minimoe.checkpoint.atomic_save import finish_interrupted_save
from minimoe.checkpoint.device import require_room
from minimoe.checkpoint.foreign import refuse_foreign
from minimoe.checkpoint.layout import EMBEDDING, HEAD, concerns, expected_tensors
from minimoe.checkpoint.match import Placed, match
from minimoe.checkpoint.resolve import find_checkpoint
from minimoe.checkpoint.safetensors.index import find_index
from minimoe.checkpoint.safetensors.shards import Shards, open_indexed
from minimoe.checkpoint.weights.fill import allocate, fill
from minimoe.checkpoint.weights.packed_size import weigh
from minimoe.checkpoint.weights.tensor_reader import same_values
from minimoe.dtypes import NAMED_DTYPES, TORCH_DTYPES
from minimoe.errors import BadArgument, BadTokenizer, WrongModel
from minimoe.model.checks import check_layers
from minimoe.model.config import ModelConfig
from minimoe.model.transformer import Transformer
from minimoe.quantisation import format_of, is_packed
from minimoe.quantisation.detect import OWN
from minimoe.quantisation.modules import pack_modules
from minimoe.text.tokenizer import Tokenizer


def load(
    path: str | Path,
    dtype: str | torch.dtype | None = None,
    device: str | torch.device = "cpu",
    layers: range | None = None,
    precision: str | None = None,
) -> tuple[Transformer, Tokenizer]:
    """A checkpoint folder in the released layout -> (model, tokenizer). Arguments and errors as `load_model`; also
    BadTokenizer.
    """
    return _load(path, dtype, device, layers, precision, with_tokenizer=True)


def load_model(
    path: str | Path,
    dtype: str | torch.dtype | None = None,
    device: str | torch.device = "cpu",
    layers: range | None = None,
    precision: str | None = None,
) -> Transformer:
    """The model alone; needs no tokenizer files.

    path: a folder with config.json and safetensors files; a relative one is also tried from the checkout's root.
    dtype: None is the one that config.json names; otherwise a torch dtype or "fp32", "bf16", .... There is one rule
    for all plain tensors (everything but the parts of packed matrices): each is converted to that dtype, once, while it
    is read, whatever dtype it has in the file. So float32 norms beside bfloat16 matrices become bfloat16, and the
    values are those of transformers' `from_pretrained(path)` and `from_pretrained(path, dtype=...)`. `verify` lists
    the tensors that are stored in another dtype than config.json says.
    layers: range(a, b) reads those layers only, and only the files that hold them need to be there.
    precision: None keeps linear layers as the files have them, packed or not; "int4" and "int8" pack them while
    loading, "bf16", "fp16" and "fp32" unpack them into that dtype. One matrix at a time, so the peak is the result and
    one of them. dtype is what a packed matrix is unpacked to when it is used.

    The model is in eval mode and its parameters do not require gradients: most readers only run it, and that is
    faster. To train it further, call `model.train().requires_grad_(True)`.
    Raises NotFound, BadConfig, UnsupportedModel, BadArgument, PlanTooBig, and the kinds of BadCheckpoint, among them
    NotFinite for NaN or infinity in a norm, a router or the scales of packed weights. Never returns a partly filled
    model.
    """
    return _load(path, dtype, device, layers, precision, with_tokenizer=False)[0]


def _load(
    path: str | Path, dtype: Any, device: Any, layers: range | None, precision: str | None, with_tokenizer: bool
) -> tuple[Transformer, Any]:
    directory = find_checkpoint(path)
    finish_interrupted_save(directory)
    refuse_foreign(directory)
    index = find_index(directory)
    config = ModelConfig.from_file(directory / "config.json")
    wanted, chosen = check_precision(precision, dtype, config)
    where, layers = check_device(device), check_layers(config, layers)
    shards = open_indexed(index, wanted=lambda name: concerns(name, config, layers))
    plan = match(config, shards, layers)
    tokenizer = read_tokenizer(directory, config) if with_tokenizer else None
    require_room(sum(tensor.nbytes(chosen.itemsize) for tensor in expected_tensors(wanted, layers)), where)
    source, target = format_of(config), format_of(wanted)
    with torch.device("meta"):
        model = Transformer(wanted, layers)
        if target.name != "plain":
            pack_modules(model, target, chosen)
    kept = plan if source.name == target.name else [each for each in plan if not is_packed(each.expected.name)]
    dtypes = {piece.parameter: TORCH_DTYPES[each.entry.dtype] for each in kept for piece in each.expected.pieces}
    allocate(model, chosen, where, dtypes)
    fill(model, plan, kept, source)
    compare_tied_head(plan, shards)
    weigh(model)
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


def compare_tied_head(plan: list[Placed], shards: Shards) -> None:
    """An lm_head that is stored although config.json ties it to the embedding has to be the embedding. Raises
    WrongModel.
    """
    head = next((placed for placed in plan if placed.expected.name == HEAD and not placed.expected.pieces), None)
    embedding = shards.find(EMBEDDING)
    if head is None or embedding is None:
        return
    with head.header.reading() as file, embedding[0].reading() as other:
        if not same_values(file, head.entry, other, embedding[1]):
            raise WrongModel(
                f"{head.header.file}: lm_head.weight differs from model.embed_tokens.weight, but config.json says "
                "tie_word_embeddings true. "
                "Set it to false if the head is meant; otherwise download again."
            )


def check_precision(precision: str | None, dtype: Any, config: ModelConfig) -> tuple[ModelConfig, torch.dtype]:
    """The config of the model in memory, which says how its linear layers are packed there, and its dtype."""
    if precision is None or precision == format_of(config).name:
        return config, check_dtype(dtype, config)
    if precision in OWN:
        return replace(config, quantization_config=OWN[precision].settings()), check_dtype(dtype, config)
    if not isinstance(precision, str) or precision not in NAMED_DTYPES:
        raise BadArgument(f"precision is {precision!r}, expected None, {', '.join(OWN)}, bf16, fp16 or fp32.")
    chosen = NAMED_DTYPES[precision]
    if dtype is not None and check_dtype(dtype, config) != chosen:
        raise BadArgument(f"precision is {precision!r} and dtype {dtype!r}: unpacked weights have one dtype. Give one.")
    return replace(config, quantization_config=None), chosen


def check_dtype(dtype: Any, config: ModelConfig) -> torch.dtype:
    """The torch dtype that `dtype` means, None being the checkpoint's own."""
    name = config.dtype if dtype is None else dtype
    named = NAMED_DTYPES.get(name, dtype) if isinstance(name, str) else dtype
    if not isinstance(named, torch.dtype) or named not in NAMED_DTYPES.values():
        names = ", ".join(NAMED_DTYPES)
        raise BadArgument(f"dtype is {dtype!r}, expected None, one of {names}, or that torch dtype.")
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
