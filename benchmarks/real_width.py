"""Loading one layer with the width of the 235B, 5 GB, compared with reading the same bytes and with transformers.

Every load runs in a separate process, the three kinds in turn, with files in the page cache: this compares the work of
loading, not disks. The plain reads are positioned reads of whole files into untouched memory, like those of a loader:
the first touch of a page costs more than copying into it.

Peak memory is the peak of the process, less its memory before the load, divided by the bytes of the weights.
transformers maps files, and touched pages of a mapped file count, although the system could reclaim them.
"""

import os
import shutil
import statistics
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from tqdm.auto import tqdm
from transformers import AutoModelForCausalLM  # imported before the clock starts, with the model classes
from transformers.models.qwen3_moe import modeling_qwen3_moe  # noqa: F401

from benchmarks.measured import Measured, measure
from minimoe.checkpoint.load import load_model
from minimoe.checkpoint.save import save
from minimoe.model.config import ModelConfig
from minimoe.model.transformer import Transformer

NAME, CHANGES = "Qwen3-235B-A22B", {"num_hidden_layers": 1, "vocab_size": 2048}
ROUNDS = 5
STEP = 8 * 2**20


def write_slice(folder: Path) -> int:
    """Write the checkpoint; returns the bytes of its weights. The values repeat, which no reader exploits."""
    config = ModelConfig.from_dict(ModelConfig.named(NAME).to_dict() | CHANGES)
    with torch.device("meta"):
        model = Transformer(config)
    model = model.to(torch.bfloat16).to_empty(device="cpu").requires_grad_(False).eval()
    some = torch.randn(8192 * 4096, generator=torch.Generator().manual_seed(0)).mul_(0.02).bfloat16()
    for name, parameter in model.named_parameters():
        if name.endswith("norm.weight"):
            parameter.fill_(1)
            continue
        for part in parameter.view(-1).split(len(some)):
            part.copy_(some[: len(part)])
    save(model, None, folder)
    return sum(parameter.nbytes for parameter in model.parameters())


@contextmanager
def slice_folder() -> Iterator[tuple[Path, int]]:
    """A folder with the slice, and the bytes of its weights; REAL_WIDTH sets a folder in which it is kept."""
    kept = os.environ.get("REAL_WIDTH")
    folder = Path(kept or tempfile.mkdtemp()) / "slice"
    try:
        if not (folder / "config.json").exists():
            write_slice(folder)
        config = ModelConfig.from_file(folder)
        yield folder, config.total_parameters * 2
    finally:
        if kept is None:
            shutil.rmtree(folder.parent, ignore_errors=True)


def read_plainly(folder: str) -> int:
    """Read all weight files into new memory with consecutive large reads; the memory is kept until the end."""
    kept, done = [], 0
    for path in sorted(Path(folder).glob("*.safetensors")):
        memory = memoryview(torch.empty(path.stat().st_size, dtype=torch.uint8).numpy())  # type: ignore[arg-type]
        kept.append(memory)
        descriptor = os.open(path, os.O_RDONLY)
        for first in range(0, len(memory), STEP):
            done += os.preadv(descriptor, [memory[first : first + STEP]], first)
        os.close(descriptor)
    return done


def load_ours(folder: str) -> int:
    """`minimoe.load` without a tokenizer."""
    return sum(parameter.nbytes for parameter in load_model(folder).parameters())


def load_theirs(folder: str) -> int:
    """`from_pretrained` in the files' own dtype."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)
    return sum(parameter.nbytes for parameter in model.parameters())


def main() -> None:
    """Measure and print the table."""
    ways = {
        "read the files plainly": "read_plainly",
        "minimoe": "load_ours",
        "transformers": "load_theirs",
    }
    with slice_folder() as (folder, weights):
        measured: dict[str, list[Measured]] = {name: [] for name in ways}
        for _ in tqdm(range(ROUNDS + 1), desc="rounds", leave=False):
            for name, function in ways.items():
                measured[name].append(measure(f"benchmarks.real_width:{function}", str(folder)))
    print(f"\none layer of {NAME} in bfloat16, {weights / 1e9:.2f} GB  ({ROUNDS} rounds, medians, the first dropped)")
    plain = statistics.median(run.seconds for run in measured["read the files plainly"][1:])
    for name, rounds in measured.items():
        seconds = [run.seconds for run in rounds[1:]]
        peak = max(run.grown for run in rounds)
        median = statistics.median(seconds)
        print(
            f"  {name:26s}{median:7.2f} s   time x {median / plain:5.2f}   max/min {max(seconds) / min(seconds):4.2f}"
            f"   peak memory x {peak / weights:5.3f} of the weights"
        )
