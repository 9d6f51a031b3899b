"""The benchmark for one large GPU, through its whole code with a tiny model; without a GPU it says so and ends well."""

import subprocess
import sys

import pytest
import torch

from minimoe.paths import checkout


def run(*arguments: str) -> str:
    command = [sys.executable, "-m", "benchmarks.gpu_whole", *arguments]
    done = subprocess.run(command, cwd=checkout(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_tiny_models_use_the_memory_that_the_planner_computes() -> None:
    output = run("--tiny")
    assert output.count("memory is within 3% of the planner") == 2
    assert output.count("+0.00%") == 4  # weights and cache of both
    assert "tiny in int4" in output and "tiny in bf16" in output
    assert output.count("then, as written") == 2
    assert output.count("prompt of 48 tokens, 3 chunks") == 2
    for what in ("first chunk", "last chunk", "one token"):
        assert output.count(f"attention, {what}:") == 2


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device; the benchmark would run on it")
def test_without_a_gpu_it_reports_that_nothing_was_run() -> None:
    assert run() == "\ngpu_whole: not run, this machine has no CUDA device\n"
