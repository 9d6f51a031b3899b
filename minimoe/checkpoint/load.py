"""load: a checkpoint's folder -> a model that is filled to the last value, or an error that says why not.

Resolve, open, match, allocate, fill: everything that can be refused is refused before the first weight is read, and
each weight is read once, straight to its place. `open_model` does the first three steps, `read_model` the rest. A rank
of several is the same load with fewer slices and other modules (`scale.distributed.load_shard`).

Packed weights stay packed in memory, unless another precision is requested: then they are converted on the way, one
matrix at a time.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from minimoe.checkpoint.device import require_room
from minimoe.checkpoint.layout import EMBEDDING, HEAD
from minimoe.checkpoint.match import Placed, match
from minimoe.checkpoint.open import OpenedCheckpoint, open_checkpoint
from minimoe.checkpoint.resolve import find_checkpoint
from minimoe.checkpoint.safetensors.shards import Shards
from minimoe.checkpoint.weights.convert import StoredMatrix, stored_matrices
from minimoe.checkpoint.weights.fill import allocate, fill
from minimoe.checkpoint.weights.packed_size import weigh
from minimoe.checkpoint.weights.slices import TensorSlice, whole_tensors
from minimoe.checkpoint.weights.tensor_reader import same_values
from minimoe.dtypes import NAMED_DTYPES, TORCH_DTYPES
from minimoe.errors import BadArgument, BadTokenizer, WrongModel
from minimoe.model.checks import check_layers
from minimoe.model.config import ModelConfig
from minimoe.model.transformer import Transformer
from minimoe.quantisation import format_of, is_packed
from minimoe.quantisation.detect import OWN
from minimoe.quantisation.modules import Packed, pack_modules
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
    where = check_device(device)
    part = open_model(path, dtype, layers, precision)
    tokenizer = read_tokenizer(part.opened.folder, part.config)
    return read_model(part, where), tokenizer


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
    where = check_device(device)
    return read_model(open_model(path, dtype, layers, precision), where)


@dataclass(frozen=True)
class ModelPart:
    """A model, or the part of it that one of several ranks holds, about to be read: everything is checked by then.

    plan: every tensor of the layers with its place in the files. slices: what this part reads as it is stored.
    matrices: what is converted from one packed format to another while it is read. target: the config of the model in
    memory, which may be packed in another format than the files. dtype: of all values that are not packed.
    modules: makes the modules of this part, without values.
    """

    opened: OpenedCheckpoint
    layers: range
    plan: list[Placed]
    slices: list[TensorSlice]
    matrices: list[StoredMatrix]
    target: ModelConfig
    dtype: torch.dtype
    modules: Callable[[ModelConfig, range], Transformer] = Transformer
    rank: int = 0
    world: int = 1

    @property
    def config(self) -> ModelConfig:
        """As the files describe themselves."""
        return self.opened.config

    @property
    def bytes(self) -> int:
        """Bytes that are read."""
        return sum(each.nbytes for each in self.slices) + sum(each.nbytes for each in self.matrices)

    @property
    def weight_bytes(self) -> int:
        """Bytes of the weights in memory."""
        return size_of(self.build(), self.dtype)

    @property
    def fingerprint(self) -> str:
        """Equal on all ranks that read the same config.json and the same headers."""
        digest = hashlib.sha256(repr(sorted(self.config.to_dict().items())).encode())
        for name, header in sorted(self.opened.shards.headers.items()):
            entries = [(each.name, each.dtype, each.shape, each.start) for each in header.tensors.values()]
            digest.update(repr((name, sorted(entries))).encode())
        return digest.hexdigest()

    def build(self) -> Transformer:
        """The modules, without values."""
        with torch.device("meta"):
            model = self.modules(self.target, self.layers)
            if self.target.quantization_config is not None:
                pack_modules(model, format_of(self.target), self.dtype)
        return model


def open_model(path: str | Path, dtype: Any = None, layers: range | None = None, precision: Any = None) -> ModelPart:
    """Open the checkpoint, match it with its config, and decide what is read. Arguments and errors as `load_model`."""
    opened = open_checkpoint(find_checkpoint(path), layers)
    layers = check_layers(opened.config, layers)
    target, chosen = check_precision(precision, dtype, opened.config)
    plan = match(opened.config, opened.shards, layers)
    slices, matrices = whole_tensors(plan), []
    source = format_of(opened.config).name
    if source not in (format_of(target).name, "plain"):
        slices = [each for each in slices if not is_packed(each.entry.name)]
        matrices = stored_matrices(plan)
    return ModelPart(opened, layers, plan, slices, matrices, target, chosen)


def read_model(
    part: ModelPart, device: str | torch.device = "cpu", show: bool = True, neighbours: int = 1
) -> Transformer:
    """Allocate the memory of `part` on `device` and fill it. show: with a progress bar. neighbours: ranks that share
    the memory of this machine, if `device` is the CPU.

    Raises PlanTooBig before reading; ReadFailed, WrongModel, NotFinite, IncompleteLoad.
    """
    where, model = check_device(device), part.build()
    require_room(size_of(model, part.dtype), where, neighbours)
    stored = {each.parameter: TORCH_DTYPES[each.entry.dtype] for each in part.slices}
    allocate(model, part.dtype, where, stored)
    title = "reading weights" if part.world == 1 else f"rank {part.rank} of {part.world} reads"
    fill(model, part.slices, part.matrices, format_of(part.config), title, show)
    if part.rank == 0:
        compare_tied_head(part.plan, part.opened.shards)
    if part.world == 1:
        weigh(model)
    return model.eval()


def size_of(model: Transformer, dtype: torch.dtype) -> int:
    """Bytes of a model without values, once its parameters are in `dtype`."""
    plain = sum(parameter.numel() for parameter in model.parameters()) * dtype.itemsize
    packed = (each.parts.values() for each in model.modules() if isinstance(each, Packed))
    return plain + sum(part.nbytes for parts in packed for part in parts)


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
