"""The processes of one run: how they come together, talk and part.

`torchrun` starts the processes and says through the environment who each one is (rank_environment.py), on one machine
or on several. Tensors travel by NCCL between GPUs and by gloo between CPUs. Words (a seed, a prompt, "loaded") travel
through torchrun's store: waiting there has no time limit, so a rank may load for an hour, or its user think, while the
others wait.
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
from minimoe.scale.distributed.environment import Place, read_place, under_torchrun
from minimoe.scale.distributed.watchdog import FAILED, INTERRUPTED, PATIENCE, SILENCE, Watch

__all__ = ["Ranks", "joined", "own_device", "under_torchrun"]

LONGEST_COLLECTIVE = timedelta(hours=2)  # who is dead is found by the watcher, long before
STORE_TIMEOUT = timedelta(minutes=5)
POLL = 0.05  # seconds
BAD_INPUT = 2  # exit code


@dataclass
class Ranks:
    """This process among the others. `device` is its own, `watch` ends it when another one fails."""

    rank: int
    world: int
    local_rank: int
    local_world: int
    device: torch.device
    store: dist.Store
    watch: Watch
    said: int = field(default=0)

    @property
    def is_first(self) -> bool:
        """The one that prints."""
        return self.rank == 0

    def share(self, value: Any = None) -> Any:
        """What rank 0 gives, on every rank: any JSON value. Every rank must call it, as often and in the same order."""
        self.said += 1
        key = f"said/{self.said}"
        if self.is_first:
            self.store.set(key, json.dumps(value))
            return value
        self._wait_for([key])
        return json.loads(self.store.get(key))

    def gather(self, value: Any) -> list[Any]:
        """What each rank gives, by rank, on every rank: any JSON values."""
        self.said += 1
        self.store.set(f"gathered/{self.said}/{self.rank}", json.dumps(value))
        keys = [f"gathered/{self.said}/{rank}" for rank in range(self.world)]
        self._wait_for(keys)
        return [json.loads(self.store.get(key)) for key in keys]

    def wait_for_all(self, word: str) -> None:
        """Go on when every rank has come here. If one fails on its way, the watcher ends us all."""
        self.store.set(f"{word}/{self.rank}", "1")
        self._wait_for([f"{word}/{rank}" for rank in range(self.world)])

    def agree(self, what: str, value: str) -> None:
        """Raises BadArgument on a rank whose `value` is not that of rank 0."""
        if self.share(value) != value:
            raise BadArgument(f"{what} of rank {self.rank} is not that of rank 0. Give all ranks the same.")

    def part(self, is_keeper: bool) -> None:
        """The last word. Where no torchrun keeps the store, rank 0 does, and leaves last."""
        self.store.set(f"parted/{self.rank}", "1")
        until = time.monotonic() + SILENCE
        everyone = [f"parted/{rank}" for rank in range(self.world)]
        while is_keeper and time.monotonic() < until and not self.store.check(everyone):
            time.sleep(POLL)

    def _wait_for(self, keys: list[str]) -> None:
        while not self.store.check(keys):
            time.sleep(POLL)


@contextmanager
def joined(device: str = "cpu") -> Iterator[Ranks]:
    """All processes that torchrun started, joined for the time of the block: torch.distributed works inside, and
    torch's global random generators are in step.

    device: "cpu", or "cuda" for the GPU with this process's local number. An error that leaves the block on one rank
    ends the processes of all ranks within seconds, with one line on stderr and an exit code that is not 0.

    Raises BadArgument if the environment does not say which rank this is and where the others are.
    """
    place = read_place()
    rank, world = place.rank, place.world
    prefix = f"minimoe/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}"
    is_keeper = rank == 0 and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True"
    first = connect(place, is_keeper)
    watch = Watch(dist.PrefixStore(prefix, connect(place)), rank, world, is_keeper)
    watch.register()
    try:
        own = own_device(device, place.local_rank)  # before the first heartbeat: it can lock the interpreter for long
        watch.begin()
        store = dist.PrefixStore(prefix, connect(place))
        ranks = Ranks(rank, world, place.local_rank, place.local_world, own, store, watch)
        dist.init_process_group(
            "nccl" if own.type == "cuda" else "gloo",
            store=dist.PrefixStore(f"{prefix}/group", first),
            rank=rank,
            world_size=world,
            timeout=LONGEST_COLLECTIVE,
        )
        torch.manual_seed(ranks.share(torch.seed() % 2**63))
        yield ranks
        ranks.wait_for_all("finished")  # so that nobody hangs up on one who still listens
    except BaseException as error:
        fail(watch, rank, error)
    watch.finish()
    dist.destroy_process_group()
    ranks.part(is_keeper)


def connect(place: Place, is_keeper: bool = False) -> dist.TCPStore:
    """A connection to the store; each thread that may wait there needs one of its own. Raises BadArgument if there is
    none at that address.
    """
    try:
        return dist.TCPStore(
            place.host, place.port, is_master=is_keeper, wait_for_workers=False, timeout=STORE_TIMEOUT
        )  # fmt: skip
    except RuntimeError as error:
        doing = "opened here" if is_keeper else "reached"
        raise BadArgument(
            f"environment: MASTER_ADDR is {place.host!r} and MASTER_PORT {place.port}, but the store of the ranks "
            f"cannot be {doing} there ({str(error).splitlines()[0][:200]}). Give all ranks the address of the machine "
            "with rank 0 and a free port, or start them with torchrun."
        ) from error


def own_device(device: str, local_rank: int) -> torch.device:
    """The device of this process. Raises BadArgument if `device` is neither "cpu" nor "cuda", or GPUs are too few."""
    if device == "cpu":
        return torch.device(device)
    if device != "cuda":
        raise BadArgument(
            f'device is {device!r}, but ranks take "cpu" or "cuda"; which of the GPUs follows from a rank\'s number.'
        )
    if local_rank >= torch.cuda.device_count():
        raise BadArgument(
            f"there are {torch.cuda.device_count()} GPUs here, but local rank {local_rank} needs one of its own. "
            'Start fewer processes (--nproc-per-node), or use device "cpu".'
        )
    torch.cuda.set_device(local_rank)
    torch.zeros(1, device="cuda")  # opens the device now, not in the first pass
    return torch.device("cuda", local_rank)


def fail(watch: Watch, rank: int, error: BaseException) -> None:
    """End this process because of `error`, and through the store all others."""
    if isinstance(error, KeyboardInterrupt):
        watch.end(INTERRUPTED)
    if is_about_others(error):  # a broken connection is a symptom: give the watcher time to find who died
        time.sleep(PATIENCE)
    expected = isinstance(error, MinimoeError | OSError) or hasattr(error, "format_message")  # click's errors
    if not expected:
        os.write(2, "".join(traceback.format_exception(error)).encode())
    watch.fail(f"rank {rank} failed: {type(error).__name__}: {error}", BAD_INPUT if expected else FAILED)


def is_about_others(error: BaseException) -> bool:
    """Whether this error says that another rank is gone, rather than what is wrong here."""
    text = str(error).lower()
    return isinstance(error, dist.DistError) or (
        isinstance(error, RuntimeError) and any(word in text for word in ("gloo", "nccl", "connection"))
    )
