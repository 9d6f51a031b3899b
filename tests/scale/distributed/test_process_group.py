"""A rank that fails or dies ends all others within seconds, and the reason is reported once."""

import fcntl
import json
import os
import pty
import queue
import re
import select
import signal
import socket
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner

from minimoe.checkpoint.save import save
from minimoe.cli import cli
from minimoe.errors import BadArgument
from minimoe.model.transformer import Transformer
from minimoe.paths import checkout
from minimoe.routing.trace.trace import RoutingTrace
from minimoe.scale.distributed.environment import RankEnvironment
from minimoe.scale.distributed.process_group import connect, is_about_others, own_device
from minimoe.scale.distributed.watchdog import is_running
from minimoe.text.tokenizer import Tokenizer
from tests.scale.distributed import ranks_at_work

ROOT = checkout()
LIMIT = 15  # seconds that a failing world may take
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1"}


class World:
    """A group of running ranks, whose output is read as it arrives."""

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
        while len(matches := [hit[1] for line in self.lines if (hit := re.search(pattern, line))]) < count:
            try:
                line = self.coming.get(timeout=max(0.0, until - time.monotonic()))
            except queue.Empty:
                line = ""
            assert line, f"no {pattern!r} in\n{''.join(self.lines)}"
            self.lines.append(line)
        return matches

    def codes(self, seconds: float = LIMIT) -> dict[int, int]:
        """Exit codes by rank, once all have ended."""
        self.wait_for("(all have ended)", seconds=seconds)
        hits = (re.match(r"code (\d+) (-?\d+)", line) for line in self.lines)
        return {int(hit[1]): int(hit[2]) for hit in hits if hit}

    def reported(self) -> list[str]:
        return [line for line in self.lines if "minimoe: " in line]


@contextmanager
def running(*command: str) -> Iterator[World]:
    """A process with several ranks, ended with the block. stdout and stderr are merged, line by line."""
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
    with running("-m", "tests.scale.distributed.ranks_at_work") as world:
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
    assert f"rank {victim} died without a report (process {process} on" in world.reported()[0]


def test_killing_the_host_of_the_store_ends_the_others(disturb: Any) -> None:
    world = disturb("load", 4)
    world.wait_for(r"rank (\d) reads", count=4)
    [process] = world.wait_for(r"process 0 (\d+)")
    os.kill(int(process), signal.SIGKILL)
    codes = world.codes()
    assert set(codes) == {0, 1, 2, 3} and all(codes.values())
    assert any("rank 0" in line and ("died" in line or "machine is gone" in line) for line in world.reported())


def test_a_rank_that_fails_while_the_others_wait(disturb: Any) -> None:
    world = disturb("fail", 4)
    world.wait_for("(failed)")
    codes = world.codes()
    assert codes[2] == 2 and set(codes) == {0, 1, 2, 3} and all(codes.values())
    line = world.reported()[0]
    assert "rank 2 failed: ReadFailed: model-00003.safetensors: reading 12 bytes" in line and "Traceback" not in line


def test_ranks_with_different_checkpoints_refuse(disturb: Any) -> None:
    world = disturb("other", 2)
    world.wait_for("(failed)")
    codes = world.codes()
    assert codes[1] == 2 and codes[0] != 0
    line = world.reported()[0]
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
    reported = alone(*arguments, str(tmp_path / "one.safetensors"))
    printed = "".join(line for line in world.lines if not re.match("process|code|all have", line))
    assert printed.replace("two.safetensors", "one.safetensors") == reported
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
    assert [line for line in world.reported() if "unknown command /nonsense" in line] == world.reported()[:1]


def test_a_rank_that_is_silent_for_long_is_not_dead(disturb: Any) -> None:
    world = disturb("silent", 2)
    assert world.codes(seconds=60) == {0: 0, 1: 0}
    assert world.reported() == []
    assert world.wait_for(r"rank (\d) opens its device, watched by \[\]", count=2)  # no heartbeat to miss yet
    assert sorted(world.wait_for(r"rank (\d) hears \[0, 1\]", count=2)) == ["0", "1"]


