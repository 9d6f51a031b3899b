"""Loading, compared with reading the same bytes and with transformers; files are in the page cache."""

import tempfile
from pathlib import Path

import torch
import transformers

import minimoe
from benchmarks.side_by_side import side_by_side
from minimoe import ModelConfig, Transformer
from minimoe.checkpoint.load import load_model

# two layers with the width of the 30B-A3B: 1.2 GB of bfloat16 experts a layer
SHAPE = dict(num_hidden_layers=2, vocab_size=4096)


def read_all(directory: Path) -> None:
    """Read every byte of the weight files once, through a 16 MB buffer."""
    buffer = bytearray(16 * 2**20)
    for file in sorted(directory.glob("*.safetensors")):
        with file.open("rb", buffering=0) as stream:
            while stream.readinto(buffer):
                pass


def main() -> None:
    """Save a model of real width to a temporary folder, and measure loading it."""
    config = ModelConfig.from_dict(ModelConfig.named("Qwen3-30B-A3B").to_dict() | SHAPE)
    with tempfile.TemporaryDirectory() as folder:
        model = Transformer(config).to(torch.bfloat16)
        minimoe.save(model, None, folder, max_shard_bytes=500_000_000)
        del model
        directory = Path(folder)
        side_by_side(
            f"load {config.total_parameters * 2 / 1e9:.1f} GB of bfloat16",
            {
                "read the files, keep nothing": lambda: read_all(directory),
                "minimoe": lambda: load_model(directory),
                "transformers": lambda: transformers.AutoModelForCausalLM.from_pretrained(
                    directory, dtype=torch.bfloat16
                ),
            },
            repeats=3,
        )
