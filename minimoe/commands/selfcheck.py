"""`minimoe selfcheck`: do these ranks compute what one computes? Asked with a tiny model, before 470 GB are read.

Each rank makes the same tiny checkpoint, loads it whole and loads its part of it, runs both, and compares: a prompt,
some cached steps, a drawn text. In float64 and float32 everything has to agree. bfloat16 rounds so coarsely that
another order of summation now and then selects another expert: there, logits are compared with the experts of the whole
model forced upon the ranks, and equal texts are asked for among the ranks only.
"""

import hashlib
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import click
import torch
from torch import Tensor, nn

from minimoe.checkpoint.read import load_model
from minimoe.checkpoint.save import save
from minimoe.commands.terminal import table
from minimoe.errors import BadArgument
from minimoe.model.config import ModelConfig
from minimoe.model.router import Router, Routing
from minimoe.model.transformer import Transformer
from minimoe.routing.recorder import router
from minimoe.routing.trace import RoutingTrace, record_routing
from minimoe.scale.cuts import SPLITS
from minimoe.scale.rank_load import open_part, read_part
from minimoe.scale.ranks import Ranks, joined
from minimoe.text.generate import new_ids
from minimoe.text.sampling import SamplingSettings

# The largest difference of logits that another order of summation explains, with room. The logits of the tiny model
# reach about 8, where one step of bfloat16 is 1/16; a wrong head or expert moves them by more than 1.
TOLERANCES = {"fp64": 1e-10, "fp32": 1e-3, "bf16": 0.3}
PROMPT, STEPS, DRAWN = 12, 4, 16  # tokens


@dataclass(frozen=True)
class Row:
    """What one rank found for one split and dtype."""

    split: str
    dtype: str
    difference: float  # largest of all logits, between this rank and the whole model
    experts: float  # share of equal expert ids
    text: bool  # whether the drawn text is that of the whole model
    digest: str  # of this rank's logits, experts and text

    def is_fault(self) -> bool:
        exact = self.dtype == "bf16" or (self.experts == 1 and self.text)
        return not (exact and self.difference <= TOLERANCES[self.dtype])


