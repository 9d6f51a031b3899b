"""Set-up: which torch is chosen, and that a second run installs nothing. pip is replaced by a recorder throughout."""

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import choose_torch
import pytest
import set_up

from tests.house.repository import ROOT


class Machine:
    """A pretended machine for `choose_torch`: what it has, and what pip would plan."""

    def __init__(self, monkeypatch, platform="linux", gpu=False, index=False, planned=("torch",)):
        self.asked_pip = 0
        monkeypatch.setattr(choose_torch.sys, "platform", platform)
        monkeypatch.setattr(choose_torch, "has_nvidia_gpu", lambda: gpu)
        monkeypatch.setattr(choose_torch, "is_reachable", lambda url: index)
        self.planned = planned
        monkeypatch.setattr(choose_torch.subprocess, "run", self.run)

    def run(self, command, check):
        assert check and "--dry-run" in command, "choosing must not install anything"
        self.asked_pip += 1
        report = {"install": [{"metadata": {"name": name, "version": "1"}} for name in self.planned]}
        Path(command[command.index("--report") + 1]).write_text(json.dumps(report), encoding="utf-8")


@pytest.mark.parametrize(
    ("machine", "expected"),
    [
        ({"platform": "darwin", "index": True}, [choose_torch.TESTED]),
        ({"gpu": True, "index": True}, [choose_torch.TESTED]),
        ({"index": True}, [choose_torch.TESTED, "--index-url", choose_torch.CPU_INDEX]),
        ({"planned": ("torch", "sympy", "filelock")}, [choose_torch.TESTED]),
    ],
    ids=["macOS", "NVIDIA GPU", "CPU index", "pip resolves to a CPU build"],
)
def test_each_machine_gets_its_build(monkeypatch, machine, expected):
    Machine(monkeypatch, **machine)
    assert choose_torch.torch_request(["pip"]) == expected


def test_gigabytes_of_cuda_are_refused_with_the_mend(monkeypatch):
    Machine(monkeypatch, planned=("torch", "nvidia-cublas", "Triton", "cuda-toolkit", "nvidia-nccl-cu13"))
    with pytest.raises(SystemExit, match="4 CUDA packages") as refused:
        choose_torch.torch_request(["pip"])
    assert 'make TORCH="torch==' in str(refused.value)


def test_what_is_asked_for_is_taken_as_it_is(monkeypatch):
    machine = Machine(monkeypatch, planned=("torch", "nvidia-cublas"))
    asked = "torch --index-url https://download.pytorch.org/whl/cu128"
    assert choose_torch.torch_request(["pip"], asked) == asked.split()
    assert choose_torch.torch_request(["pip"], "'my wheels/torch.whl'") == ["my wheels/torch.whl"]
    assert machine.asked_pip == 0


@pytest.mark.skipif(os.name != "posix", reason="the stand-in for nvidia-smi is a shell script")
@pytest.mark.parametrize(
    ("script", "found"),
    [("echo 'GPU 0: H100 (UUID: x)'", True), ("echo 'no driver' >&2; exit 9", False), ("exit 0", False), (None, False)],
)
def test_a_gpu_counts_only_if_it_answers(monkeypatch, tmp_path, script, found):
    if script is not None:
        (tmp_path / "nvidia-smi").write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert choose_torch.has_nvidia_gpu() is found


def test_an_index_that_does_not_answer_is_not_reachable():
    assert not choose_torch.is_reachable("http://127.0.0.1:9/torch/", seconds=2)  # port 9: nobody listens


@pytest.fixture
def house(tmp_path, monkeypatch):
    """A checkout in a folder with spaces, whose `.run` lists what set-up would have done."""
    root = tmp_path / "my own checkout"
    root.mkdir()
    (root / "requirements.lock").write_text("# exact\npip==26.3\neinops==0.8.2\n")
    (root / "pyproject.toml").write_text("[project]\nname = 'minimoe'\n")
    calls: list[str] = []

    def create(venv):
        calls.append("create")
        python = set_up.venv_python(venv)
        python.parent.mkdir(parents=True, exist_ok=True)
        python.touch()

    def run(command, check=False):
        assert Path(command[0]) == set_up.venv_python(root / ".venv"), "only the environment's own Python may install"
        words = [word for word in command[3:] if not word.startswith(("--disable", "--no-input", "-qq"))]
        calls.append(" ".join(words))
        if house.fails_at and house.fails_at in words:
            raise subprocess.CalledProcessError(1, command)
        return SimpleNamespace(returncode=0)

    monkeypatch.setattr(set_up, "create", create)
    monkeypatch.setattr(set_up, "works", Path.exists)
    monkeypatch.setattr(set_up.subprocess, "run", run)
    monkeypatch.setattr(set_up, "torch_request", lambda pip, asked: asked.split() or [set_up.TESTED])

    def go(asked=""):
        calls.clear()
        changed = set_up.set_up(root, asked)
        assert changed == bool(calls)
        return list(calls)

    house = SimpleNamespace(root=root, go=go, fails_at="")
    return house


def steps(root, *torch):
    lock = f"install -r {root / 'requirements.lock'}"
    return ["install pip==26.3", lock, *torch, f"install --no-deps --no-build-isolation -e {root}", "check"]


def test_the_first_run_installs_and_the_second_does_nothing(house):
    assert house.go() == ["create", *steps(house.root, f"install {set_up.TESTED}")]
    assert house.go() == []


def test_a_changed_lock_is_installed_and_torch_left_alone(house):
    house.go()
    (house.root / "requirements.lock").write_text("pip==26.3\neinops==0.8.3\n")
    assert house.go() == steps(house.root)
    assert house.go() == []


def test_settings_of_other_tools_install_nothing(house):
    house.go()
    with (house.root / "pyproject.toml").open("a") as project:
        project.write("[tool.ruff]\nline-length = 100\n")
    assert house.go() == []
    with (house.root / "pyproject.toml").open("a") as project:
        project.write("[project.scripts]\nminimoe = 'minimoe.cli:main'\n")
    assert house.go() == steps(house.root)


def test_torch_asked_for_replaces_the_other_build_and_stays(house):
    house.go()
    assert house.go("torch==2.14.0") == steps(house.root, "uninstall -y torch", "install torch==2.14.0")
    assert house.go("torch==2.14.0") == []
    assert house.go() == []


def test_a_moved_checkout_gets_a_new_environment(house):
    house.go()
    stamp = house.root / ".venv" / "minimoe-stamp.json"
    stamp.write_text(stamp.read_text().replace("my own checkout", "elsewhere"))
    assert house.go()[0] == "create"


def test_a_broken_environment_is_made_anew(house):
    house.go()
    set_up.venv_python(house.root / ".venv").unlink()
    assert house.go() == ["create", *steps(house.root, f"install {set_up.TESTED}")]


@pytest.mark.parametrize("step", ["pip==26.3", "-r", "torch==2.14.0", "-e"])
def test_an_interrupted_run_is_taken_up_again(house, step):
    house.fails_at = step
    with pytest.raises(subprocess.CalledProcessError):
        house.go("torch==2.14.0")
    house.fails_at = ""
    assert "install torch==2.14.0" in house.go("torch==2.14.0")
    assert house.go() == []


def test_an_old_python_is_refused_in_one_sentence(monkeypatch):
    monkeypatch.setattr(sys, "version_info", (3, 10, 4, "final", 0))
    with pytest.raises(SystemExit, match=r"needs Python 3\.11 or newer, and this is 3\.10"):
        runpy.run_path(str(ROOT / "scripts" / "set_up.py"), run_name="__main__")
