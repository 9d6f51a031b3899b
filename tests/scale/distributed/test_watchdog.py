"""The verdict of the watcher, without any rank: who counts as dead, and when."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch.distributed as dist

from minimoe.scale.distributed.watchdog import DONE, SILENCE, Watch, machine


def watcher(monkeypatch: pytest.MonkeyPatch, where: str, process: int) -> tuple[Watch, Callable[[float], None]]:
    """The watcher of rank 0, rank 1 having registered; and a function that lets time pass."""
    watch, clock = Watch(dist.HashStore(), 0, 2), [0.0]
    monkeypatch.setattr("minimoe.scale.distributed.watchdog.time", SimpleNamespace(monotonic=lambda: clock[0]))
    watch.store.set("who/1", json.dumps([where, process]))

    def wait(seconds: float) -> None:
        clock[0] += seconds

    return watch, wait


def test_a_living_process_of_this_machine_is_never_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    watch, wait = watcher(monkeypatch, machine(), os.getpid())
    for beat in (None, "1"):
        if beat is not None:
            watch.store.set("beat/1", beat)
        assert watch.is_well(1)
        wait(1000 * SILENCE)
        assert watch.is_well(1)


def test_a_dead_process_of_this_machine_is_seen_at_once_unless_it_had_finished(monkeypatch: pytest.MonkeyPatch) -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    watch, _ = watcher(monkeypatch, machine(), process.pid)
    assert not watch.is_well(1)  # also before its first heartbeat
    watch.store.set("beat/1", "1")
    assert not watch.is_well(1)
    watch.store.set("beat/1", DONE)
    assert watch.is_well(1)


def test_of_another_machine_only_the_heartbeat_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    watch, wait = watcher(monkeypatch, "elsewhere/4/pid:[1]", 2**30)
    wait(1000 * SILENCE)
    assert watch.is_well(1)  # it is opening its device
    for beat in ("1", "2"):
        watch.store.set("beat/1", beat)
        assert watch.is_well(1)
        wait(SILENCE - 1)
        assert watch.is_well(1)
    wait(2)
    assert not watch.is_well(1)
    watch.store.set("beat/1", DONE)
    assert watch.is_well(1)


def test_a_rank_that_has_not_registered_may_still_come(monkeypatch: pytest.MonkeyPatch) -> None:
    watch = Watch(dist.HashStore(), 0, 2)
    assert watch.is_well(1) and watch.look() is None
