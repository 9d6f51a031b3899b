"""One layer of the 235B's real width, 5 GB, run from disk under a budget of a third of its weights.

Beside it the same layer loaded in full, and transformers with everything in the layer offloaded to disk by accelerate,
if that is installed. Each way runs in a process of its own: a prompt, then single tokens. Files are warm in the page
cache, so times are those of reading and converting, not of a disk. Memory is the highest of the process, less what it
had after imports; for a streamed model the budget and 300 MB more is the most that it may be.
"""

import statistics
import tempfile
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM
from transformers.models.qwen3_moe import modeling_qwen3_moe  # noqa: F401

from benchmarks.measured import Measured, measure
from benchmarks.real_width import slice_folder
from minimoe.checkpoint.load import load_model
from minimoe.humanize import units
from minimoe.scale.streaming.stream import stream_model

PROMPT, ANSWER = 32, 8
BEYOND = 300 * 10**6  # bytes that Python and torch may take on top


def run(opened: float, forward: Callable[[Tensor], Tensor], more: dict[str, Any]) -> dict[str, Any]:
    """A prompt and some single tokens, always the same ones; seconds of each, and the likeliest token after each."""
    ids = torch.randint(200, 2000, (1, PROMPT + ANSWER), generator=torch.Generator().manual_seed(0))
    seconds, likeliest = [], []
    for piece in (ids[:, :PROMPT], *ids[:, PROMPT:].split(1, dim=1)):
        start = time.perf_counter()
        likeliest.append(int(forward(piece)[0, -1].argmax()))
        seconds.append(time.perf_counter() - start)
    found = {"opened": opened, "prompt": seconds[0], "token": statistics.median(seconds[1:]), "likeliest": likeliest}
    return found | more


@torch.no_grad()
def loaded(folder: str) -> dict[str, Any]:
    """minimoe, all in memory, with the engine that a streamed model has."""
    start = time.perf_counter()
    model = load_model(folder)
    model.engine = "loop"
    cache = model.new_cache(capacity=64)
    opened = time.perf_counter() - start
    return run(opened, lambda ids: model(ids, cache=cache, last_only=True), {})


@torch.no_grad()
def streamed(folder: str, ram: int) -> dict[str, Any]:
    """minimoe under a budget."""
    start = time.perf_counter()
    model = stream_model(folder, ram, context=64)
    cache = model.new_cache(capacity=64)
    opened = time.perf_counter() - start
    found = run(opened, lambda ids: model(ids, cache=cache, last_only=True), {})
    return found | {"read": model.streaming.bytes_read, "hits": model.streaming.hit_rate}


@torch.no_grad()
def offloaded(folder: str, place: str) -> dict[str, Any]:
    """transformers, its one decoder layer on disk by accelerate, `place` being where that may write."""
    from transformers import DynamicCache

    start = time.perf_counter()
    here = ("model.embed_tokens", "model.norm", "model.rotary_emb", "lm_head")
    where = dict.fromkeys(here, "cpu") | {"model.layers.0": "disk"}
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16, device_map=where, offload_folder=place)
    cache = DynamicCache(config=model.config)
    opened = time.perf_counter() - start
    found = run(opened, lambda ids: model(ids, past_key_values=cache, use_cache=True).logits, {})
    return found | {"disk": sum(file.stat().st_size for file in Path(place).rglob("*") if file.is_file())}


def row(name: str, found: Measured, weights: int) -> None:
    """One line of the table."""
    each = found.result
    print(
        f"  {name:34s}open {each['opened']:6.2f} s   prompt of {PROMPT} {each['prompt']:6.2f} s   a token "
        f"{each['token']:6.3f} s   memory {units(found.grown):>9s} = {found.grown / weights:.3f} of the weights   "
        f"extra disk {units(each.get('disk', 0))}"
    )


def main() -> None:
    """The table."""
    here = "benchmarks.streaming"
    with slice_folder() as (folder, weights), tempfile.TemporaryDirectory() as place:
        ram = weights // 3
        print(f"\none layer of the 235B, {units(weights)}, under {units(ram)}")
        whole = measure(f"{here}:loaded", str(folder))
        row("minimoe, loaded", whole, weights)
        ours = measure(f"{here}:streamed", str(folder), ram)
        row("minimoe, streamed", ours, weights)
        print(
            f"  {'':34s}read {units(ours.result['read'])}, {ours.result['hits']:.1%} of the experts found in memory; "
            f"budget + {units(ours.grown - ram)} (allowed: 300 MB)"
        )
        same = ours.result["likeliest"] == whole.result["likeliest"]
        print(f"  {'':34s}the likeliest tokens are {'the same' if same else 'NOT the same'}")
        if find_spec("accelerate") is None:
            print("  accelerate is not installed: its disk offload was not measured")
            return
        row("transformers, accelerate, on disk", measure(f"{here}:offloaded", str(folder), place), weights)
