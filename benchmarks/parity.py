"""The largest difference of a logit from transformers, for every dtype, engine and attention implementation."""

import itertools
import tempfile
from pathlib import Path

import torch

import minimoe
from minimoe.paths import find
from tests.model.reference import SAME_ROUNDING, Pair, load_pair, save_reference


@torch.no_grad()
def table(title: str, directory: Path, ids: torch.Tensor) -> None:
    """Print a line for each dtype, attention and engine, compared with the equally rounding reference."""
    print(f"\n{title}, {tuple(ids.shape)} tokens: max |logit - reference|")
    print(f"  {'dtype':10s}{'attention':11s}{'engine / reference':24s}{'max |d|':>10s}{'std':>8s}{'argmax equal':>14s}")
    for dtype in (torch.float32, torch.bfloat16):
        both: Pair = load_pair(directory, dtype)
        for attention, engine in itertools.product(("eager", "sdpa"), SAME_ROUNDING):
            both.set(engine, attention)
            reference, ours = both.logits(ids)
            names = f"{engine} / {SAME_ROUNDING[engine]}"
            worst, same = (reference - ours).abs().max(), (reference.argmax(-1) == ours.argmax(-1)).float().mean()
            spread = reference.float().std()
            print(f"  {str(dtype)[6:]:10s}{attention:11s}{names:24s}{worst:10.1e}{spread:8.2f}{same:14.1%}")


def main() -> None:
    """Compare two random shapes and the mini."""
    ids = torch.randint(0, 320, (3, 100), generator=torch.Generator().manual_seed(0))
    for shape in ({}, dict(num_experts=160, num_attention_heads=96, num_key_value_heads=8, head_dim=16)):
        with tempfile.TemporaryDirectory() as folder:
            save_reference(Path(folder), **shape)
            table(f"random weights {shape or 'of the base shape'}", Path(folder), ids)
    tokenizer = minimoe.Tokenizer.from_directory(find("data/mini"))
    text = "The cat sees a red bird. 猫看见一只红色的鸟。 def add(a, b): return a + b\n12 + 30 = 42"
    table("the mini checkpoint", find("data/mini"), torch.tensor([tokenizer.encode(text)]))
