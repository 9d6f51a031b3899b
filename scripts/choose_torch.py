"""Selects the build of PyTorch for this machine, in this order:

1. `TORCH="..."` (as in `make TORCH="torch --index-url https://download.pytorch.org/whl/cu128"`): the requested build.
2. macOS, or a working NVIDIA GPU: the default build from PyPI.
3. Otherwise a CPU build: from PyTorch's CPU index if it is reachable; else from pip's own index, but only if a dry run
   installs no CUDA packages. Several GB of CUDA are never installed without a request.

torch is the only package outside `requirements.lock`, because the right build depends on the machine.
"""

import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from pathlib import Path

TESTED = "torch==2.13.0"
CPU_INDEX = "https://download.pytorch.org/whl/cpu"
CUDA_PREFIXES = ("nvidia-", "cuda-", "triton")

REFUSAL = """\
No NVIDIA GPU was found, PyTorch's index of CPU builds ({index}) could not be reached,
and pip would install {torch} with {count} CUDA packages, several GB ({names}, ...).
Please choose one:
  make TORCH="{torch} --index-url URL"   with a reachable mirror of that index
  make TORCH=/path/to/torch-cpu.whl   with a downloaded CPU wheel
  make TORCH={torch}   to install the CUDA build anyway"""


def has_nvidia_gpu() -> bool:
    """Whether `nvidia-smi` lists a GPU (it may be installed without one)."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return False
    try:
        listed = subprocess.run([tool, "-L"], capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return listed.returncode == 0 and "GPU" in listed.stdout


def is_reachable(url: str, seconds: float = 5.0) -> bool:
    """Whether `url` answers a HEAD request within `seconds`; False for any network failure."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=seconds):
            return True
    except (OSError, urllib.error.URLError, ValueError):
        return False


def cuda_packages(pip: list[str], request: list[str]) -> list[str]:
    """Names of the CUDA packages that `pip install <request>` would install; downloads metadata only."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        # --ignore-installed: without it the report omits installed packages.
        options = ["-qq", "--dry-run", "--ignore-installed", "--report", str(report)]
        subprocess.run([*pip, "install", *options, *request], check=True)
        planned = json.loads(report.read_text(encoding="utf-8"))["install"]
    names = [item["metadata"]["name"].lower() for item in planned]
    return sorted(name for name in names if name.startswith(CUDA_PREFIXES))


def torch_request(pip: list[str], asked: str = "") -> list[str]:
    """The arguments of `pip install` for torch. pip: the command that will run. asked: the value of TORCH.

    Exits with a list of alternatives if the only available build is a CUDA build that was not requested.
    """
    if asked.strip():
        return shlex.split(asked, posix=os.name == "posix")
    if sys.platform == "darwin" or has_nvidia_gpu():
        return [TESTED]
    if is_reachable(f"{CPU_INDEX}/torch/"):
        return [TESTED, "--index-url", CPU_INDEX]
    packages = cuda_packages(pip, [TESTED])
    if packages:
        names = ", ".join(packages[:3])
        raise SystemExit(REFUSAL.format(index=CPU_INDEX, torch=TESTED, count=len(packages), names=names))
    return [TESTED]
