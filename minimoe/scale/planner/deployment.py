"""One model on several equal devices: bytes per rank, whether they fit, and how many are missing.

The check is per rank: a sum over all devices can hide one that overflows.
"""

from dataclasses import dataclass, replace

from minimoe.model.config import ModelConfig
from minimoe.scale.planner.attention_kernels import UNKNOWN_DEVICE, check_kernel, kernel_for
from minimoe.scale.planner.divisibility import refuse_uneven
from minimoe.scale.planner.gpus import Card
from minimoe.scale.planner.precision import MOST_TOKENS, check_count, check_precision, own_precision
from minimoe.scale.planner.rank_memory import CHUNK, RankMemory, rank_memory
from minimoe.scale.planner.sharding import Cut, cuts

# Reserved on every device for what the formulas do not cover: the CUDA context, buffers of the collectives, memory
# fragmentation. An assumption. Reported for the buffers of NCCL alone: 0.5 to 0.7 GB per communicator on four A100
# (NVIDIA/nccl #964), 1.6 GB (#864).
RESERVE = 2 * 2**30
# The largest reported memory outside PyTorch's tensors, on each of eight H100: 4.34 GB after a collective that connects
# all pairs, 1.06 GB before it (NVIDIA/nccl #1685). A plan that fits only if less is used is "tight".
TAKEN_SOURCE = "NVIDIA/nccl #1685"
MOST_TAKEN = 4_340_000_000
MOST_TAKEN_ALONE = 1_060_000_000  # one device has no collectives


@dataclass(frozen=True)
class Deployment:
    """A model on `devices` devices of `device_memory` bytes each (None: unknown). All sizes in bytes.

    kernel: the attention kernel of the devices (attention_kernels.py); `attention` is the one that this plan runs.
    """

    name: str
    config: ModelConfig
    devices: int
    device_memory: int | None
    precision: str
    kv_precision: str
    context: int
    split: str
    experts: str
    chunk: int
    reserve: int
    ranks: tuple[RankMemory, ...]
    kernel: str = UNKNOWN_DEVICE

    @property
    def attention(self) -> str:
        """The attention kernel that this plan runs: always "plain" in float32."""
        return kernel_for(self.config, self.precision, self.kernel)

    @property
    def usable(self) -> int | None:
        """Bytes of a device available to weights, cache and work space."""
        return None if self.device_memory is None else max(0, self.device_memory - self.reserve)

    @property
    def spare(self) -> tuple[int, ...]:
        """Bytes left on each rank, negative if some are missing. Empty if the devices' memory is unknown."""
        return () if self.usable is None else tuple(self.usable - rank.total for rank in self.ranks)

    @property
    def fits(self) -> bool | None:
        """Whether every rank fits its device; None if the devices' memory is unknown."""
        return None if self.usable is None else min(self.spare) >= 0

    @property
    def tight_bytes(self) -> int:
        """Bytes that a plan that fits would lack if CUDA and NCCL used the largest reported amount; 0 if none."""
        if not self.fits:
            return 0
        most = MOST_TAKEN if self.devices > 1 else MOST_TAKEN_ALONE
        return max(0, most - self.reserve - min(self.spare))

    @property
    def tight(self) -> bool | None:
        """Whether it fits only if CUDA and NCCL use less than the largest reported amount. None if `fits` is None."""
        return None if self.fits is None else self.tight_bytes > 0

    @property
    def short_bytes(self) -> int:
        """Missing bytes, summed over all ranks that do not fit."""
        return -sum(spare for spare in self.spare if spare < 0)

    @property
    def largest(self) -> RankMemory:
        """The rank that needs the most memory."""
        return max(self.ranks, key=lambda rank: rank.total)

    @property
    def weight_bytes(self) -> int:
        """Weight bytes summed over all ranks, copies included."""
        return sum(rank.weights for rank in self.ranks)

    @property
    def cache_bytes(self) -> int:
        """KV cache bytes summed over all ranks, copies included."""
        return sum(rank.cache for rank in self.ranks)

    def cuts(self, rank: int) -> list[Cut]:
        """The rows of the sharding table for one rank."""
        return cuts(self.config, self.devices, rank, self.split, self.experts)


def deploy(
    config: ModelConfig,
    devices: int = 1,
    device_memory: int | Card | None = None,
    precision: str | None = None,
    kv_precision: str = "bf16",
    context: int | None = None,
    split: str = "tensor",
    experts: str = "whole",
    chunk: int = CHUNK,
    reserve: int = RESERVE,
    name: str = "",
    kernel: str | None = None,
) -> Deployment:
    """Divide `config` among devices and compute the bytes on each.

    device_memory: bytes, or a card of `gpus.CARDS`, which also determines the attention kernel. kernel: the attention
    kernel of a device that is not in that table, "flash" from compute capability 8.0 on; by default "plain", which
    never needs less. context: tokens in the KV cache, summed over all sequences; by default the model's maximum. chunk:
    positions per forward pass. split: "tensor" or "layers"; experts: "whole" or "split" (sharding.py).
    Raises BadArgument for an invalid value, or if the model cannot be divided like this (divisibility.py).
    """
    precision = own_precision(config) if precision is None else precision
    context = config.max_position_embeddings if context is None else context
    check_precision(precision, kv_precision)
    check_count("context", context, "tokens", 0, MOST_TOKENS)
    check_count("chunk", chunk, "positions", 1, MOST_TOKENS)
    check_count("reserve", reserve, "bytes", 0)
    if isinstance(device_memory, Card):
        kernel = kernel or device_memory.kernel
        device_memory = device_memory.bytes
    if device_memory is not None:
        check_count("device_memory", device_memory, "bytes", 1)
    kernel = check_kernel(UNKNOWN_DEVICE if kernel is None else kernel)
    refuse_uneven(config, devices, split, experts, precision)
    empty = Deployment(
        name or config.model_type, config, devices, device_memory, precision, kv_precision, context, split, experts,
        chunk, reserve, ranks=(), kernel=kernel,
    )  # fmt: skip
    ranks = (
        rank_memory(config, rank, empty.cuts(rank), context, precision, kv_precision, chunk, kernel)
        for rank in range(devices)
    )
    return replace(empty, ranks=tuple(ranks))
