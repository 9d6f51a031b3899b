"""Which build of PyTorch does this machine get? The one place that decides it, in this order:

1. `TORCH="..."` (as in `make TORCH="torch --index-url https://download.pytorch.org/whl/cu128"`): what you ask for.
2. macOS, or an NVIDIA GPU that answers: the default build from PyPI.
3. Anything else gets a CPU build: from PyTorch's own CPU index when that answers; otherwise from wherever pip looks,
   but only if pip says beforehand that no CUDA package would come along. Several GB of CUDA never arrive unasked.

torch stands outside `requirements.lock` because the right build differs from machine to machine; nothing else does.
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
That is not done unasked. Please choose one:
  make TORCH="{torch} --index-url URL"   with a mirror of that index within your reach
  make TORCH=/path/to/torch-cpu.whl   with a CPU wheel that you have downloaded
  make TORCH={torch}   to take the CUDA build all the same"""


def has_nvidia_gpu() -> bool:
    """Does `nvidia-smi` list a GPU? (The tool being installed proves nothing.)"""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return False
    try:
        listed = subprocess.run([tool, "-L"], capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return listed.returncode == 0 and "GPU" in listed.stdout


def is_reachable(url: str, seconds: float = 5.0) -> bool:
    """Does `url` answer a HEAD request within `seconds`? Any network failure means no."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=seconds):
            return True
    except (OSError, urllib.error.URLError, ValueError):
        return False


def cuda_packages(pip: list[str], request: list[str]) -> list[str]:
    """Names of the CUDA packages that `pip install <request>` would bring; only metadata is fetched to find out."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        # --ignore-installed: without it the report leaves out what is already here.
        options = ["-qq", "--dry-run", "--ignore-installed", "--report", str(report)]
        subprocess.run([*pip, "install", *options, *request], check=True)
        planned = json.loads(report.read_text(encoding="utf-8"))["install"]
    names = [item["metadata"]["name"].lower() for item in planned]
    return sorted(name for name in names if name.startswith(CUDA_PREFIXES))


def torch_request(pip: list[str], asked: str = "") -> list[str]:
    """The arguments for `pip install` that bring torch here; `pip` is the command that would run, `asked` is TORCH.

    Exits with a sentence that says what to do where the only build to be had is one that nobody asked for.
    """
    if asked.strip():
        return shlex.split(asked, posix=os.name == "posix")
    if sys.platform == "darwin" or has_nvidia_gpu():
        return [TESTED]
    if is_reachable(f"{CPU_INDEX}/torch/"):
        return [TESTED, "--index-url", CPU_INDEX]
    found = cuda_packages(pip, [TESTED])
    if found:
        raise SystemExit(REFUSAL.format(index=CPU_INDEX, torch=TESTED, count=len(found), names=", ".join(found[:3])))
    return [TESTED]
