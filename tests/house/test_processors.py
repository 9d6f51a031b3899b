"""`make processors` simulates older processors; the variables that do it have to take effect."""

import os
import subprocess
import sys

import processors
import pytest
import torch

from tests.house.repository import ROOT


@pytest.mark.parametrize(
    ("native", "expected"),
    [
        ("AVX512", ["default", "avx2", "native"]),
        ("AVX2", ["default", "native"]),
        ("DEFAULT", ["native"]),
        ("NEON", ["native"]),
    ],
)
def test_each_instruction_set_is_run_once(monkeypatch, native, expected):
    monkeypatch.setattr("torch.backends.cpu.get_cpu_capability", lambda: native)
    assert processors.capabilities() == expected
    runs = processors.planned(quick=False)
    assert [run.capability for run in runs] == [*(name for name in expected for _ in range(2)), "native"]
    assert [run.threads for run in runs] == [1, 1] * len(expected) + [2]
    assert len(processors.planned(quick=True)) == (len(expected) > 1)


def test_everything_that_is_run_exists():
    for path in (*processors.LIBRARY, *processors.QUICK, *processors.QUICK_LESSONS):
        assert (ROOT / path).exists(), path


@pytest.mark.parametrize("capability", [name for name in processors.capabilities() if name != "native"])
def test_the_variables_take_effect(capability):
    code = "import torch; print(torch.backends.cpu.get_cpu_capability())"
    environment = os.environ | processors.CAPABILITIES[capability]
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == capability.upper() != torch.backends.cpu.get_cpu_capability()
