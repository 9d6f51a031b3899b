"""Run the tests and lessons that depend on the processor, for each instruction set that can be simulated here.

    python scripts/processors.py            every instruction set, lessons with one and two threads (`make processors`)
    python scripts/processors.py --quick    parity, streaming and two lessons on the oldest one (part of `make test`)

PyTorch, oneDNN and MKL select kernels by the processor, and kernels round differently. Environment variables select
those of an older processor; a newer one cannot be simulated. Exit code 1 if anything fails. Sources of the variables:
https://docs.pytorch.org/docs/stable/torch_environment_variables.html and
https://uxlfoundation.github.io/oneDNN/dev_guide_cpu_dispatcher_control.html
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# Limits for PyTorch's own kernels, oneDNN and MKL, from the oldest instruction set to the newest.
CAPABILITIES = {
    "default": {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41", "MKL_ENABLE_INSTRUCTIONS": "SSE4_2"},
    "avx2": {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"},
    "native": {},
}
LIBRARY = (
    "tests/model", "tests/zoo", "tests/text", "tests/routing",
    "tests/scale/streaming/test_stream.py", "tests/scale/streaming/test_faults.py",
    "tests/scale/distributed/test_tensor_parallel.py", "tests/scale/distributed/test_process_group.py",
    "tests/scale/planner/test_work_space.py",
)  # fmt: skip
QUICK = (
    "tests/model/test_parity.py", "tests/model/test_mini_parity.py", "tests/model/test_golden.py",
    "tests/scale/streaming/test_stream.py",
)  # fmt: skip
QUICK_LESSONS = ("notebooks/00_start_here.ipynb", "notebooks/06_router.ipynb")
NBVAL = ("--nbval", "--nbval-current-env", "--nbval-cell-timeout=300", "--nbval-sanitize-with=tests/nbval_sanitize.cfg")


@dataclass(frozen=True)
class Run:
    """One call of pytest under one instruction set."""

    capability: str
    threads: int
    name: str
    arguments: tuple[str, ...]

    def passes(self) -> bool:
        """Run pytest with its output on this terminal; returns whether it passed."""
        environment = os.environ | CAPABILITIES[self.capability]
        environment |= {"OMP_NUM_THREADS": str(self.threads), "OMP_WAIT_POLICY": "passive"}
        # torch.compile would take from its cache what it compiled for another instruction set, and compute nonsense.
        cache = Path(tempfile.gettempdir()) / f"minimoe-compiled-{self.capability}"
        environment["TORCHINDUCTOR_CACHE_DIR"] = str(cache)
        workers = max(1, min(2, (os.cpu_count() or 1) // self.threads))
        command = [sys.executable, "-m", "pytest", "-q", "-n", str(workers), "--dist", "loadfile", *self.arguments]
        return subprocess.run(command, cwd=ROOT, env=environment).returncode == 0


def capabilities() -> list[str]:
    """The instruction sets that differ on this machine, oldest first; the last is the machine without limits."""
    import torch

    native = torch.backends.cpu.get_cpu_capability().lower()
    lower = {"avx512": ["default", "avx2"], "avx2": ["default"]}.get(native, [])
    return [*lower, "native"]


def planned(quick: bool) -> list[Run]:
    """All runs in order."""
    oldest = capabilities()[0]
    if quick:
        one = Run(oldest, 1, "parity, streaming and two lessons", (*NBVAL, *QUICK, *QUICK_LESSONS))
        return [] if oldest == "native" else [one]
    lessons = (*NBVAL, "-p", "tests.conftest", "notebooks", "exercises")
    runs = []
    for capability in capabilities():
        runs.append(Run(capability, 1, "library", ("-m", "not browser", *LIBRARY)))
        runs.append(Run(capability, 1, "lessons", lessons))
    return [*runs, Run("native", 2, "lessons", lessons)]


def main() -> int:
    """Run the selected tests, then print a line for each run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="only a part, on the plainest instruction set")
    runs, lines, failed = planned(parser.parse_args().quick), [], False
    if not runs:
        print("processors: no older instruction set can be simulated on this machine")
    for run in runs:
        title = f"{run.capability}, {run.threads} thread{'s' if run.threads > 1 else ''}: {run.name}"
        print(f"\n== {title}", flush=True)
        began = time.monotonic()
        passed = run.passes()
        failed |= not passed
        lines.append(f"{title:60s} {'passed' if passed else 'FAILED':8s} {time.monotonic() - began:4.0f} s")
    print("", *lines, sep="\n")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
