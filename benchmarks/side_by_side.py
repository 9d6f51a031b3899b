"""Interleaved timing of several implementations, compared by medians."""

import statistics
import time
from collections.abc import Callable

from tqdm.auto import tqdm


def side_by_side(title: str, ways: dict[str, Callable[[], object]], repeats: int = 9) -> dict[str, float]:
    """Median seconds of each implementation, interleaved, without the first round; printed with ratios to the first."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in tqdm(range(repeats + 1), desc=title, leave=False):
        for name, way in ways.items():
            start = time.perf_counter()
            way()
            seconds[name].append(time.perf_counter() - start)
    medians = {name: statistics.median(times[1:]) for name, times in seconds.items()}
    first = next(iter(medians.values()))
    print(f"\n{title}  ({repeats} rounds, interleaved, medians)")
    for name, median in medians.items():
        spread = max(seconds[name][1:]) / min(seconds[name][1:])
        ratios = f"time x {median / first:5.2f}   speed x {first / median:5.2f}   max/min {spread:4.2f}"
        print(f"  {name:42s} {median * 1e3:10.2f} ms   {ratios}")
    return medians
