"""The whole 235B at its true size, as 118 sparse files of 470,187,269,120 bytes: time to write, verify and plan it.

Files have just been written, so headers come from the page cache. `whole_rank` reads the part of one rank of 8.
"""

import tempfile
from pathlib import Path

from benchmarks.measured import Measured, measure
from minimoe.checkpoint.sparse_checkpoint import disk_bytes, remove_sparse, write_sparse
from minimoe.checkpoint.verify import verify
from minimoe.errors import BadArgument
from minimoe.model.config import ModelConfig
from minimoe.scale.planner.deployment import deploy

NAME = "Qwen3-235B-A22B"
RANKS = range(1, 17)


def write(folder: str) -> list[int]:
    """[nominal bytes of the files, bytes used on disk]."""
    return list(disk_bytes(write_sparse(folder, ModelConfig.named(NAME))))


def examine(folder: str) -> list[int]:
    """[tensors, bytes of weights, bytes read]."""
    report = verify(folder)
    if not report.ok:
        raise SystemExit(str(report))
    return [report.tensors, report.payload_bytes, report.bytes_read]


def plans(split: str) -> list[int]:
    """Plan for every number of ranks that this split supports; returns these numbers."""
    config, planned = ModelConfig.named(NAME), []
    for devices in RANKS:
        try:
            plan = deploy(config, devices, split=split)
        except BadArgument:
            continue
        plan.to_dict()
        planned.append(devices)
    return planned


def row(step: str, measured: Measured) -> None:
    """Print one line of the table."""
    memory = f"peak RSS {measured.peak / 1e6:6.0f} MB (+{measured.grown / 1e6:.0f})"
    print(f"  {step:58s}{measured.seconds:8.2f} s   {memory}")


def main() -> None:
    """Measure each step in a separate process."""
    print(f"\n{NAME} of true size, sparse")
    with tempfile.TemporaryDirectory() as temporary:
        folder, module = str(Path(temporary) / "sparse"), "benchmarks.whole_checkpoint"
        written = measure(f"{module}:write", folder)
        row(f"write it ({written.result[0]:,} bytes, {written.result[1] / 1e6:.1f} MB on disk)", written)
        verified = measure(f"{module}:examine", folder)
        row(f"verify ({verified.result[0]:,} tensors, {verified.result[2] / 1e6:.1f} MB read)", verified)
        for split in ("tensor", "layers"):
            planned = measure(f"{module}:plans", split)
            row(f'plan split "{split}" for {", ".join(map(str, planned.result))} ranks', planned)
        remove_sparse(folder)