class Terminal:
    """A command in a terminal of its own, typed into and read character by character."""

    def __init__(self, *command: str):
        self.end, far = pty.openpty()
        self.seen = ""
        self.process = subprocess.Popen(
            [sys.executable, *command], cwd=ROOT, env=ENVIRONMENT | {"TERM": "xterm"}, stdin=far, stdout=far,
            stderr=far, start_new_session=True, preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )  # fmt: skip
        self.far = far  # kept open, so that the settings can be read when all ranks have exited

    def type(self, text: str) -> None:
        os.write(self.end, text.encode())

    def wait_for(self, pattern: str, seconds: float = 60) -> str:
        """The output up to `pattern`, a regular expression; later output is left for the next call."""
        until = time.monotonic() + seconds
        while (hit := re.search(pattern, self.seen)) is None:
            ready = select.select([self.end], [], [], max(0.0, until - time.monotonic()))[0]
            assert ready, f"no {pattern!r} in\n{self.seen}"
            self.seen += os.read(self.end, 4096).decode(errors="replace")
        before, self.seen = self.seen[: hit.end()], self.seen[hit.end() :]
        return before

    def interrupts(self) -> bytes:
        """The character that the terminal turns into SIGINT."""
        return termios.tcgetattr(self.far)[6][termios.VINTR]

    def close(self) -> None:
        if self.process.poll() is None:
            for process in (*children(self.process.pid), self.process.pid):
                os.kill(process, signal.SIGKILL)
        self.process.wait()
        os.close(self.end)
        os.close(self.far)


def test_ctrl_c_under_torchrun_stops_the_answer_and_a_killed_rank_ends_the_conversation(tmp_path: Path) -> None:
    torch.manual_seed(0)
    tokenizer = Tokenizer.from_directory(ROOT / "data" / "mini")
    config = replace(ranks_at_work.TINY, vocab_size=tokenizer.vocabulary_size, max_position_embeddings=8192)
    save(Transformer(replace(config, dtype="float32")), tokenizer, tmp_path / "endless")  # answers take many seconds
    command = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "minimoe", "chat")
    arguments = ("--model", str(tmp_path / "endless"), "--max-new-tokens", "8000", "--seed", "1")
    terminal = Terminal(*command, *arguments)
    try:
        before = terminal.interrupts()
        terminal.wait_for(r"Ctrl-D: end\s+> ")
        ranks = children(terminal.process.pid)
        terminal.type("Hello\n")
        terminal.wait_for(r"Hello\r\n.")
        terminal.type("\x03")
        terminal.wait_for(r"\(stopped\)\r\n> ")
        os.kill(ranks[0], signal.SIGINT)  # nothing to stop
        terminal.type("a line that is given up\x03Again\n")
        terminal.wait_for(r"Again\r\n(?! \(stopped)..........")
        terminal.type("/nonsense\n")
        os.kill(ranks[1], signal.SIGINT)  # means nothing
        os.kill(ranks[0], signal.SIGINT)
        terminal.wait_for(r"\(stopped\)\r\n> /nonsense\r\n.*unknown command /nonsense")  # typed meanwhile, not lost
        terminal.type("And again\n")
        terminal.wait_for(r"And again\r\n.")
        assert terminal.interrupts() != before
        os.kill(ranks[1], signal.SIGKILL)
        terminal.wait_for(f"rank 1 died without a report .process {ranks[1]} on", seconds=LIMIT)
        assert terminal.process.wait(timeout=LIMIT) != 0
        assert not any(map(is_running, ranks)) and len(ranks) == 2
        assert terminal.interrupts() == before
    finally:
        terminal.close()


def children(process: int) -> list[int]:
    """The processes that a process has started, in their order."""
    processes = []
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(entry.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue  # it has just ended
        if parent == process:
            processes.append(int(entry.parent.name))
    return sorted(processes)


# ---------------------------------------------------------------- one process


def test_an_unreachable_store_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("minimoe.scale.distributed.process_group.STORE_TIMEOUT", timedelta(seconds=1))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        place = RankEnvironment(0, 2, 0, 2, "127.0.0.1", taken.getsockname()[1])
        with pytest.raises(BadArgument, match=rf"MASTER_PORT {place.port}, but the store .* cannot be opened here"):
            connect(place, is_keeper=True)
        with pytest.raises(BadArgument, match="cannot be reached there"):
            connect(place)


def test_more_ranks_than_gpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    with pytest.raises(BadArgument, match="there are 2 GPUs here, but local rank 2 needs its own"):
        own_device("cuda", local_rank=2)


@pytest.mark.parametrize("device", ["cuda:0", "foo", "mps"])
def test_ranks_do_not_choose_their_device(device: str) -> None:
    with pytest.raises(BadArgument, match='ranks take "cpu" or "cuda"'):
        own_device(device, local_rank=1)


def test_a_zombie_counts_as_dead() -> None:
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
