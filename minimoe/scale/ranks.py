"""The processes of one run: who is which rank, and how they come together, talk and part.

`torchrun` starts the processes and says through the environment who each one is, on one machine or on several. Tensors
travel by NCCL between GPUs and by gloo between CPUs. Words (a seed, a prompt, "loaded") travel through torchrun's
store: waiting there has no time limit, so a rank may load for an hour, or its user think, while the others wait.
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
from minimoe.scale.rank_watch import FAILED, INTERRUPTED, SILENCE, Watch

LONGEST_COLLECTIVE = timedelta(hours=2)  # who is dead is found by the watcher, long before
POLL = 0.05  # seconds
BAD_INPUT = 2  # exit code


def under_torchrun() -> bool:
    """Whether this process is one of several that torchrun started."""
    return "RANK" in os.environ and int(os.environ.get("WORLD_SIZE", "1")) > 1


@dataclass
class Ranks:
    """This process among the others. `device` is its own."""

    rank: int
    world: int
    local_rank: int
    local_world: int
    device: torch.device
    store: dist.Store
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
    """
    rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    local_rank, local_world = (int(os.environ.get(f"LOCAL_{name}", value)) for name, value in
                               (("RANK", rank), ("WORLD_SIZE", world)))  # fmt: skip
    prefix = f"minimoe/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}"
    is_keeper = rank == 0 and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True"
    first = connect(is_keeper)
    watch = Watch(dist.PrefixStore(prefix, connect()), rank, world, is_keeper)
    watch.begin()
    try:
        place = own_device(device, local_rank)
        ranks = Ranks(rank, world, local_rank, local_world, place, dist.PrefixStore(prefix, connect()))
        dist.init_process_group(
            "nccl" if place.type == "cuda" else "gloo",
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


def connect(is_keeper: bool = False) -> dist.TCPStore:
    """A connection to the store; each thread that may wait there needs one of its own."""
    host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    return dist.TCPStore(host, port, is_master=is_keeper, wait_for_workers=False, timeout=timedelta(minutes=5))


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
    return torch.device("cuda", local_rank)


def fail(watch: Watch, rank: int, error: BaseException) -> None:
    """End this process because of `error`, and through the store all others."""
    if isinstance(error, KeyboardInterrupt):
        os._exit(INTERRUPTED)
    if is_about_others(error):  # a broken connection is a symptom: give the watcher time to find who died
        time.sleep(SILENCE + 1)
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
