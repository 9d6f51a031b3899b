"""The whole 235B at its true size, 118 files and 470,187,269,120 bytes of holes: how long each question to it takes.

Files are written anew, so headers come from the page cache. `whole_rank` reads what one rank of 8 reads of it.
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
    """[bytes that the files say they have, bytes that they take]."""
    return list(disk_bytes(write_sparse(folder, ModelConfig.named(NAME))))


def examine(folder: str) -> list[int]:
    """[tensors, bytes of weights, bytes read]."""
    report = verify(folder)
    if not report.ok:
        raise SystemExit(str(report))
    return [report.tensors, report.payload_bytes, report.bytes_read]


def plans(split: str) -> list[int]:
    """Every number of ranks that this split can have, with the table tensor -> rank and the bytes to read."""
    config, done = ModelConfig.named(NAME), []
    for devices in RANKS:
        try:
            plan = deploy(config, devices, split=split)
        except BadArgument:
            continue
        plan.to_dict()
        done.append(devices)
    return done


def row(what: str, found: Measured) -> None:
    """One line of the table."""
    print(f"  {what:58s}{found.seconds:8.2f} s   peak RSS {found.peak / 1e6:6.0f} MB (+{found.grown / 1e6:.0f})")


def main() -> None:
    """Each question in a process of its own."""
    print(f"\n{NAME} of true size, sparse")
    with tempfile.TemporaryDirectory() as place:
        folder, here = str(Path(place) / "sparse"), "benchmarks.whole_checkpoint"
        written = measure(f"{here}:write", folder)
        row(f"write it ({written.result[0]:,} bytes, {written.result[1] / 1e6:.1f} MB on disk)", written)
        verified = measure(f"{here}:examine", folder)
        row(f"verify ({verified.result[0]:,} tensors, {verified.result[2] / 1e6:.1f} MB read)", verified)
        for split in ("tensor", "layers"):
            planned = measure(f"{here}:plans", split)
            row(f'plan split "{split}" for {", ".join(map(str, planned.result))} ranks', planned)
        remove_sparse(folder)
