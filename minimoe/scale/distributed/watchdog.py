"""The watcher of a rank: if any rank fails or dies, all of them leave within seconds, and say which one and why.

A collective waits for every rank, and one that was killed never comes: without a watcher the others wait for ever. So a
thread of each rank writes a heartbeat to the store that torchrun keeps, and reads those of the others. It ends its own
process at once when

- a rank has reported why it failed;
- a rank on this machine has no process any more: of a process here the operating system knows, so its heartbeat does
  not count, and a rank that is stopped, swapped out or inside a long call of a library is left alone;
- a rank on another machine has sent no heartbeat for SILENCE seconds;
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
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

import torch.distributed as dist

BEAT = 0.5  # seconds between two heartbeats
# Seconds without a heartbeat after which a rank on another machine counts as dead. The heartbeat is a Python thread, so
# any call that keeps the interpreter locked silences it. The longest known one, opening a GPU on a machine where no
# driver is loaded yet, comes before the first heartbeat; a minute is left for the others (a debugger, swapping, a
# network that pauses). Nothing is lost by waiting but time: a dead process is reported at once by the ranks beside it,
# and only a machine that vanishes as a whole is found this way.
SILENCE = 60.0
PATIENCE = 10.0  # seconds in which another rank can say what happened, before this one reports a mere symptom
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
        self.keeps_running = False  # whether SIGINT means something else than the end of this process
        self.before_leaving: Callable[[], object] = lambda: None  # what has to be put back even then
        self.signals, self.writer = socket.socketpair()
        self.writer.setblocking(False)

    def register(self) -> None:
        """Say which process this rank is. From here on the ranks on this machine know when it dies."""
        self.store.set(f"who/{self.rank}", json.dumps([self.here, os.getpid()]))

    def begin(self) -> None:
        """Start, and let signals wake the watcher even while the main thread waits in a collective."""
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
        """Whether a rank is through, not registered yet, or alive."""
        if rank not in self.people:
            if not self.store.check([f"who/{rank}"]):
                return True
            where, process = json.loads(self.store.get(f"who/{rank}"))
            self.people[rank] = (where, process)
        where, process = self.people[rank]
        if where == self.here:  # a rank may have finished between the first question and the second
            return is_running(process) or self.beat_of(rank) == DONE
        beat, now = self.beat_of(rank), time.monotonic()
        if beat is None:  # its device is being opened, which can silence it
            return True
        if self.heard.get(rank, ("", now))[0] != beat:
            self.heard[rank] = (beat, now)
        return beat == DONE or now - self.heard[rank][1] < SILENCE

    def beat_of(self, rank: int) -> str | None:
        """The last heartbeat of a rank; None before the first one."""
        key = f"beat/{rank}"
        return self.store.get(key).decode() if self.store.check([key]) else None

    def answer(self, signals: bytes) -> None:
        """A signal came: the user's Ctrl-C, or torchrun ends us because another rank ended."""
        if signal.SIGINT in signals and not self.keeps_running:
            time.sleep(1)  # the main thread may get out by itself
            self.end(INTERRUPTED)
        if signal.SIGTERM not in signals:
            return
        alone_here = all(where == self.here for where, _ in self.people.values())
        until = time.monotonic() + (2 if alone_here else PATIENCE)
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
        self.end(code)

    def end(self, code: int) -> NoReturn:
        """End this process without any clean-up but what the terminal needs."""
        with suppress(Exception):
            self.before_leaving()
        os._exit(code)


def machine() -> str:
    """A name for what shares process numbers with us: the host, and where there are containers, which one.

    Two machines may have the same host name, and then even the same number of the container; the boot id differs.
    """
    with suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{socket.gethostname()}/{boot}/{os.readlink('/proc/self/ns/pid')}"
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
