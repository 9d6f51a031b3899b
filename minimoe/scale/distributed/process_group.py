"""The process group of one run: start, communication and shutdown.

`torchrun` starts the processes on one or several machines and sets the rank of each through the environment
(environment.py). Tensors are sent by NCCL between GPUs and by gloo between CPUs. Messages (a seed, a prompt, "loaded")
are sent through torchrun's store: a wait there has no time limit, so one rank may load for an hour, or wait for user
input, without an error on the others.
"""

import json
import os
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist

from minimoe.errors import BadArgument, MinimoeError
from minimoe.scale.distributed.environment import RankEnvironment, read_environment, under_torchrun
from minimoe.scale.distributed.watchdog import FAILED, INTERRUPTED, PATIENCE, SILENCE, Watch

__all__ = ["Ranks", "joined", "own_device", "under_torchrun"]

LONGEST_COLLECTIVE = timedelta(hours=2)  # the watchdog detects a dead rank long before
STORE_TIMEOUT = timedelta(minutes=5)
POLL = 0.05  # seconds
BAD_INPUT = 2  # exit code


@dataclass
class Ranks:
    """The process group, as seen from this rank. `device`: of this rank. `watch`: ends this process if a rank fails."""

    rank: int
    world: int
    local_rank: int
    local_world: int
    device: torch.device
    store: dist.Store
    watch: Watch
    messages: int = field(default=0)  # sent so far; the same number on all ranks

    @property
    def is_first(self) -> bool:
        """Whether this is rank 0, the one that prints."""
        return self.rank == 0

    def share(self, value: Any = None) -> Any:
        """Broadcast rank 0's JSON value and return it. All ranks must make the same calls in the same order."""
        self.messages += 1
        key = f"shared/{self.messages}"
        if self.is_first:
            self.store.set(key, json.dumps(value))
            return value
        self._wait_for([key])
        return json.loads(self.store.get(key))

    def gather(self, value: Any) -> list[Any]:
        """Return the JSON values of all ranks, in the order of the ranks, on every rank."""
        self.messages += 1
        self.store.set(f"gathered/{self.messages}/{self.rank}", json.dumps(value))
        keys = [f"gathered/{self.messages}/{rank}" for rank in range(self.world)]
        self._wait_for(keys)
        return [json.loads(self.store.get(key)) for key in keys]

    def wait_for_all(self, word: str) -> None:
        """Barrier: wait until all ranks have called this. If one fails before, the watchdog ends all of them."""
        self.store.set(f"{word}/{self.rank}", "1")
        self._wait_for([f"{word}/{rank}" for rank in range(self.world)])

    def agree(self, what: str, value: str) -> None:
        """Raise BadArgument on ranks whose `value` differs from that of rank 0."""
        if self.share(value) != value:
            raise BadArgument(f"{what} of rank {self.rank} is not that of rank 0. Pass the same to all ranks.")

    def part(self, is_keeper: bool) -> None:
        """Shut down. If rank 0 hosts the store (`is_keeper`), it exits last."""
        self.store.set(f"parted/{self.rank}", "1")
        until = time.monotonic() + SILENCE
        all_ranks = [f"parted/{rank}" for rank in range(self.world)]
        while is_keeper and time.monotonic() < until and not self.store.check(all_ranks):
            time.sleep(POLL)

    def _wait_for(self, keys: list[str]) -> None:
        while not self.store.check(keys):
            time.sleep(POLL)


@contextmanager
def joined(device: str = "cpu") -> Iterator[Ranks]:
    """Join the process group for the duration of the block: torch.distributed works inside, and torch's global random
    generators have the same state on all ranks.

    device: "cpu", or "cuda" for the GPU with this process's local rank. An exception that leaves the block on one rank
    ends all ranks within seconds, with one line on stderr and a non-zero exit code.

    Raises BadArgument if the variables of the environment are missing or invalid.
    """
    here = read_environment()
    rank, world = here.rank, here.world
    prefix = f"minimoe/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}"
    is_keeper = rank == 0 and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True"
    first = connect(here, is_keeper)
    watch = Watch(dist.PrefixStore(prefix, connect(here)), rank, world, is_keeper)
    watch.register()
    try:
        own = own_device(device, here.local_rank)  # before the first heartbeat: may lock the interpreter for long
        watch.begin()
        store = dist.PrefixStore(prefix, connect(here))
        ranks = Ranks(rank, world, here.local_rank, here.local_world, own, store, watch)
        dist.init_process_group(
            "nccl" if own.type == "cuda" else "gloo",
            store=dist.PrefixStore(f"{prefix}/group", first),
            rank=rank,
            world_size=world,
            timeout=LONGEST_COLLECTIVE,
        )
        torch.manual_seed(ranks.share(torch.seed() % 2**63))
        yield ranks
        ranks.wait_for_all("finished")  # so that no rank disconnects while another still needs it
    except BaseException as error:
        fail(watch, rank, error)
    watch.finish()
    dist.destroy_process_group()
    ranks.part(is_keeper)


def connect(here: RankEnvironment, is_keeper: bool = False) -> dist.TCPStore:
    """Connect to the store; each thread that may wait for a key needs its own connection. Raises BadArgument if there
    is no store at that address. is_keeper: host the store in this process.
    """
    try:
        return dist.TCPStore(
            here.host, here.port, is_master=is_keeper, wait_for_workers=False, timeout=STORE_TIMEOUT
        )  # fmt: skip
    except RuntimeError as error:
        doing = "opened here" if is_keeper else "reached"
        raise BadArgument(
            f"environment: MASTER_ADDR is {here.host!r} and MASTER_PORT {here.port}, but the store of the ranks cannot "
            f"be {doing} there ({str(error).splitlines()[0][:200]}). Set them on all ranks to the address of the "
            "machine with rank 0 and a free port, or start the ranks with torchrun."
        ) from error


def own_device(device: str, local_rank: int) -> torch.device:
    """The device of this process. Raises BadArgument if `device` is not "cpu" or "cuda", or there are too few GPUs."""
    if device == "cpu":
        return torch.device(device)
    if device != "cuda":
        raise BadArgument(
            f'device is {device!r}, but ranks take "cpu" or "cuda"; the local rank selects the GPU.'
        )
    if local_rank >= torch.cuda.device_count():
        raise BadArgument(
            f"there are {torch.cuda.device_count()} GPUs here, but local rank {local_rank} needs its own. "
            'Start fewer processes (--nproc-per-node), or use device "cpu".'
        )
    torch.cuda.set_device(local_rank)
    torch.zeros(1, device="cuda")  # initialises the device now instead of in the first pass
    return torch.device("cuda", local_rank)


def fail(watch: Watch, rank: int, error: BaseException) -> None:
    """Report `error` through the store and end this process, and with it all others."""
    if isinstance(error, KeyboardInterrupt):
        watch.end(INTERRUPTED)
    if is_about_others(error):  # a broken connection is a symptom: the watchdog needs time to detect the cause
        time.sleep(PATIENCE)
    expected = isinstance(error, MinimoeError | OSError) or hasattr(error, "format_message")  # click's errors
    if not expected:
        os.write(2, "".join(traceback.format_exception(error)).encode())
    watch.fail(f"rank {rank} failed: {type(error).__name__}: {error}", BAD_INPUT if expected else FAILED)


def is_about_others(error: BaseException) -> bool:
    """Whether this error is a lost connection to another rank, not a failure of this one."""
    text = str(error).lower()
    return isinstance(error, dist.DistError) or (
        isinstance(error, RuntimeError) and any(word in text for word in ("gloo", "nccl", "connection"))
    )
