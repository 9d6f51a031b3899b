"""The watcher of a rank: if any rank fails or dies, all of them leave within seconds, and say which one and why.

A collective waits for every rank, and one that was killed never comes: without a watcher the others wait for ever. So a
thread of each rank writes a heartbeat to the store that torchrun keeps, and reads those of the others. It ends its own
process at once when

- a rank has reported why it failed;
- a rank on this machine has no process any more, or one on another machine has not been heard of for SILENCE seconds;
- the store itself is gone, and with it the machine that kept it.

torchrun ends the survivors by a signal as soon as one process of its machine has ended. That signal is caught, so that
there is time to say who began.
"""

import json
import os
import select
import signal
import socket
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

import torch.distributed as dist

BEAT = 0.5  # seconds between two heartbeats
SILENCE = 9.0  # seconds without a heartbeat after which a rank on another machine counts as dead
DONE = "done"
FAILED, INTERRUPTED = 1, 130  # exit codes


class Watch(threading.Thread):
    """Watches all ranks from one of them, over a connection of its own to the store."""

    def __init__(self, store: dist.Store, rank: int, world: int, is_keeper: bool = False):
        super().__init__(name="minimoe-watch", daemon=True)
        self.store, self.rank, self.world, self.is_keeper = store, rank, world, is_keeper
        self.here = machine()
        self.ended = threading.Event()
        self.heard: dict[int, tuple[str, float]] = {}  # the last heartbeat of each rank, and when it came
        self.people: dict[int, tuple[str, int]] = {}  # machine and process of each rank
        self.signals, self.writer = socket.socketpair()
        self.writer.setblocking(False)

    def begin(self) -> None:
        """Start, and let signals wake the watcher even while the main thread waits in a collective."""
        self.store.set(f"who/{self.rank}", json.dumps([self.here, os.getpid()]))
        self.before = signal.signal(signal.SIGTERM, lambda *_: None), signal.set_wakeup_fd(self.writer.fileno())
        self.start()

    def finish(self) -> None:
        """This rank is through: from here on its silence means nothing."""
        self.ended.set()
        with suppress(OSError):
            self.writer.send(b"\0")
        self.join()
        signal.signal(signal.SIGTERM, self.before[0])
        signal.set_wakeup_fd(self.before[1])
        self.store.set(f"beat/{self.rank}", DONE)

    def run(self) -> None:
        """Until the end: a heartbeat, a look around, a short sleep."""
        count = 0
        while not self.ended.is_set():
            count += 1
            try:
                self.store.set(f"beat/{self.rank}", str(count))
                cause = self.look()
            except RuntimeError as error:  # all that the store raises
                self.leave(f"rank {self.rank} lost touch with the store, so rank 0 or its machine is gone ({error})")
            if cause is not None:
                self.leave(self.settle(cause))
            ready, _, _ = select.select([self.signals], [], [], BEAT)
            if ready and not self.ended.is_set():
                self.answer(self.signals.recv(64))

    def look(self) -> str | None:
        """Why all should stop, or None."""
        if self.store.check(["failed"]):
            return self.store.get("failed").decode()
        for rank in range(self.world):
            if rank != self.rank and not self.is_well(rank):
                if self.store.check(["failed"]):  # it reported before it left
                    return self.store.get("failed").decode()
                where, process = self.people[rank]
                told = f"process {process} on {where.split('/')[0]}"
                return f"rank {rank} died without a word ({told}): killed, out of memory, or its machine is gone"
        return None

    def is_well(self, rank: int) -> bool:
        """Whether a rank is through, not come yet, or alive."""
        if not self.store.check([f"beat/{rank}"]):
            return True
        beat, now = self.store.get(f"beat/{rank}").decode(), time.monotonic()
        if rank not in self.people:
            where, process = json.loads(self.store.get(f"who/{rank}"))
            self.people[rank] = (where, process)
        if self.heard.get(rank, ("", now))[0] != beat:
            self.heard[rank] = (beat, now)
        where, process = self.people[rank]
        if where == self.here and beat != DONE and not is_running(process):
            return self.store.get(f"beat/{rank}").decode() == DONE  # it may have finished since we asked
        return beat == DONE or now - self.heard[rank][1] < SILENCE

    def answer(self, signals: bytes) -> None:
        """A signal came: the user's Ctrl-C, or torchrun ends us because another rank ended."""
        if signal.SIGINT in signals:
            time.sleep(1)  # the main thread may get out by itself
            os._exit(INTERRUPTED)
        if signal.SIGTERM not in signals:
            return
        alone_here = all(where == self.here for where, _ in self.people.values())
        until = time.monotonic() + (2 if alone_here else SILENCE + 2)
        cause = None
        with suppress(RuntimeError):
            while cause is None and time.monotonic() < until:
                self.store.set(f"beat/{self.rank}", f"ending {time.monotonic()}")
                cause = self.look()
                time.sleep(0.1)
            cause = self.settle(cause) if cause is not None else None
        self.leave(cause or f"rank {self.rank} was asked to stop (SIGTERM)")

    def settle(self, cause: str) -> str:
        """The first cause that anybody gave is the one that all give."""
        return self.store.compare_set("failed", "", cause).decode()

    def fail(self, cause: str, code: int) -> NoReturn:
        """Report why this rank cannot go on, and leave."""
        with suppress(RuntimeError):
            cause = self.settle(cause)
        self.leave(cause, code)

    def leave(self, cause: str, code: int = FAILED) -> NoReturn:
        """End this process; the first on each machine says why. Nothing is cleaned up: that could wait for others."""
        first = True
        with suppress(RuntimeError):
            first = self.store.add(f"told/{self.here}", 1) == 1
        if first:
            os.write(2, f"minimoe: {' '.join(cause.split()).rstrip('.')}. All ranks stop.\n".encode())
        if self.is_keeper:  # without the store the others would not hear of it
            time.sleep(4 * BEAT)
        os._exit(code)


def machine() -> str:
    """A name for what shares process numbers with us: the host, and where there are containers, which one."""
    with suppress(OSError):
        return f"{socket.gethostname()}/{os.readlink('/proc/self/ns/pid')}"
    return socket.gethostname()


def is_running(process: int) -> bool:
    """Whether a process of this machine is alive; one that nobody has buried yet (a zombie) is not."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    with suppress(OSError):
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    return True
