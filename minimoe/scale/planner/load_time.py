"""How long it takes to read the weights from where they lie: bytes through a disk or a network, divided by its speed.

What is read is more than what is kept. Rows of a matrix lie together in the file, so a rank reads its rows alone;
columns lie scattered over the whole matrix, so o_proj is read in full and cut in memory (GPTQ stores its matrices the
other way round: there rows are scattered and columns lie together). And what several ranks hold, each of them reads:
key/value heads above their number, router, norms. The ranks of one computer share its disk, so their bytes are added
up; the system's page cache may answer some of the repeated ones, which no plan can count on.

One rank of 8 of the 235B in bf16 reads 64.5 GB and keeps 59.0; all 8 read 516 GB, 1.10 times the files.
"""

from dataclasses import dataclass
from typing import Any

from minimoe.errors import BadArgument
from minimoe.scale.planner.deployment import Deployment
from minimoe.scale.planner.precision import check_count, check_precision
from minimoe.scale.planner.sharding import Cut, tensor_bytes

PER_NODE = 8  # devices in one computer, where nobody says otherwise
SPEEDS = {  # bytes a second, as such hardware is sold; a reader reaches 0.8 to 1 of it
    "network, 100 Mbit/s": 12_500_000,
    "network, 1 Gbit/s": 125_000_000,
    "SATA SSD, 0.5 GB/s": 500_000_000,
    "NVMe SSD, 3.5 GB/s": 3_500_000_000,
    "NVMe SSD, 7 GB/s": 7_000_000_000,
    "many disks together, 20 GB/s": 20_000_000_000,
}


@dataclass(frozen=True)
class Reading:
    """Bytes that are read when a deployment is loaded from files in the precision `stored`."""

    stored: str
    ranks: tuple[int, ...]  # by each rank
    nodes: tuple[int, ...]  # by all ranks of a computer together

    @property
    def total(self) -> int:
        return sum(self.ranks)

    def seconds(self, bytes_per_second: float) -> float:
        """Until all ranks have read their share, if every computer has a disk of this speed to itself."""
        return max(self.nodes) / checked_speed(bytes_per_second)

    def rank_seconds(self, bytes_per_second: float) -> float:
        """Until the rank that reads most has its share, if it has the disk to itself."""
        return max(self.ranks) / checked_speed(bytes_per_second)

    def shared_seconds(self, bytes_per_second: float) -> float:
        """Until all ranks have read their share, if all computers read from one place of this speed."""
        return self.total / checked_speed(bytes_per_second)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values: bytes, and seconds at every speed of SPEEDS."""
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
    """What the ranks of a deployment read. `stored`: the files' precision, by default the one in which they are kept;
    another one if they are packed while loading. `per_node`: devices in one computer.

    Raises BadArgument for an unknown precision or a number of devices below 1.
    """
    stored = plan.precision if stored is None else stored
    check_precision(stored)
    check_count("per_node", per_node, "devices", 1)
    ranks = tuple(sum(bytes_read(cut, stored) for cut in plan.cuts(rank)) for rank in range(plan.devices))
    nodes = tuple(sum(ranks[first : first + per_node]) for first in range(0, plan.devices, per_node))
    return Reading(stored, ranks, nodes)


def bytes_read(cut: Cut, stored: str) -> int:
    """Of everything that a rank reads for one cut: its own part where that lies together, else whole tensors."""
    scattered = "rows" if stored == "gptq-int4" and cut.kind.packed else "columns"
    if cut.axis == scattered:
        return cut.tensors * tensor_bytes(cut.kind, cut.kind.shape, stored)
    return cut.bytes(stored)


def checked_speed(bytes_per_second: float) -> float:
    """A speed that something can be divided by."""
    if isinstance(bytes_per_second, bool) or not isinstance(bytes_per_second, int | float) or not bytes_per_second > 0:
        raise BadArgument(f"bytes_per_second is {bytes_per_second!r}, expected a speed above 0, such as 3.5e9.")
    return bytes_per_second
