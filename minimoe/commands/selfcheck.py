"""`minimoe selfcheck`: do these ranks compute what one computes? Asked with a tiny model, before 470 GB are read.

Each rank makes the same tiny checkpoint, loads it whole and loads its part of it, runs both, and compares: a prompt
that takes two chunks, some cached steps, a drawn text. It does so in the ways in which a large model runs: with both
splits, with plain weights and with weights packed to int4, with the engine that suits small experts and with "loop",
which large ones get. A text drawn without a seed has to be the same on all ranks, whose generators are set apart for
it.

In float64 and float32 everything has to agree, also with a prompt that the whole model runs in one piece. bfloat16
rounds so coarsely that another order of summation now and then selects another expert: there, logits are compared with
the experts of the whole model forced upon the ranks, and equal texts are required among the ranks only.
"""

import hashlib
import os
import signal
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

from minimoe.checkpoint.load import load_model
from minimoe.checkpoint.save import save
from minimoe.commands.terminal import table
from minimoe.errors import BadArgument
from minimoe.model.config import ModelConfig
from minimoe.model.router import Router, Routing
from minimoe.model.transformer import Transformer
from minimoe.routing.trace.recorder import router
from minimoe.routing.trace.trace import RoutingTrace, record_routing
from minimoe.scale.distributed.load_shard import open_part, read_part
from minimoe.scale.distributed.process_group import Ranks, joined
from minimoe.scale.planner.sharding import SPLITS
from minimoe.text.generate import new_ids
from minimoe.text.sampling import SamplingSettings

# The largest difference of logits that another order of summation explains, several times over. The logits of the tiny
# model reach about 15, where one step of bfloat16 is 1/16; a wrong head or expert moves them by more than 1.
TOLERANCES = {"fp64": 1e-10, "fp32": 1e-3, "bf16": 0.6}
PROMPT, CHUNK, STEPS, DRAWN = 12, 8, 4, 16  # tokens
ENGINES = ("auto", "loop")  # a small model's and a large one's


@dataclass(frozen=True)
class Row:
    """What one rank found for one way of running the model."""

    split: str
    weights: str  # how they are stored
    dtype: str  # in which is computed
    engine: str
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
    code, errors = run_to_its_end(command)
    if code:
        ours = [line for line in errors.splitlines() if line.startswith("minimoe:")]
        click.echo("\n".join(ours or [errors]), err=True)
    return code == 0


def run_to_its_end(command: list[str]) -> tuple[int, str]:
    """(exit code, stderr) of a process, which is ended with this one, also when this one is asked to stop (SIGTERM)."""
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    process = subprocess.Popen(
        command, env=os.environ | {"OMP_NUM_THREADS": "1"}, stderr=subprocess.PIPE, text=True
    )  # fmt: skip
    try:
        _, errors = process.communicate()
        return process.returncode, errors
    finally:
        if process.poll() is None:
            process.terminate()  # torchrun ends its ranks before it ends
            process.communicate()
        signal.signal(signal.SIGTERM, before)


def check_here(device: str) -> bool:
    """Both splits, in every dtype and precision that suits the device, on the ranks that are here."""
    with joined(device) as ranks, tempfile.TemporaryDirectory() as folder:
        exact = "fp32" if ranks.device.type == "cuda" else "fp64"
        ways = [(split, *way) for split in SPLITS for way in ((None, exact), (None, "bf16"), ("int4", exact))]
        found = [row for way in ways for row in check_one(ranks, Path(folder), *way)]
        everyone = [[Row(**row) for row in rows] for rows in ranks.gather([asdict(row) for row in found])]
    if ranks.is_first:
        click.echo(report(everyone, ranks))
    return not any(faults(rows) for rows in zip(*everyone, strict=True))


def faults(rows: tuple[Row, ...]) -> str:
    """What is wrong with one way of running the model, given what each rank found; empty if nothing is."""
    wrong = [f"rank {rank}" for rank, row in enumerate(rows) if row.is_fault()]
    if wrong:
        return f"{', '.join(wrong)} differ from one rank" if wrong[1:] else f"{wrong[0]} differs from one rank"
    digests = Counter(row.digest for row in rows)
    return "" if len(digests) == 1 else "the ranks differ among themselves"


