"""Checks, on every device and before the first weight is read, that a run fits the free memory.

Weights are counted as the modules hold them, KV cache and work space as in the planner (rank_memory.py). On a GPU the
planner's RESERVE is kept free; memory already in use there (the CUDA context, other programs) counts towards it.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from minimoe.checkpoint.device import memory_of_device
from minimoe.errors import PlanTooBig
from minimoe.humanize import units
from minimoe.model.config import ModelConfig
from minimoe.scale.planner.attention_kernels import UNKNOWN_DEVICE, kernel_of
from minimoe.scale.planner.deployment import RESERVE, deploy
from minimoe.scale.planner.precision import own_precision, plain_bytes

PLAIN = {torch.bfloat16: "bf16", torch.float16: "fp16", torch.float32: "fp32"}


@dataclass(frozen=True)
class RunMemory:
    """Bytes on one device, for a KV cache of `tokens` tokens."""

    weights: int
    cache: int
    work: int
    tokens: int
    is_packed: bool = False  # whether the weights are stored in fewer bits than the compute dtype has

    @property
    def total(self) -> int:
        return self.weights + self.cache + self.work


def run_memory(
    config: ModelConfig,
    weights: int,
    tokens: int,
    dtype: torch.dtype,
    layers: range | None = None,
    rank: int = 0,
    world: int = 1,
    split: str = "tensor",
    device: torch.device | None = None,
) -> RunMemory:
    """The memory that `rank` of `world` needs for `tokens` tokens, given the bytes of its weights.

    config: of the model in memory, which may be packed. dtype: the compute dtype. layers: the loaded ones; None: all.
    device: determines the attention kernel; None: the kernel that needs the most.
    """
    config = config if layers is None else replace(config, num_hidden_layers=len(layers))
    packed = config.quantization_config is not None
    precision = own_precision(config) if packed else PLAIN.get(dtype, "fp32")
    plan = deploy(
        config, world, precision=precision, kv_precision="bf16" if packed else precision, context=tokens, split=split,
        kernel=None if device is None else kernel_here(device),
    ).ranks[rank]  # fmt: skip
    wider = max(1, dtype.itemsize // plain_bytes(precision))  # float64, or packed weights in more than 16 bits
    return RunMemory(weights, plan.cache * wider, plan.work * wider, tokens, packed)


def kernel_here(device: torch.device) -> str:
    """The attention kernel that PyTorch runs on this device (attention_kernels.py)."""
    if device.type == "cuda" and torch.version.hip is None:
        return kernel_of(torch.cuda.get_device_capability(device))
    return "cpu" if device.type == "cpu" else UNKNOWN_DEVICE


def require_memory(
    need: RunMemory, device: torch.device, rank: int = 0, world: int = 1, neighbours: int = 1, way_out: str = ""
) -> None:
    """Raise PlanTooBig, with the size of each part and possible fixes, if `device` has too little free memory.

    neighbours: ranks that share the memory of this machine, if `device` is the CPU. way_out: a further fix, as text.
    """
    usable, state = usable_memory(device)
    sharing = neighbours if device.type == "cpu" else 1
    if usable is None or need.total * sharing <= usable:
        return
    who = f"rank {rank} of {world}" if world > 1 else "this run"
    packing = "" if need.is_packed else ", packed weights (--precision int4)"
    together = f", and {sharing} ranks share this machine: {units(need.total * sharing)}" if sharing > 1 else ""
    raise PlanTooBig(
        f"{who} needs {units(need.total)} on {device}: weights {units(need.weights)}, KV cache {units(need.cache)} for "
        f"{need.tokens:,} tokens, work space {units(need.work)}{together}. Usable: {units(usable)} ({state}). "
        f"Use fewer tokens (--max-new-tokens, a shorter text){packing}{way_out} or "
        f"{'more' if world > 1 else 'several'} devices (torchrun); `minimoe plan` compares them."
    )


def usable_memory(device: torch.device) -> tuple[int | None, str]:
    """(bytes available to a run on `device`, how they were determined). None if that is unknown."""
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        state = f"{units(free)} of {units(total)} are free, {units(RESERVE)} are kept back"
        return max(0, min(free, total - RESERVE)), state
    if device.type != "cpu":
        return None, ""
    with suppress(OSError, StopIteration, ValueError):  # Linux: free memory plus reclaimable caches
        lines = Path("/proc/meminfo").read_text().splitlines()
        kibibytes = next(line.split()[1] for line in lines if line.startswith("MemAvailable:"))
        return int(kibibytes) * 1024, "available on this machine"
    return memory_of_device(device), "the total of this machine"


@contextmanager
def out_of_memory_is_one_error() -> Iterator[None]:
    """Inside this block an out-of-memory error of a GPU or the CPU is raised as PlanTooBig."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        detail = (str(error) or type(error).__name__).splitlines()[0][:300]
        raise PlanTooBig(
            f"memory ran out: {detail} Use fewer tokens, more devices, or packed weights (--precision int4), or end "
            "other programs on this device; `minimoe plan` shows what a run needs."
        ) from error


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an allocation failed. PyTorch has a dedicated exception class for GPUs, but not for the CPU."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(error)
