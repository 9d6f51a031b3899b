"""A rank that fails or dies takes all others with it, within seconds, and the reason is told once."""

import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from minimoe.errors import BadArgument
from minimoe.scale.rank_watch import is_running
from minimoe.scale.ranks import is_about_others, own_device, under_torchrun

ROOT = Path(__file__).resolve().parents[2]
LIMIT = 15  # seconds that a failing world may take
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1"}


class World:
    """Some ranks that are running; what they print is read as it comes."""

    def __init__(self, process: subprocess.Popen[str]):
        self.process = process
        self.lines: list[str] = []

    def wait_for(self, pattern: str, count: int = 1, seconds: float = 120) -> list[str]:
        """The first groups of `pattern` once `count` lines have it. Fails after that many seconds."""
        until = time.monotonic() + seconds
        while len(found := [hit[1] for line in self.lines if (hit := re.search(pattern, line))]) < count:
            ready, _, _ = select.select([self.process.stdout], [], [], max(0.0, until - time.monotonic()))
            line = self.process.stdout.readline() if ready else ""  # type: ignore[union-attr]
            assert line, f"no {pattern!r} in\n{''.join(self.lines)}"
            self.lines.append(line)
        return found

    def codes(self) -> dict[int, int]:
        """Exit codes by rank, once all have ended."""
        until = time.monotonic() + LIMIT
        found: dict[int, int] = {}
        for line in self.process.stdout:  # type: ignore[union-attr]
            self.lines.append(line)
        assert time.monotonic() < until, "".join(self.lines)
        for line in self.lines:
            if hit := re.match(r"code (\d+) (-?\d+)", line):
                found[int(hit[1])] = int(hit[2])
        return found

    def told(self) -> list[str]:
        return [line for line in self.lines if "minimoe: " in line]


@contextmanager
def running(*command: str, **extra: object) -> Iterator[World]:
    """A process with several ranks, ended with the block. stdout and stderr come together, line by line."""
    process = subprocess.Popen([sys.executable, *command], cwd=ROOT, env=ENVIRONMENT, text=True, bufsize=0,
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
                               **extra)  # type: ignore[call-overload]  # fmt: skip
    try:
        yield World(process)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@contextmanager
def disturbed(kind: str, world: int) -> Iterator[World]:
    with running("-m", "tests.scale.ranks_at_work", "disturbed", kind, str(world)) as found:
        yield found


@pytest.mark.parametrize(("kind", "victim", "ready"), [("load", 1, r"rank (\d) reads"), ("text", 2, r"rank (\d) runs")])
def test_a_killed_rank_ends_all(kind: str, victim: int, ready: str) -> None:
    with disturbed(kind, 4) as world:
        world.wait_for(ready, count=4)
        [process] = world.wait_for(rf"process {victim} (\d+)")
        os.kill(int(process), signal.SIGKILL)
        codes = world.codes()
    assert codes[victim] == -signal.SIGKILL and set(codes) == {0, 1, 2, 3}
    assert all(codes.values())
    assert f"rank {victim} died without a word (process {process} on" in world.told()[0]


def test_when_the_keeper_of_the_store_is_killed_the_others_leave_too() -> None:
    with disturbed("load", 4) as world:
        world.wait_for(r"rank (\d) reads", count=4)
        [process] = world.wait_for(r"process 0 (\d+)")
        os.kill(int(process), signal.SIGKILL)
        codes = world.codes()
    assert set(codes) == {0, 1, 2, 3} and all(codes.values())
    assert any("rank 0" in line and ("died" in line or "machine is gone" in line) for line in world.told())


def test_a_rank_that_fails_while_the_others_wait() -> None:
    with disturbed("fail", 4) as world:
        codes = world.codes()
    assert codes[2] == 2 and set(codes) == {0, 1, 2, 3} and all(codes.values())
    line = world.told()[0]
    assert "rank 2 failed: ReadFailed: model-00003.safetensors: reading 12 bytes" in line and "Traceback" not in line


def test_ranks_with_different_checkpoints_refuse() -> None:
    with disturbed("other", 2) as world:
        codes = world.codes()
    assert codes[1] == 2 and codes[0] != 0
    line = world.told()[0]
    assert "rank 1 failed: BadArgument: the checkpoint of rank 1 is not that of rank 0" in line


def test_under_torchrun_a_killed_rank_is_named_and_the_conversation_ends() -> None:
    command = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "minimoe", "chat")
    with running(*command, "--max-new-tokens", "4", "--seed", "1", stdin=subprocess.PIPE) as world:
        world.process.stdin.write("Hello\n")  # type: ignore[union-attr]
        world.process.stdin.flush()  # type: ignore[union-attr]
        world.wait_for(r"^(.+)\n")
        ranks = children(world.process.pid)
        assert len(ranks) == 2
        os.kill(ranks[-1], signal.SIGKILL)
        world.codes()
        assert world.process.wait() != 0
    assert [line for line in world.told() if f"rank 1 died without a word (process {ranks[-1]} on" in line]


def children(process: int) -> list[int]:
    """The processes that a process has started, in their order."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(entry.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue  # it has just ended
        if parent == process:
            found.append(int(entry.parent.name))
    return sorted(found)


# ---------------------------------------------------------------- one process


def test_who_runs_alone_is_not_under_torchrun(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RANK", raising=False)
    assert not under_torchrun()
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert not under_torchrun()
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert under_torchrun()


def test_more_ranks_than_gpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    with pytest.raises(BadArgument, match="there are 2 GPUs here, but local rank 2 needs one"):
        own_device("cuda", local_rank=2)


def test_a_process_that_nobody_has_buried_counts_as_dead() -> None:
    process = os.fork()
    if process == 0:
        os._exit(0)
    while Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
        time.sleep(0.01)
    assert not is_running(process)
    os.waitpid(process, 0)
    assert not is_running(process) and is_running(os.getpid())


def test_a_broken_connection_is_a_symptom() -> None:
    assert is_about_others(RuntimeError("[gloo/transport/tcp/pair.cc:534] Connection closed by peer [127.0.0.1]:1"))
    assert not is_about_others(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
