"""KVCache: keys and values of all earlier positions, so that a new token costs the work of one position."""

import torch
from torch import Tensor

from minimoe.errors import BadArgument, CacheOverflow
from minimoe.model.config import ModelConfig


class KVCache:
    """Preallocated keys and values, one pair of tensors per layer: (batch, head, capacity, head_dim).

    All rows of a batch have the same length. Keys are stored after RoPE, so no key is rotated twice. `spare`: positions
    that are allocated beyond the capacity (see compiled_decode.py).
    """

    def __init__(
        self,
        config: ModelConfig,
        layers: range,
        batch: int = 1,
        capacity: int = 4096,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
        spare: int = 0,
    ):
        for name, value in (("batch", batch), ("capacity", capacity)):
            if type(value) is not int or value < 1:
                raise BadArgument(f"{name} is {value!r}, expected a positive integer.")
        shape = (batch, config.num_key_value_heads, capacity + spare, config.head_dim)
        self.keys = {layer: torch.empty(shape, dtype=dtype, device=device) for layer in layers}
        self.values = {layer: torch.empty(shape, dtype=dtype, device=device) for layer in layers}
        self.batch = batch
        self.capacity = capacity
        self.length = 0

    def check_capacity(self, batch: int, positions: int) -> None:
        """Raise CacheOverflow if `positions` more do not fit, BadArgument for another batch size."""
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
        """Write k, v (batch, head, position, head_dim) after those stored; return all keys and values so far.

        `length` changes only in `advance`, once a forward pass is complete, so a failed pass leaves the cache
        unchanged.
        """
        stop = self.length + k.shape[2]
        self.keys[layer][:, :, self.length : stop] = k
        self.values[layer][:, :, self.length : stop] = v
        return self.keys[layer][:, :, :stop], self.values[layer][:, :, :stop]

    def advance(self, positions: int) -> None:
        """Add `positions` to the length, once every layer has written them."""
        self.length += positions

    def reset(self) -> None:
        """Empty the cache; the memory stays allocated."""
        self.length = 0

    @property
    def bytes(self) -> int:
        """Allocated bytes over all layers."""
        return sum(t.numel() * t.element_size() for t in (*self.keys.values(), *self.values.values()))
