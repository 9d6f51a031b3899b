"""The mapping between tensors on disk and parameters in memory, derived from a config alone.

On disk each expert matrix is a separate tensor (or, in files from newer tools, the experts of a layer are two fused
tensors); in memory the experts' matrices of one kind are stacked in a bank. All other names differ only by the leading
`model.`. In packed formats several tensors represent one matrix (see quantisation/). This module opens no file and does
not need torch.

`mlp.gate` is the router, `gate_proj` is one of SwiGLU's three matrices: match full names, never parts of them.
"""

import math
import re
from collections.abc import Container, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from minimoe.dtypes import BYTES_PER_VALUE
from minimoe.model.config import ModelConfig
from minimoe.quantisation import Format, format_of

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"  # the only weight file; the index of several
EMBEDDING, NORM, HEAD = "model.embed_tokens.weight", "model.norm.weight", "lm_head.weight"
LAYER = re.compile(r"model\.layers\.(0|[1-9][0-9]{0,5})\.(.+)", re.DOTALL)


class Piece(NamedTuple):
    """A contiguous range of a tensor's values and its destination: a whole parameter (`expert` is None) or one
    expert's row of a bank.
    """

    parameter: str  # its name in the Transformer; for a packed matrix, the name of a buffer
    expert: int | None
    begin: int  # offset of the first value in the tensor, in values
    shape: tuple[int, ...]  # of the destination

    @property
    def values(self) -> int:
        return math.prod(self.shape)


@dataclass(frozen=True)
class Expected:
    """One tensor on disk: its name, its shape, and the destinations of its values.

    code: its dtype in the header, None for the dtype of config.json. also: other valid dtypes.
    """

    name: str
    shape: tuple[int, ...]
    pieces: tuple[Piece, ...]
    code: str | None = None
    also: tuple[str, ...] = ()

    @property
    def values(self) -> int:
        return math.prod(self.shape)

    def nbytes(self, bytes_per_value: int) -> int:
        """Size on disk; `bytes_per_value` is that of the config's dtype."""
        return self.values * (BYTES_PER_VALUE[self.code] if self.code else bytes_per_value)


def whole(name: str, shape: tuple[int, ...], parameter: str | None = None) -> Expected:
    """A tensor that becomes one parameter, by default of the same name without `model.`."""
    return Expected(name, shape, (Piece(parameter or name.removeprefix("model."), None, 0, shape),))


def linear(
    format: Format, module: str, shape: tuple[int, int], bank: str = "", expert: int | None = None
) -> Iterator[Expected]:
    """The tensors that represent the matrix (outs, ins) of a linear layer: one in plain files, `<module>.weight`.

    With `bank` they are one expert's rows of the stacked parameter of that name, or of its packed parts.
    """
    for suffix, part in format.components(*shape).items():
        name = f"{module}.{suffix}"
        target = name.removeprefix("model.") if not bank else bank if format.name == "plain" else f"{bank}.{suffix}"
        yield Expected(name, part.shape, (Piece(target, expert, 0, part.shape),), part.code, part.also)


def expected_tensors(
    config: ModelConfig, layers: range | None = None, names: Container[str] = ()
) -> Iterator[Expected]:
    """The tensors that a checkpoint of `config` must hold for `layers` (default: all), in the order of the model's
    parameters.

    Experts are separate tensors, or fused in the layers whose fused names are in `names` (the names in the files). A
    tied `lm_head` is not included. Qwen3-235B-A22B: 36,945 tensors, 235,093,634,560 values. Raises UnsupportedModel for
    an unknown format.
    """
    format = format_of(config)
    layers = range(config.num_hidden_layers) if layers is None else layers
    is_first, is_last = layers.start == 0, layers.stop == config.num_hidden_layers
    embedding = (config.vocab_size, config.hidden_size)
    if is_first:
        yield whole(EMBEDDING, embedding)
    for layer in layers:
        prefix = f"model.layers.{layer}."
        yield from attention_tensors(config, prefix, format)
        if not config.is_moe(layer):
            yield from dense_tensors(config, prefix, format)
        else:
            yield whole(f"{prefix}mlp.gate.weight", (config.num_experts, config.hidden_size))
            fused = f"{prefix}mlp.experts.gate_up_proj" in names or f"{prefix}mlp.experts.down_proj" in names
            fused = fused and format.name == "plain"
            yield from fused_experts(config, prefix) if fused else single_experts(config, prefix, format)
        yield whole(f"{prefix}input_layernorm.weight", (config.hidden_size,))
        yield whole(f"{prefix}post_attention_layernorm.weight", (config.hidden_size,))
    if is_last:
        yield whole(NORM, (config.hidden_size,))
        if not config.tie_word_embeddings:
            yield whole(HEAD, embedding)
        elif not is_first:  # a tied head without its embedding in the same slice
            yield whole(EMBEDDING, embedding, parameter="lm_head.weight")


