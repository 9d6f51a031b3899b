"""minimoe selfcheck: its result on real ranks, and the differences that it reports as faults."""

import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest
import torch

from minimoe.commands import compare_ranks, start_ranks
from minimoe.commands.compare_ranks import Row, faults, forced, logits_of, random_model, run, tiny_config
from minimoe.paths import checkout
from minimoe.routing.trace.trace import RoutingTrace
from minimoe.scale.distributed.watchdog import is_running
from minimoe.scale.planner.divisibility import divides
from tests.scale.distributed.test_process_group import children

ROOT = checkout()
GOOD = Row("tensor", "plain", "fp64", "loop", 1e-14, 1.0, True, "abc")


def test_selfcheck_starts_its_own_ranks_and_finds_no_fault() -> None:
    command = [sys.executable, "-m", "minimoe", "selfcheck", "--ranks", "2", "--device", "cpu"]
    done = subprocess.run(command, cwd=ROOT, timeout=300, text=True, capture_output=True)
    assert (done.returncode, done.stderr) == (0, "")
    head, _, *rows = done.stdout.splitlines()
    assert head.startswith("2 ranks on cpu against one")
    assert [row.split()[:4] for row in rows] == [
        [split, *weights.split(), engine]
        for split in ("tensor", "layers")
        for weights in ("plain fp64", "plain bf16", "int4 fp64")
        for engine in ("auto", "loop")
    ]
    assert all(row.endswith("good") for row in rows)


def test_quick_is_passed_on_to_the_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    commands: list[list[str]] = []
    monkeypatch.setattr(start_ranks, "run_process", lambda command: (commands.append(command), (0, ""))[1])
    for quick in (False, True):
        assert start_ranks.compare_ranks("cpu", 2, quick)
    assert ["--quick" in command for command in commands] == [False, True]


def test_the_process_that_starts_the_ranks_does_not_load_pytorch() -> None:
    script = """if True:
        import sys
        from minimoe.commands import start_ranks
        start_ranks.run_process = lambda command: (0, "")
        start_ranks.compare_ranks("cpu", 2)
        sys.exit("torch" in sys.modules)"""
    assert subprocess.run([sys.executable, "-c", script], cwd=ROOT).returncode == 0


def test_quick_compares_plain_weights_only() -> None:
    assert compare_ranks.variants_of("fp32", quick=True) == [("tensor", None, "fp32"), ("layers", None, "fp32")]
    assert len(compare_ranks.variants_of("fp32", quick=False)) == 6


def test_sigterm_ends_the_ranks_of_selfcheck() -> None:
    command = [sys.executable, "-m", "minimoe", "selfcheck", "--ranks", "2", "--device", "cpu"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    ranks: list[int] = []
    while len(ranks) < 2:
        assert process.poll() is None
        ranks = [rank for launcher in children(process.pid) for rank in children(launcher)]
        time.sleep(0.05)
    process.terminate()
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM and b"Traceback" not in errors
    assert not any(map(is_running, ranks))


# ---------------------------------------------------------------- what counts as a fault


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({}, ""),
        ({"difference": 1e-9}, "rank 1 differs from one rank"),
        ({"difference": float("nan")}, "rank 1 differs from one rank"),
        ({"experts": 0.99}, "rank 1 differs from one rank"),
        ({"text": False}, "rank 1 differs from one rank"),
        ({"digest": "abd"}, "the ranks differ among themselves"),
    ],
)
def test_a_fault_is_named(change: dict[str, object], found: str) -> None:
    assert faults((GOOD, replace(GOOD, **change))) == found  # type: ignore[arg-type]


def test_bfloat16_may_select_other_experts_but_not_have_other_logits() -> None:
    rough = replace(GOOD, dtype="bf16", difference=0.1, experts=0.9, text=False)
    assert faults((rough, rough)) == ""
    assert faults((rough, replace(rough, difference=0.7))) == "rank 1 differs from one rank"


def test_any_number_of_ranks_can_divide_the_tiny_model() -> None:
    for world in range(1, 17):
        for split in ("tensor", "layers"):
            for precision in ("bf16", "int4"):
                assert divides(tiny_config(world), world, split, "whole", precision), (world, split)


def test_forced_routing_selects_the_recorded_experts() -> None:
    config = replace(tiny_config(2), num_hidden_layers=2)
    model = random_model(config)
    logits, trace, _ = run(model)
    other = RoutingTrace(trace.layers.tolist(), [trace.tensors | {"experts": (trace.experts + 1) % 16}], [], {})
    with forced(model, other):
        changed = logits_of(model)
    with forced(model, trace):
        again = logits_of(model)
    assert all(torch.allclose(one, two, atol=1e-6) for one, two in zip(logits, again, strict=True))
    assert not torch.allclose(logits[0], changed[0], atol=1e-2)
    assert torch.equal(logits_of(model)[0], logits[0])
