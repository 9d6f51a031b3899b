"""Load time: the bytes that the ranks read from a disk or over a network, divided by its speed.

A rank reads more than it keeps. The rows of a matrix are contiguous in the file, so a rank reads only its own rows;
columns are scattered over the whole matrix, so o_proj is read in full and sliced in memory (GPTQ stores its matrices
transposed: there rows are scattered and columns contiguous). Replicated values are read by each rank that holds them:
key/value heads if ranks outnumber them, router, norms. The ranks of one computer share its disk, so their bytes are
summed; the system's page cache may serve some of the repeated reads, but a plan cannot rely on it.

One rank of 8 of the 235B in bf16 reads 64.5 GB and keeps 59.0; all 8 read 516 GB, 1.10 times the files.
"""

from dataclasses import dataclass
from typing import Any

from minimoe.errors import BadArgument
from minimoe.scale.planner.deployment import Deployment
from minimoe.scale.planner.precision import check_count, check_precision
from minimoe.scale.planner.sharding import Cut, tensor_bytes

PER_NODE = 8  # devices per node, by default
SPEEDS = {  # bytes per second, nominal; readers reach 0.8 to 1.0 of it
    "network, 100 Mbit/s": 12_500_000,
    "network, 1 Gbit/s": 125_000_000,
    "SATA SSD, 0.5 GB/s": 500_000_000,
    "NVMe SSD, 3.5 GB/s": 3_500_000_000,
    "NVMe SSD, 7 GB/s": 7_000_000_000,
    "many disks together, 20 GB/s": 20_000_000_000,
}


@dataclass(frozen=True)
class Reading:
    """Bytes read when a deployment is loaded from files in the precision `stored`."""

    stored: str
    ranks: tuple[int, ...]  # by each rank
    nodes: tuple[int, ...]  # by all ranks of each node together

    @property
    def total(self) -> int:
        return sum(self.ranks)

    def seconds(self, bytes_per_second: float) -> float:
        """Time until all ranks have read their part, if every node has its own disk of this speed."""
        return max(self.nodes) / checked_speed(bytes_per_second)

    def rank_seconds(self, bytes_per_second: float) -> float:
        """Time until the rank that reads most has read its part, if no other rank uses its disk."""
        return max(self.ranks) / checked_speed(bytes_per_second)

    def shared_seconds(self, bytes_per_second: float) -> float:
        """Time until all ranks have read their part, if all nodes share one source of this speed."""
        return self.total / checked_speed(bytes_per_second)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values: bytes, and seconds at each speed in SPEEDS."""
        speeds = {
            name: {
                "bytes_per_second": speed,
                "rank_seconds": self.rank_seconds(speed),
                "seconds": self.seconds(speed),
                "shared_seconds": self.shared_seconds(speed),
            }
            for name, speed in SPEEDS.items()
        }
        return {
            "stored": self.stored, "rank_bytes": list(self.ranks), "node_bytes": list(self.nodes),
            "total_bytes": self.total, "speeds": speeds,
        }  # fmt: skip


def reading(plan: Deployment, stored: str | None = None, per_node: int = PER_NODE) -> Reading:
    """The bytes that the ranks of a deployment read.

    stored: precision of the files, by default that of the plan; a different one if weights are packed while loading.
    per_node: devices per node. Raises BadArgument for an unknown precision or a number of devices below 1.
    """
    stored = plan.precision if stored is None else stored
    check_precision(stored)
    check_count("per_node", per_node, "devices", 1)
    ranks = tuple(sum(bytes_read(cut, stored) for cut in plan.cuts(rank)) for rank in range(plan.devices))
    nodes = tuple(sum(ranks[first : first + per_node]) for first in range(0, plan.devices, per_node))
    return Reading(stored, ranks, nodes)


def bytes_read(cut: Cut, stored: str) -> int:
    """Bytes that a rank reads for one cut: its own part if that is contiguous in the file, else whole tensors."""
    scattered = "rows" if stored == "gptq-int4" and cut.kind.packed else "columns"
    if cut.axis == scattered:
        return cut.tensors * tensor_bytes(cut.kind, cut.kind.shape, stored)
    return cut.bytes(stored)


def checked_speed(bytes_per_second: float) -> float:
    """Return a valid speed; raise BadArgument unless it is a number above 0."""
    if isinstance(bytes_per_second, bool) or not isinstance(bytes_per_second, int | float) or not bytes_per_second > 0:
        raise BadArgument(f"bytes_per_second is {bytes_per_second!r}, expected a speed above 0, such as 3.5e9.")
    return bytes_per_second