def report(everyone: list[list[Row]], ranks: Ranks) -> str:
    """The table, a line for each way of running the model."""
    lines = [("split", "weights", "computed in", "engine", "largest logit difference", "equal experts", "text", "")]
    for rows in zip(*everyone, strict=True):
        first, worst = rows[0], max(row.difference for row in rows)
        wrong = faults(rows) or "good"
        text = "equal" if all(row.text for row in rows) else "other" if faults(rows) else "the same on all ranks"
        equal = f"{min(row.experts for row in rows):.1%}"
        lines.append((first.split, first.weights, first.dtype, first.engine, f"{worst:.1e}", equal, text, wrong))
    head = f"{ranks.world} ranks on {ranks.device.type} against one, a tiny model of random weights"
    return f"{head}\n{table(lines, right=(False, False, False, False, True, True, False, False))}"


def tiny_config(world: int) -> ModelConfig:
    """A small model with a dense layer, which so many ranks can divide, also packed; more ranks than key/value heads if
    they can. Matrices are cut between groups of 128 inputs, and most have no other groups than full ones.
    """
    shared, experts = 2 if world % 2 == 0 else 1, world * max(1, 16 // world)
    return ModelConfig(
        vocab_size=203, hidden_size=128 if world <= 8 else 32, num_hidden_layers=max(4, world),
        num_key_value_heads=shared, num_attention_heads=8 if 8 % world == 0 else 2 * world, head_dim=128,
        intermediate_size=128 * world, moe_intermediate_size=24, num_experts=experts, num_experts_per_tok=4,
        norm_topk_prob=True, mlp_only_layers=(1,), max_position_embeddings=64, dtype="float64",
    )  # fmt: skip


def check_one(ranks: Ranks, folder: Path, split: str, precision: str | None, dtype: str) -> list[Row]:
    """Load and run both models on this rank; a row for each engine of the divided one."""
    if not (folder / "config.json").exists():
        save(random_model(tiny_config(ranks.world)), None, folder)
    whole = load_model(folder, dtype=dtype, device=ranks.device, precision=precision)
    opened = open_part(folder, ranks.rank, ranks.world, split, precision=precision)
    part = read_part(opened, ranks.device, dtype)
    whole.chunk = part.chunk = CHUNK
    expected, trace, text = run(whole)
    if dtype != "bf16":
        whole.chunk = None
        expected = logits_of(whole)
    rows = []
    for part.engine in ENGINES:
        found, own_trace, own_text = run(part)
        if dtype == "bf16":
            with forced(part, trace):
                found = logits_of(part)
        everything = [*found, own_trace.experts, torch.tensor([*own_text, *drawn_apart(part, ranks.rank)])]
        digest = hashlib.sha256(b"".join(each.double().cpu().numpy().tobytes() for each in everything)).hexdigest()
        difference = max(largest(one - other) for one, other in zip(expected, found, strict=True))
        equal = float((trace.experts == own_trace.experts).double().mean())
        rows.append(Row(split, precision or "plain", dtype, part.engine, difference, equal, text == own_text, digest))
    return rows


def largest(values: Tensor) -> float:
    """The largest absolute value; NaN if there is one."""
    return float(values.double().abs().max())


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
    return logits, trace, drawn(model, seed=7)


def drawn(model: Transformer, seed: int | None) -> list[int]:
    """A text that follows a prompt of two chunks."""
    tokenizer: Any = SimpleNamespace(vocabulary_size=model.config.vocab_size, stop_ids=())
    prompt = list(range(3, 3 + PROMPT))
    return list(new_ids(model, tokenizer, prompt, DRAWN, SamplingSettings(temperature=1.0), seed))


def drawn_apart(model: Transformer, rank: int) -> list[int]:
    """A text drawn without a seed, while the ranks' own generators would each draw another one."""
    with torch.random.fork_rng([model.device] if model.device.type == "cuda" else []):
        torch.manual_seed(rank)
        return drawn(model, seed=None)


@torch.no_grad()
def logits_of(model: Transformer) -> list[Tensor]:
    """Of a prompt of two sequences, which goes through the model chunk by chunk; then of some steps with the cache."""
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(model.config.vocab_size, (2, PROMPT + STEPS), generator=generator)
    cache = model.new_cache(batch=2, capacity=PROMPT + STEPS)
    prompt, *steps = ids.split([PROMPT, *[1] * STEPS], dim=1)
    chunks = [model(chunk, cache) for chunk in prompt.split(model.chunk or PROMPT, dim=1)]
    return [torch.cat(chunks, dim=1), *(model(step, cache, last_only=True) for step in steps)]


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
