"""One rank of 8 of the 235B, read at full size: bytes, seconds and memory.

The checkpoint is sparse (118 files, 470 GB, no data on disk), so this measures the reader and not a disk: how many
bytes one rank reads, in how many runs, and that it needs only one buffer. With MINIMOE_235B=FOLDER the real files are
read instead. python -m benchmarks whole_rank
"""

import os
import resource
import tempfile
import time
from itertools import groupby
from pathlib import Path

from tqdm.auto import tqdm

from minimoe import ModelConfig
from minimoe.checkpoint.load import ModelPart
from minimoe.checkpoint.sparse_checkpoint import write_sparse
from minimoe.scale.distributed.load_shard import open_part
from minimoe.scale.distributed.shard_reads import runs

BUFFER = 64 * 2**20  # bytes
RANKS = ((8, 0), (8, 7))  # the last rank starts at another offset than rank 0


def main() -> None:
    """Read the headers of all files, then every byte of a rank through one buffer."""
    given = os.environ.get("MINIMOE_235B")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(given) if given else write_sparse(Path(scratch) / "235B", ModelConfig.named("Qwen3-235B-A22B"))
        before = peak_rss()
        for world, rank in RANKS:
            start = time.perf_counter()
            part = open_part(folder, rank, world)
            opened = time.perf_counter() - start
            seconds, runs = read_all(part)
            print(
                f"rank {rank} of {world}: {len(part.slices):,} tensors in {runs:,} runs, {part.bytes:,} bytes of "
                f"{total(part):,} in {seconds:.1f} s ({part.bytes / seconds / 1e9:.2f} GB/s), headers {opened:.1f} s"
            )
        memory = f"{peak_rss() / 1e6:,.0f} MB, {before / 1e6:,.0f} before"
        print(f"peak memory {memory}; the buffer is {BUFFER / 1e6:.0f} MB")


def read_all(part: ModelPart) -> tuple[float, int]:
    """(seconds, runs): every byte of the part is read, run by run, into one buffer that is used again."""
    buffer, count, start = memoryview(bytearray(BUFFER)), 0, time.perf_counter()
    with tqdm(total=part.bytes, unit="B", unit_scale=True, desc=f"rank {part.rank} of {part.world}") as progress:
        for _, group in groupby(runs(part.slices), key=lambda run: run.header.file):
            together = list(group)
            with together[0].header.open() as file:
                for run in together:
                    for done in range(0, run.nbytes, BUFFER):
                        chunk = buffer[: min(BUFFER, run.nbytes - done)]
                        file.read_into(chunk, run.offset + done)
                        progress.update(len(chunk))
            count += len(together)
    return time.perf_counter() - start, count


def total(part: ModelPart) -> int:
    """Bytes of all weights of the checkpoint."""
    return sum(header.payload_bytes for header in part.opened.shards.headers.values())


def peak_rss() -> int:
    """The peak memory of this process, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
