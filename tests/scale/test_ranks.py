"""A rank that fails or dies takes all others with it, within seconds, and the reason is told once."""

import json
import os
import queue
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner

from minimoe.cli import cli
from minimoe.errors import BadArgument
from minimoe.routing.trace import RoutingTrace
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
        self.coming: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self.listen, daemon=True).start()

    def listen(self) -> None:
        for line in self.process.stdout:  # type: ignore[union-attr]
            self.coming.put(line)
        self.coming.put("")

    def tell(self, *words: object) -> None:
        """A line for stdin."""
        self.process.stdin.write(json.dumps(words) + "\n")  # type: ignore[union-attr]
        self.process.stdin.flush()  # type: ignore[union-attr]

    def wait_for(self, pattern: str, count: int = 1, seconds: float = 60) -> list[str]:
        """The first groups of `pattern` once `count` lines have it. Fails after that many seconds."""
        until = time.monotonic() + seconds
        while len(found := [hit[1] for line in self.lines if (hit := re.search(pattern, line))]) < count:
            try:
                line = self.coming.get(timeout=max(0.0, until - time.monotonic()))
            except queue.Empty:
                line = ""
            assert line, f"no {pattern!r} in\n{''.join(self.lines)}"
            self.lines.append(line)
        return found

    def codes(self, seconds: float = LIMIT) -> dict[int, int]:
        """Exit codes by rank, once all have ended."""
        self.wait_for("(all have ended)", seconds=seconds)
        hits = (re.match(r"code (\d+) (-?\d+)", line) for line in self.lines)
        return {int(hit[1]): int(hit[2]) for hit in hits if hit}

    def told(self) -> list[str]:
        return [line for line in self.lines if "minimoe: " in line]


@contextmanager
def running(*command: str) -> Iterator[World]:
    """A process with several ranks, ended with the block. stdout and stderr come together, line by line."""
    process = subprocess.Popen([sys.executable, *command], cwd=ROOT, env=ENVIRONMENT, text=True, bufsize=0,
                               stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                               start_new_session=True)  # fmt: skip
    try:
        yield World(process)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.fixture(scope="module")
def helper() -> Iterator[World]:
    """One process that forks world after world."""
    with running("-m", "tests.scale.ranks_at_work") as world:
        yield world


@pytest.fixture
def disturb(helper: World) -> Callable[..., World]:
    """Start a world of some kind; see ranks_at_work.py."""

    def start(*words: object) -> World:
        helper.lines.clear()
        helper.tell(*words)
        return helper

    return start


@pytest.mark.parametrize(("kind", "victim", "ready"), [("load", 1, r"rank (\d) reads"), ("text", 2, r"rank (\d) runs")])
def test_a_killed_rank_ends_all(disturb: Any, kind: str, victim: int, ready: str) -> None:
    world = disturb(kind, 4)
    world.wait_for(ready, count=4)
    [process] = world.wait_for(rf"process {victim} (\d+)")
    os.kill(int(process), signal.SIGKILL)
    codes = world.codes()
    assert codes[victim] == -signal.SIGKILL and set(codes) == {0, 1, 2, 3}
    assert all(codes.values())
    assert f"rank {victim} died without a word (process {process} on" in world.told()[0]


def test_when_the_keeper_of_the_store_is_killed_the_others_leave_too(disturb: Any) -> None:
    world = disturb("load", 4)
    world.wait_for(r"rank (\d) reads", count=4)
    [process] = world.wait_for(r"process 0 (\d+)")
    os.kill(int(process), signal.SIGKILL)
    codes = world.codes()
    assert set(codes) == {0, 1, 2, 3} and all(codes.values())
    assert any("rank 0" in line and ("died" in line or "machine is gone" in line) for line in world.told())


def test_a_rank_that_fails_while_the_others_wait(disturb: Any) -> None:
    world = disturb("fail", 4)
    world.wait_for("(failed)")
    codes = world.codes()
    assert codes[2] == 2 and set(codes) == {0, 1, 2, 3} and all(codes.values())
    line = world.told()[0]
    assert "rank 2 failed: ReadFailed: model-00003.safetensors: reading 12 bytes" in line and "Traceback" not in line


def test_ranks_with_different_checkpoints_refuse(disturb: Any) -> None:
    world = disturb("other", 2)
    world.wait_for("(failed)")
    codes = world.codes()
    assert codes[1] == 2 and codes[0] != 0
    line = world.told()[0]
    assert "rank 1 failed: BadArgument: the checkpoint of rank 1 is not that of rank 0" in line


def alone(*command: str, typed: str = "") -> str:
    done = CliRunner().invoke(cli, [*command], input=typed)
    assert done.exit_code == 0, done.output
    return done.stdout


@pytest.mark.parametrize("split", ["tensor", "layers"])
def test_a_trace_on_two_ranks_is_that_of_one(disturb: Any, tmp_path: Path, split: str) -> None:
    arguments = ("trace", "The cat sees a bird. 猫", "--dtype", "fp32", "--out")
    world = disturb("command", 2, *arguments, str(tmp_path / "two.safetensors"), "--split", split)
    world.tell("")
    assert world.codes(seconds=120) == {0: 0, 1: 0}
    told = alone(*arguments, str(tmp_path / "one.safetensors"))
    printed = "".join(line for line in world.lines if not re.match("process|code|all have", line))
    assert printed.replace("two.safetensors", "one.safetensors") == told
    one, two = (RoutingTrace.load(tmp_path / f"{name}.safetensors") for name in ("one", "two"))
    assert torch.equal(one.experts, two.experts) and one.metadata == two.metadata


def test_a_conversation_on_three_ranks_is_that_of_one(disturb: Any) -> None:
    arguments = ("chat", "--max-new-tokens", "8", "--seed", "3", "--dtype", "fp32")
    typed = "What is 3 + 4?\n/nonsense\nAnd 5 + 6?\n"
    world = disturb("command", 3, *arguments, "--split", "layers")
    world.tell(typed)
    assert world.codes(seconds=120) == {0: 0, 1: 0, 2: 0}
    printed = [line for line in world.lines if not re.match("process|code|all have|minimoe:", line)]
    assert "".join(printed) == alone(*arguments, typed=typed)
    assert [line for line in world.told() if "unknown command /nonsense" in line] == world.told()[:1]  # told once


def test_under_torchrun_a_killed_rank_is_named_and_the_conversation_ends() -> None:
    command = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "minimoe", "chat")
    with running(*command, "--max-new-tokens", "4", "--seed", "1") as world:
        world.process.stdin.write("Hello\n")  # type: ignore[union-attr]
        world.process.stdin.flush()  # type: ignore[union-attr]
        world.wait_for(r"^(.+)\n")
        ranks = children(world.process.pid)
        assert len(ranks) == 2
        os.kill(ranks[-1], signal.SIGKILL)
        world.wait_for(f"(rank 1 died without a word .process {ranks[-1]} on)", seconds=LIMIT)
        assert world.process.wait(timeout=LIMIT) != 0
        assert not any(map(is_running, ranks))


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


@pytest.mark.parametrize("device", ["cuda:0", "foo", "mps"])
def test_ranks_do_not_choose_their_device(device: str) -> None:
    with pytest.raises(BadArgument, match='ranks take "cpu" or "cuda"'):
        own_device(device, local_rank=1)


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
