"""Data-parallel training: every process trains on some rows of a batch, and the gradients are averaged.

`torchrun --nproc-per-node 2 -m minimoe train`. On two CPU cores this is faster than one process with two threads,
because the experts of a small model are too small to be split among threads.
"""

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import nn

from minimoe.errors import BadArgument
from minimoe.training.corpus.batches import Batch

NUMBERS = {"WORLD_SIZE": "1", "RANK": "0", "LOCAL_RANK": "0"}  # whole numbers, with their values for a single process
VARIABLES = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")  # set by torchrun


@dataclass(frozen=True)
class Ranks:
    """The rank of this process and the number of processes."""

    rank: int = 0
    world: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this process writes files and shows progress."""
        return self.rank == 0

    def part(self, batch: Batch) -> Batch:
        """The rows of this process. Raises BadArgument if they cannot be divided evenly."""
        if batch.inputs.shape[0] % self.world:
            raise BadArgument(f"rows is {batch.inputs.shape[0]}, expected a multiple of the {self.world} processes.")
        return batch[self.rank :: self.world]

    def average_gradients(self, model: nn.Module) -> None:
        """Replace the gradients by their mean over all processes, in a single all-reduce."""
        if self.world == 1:
            return
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        dist.all_reduce(flat)
        flat /= self.world
        for gradient, mean in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
            gradient.copy_(mean.view_as(gradient))


@contextmanager
def ranks(device: torch.device) -> Iterator[Ranks]:
    """Join the process group of torchrun for the duration of the block; without torchrun, a single process.

    Raises BadArgument if the environment variables of torchrun are incomplete or contradict each other.
    """
    world = processes(os.environ)
    if world == 1:
        yield Ranks()
        return
    if device.type == "cuda":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))  # the device that "cuda" refers to in this process
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield Ranks(dist.get_rank(), world)
    finally:
        dist.destroy_process_group()


def processes(environment: Mapping[str, str]) -> int:
    """The number of processes that torchrun started; 1 without torchrun.

    Raises BadArgument for environment variables of torchrun that are missing, not numbers, or out of range.
    """
    if not {"RANK", "WORLD_SIZE"} & set(environment):
        return 1
    texts = {name: environment.get(name, default) for name, default in NUMBERS.items()}
    wrong = [f"{name} is {text[:20]!r}" for name, text in texts.items() if not re.fullmatch("[0-9]{1,9}", text)]
    if not wrong:
        world, rank, local_rank = (int(texts[name]) for name in NUMBERS)
        if world == 1 and rank == 0:
            return 1
        wrong = [f"{name} is not set" for name in VARIABLES if name not in environment]
        if not wrong and max(rank, local_rank) >= world:
            wrong = [f"RANK is {rank} and LOCAL_RANK is {local_rank}, expected less than WORLD_SIZE, which is {world}"]
    if wrong:
        raise BadArgument(
            f"environment: {', '.join(wrong)}. Start training with torchrun, which sets {', '.join(VARIABLES)}, or "
            "unset RANK and WORLD_SIZE to train in one process."
        )
    return world
