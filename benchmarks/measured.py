"""Runs one measurement in a separate process, so its peak memory is measured separately, too.

`measure("benchmarks.real_width:load_ours", folder)` calls `load_ours(folder)` in a new Python process. The module is
imported before the clock starts, and the peak is measured from there.
"""

import importlib
import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


@dataclass(frozen=True)
class Measured:
    """Seconds; resident memory in bytes, before the call and its peak during the call; the result of the function."""

    seconds: float
    before: int
    peak: int
    result: Any

    @property
    def grown(self) -> int:
        return self.peak - self.before


def measure(function: str, *arguments: Any, environment: dict[str, str] | None = None) -> Measured:
    """Call "module:function" with JSON arguments in a new process. Its result must be JSON as well."""
    command = [sys.executable, "-m", "benchmarks.measured", function, json.dumps(arguments)]
    quiet = os.environ | {"TQDM_DISABLE": "1"} | (environment or {})
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=quiet)
    if done.returncode:
        raise SystemExit(f"{function} ended with code {done.returncode}\n{done.stderr}")
    return Measured(**json.loads(done.stdout.splitlines()[-1]))


def resident(which: str) -> int:
    """VmRSS (current) or VmHWM (peak) of this process, in bytes; Linux only."""
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(which))
    return int(line.split()[1]) * 1024


def main() -> None:
    """Entry point of the new process."""
    module, name = sys.argv[1].split(":")
    function, arguments = getattr(importlib.import_module(module), name), json.loads(sys.argv[2])
    CLEAR.write_text("5")  # resets the peak, which imports have reached
    before, start = resident("VmRSS"), time.perf_counter()
    result = function(*arguments)
    seconds, peak = time.perf_counter() - start, resident("VmHWM")
    print(json.dumps({"seconds": seconds, "before": before, "peak": peak, "result": result}))


if __name__ == "__main__":
    main()
