"""The watchdog of a rank: if any rank fails or dies, all ranks exit within seconds and report which one and why.

A collective waits for every rank, so without a watchdog it would wait forever for one that was killed. A thread in each
rank writes a heartbeat to torchrun's store and reads those of the others. It ends its own process when

- a rank has reported a failure;
- the process of a rank on this machine no longer exists: the operating system knows this, so heartbeats are not used
  here, and a rank that is stopped, swapped out or inside a long library call does not count as dead;
- a rank on another machine has sent no heartbeat for SILENCE seconds;
- the store is unreachable, because the machine that hosts it is gone.

When one process ends, torchrun sends SIGTERM to the other processes of its machine. The signal is caught, to allow time
to report the first cause.
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
# any call that holds the interpreter lock suspends it. The longest known one, initialising a GPU before its driver is
# loaded, happens before the first heartbeat; a minute is left for others (a debugger, swapping, network pauses). A long
# limit costs little: a dead process is reported immediately by the ranks on its machine, and only the loss of a whole
# machine is detected by this timeout.
SILENCE = 60.0
PATIENCE = 10.0  # seconds in which another rank can report a cause before this one reports a symptom
DONE = "done"
FAILED, INTERRUPTED = 1, 130  # exit codes


class Watch(threading.Thread):
    """A thread that watches all ranks from one of them, over its own connection to the store."""

    def __init__(self, store: dist.Store, rank: int, world: int, is_keeper: bool = False):
        super().__init__(name="minimoe-watch", daemon=True)
        self.store, self.rank, self.world, self.is_keeper = store, rank, world, is_keeper
        self.here = machine()
        self.ended = threading.Event()
        self.heartbeats: dict[int, tuple[str, float]] = {}  # the last heartbeat of each rank, and when it was seen
        self.processes: dict[int, tuple[str, int]] = {}  # machine and process id of each rank
        self.keeps_running = False  # whether SIGINT is handled elsewhere and does not end this process
        self.before_leaving: Callable[[], object] = lambda: None  # cleanup that must run in any case
        self.signals, self.writer = socket.socketpair()
        self.writer.setblocking(False)

    def register(self) -> None:
        """Publish the process id of this rank. From now on the ranks on this machine detect its death."""
        self.store.set(f"who/{self.rank}", json.dumps([self.here, os.getpid()]))

    def begin(self) -> None:
        """Start, and let signals wake the watchdog even while the main thread waits in a collective."""
        self.before = signal.signal(signal.SIGTERM, lambda *_: None), signal.set_wakeup_fd(self.writer.fileno())
        self.start()

    def finish(self) -> None:
        """Mark this rank as finished: from now on a missing heartbeat has no meaning."""
        self.ended.set()
        with suppress(OSError):
            self.writer.send(b"\0")
        self.join()
        signal.signal(signal.SIGTERM, self.before[0])
        signal.set_wakeup_fd(self.before[1])
        self.store.set(f"beat/{self.rank}", DONE)

    def run(self) -> None:
        """The loop: send a heartbeat, check the other ranks, wait for BEAT seconds or a signal."""
        count = 0
        while not self.ended.is_set():
            count += 1
            try:
                self.store.set(f"beat/{self.rank}", str(count))
                cause = self.look()
            except RuntimeError as error:  # the only exception of the store
                self.leave(f"rank {self.rank} lost the store: rank 0 or its machine is gone ({error})")
            if cause is not None:
                self.leave(self.settle(cause))
            ready, _, _ = select.select([self.signals], [], [], BEAT)
            if ready and not self.ended.is_set():
                self.answer(self.signals.recv(64))

    def look(self) -> str | None:
        """The reason to stop all ranks, or None."""
        if self.store.check(["failed"]):
            return self.store.get("failed").decode()
        for rank in range(self.world):
            if rank != self.rank and not self.is_well(rank):
                if self.store.check(["failed"]):  # it reported a failure before it exited
                    return self.store.get("failed").decode()
                host, process = self.processes[rank]
                which = f"process {process} on {host.split('/')[0]}"
                return f"rank {rank} died without a report ({which}): killed, out of memory, or its machine is gone"
        return None

    def is_well(self, rank: int) -> bool:
        """Whether a rank is alive, finished, or not yet registered."""
        if rank not in self.processes:
            if not self.store.check([f"who/{rank}"]):
                return True
            host, process = json.loads(self.store.get(f"who/{rank}"))
            self.processes[rank] = (host, process)
        host, process = self.processes[rank]
        if host == self.here:  # a rank may finish between the first check and the second
            return is_running(process) or self.beat_of(rank) == DONE
        beat, now = self.beat_of(rank), time.monotonic()
        if beat is None:  # its device is being initialised, which can suspend the heartbeat
            return True
        if self.heartbeats.get(rank, ("", now))[0] != beat:
            self.heartbeats[rank] = (beat, now)
        return beat == DONE or now - self.heartbeats[rank][1] < SILENCE

    def beat_of(self, rank: int) -> str | None:
        """The last heartbeat of a rank; None before the first one."""
        key = f"beat/{rank}"
        return self.store.get(key).decode() if self.store.check([key]) else None

    def answer(self, signals: bytes) -> None:
        """Handle signals: the user's Ctrl-C, or torchrun's SIGTERM because another rank ended."""
        if signal.SIGINT in signals and not self.keeps_running:
            time.sleep(1)  # the main thread may exit by itself
            self.end(INTERRUPTED)
        if signal.SIGTERM not in signals:
            return
        one_machine = all(host == self.here for host, _ in self.processes.values())
        until = time.monotonic() + (2 if one_machine else PATIENCE)
        cause = None
        with suppress(RuntimeError):
            while cause is None and time.monotonic() < until:
                self.store.set(f"beat/{self.rank}", f"ending {time.monotonic()}")
                cause = self.look()
                time.sleep(0.1)
            cause = self.settle(cause) if cause is not None else None
        self.leave(cause or f"rank {self.rank} received SIGTERM")

    def settle(self, cause: str) -> str:
        """Store `cause` unless another rank has stored one; return the stored cause, which all ranks report."""
        return self.store.compare_set("failed", "", cause).decode()

    def fail(self, cause: str, code: int) -> NoReturn:
        """Report why this rank failed, and exit."""
        with suppress(RuntimeError):
            cause = self.settle(cause)
        self.leave(cause, code)

    def leave(self, cause: str, code: int = FAILED) -> NoReturn:
        """End this process; the first one on each machine prints the cause. There is no cleanup: it could block."""
        first = True
        with suppress(RuntimeError):
            first = self.store.add(f"reported/{self.here}", 1) == 1
        if first:
            os.write(2, f"minimoe: {' '.join(cause.split()).rstrip('.')}. All ranks stop.\n".encode())
        if self.is_keeper:  # the other ranks still have to read the cause from the store
            time.sleep(4 * BEAT)
        self.end(code)

    def end(self, code: int) -> NoReturn:
        """End this process without any cleanup except that of the terminal."""
        with suppress(Exception):
            self.before_leaving()
        os._exit(code)


def machine() -> str:
    """An identifier of the process namespace: host name, boot id and, on Linux, the PID namespace (the container).

    Two machines may have the same host name and the same namespace number, but their boot ids differ.
    """
    with suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{socket.gethostname()}/{boot}/{os.readlink('/proc/self/ns/pid')}"
    return socket.gethostname()


def is_running(process: int) -> bool:
    """Whether a process of this machine is alive; a zombie does not count."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    with suppress(OSError):
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    return True
