"""One layer with the width of the 235B, 5 GB, streamed from disk with a memory budget of a third of its weights.

It is compared with the same layer loaded in full, and with transformers and the layer offloaded to disk by accelerate,
if that is installed. Each runs in a separate process: a prompt, single tokens, another prompt, for which it has its
memory already (a virtual machine may have to wait for its host at the first touch). Files are in the page cache, so
times are those of reading and converting, not of a disk. Memory is the peak of the process, less its memory after
imports; for a streamed model the limit is the budget plus 300 MB.
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

PROMPT, ANSWER, CONTEXT = 32, 8, 128
BEYOND = 300 * 10**6  # bytes that Python and torch may use in addition


def run(opened: float, forward: Callable[[Tensor], Tensor], more: dict[str, Any]) -> dict[str, Any]:
    """Run a fixed prompt, single tokens, and another prompt; returns seconds and the most likely next token of each."""
    ids = torch.randint(200, 2000, (1, 2 * PROMPT + ANSWER), generator=torch.Generator().manual_seed(0))
    seconds, likeliest = [], []
    for piece in (ids[:, :PROMPT], *ids[:, PROMPT:-PROMPT].split(1, dim=1), ids[:, -PROMPT:]):
        start = time.perf_counter()
        likeliest.append(int(forward(piece)[0, -1].argmax()))
        seconds.append(time.perf_counter() - start)
    result = {"opened": opened, "prompt": seconds[0], "token": statistics.median(seconds[1:-1]), "likeliest": likeliest}
    return result | {"another": seconds[-1]} | more


@torch.no_grad()
def loaded(folder: str) -> dict[str, Any]:
    """minimoe, all in memory, with the engine of a streamed model."""
    start = time.perf_counter()
    model = load_model(folder)
    model.engine = "loop"
    cache = model.new_cache(capacity=CONTEXT)
    opened = time.perf_counter() - start
    return run(opened, lambda ids: model(ids, cache=cache, last_only=True), {})


@torch.no_grad()
def streamed(folder: str, ram: int) -> dict[str, Any]:
    """minimoe with a memory budget."""
    start = time.perf_counter()
    model = stream_model(folder, ram, context=CONTEXT)
    cache = model.new_cache(capacity=CONTEXT)
    opened = time.perf_counter() - start
    result = run(opened, lambda ids: model(ids, cache=cache, last_only=True), {})
    return result | {"read": model.streaming.bytes_read, "hits": model.streaming.hit_rate}


@torch.no_grad()
def offloaded(folder: str, offload_folder: str) -> dict[str, Any]:
    """transformers, with its one decoder layer offloaded by accelerate to `offload_folder`."""
    from transformers import DynamicCache

    start = time.perf_counter()
    in_memory = ("model.embed_tokens", "model.norm", "model.rotary_emb", "lm_head")
    devices = dict.fromkeys(in_memory, "cpu") | {"model.layers.0": "disk"}
    model = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.bfloat16, device_map=devices, offload_folder=offload_folder
    )
    cache = DynamicCache(config=model.config)
    opened = time.perf_counter() - start
    result = run(opened, lambda ids: model(ids, past_key_values=cache, use_cache=True).logits, {})
    return result | {"disk": sum(file.stat().st_size for file in Path(offload_folder).rglob("*") if file.is_file())}


def row(name: str, measured: Measured, weights: int) -> None:
    """Print one line of the table."""
    result = measured.result
    print(
        f"  {name:34s}open {result['opened']:6.2f} s   prompt of {PROMPT} {result['prompt']:5.2f}, another "
        f"{result['another']:5.2f} s   a token {result['token']:6.3f} s   memory {units(measured.grown):>9s} "
        f"= {measured.grown / weights:.3f} of the weights   extra disk {units(result.get('disk', 0))}"
    )


def main() -> None:
    """Measure and print the table."""
    module = "benchmarks.streaming"
    with slice_folder() as (folder, weights), tempfile.TemporaryDirectory() as offload_folder:
        ram = weights // 3
        print(f"\none layer of the 235B, {units(weights)}, under {units(ram)}")
        whole = measure(f"{module}:loaded", str(folder))
        row("minimoe, loaded", whole, weights)
        ours = measure(f"{module}:streamed", str(folder), ram)
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
        row("transformers, accelerate, on disk", measure(f"{module}:offloaded", str(folder), offload_folder), weights)
