"""Checks of the model's input: each one raises BadArgument before anything is computed."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from minimoe.errors import BadArgument
from minimoe.model.config import ModelConfig


def as_batch(token_ids: Tensor | Sequence[Sequence[int]] | None) -> Tensor:
    """token_ids as a (batch, position) int64 tensor; rows of unequal length are refused (padding is not supported)."""
    if token_ids is None:
        raise BadArgument("model() needs token_ids (batch, position), or hidden= for a slice.")
    if not isinstance(token_ids, Tensor):
        rows = token_ids if isinstance(token_ids, (list, tuple)) else [token_ids]
        lengths = [len(row) if isinstance(row, (list, tuple)) else None for row in rows]
        if None in lengths or any(type(token) is not int or abs(token) >= 2**63 for row in rows for token in row):
            raise BadArgument(
                "token_ids: expected rows of whole numbers, such as [[1, 2, 3]], or a (batch, position) tensor."
            )
        if len(set(lengths)) != 1:
            raise BadArgument(
                f"token_ids: rows of a batch must have equal lengths, got {lengths[:8]}. Run them one by one."
            )
        token_ids = torch.tensor(rows, dtype=torch.int64)
    if token_ids.dim() != 2 or token_ids.numel() == 0 or token_ids.dtype not in (torch.int64, torch.int32):
        actual = f"{tuple(token_ids.shape)} {token_ids.dtype}"
        raise BadArgument(f"token_ids is {actual}, expected (batch, position) int64 or int32 with at least one token.")
    return token_ids


def check_range(token_ids: Tensor, vocab: int) -> None:
    """Raise BadArgument unless all ids are between 0 and vocab - 1.

    On a GPU the embedding would fail with an assertion that stops the process; with an embedding that is sharded over
    ranks, all of them would return zeros.
    """
    if token_ids.is_meta:  # no values
        return
    smallest, largest = torch.stack(token_ids.aminmax()).tolist()  # a single synchronisation with a GPU
    if smallest < 0 or largest >= vocab:
        raise BadArgument(f"token_ids hold {smallest}..{largest}, but the vocabulary is 0..{vocab - 1}.")


def check_hidden(token_ids: object, hidden: Tensor, like: nn.Parameter, size: int) -> Tensor:
    """`hidden`, after checking shape and dtype (that of the parameter `like`). Raises BadArgument."""
    if token_ids is not None:
        raise BadArgument("model() got both token_ids and hidden; hidden replaces the embedding, pass only one.")
    if not isinstance(hidden, Tensor):
        raise BadArgument(f"hidden is {type(hidden).__name__}, expected a tensor (batch, position, {size}).")
    if hidden.dim() != 3 or hidden.shape[-1] != size or hidden.numel() == 0 or hidden.dtype != like.dtype:
        actual = f"{tuple(hidden.shape)} {hidden.dtype}"
        raise BadArgument(
            f"hidden is {actual}, expected (batch, position, {size}) {like.dtype} with at least one position."
        )
    return hidden


def check_layers(config: ModelConfig, layers: range | None) -> range:
    """The layers to build, by default all. Raises BadArgument unless they are a non-empty contiguous range."""
    everything = range(config.num_hidden_layers)
    layers = everything if layers is None else layers
    if (
        not isinstance(layers, range)
        or layers.step != 1
        or len(layers) == 0
        or layers.start < 0
        or layers.stop > len(everything)
    ):
        raise BadArgument(f"layers is {layers!r}, expected range(a, b) with 0 <= a < b <= {len(everything)}.")
    return layers


def check_choice(argument: str, value: str, choices: tuple[str, ...]) -> None:
    """Raise BadArgument unless `value` is one of `choices`."""
    if value not in choices:
        raise BadArgument(f"{argument} is {value!r}, expected one of {', '.join(choices)}.")