def selfcheck(device: str | None, count: int | None) -> bool:
    """Run the check on the ranks that torchrun started, or start `count` of them here; print the table. Whether all is
    well.
    """
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    if "RANK" in os.environ:
        return check_here(device)
    count = count or (torch.cuda.device_count() if device == "cuda" else 2)
    if count == 0:
        raise BadArgument("--device is 'cuda', but PyTorch finds no GPU here. Take cpu.")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(count)]
    command += ["-m", "minimoe", "selfcheck", "--device", device]
    done = subprocess.run(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        ours = [line for line in done.stderr.splitlines() if line.startswith("minimoe:")]
        click.echo("\n".join(ours or [done.stderr]), err=True)
    return done.returncode == 0


def check_here(device: str) -> bool:
    """Both splits in every dtype that suits the device, on the ranks that are here."""
    with joined(device) as ranks, tempfile.TemporaryDirectory() as folder:
        dtypes = ("fp32" if ranks.device.type == "cuda" else "fp64", "bf16")
        found = [check_one(ranks, Path(folder), split, dtype) for split in SPLITS for dtype in dtypes]
        everyone = [[Row(**row) for row in rows] for rows in ranks.gather([asdict(row) for row in found])]
    if ranks.is_first:
        click.echo(report(everyone, ranks))
    return not any(faults(rows) for rows in zip(*everyone, strict=True))


def faults(rows: tuple[Row, ...]) -> str:
    """What is wrong with one split and dtype, given what each rank found; empty if nothing is."""
    wrong = [f"rank {rank}" for rank, row in enumerate(rows) if row.is_fault()]
    if wrong:
        return f"{', '.join(wrong)} differ from one rank" if wrong[1:] else f"{wrong[0]} differs from one rank"
    digests = Counter(row.digest for row in rows)
    return "" if len(digests) == 1 else "the ranks differ among themselves"


def report(everyone: list[list[Row]], ranks: Ranks) -> str:
    """The table, a line for each split and dtype."""
    lines = [("split", "dtype", "largest logit difference", "equal experts", "text", "")]
    for rows in zip(*everyone, strict=True):
        first, worst = rows[0], max(row.difference for row in rows)
        wrong = faults(rows) or "good"
        text = "equal" if all(row.text for row in rows) else "other" if faults(rows) else "the same on all ranks"
        lines.append((first.split, first.dtype, f"{worst:.1e}", f"{min(row.experts for row in rows):.1%}", text, wrong))
    head = f"{ranks.world} ranks on {ranks.device.type} against one, a tiny model of random weights"
    return f"{head}\n{table(lines, right=(False, False, True, True, False, False))}"


def tiny_config(world: int) -> ModelConfig:
    """A small model with a dense layer, which so many ranks can divide; more ranks than key/value heads if they can."""
    shared, experts = 2 if world % 2 == 0 else 1, world * max(1, 16 // world)
    return ModelConfig(
        vocab_size=203, hidden_size=32, num_hidden_layers=max(4, world), num_key_value_heads=shared,
        num_attention_heads=8 if 8 % world == 0 else 2 * world, head_dim=8, intermediate_size=8 * world,
        moe_intermediate_size=24, num_experts=experts, num_experts_per_tok=4,
        norm_topk_prob=True, mlp_only_layers=(1,), max_position_embeddings=64, dtype="float64",
    )  # fmt: skip


def check_one(ranks: Ranks, folder: Path, split: str, dtype: str) -> Row:
    """Load and run both models on this rank."""
    if not (folder / "config.json").exists():
        save(random_model(tiny_config(ranks.world)), None, folder)
    whole = load_model(folder, dtype=dtype, device=ranks.device)
    part = read_part(open_part(folder, ranks.rank, ranks.world, split), ranks.device, dtype)
    expected, trace, text = run(whole)
    found, own_trace, own_text = run(part)
    if dtype == "bf16":
        with forced(part, trace):
            found = logits_of(part)
    everything = [*found, own_trace.experts, torch.tensor(own_text)]
    digest = hashlib.sha256(b"".join(each.double().cpu().numpy().tobytes() for each in everything)).hexdigest()
    return Row(
        split,
        dtype,
        max(float((one.double() - other.double()).abs().max()) for one, other in zip(expected, found, strict=True)),
        float((trace.experts == own_trace.experts).double().mean()),
        text == own_text,
        digest,
    )


def random_model(config: ModelConfig) -> Transformer:
    """Seeded random values, the same on every machine that has the same build of torch."""
    generator = torch.Generator().manual_seed(0)
    model = Transformer(config).double().eval().requires_grad_(False)
    for parameter in model.parameters():
        parameter.normal_(mean=float(parameter.dim() == 1), std=0.3, generator=generator)
    return model


def run(model: Transformer) -> tuple[list[Tensor], RoutingTrace, list[int]]:
    """Logits, the routing that went with them, and a text drawn with a seed."""
    with record_routing(model) as trace:
        logits = logits_of(model)
    tokenizer: Any = SimpleNamespace(vocabulary_size=model.config.vocab_size, stop_ids=())
    return logits, trace, list(new_ids(model, tokenizer, [3, 1, 4], DRAWN, SamplingSettings(temperature=1.0), seed=7))


@torch.no_grad()
def logits_of(model: Transformer) -> list[Tensor]:
    """Of a prompt of two sequences, then of some steps with the cache."""
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(model.config.vocab_size, (2, PROMPT + STEPS), generator=generator)
    cache = model.new_cache(batch=2, capacity=PROMPT + STEPS)
    prompt, *steps = ids.split([PROMPT, *[1] * STEPS], dim=1)
    return [model(prompt, cache), *(model(step, cache, last_only=True) for step in steps)]


@contextmanager
def forced(model: Transformer, trace: RoutingTrace) -> Iterator[None]:
    """Inside this block the routers of `model` choose what `trace` recorded, one token after the other."""
    done: Counter[int] = Counter()
    handles = []

    def hook_of(at: int, layer: int) -> Any:
        def hook(gate: nn.Module, args: object, routing: Routing) -> Routing:
            rows = slice(done[layer], done[layer] + len(routing.logits))
            done[layer] = rows.stop
            device, dtype = routing.logits.device, routing.weights.dtype
            return Routing(
                routing.logits, trace.experts[at, rows].to(device), trace.weights[at, rows].to(device, dtype)
            )

        return hook

    try:
        for at, layer in enumerate(trace.layers.tolist()):
            if isinstance(gate := cast(nn.Module, router(model, layer)), Router):
                handles.append(gate.register_forward_hook(hook_of(at, layer)))
        yield
    finally:
        for handle in handles:
            handle.remove()
