"""minimoe selfcheck: what it finds on real ranks, and what it would call a fault."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from minimoe.commands.selfcheck import Row, faults, forced, logits_of, random_model, run, tiny_config
from minimoe.routing.trace import RoutingTrace
from minimoe.scale.divide import divides

ROOT = Path(__file__).resolve().parents[1]
GOOD = Row("tensor", "fp64", 1e-14, 1.0, True, "abc")


def test_selfcheck_starts_its_own_ranks_and_finds_no_fault() -> None:
    command = [sys.executable, "-m", "minimoe", "selfcheck", "--ranks", "2", "--device", "cpu"]
    done = subprocess.run(command, cwd=ROOT, timeout=300, text=True, capture_output=True)
    assert (done.returncode, done.stderr) == (0, "")
    head, _, *rows = done.stdout.splitlines()
    assert head.startswith("2 ranks on cpu against one")
    assert [row.split()[:2] for row in rows] == [[split, dtype] for split in ("tensor", "layers")
                                                 for dtype in ("fp64", "bf16")]  # fmt: skip
    assert all(row.endswith("good") for row in rows)


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


def test_bfloat16_may_choose_other_experts_but_not_other_logits() -> None:
    rough = replace(GOOD, dtype="bf16", difference=0.1, experts=0.9, text=False)
    assert faults((rough, rough)) == ""
    assert faults((rough, replace(rough, difference=0.5))) == "rank 1 differs from one rank"


def test_any_number_of_ranks_can_divide_the_tiny_model() -> None:
    for world in range(1, 17):
        for split in ("tensor", "layers"):
            assert divides(tiny_config(world), world, split, "whole", "bf16"), (world, split)


def test_forced_routing_makes_a_model_choose_what_was_recorded() -> None:
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