def attention_tensors(config: ModelConfig, prefix: str, format: Format) -> Iterator[Expected]:
    """Four projections, (out, in), and the two norms of queries and keys."""
    hidden, head_dim = config.hidden_size, config.head_dim
    queries, keys = config.num_attention_heads * head_dim, config.num_key_value_heads * head_dim
    shapes = {
        "q_proj": (queries, hidden),
        "k_proj": (keys, hidden),
        "v_proj": (keys, hidden),
        "o_proj": (hidden, queries),
    }
    for kind, shape in shapes.items():
        yield from linear(format, f"{prefix}self_attn.{kind}", shape)
    for kind in ("q_norm", "k_norm"):
        yield whole(f"{prefix}self_attn.{kind}.weight", (head_dim,))


def matrices(ffn: int, hidden: int) -> dict[str, tuple[int, int]]:
    """The three matrices of SwiGLU, (out, in)."""
    return {"gate_proj": (ffn, hidden), "up_proj": (ffn, hidden), "down_proj": (hidden, ffn)}


def dense_tensors(config: ModelConfig, prefix: str, format: Format) -> Iterator[Expected]:
    """The feed-forward network of a layer without experts."""
    for kind, shape in matrices(config.intermediate_size, config.hidden_size).items():
        yield from linear(format, f"{prefix}mlp.{kind}", shape)


def single_experts(config: ModelConfig, prefix: str, format: Format) -> Iterator[Expected]:
    """The released form: for each expert's matrix one tensor, or its packed parts."""
    bank = f"{prefix}mlp.experts.".removeprefix("model.")
    for expert in range(config.num_experts):
        for kind, shape in matrices(config.moe_intermediate_size, config.hidden_size).items():
            yield from linear(format, f"{prefix}mlp.experts.{expert}.{kind}", shape, bank + kind, expert)


def fused_experts(config: ModelConfig, prefix: str) -> Iterator[Expected]:
    """gate_up_proj (expert, 2 ffn, hidden), in each expert the gate's rows first; down_proj (expert, hidden, ffn)."""
    experts, ffn, hidden = config.num_experts, config.moe_intermediate_size, config.hidden_size
    bank, matrix = f"{prefix}mlp.experts.", ffn * hidden
    parameter = bank.removeprefix("model.")
    halves = [
        Piece(parameter + kind, expert, (2 * expert + half) * matrix, (ffn, hidden))
        for expert in range(experts)
        for half, kind in enumerate(("gate_proj", "up_proj"))
    ]
    downs = [Piece(parameter + "down_proj", expert, expert * matrix, (hidden, ffn)) for expert in range(experts)]
    yield Expected(bank + "gate_up_proj", (experts, 2 * ffn, hidden), tuple(halves))
    yield Expected(bank + "down_proj", (experts, hidden, ffn), tuple(downs))


def concerns(name: str, config: ModelConfig, layers: range) -> bool:
    """Whether a tensor of this name belongs to the slice `layers`. Unknown names belong to every slice."""
    if match := LAYER.fullmatch(name):
        number = int(match[1])
        return number in layers or number >= config.num_hidden_layers
    is_first, is_last = layers.start == 0, layers.stop == config.num_hidden_layers
    if name == EMBEDDING:
        return is_first or (is_last and config.tie_word_embeddings)
    return is_last if name in (NORM, HEAD) else True
