"""KVCache: the keys and values of every position so far, so that a new token costs one position of work."""

import torch
from torch import Tensor

from minimoe.errors import BadArgument, CacheOverflow
from minimoe.model.config import ModelConfig


class KVCache:
    """Preallocated keys and values, one pair of tensors a layer: (batch, head, capacity, head_dim).

    All rows of a batch have the same length. Keys are stored after RoPE, so nothing is ever turned twice.
    """

    def __init__(
        self,
        config: ModelConfig,
        layers: range,
        batch: int = 1,
        capacity: int = 4096,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ):
        for name, value in (("batch", batch), ("capacity", capacity)):
            if type(value) is not int or value < 1:
                raise BadArgument(f"{name} is {value!r}, expected a positive integer.")
        shape = (batch, config.num_key_value_heads, capacity, config.head_dim)
        self.keys = {layer: torch.empty(shape, dtype=dtype, device=device) for layer in layers}
        self.values = {layer: torch.empty(shape, dtype=dtype, device=device) for layer in layers}
        self.batch = batch
        self.capacity = capacity
        self.length = 0

    def check_room(self, batch: int, positions: int) -> None:
        """Raise before anything is computed if `positions` more do not fit, or the batch is another one."""
        if batch != self.batch:
            raise BadArgument(
                f"the KV cache was made for a batch of {self.batch}, got {batch}. "
                f"Make one with new_cache(batch={batch})."
            )
        if self.length + positions > self.capacity:
            raise CacheOverflow(
                f"the KV cache holds {self.length} of {self.capacity} positions, {positions} more do not fit. "
                f"Make one with new_cache(capacity={self.length + positions}) or more."
            )

    def append(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Write k, v (batch, head, position, head_dim) behind what is there; return all keys and values so far.

        `length` moves only in `advance`, once a forward pass is complete, so a pass that fails leaves the cache as it
        was.
        """
        stop = self.length + k.shape[2]
        self.keys[layer][:, :, self.length : stop] = k
        self.values[layer][:, :, self.length : stop] = v
        return self.keys[layer][:, :, :stop], self.values[layer][:, :, :stop]

    def advance(self, positions: int) -> None:
        """All layers have written `positions` more."""
        self.length += positions

    def reset(self) -> None:
        """Forget everything; the memory stays allocated."""
        self.length = 0

    @property
    def bytes(self) -> int:
        """Allocated bytes over all layers."""
        return sum(t.numel() * t.element_size() for t in (*self.keys.values(), *self.values.values()))
