"""The verdicts of the watchdog, without other processes: which ranks count as dead, and when."""

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
    """The watchdog of rank 0 after rank 1 has registered, and a function that advances the clock."""
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


def test_a_dead_process_of_this_machine_is_detected_unless_it_had_finished(monkeypatch: pytest.MonkeyPatch) -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    watch, _ = watcher(monkeypatch, machine(), process.pid)
    assert not watch.is_well(1)  # also before its first heartbeat
    watch.store.set("beat/1", "1")
    assert not watch.is_well(1)
    watch.store.set("beat/1", DONE)
    assert watch.is_well(1)


def test_on_another_machine_only_the_heartbeat_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    watch, wait = watcher(monkeypatch, "elsewhere/4/pid:[1]", 2**30)
    wait(1000 * SILENCE)
    assert watch.is_well(1)  # it is initialising its device
    for beat in ("1", "2"):
        watch.store.set("beat/1", beat)
        assert watch.is_well(1)
        wait(SILENCE - 1)
        assert watch.is_well(1)
    wait(2)
    assert not watch.is_well(1)
    watch.store.set("beat/1", DONE)
    assert watch.is_well(1)


def test_a_rank_that_has_not_registered_is_not_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    watch = Watch(dist.HashStore(), 0, 2)
    assert watch.is_well(1) and watch.look() is None
