"""The figures of a benchmark in data/benchmarks as JSON, with the processor and the limits measured in the same run.

The lessons read these files, so they hold what is needed to read a figure: date, processor, threads, the lowest and the
highest round beside the median, and whether the machine was busy.
"""

import json
import os
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Any

import torch
from tqdm.auto import tqdm

from minimoe.atomic import write as write_file
from minimoe.paths import checkout

THREADS = (1, 2)
BUSY = 0.5  # load of other programs, in cores, above which figures are marked
ROUNDS = 7


def interleaved(title: str, ways: dict[str, Callable[[], object]], rounds: int = ROUNDS) -> dict[str, dict[str, float]]:
    """Seconds of each way: median, low and high over the rounds, which are interleaved; the first one is dropped."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in tqdm(range(rounds + 1), desc=title, leave=False):
        for name, way in ways.items():
            start = time.perf_counter()
            way()
            seconds[name].append(time.perf_counter() - start)
    return {
        name: {"seconds": statistics.median(times[1:]), "low": min(times[1:]), "high": max(times[1:])}
        for name, times in seconds.items()
    }


@contextmanager
def threads(count: int) -> Iterator[None]:
    """PyTorch with `count` threads inside the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def machine() -> dict[str, Any]:
    """Date, processor and versions; busy: whether other programs used more than half a core before the start.

    waiting: the policy by which threads wait for each other (OMP_WAIT_POLICY). With "passive" they sleep, which makes
    many small products on two threads several times slower than on one; by default they wait awake for a moment.
    """
    return {
        "date": date.today().isoformat(),
        "processor": processor(),
        "instruction_set": torch.backends.cpu.get_cpu_capability(),
        "cores": os.cpu_count(),
        "torch": torch.__version__,
        "waiting": os.environ.get("OMP_WAIT_POLICY", "default"),
        "busy": cores_in_use() > BUSY,
    }


def cores_in_use(seconds: float = 1.0) -> float:
    """Processor cores that other programs use while this one waits; 0 where the system does not tell."""
    counters = Path("/proc/stat")
    if not counters.exists():
        return 0.0

    def used() -> int:
        user, nice, system, _idle, _waiting, *interrupts = map(int, counters.read_text().split("\n")[0].split()[1:9])
        return user + nice + system + sum(interrupts)

    before = used()
    time.sleep(seconds)
    return (used() - before) / os.sysconf("SC_CLK_TCK") / seconds


def processor() -> str:
    """The processor's name, where Linux tells it."""
    information = Path("/proc/cpuinfo")
    lines = information.read_text().splitlines() if information.exists() else []
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "unknown")


def limits() -> list[dict[str, Any]]:
    """What this machine can do at most: floating-point operations and bytes read per second, by threads and dtype."""
    rows = []
    for count in THREADS:
        with threads(count):
            numbers = torch.zeros(2**28)  # 1 GiB, many times the caches
            read = interleaved("reading", {"read": numbers.sum}, rounds=5)["read"]["low"]
            for dtype in (torch.float32, torch.bfloat16):
                matrix = torch.randn(2048, 2048).to(dtype)
                product = interleaved("multiplying", {"multiply": lambda m=matrix: m @ m}, rounds=5)["multiply"]["low"]
                rows.append({
                    "threads": count, "dtype": name_of(dtype), "flops_per_second": 2 * 2048**3 / product,
                    "bytes_per_second": numbers.nbytes / read,
                })  # fmt: skip
    return rows


def name_of(dtype: torch.dtype) -> str:
    """A dtype's name without "torch."."""
    return str(dtype).removeprefix("torch.")


def write(name: str, facts: dict[str, Any], limits: list[dict[str, Any]], rows: list[dict[str, Any]]) -> Path:
    """Write data/benchmarks/NAME.json; one line a row, so that a change can be read."""
    lines = [f'  "benchmark": {json.dumps(name)}', *(f"  {json.dumps(k)}: {json.dumps(v)}" for k, v in facts.items())]
    for key, table in (("limits", limits), ("rows", rows)):
        inner = ",\n".join(f"    {json.dumps(rounded(row))}" for row in table)
        lines.append(f'  "{key}": [\n{inner}\n  ]')
    path = checkout() / "data" / "benchmarks" / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_file(path, ("{\n" + ",\n".join(lines) + "\n}\n").encode())
    print(f"  written to {path.relative_to(checkout())}{', while the machine was busy' if facts['busy'] else ''}")
    return path


def rounded(row: dict[str, Any]) -> dict[str, Any]:
    """Measured values with four digits."""
    return {key: float(f"{value:.4g}") if isinstance(value, float) else value for key, value in row.items()}
