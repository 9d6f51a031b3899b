"""`minimoe selfcheck`: compares several ranks with one process on a tiny model, before 470 GB are read.

Each rank writes the same tiny checkpoint, loads it whole and loads its part of it, runs both, and compares them on a
prompt of two chunks, some cached steps and a sampled text. All variants of a large model are covered: both splits,
plain weights and weights packed to int4, the engine for small experts and "loop", the one for large experts. A text
sampled without a seed must be the same on all ranks, although their generators are seeded differently.

In float64 and float32 everything must agree, also with a prompt that the whole model runs in one piece. bfloat16 is so
coarse that another order of summation occasionally selects another expert: there, logits are compared with the experts
of the whole model forced upon the ranks, and texts must be equal among the ranks only.
"""

import hashlib
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import torch
from torch import Tensor, nn

from minimoe.checkpoint.load import load_model
from minimoe.checkpoint.save import save
from minimoe.commands.terminal import table
from minimoe.model.config import ModelConfig
from minimoe.model.router import Router, Routing
from minimoe.model.transformer import Transformer
from minimoe.routing.trace.hooks import on_routers, router
from minimoe.routing.trace.trace import RoutingTrace, record_routing
from minimoe.scale.distributed.load_shard import open_part, read_part
from minimoe.scale.distributed.process_group import Ranks, joined
from minimoe.scale.planner.sharding import SPLITS
from minimoe.text.generate import new_ids
from minimoe.text.sampling import SamplingSettings

# Largest difference of logits, several times that of another order of summation. The logits of the tiny model reach
# about 15, where the spacing of bfloat16 is 1/16; a wrong head or expert changes them by more than 1.
TOLERANCES = {"fp64": 1e-10, "fp32": 1e-3, "bf16": 0.6}
PROMPT, CHUNK, STEPS, DRAWN = 12, 8, 4, 16  # tokens
ENGINES = ("auto", "loop")  # of a small model, of a large one


@dataclass(frozen=True)
class Row:
    """The result of one rank for one variant."""

    split: str
    weights: str  # format of the weights
    dtype: str  # of the computation
    engine: str
    difference: float  # largest difference of a logit between this rank and the whole model
    experts: float  # share of equal expert ids
    text: bool  # whether the sampled text equals that of the whole model
    digest: str  # of this rank's logits, experts and text

    def is_fault(self) -> bool:
        """Whether this rank differs from the whole model by more than rounding."""
        exact = self.dtype == "bf16" or (self.experts == 1 and self.text)
        return not (exact and self.difference <= TOLERANCES[self.dtype])


def variants_of(exact: str, quick: bool) -> list[tuple[str, str | None, str]]:
    """(split, format of the weights, dtype) of all comparisons; quick: plain weights in the exact dtype only."""
    formats = ((None, exact), (None, "bf16"), ("int4", exact))
    return [(split, *weights) for split in SPLITS for weights in formats[: 1 if quick else None]]


def check_here(device: str, quick: bool) -> bool:
    """Compare the variants on this rank. Returns whether all ranks agree; rank 0 prints the table."""
    with joined(device) as ranks, tempfile.TemporaryDirectory() as folder:
        exact = "fp32" if ranks.device.type == "cuda" else "fp64"
        variants = variants_of(exact, quick)
        own_rows = [row for variant in variants for row in check_one(ranks, Path(folder), *variant)]
        rows_of_ranks = [[Row(**row) for row in rows] for rows in ranks.gather([asdict(row) for row in own_rows])]
    if ranks.is_first:
        click.echo(report(rows_of_ranks, ranks))
    return not any(faults(rows) for rows in zip(*rows_of_ranks, strict=True))


def faults(rows: tuple[Row, ...]) -> str:
    """The fault of one variant, given its row of each rank; empty if there is none."""
    wrong = [f"rank {rank}" for rank, row in enumerate(rows) if row.is_fault()]
    if wrong:
        return f"{', '.join(wrong)} differ from one rank" if wrong[1:] else f"{wrong[0]} differs from one rank"
    digests = Counter(row.digest for row in rows)
    return "" if len(digests) == 1 else "the ranks differ among themselves"


def report(rows_of_ranks: list[list[Row]], ranks: Ranks) -> str:
    """The table, with a line for each variant."""
    lines = [("split", "weights", "computed in", "engine", "largest logit difference", "equal experts", "text", "")]
    for rows in zip(*rows_of_ranks, strict=True):
        first, worst = rows[0], max(row.difference for row in rows)
        verdict = faults(rows) or "good"
        text = "equal" if all(row.text for row in rows) else "other" if faults(rows) else "the same on all ranks"
        equal = f"{min(row.experts for row in rows):.1%}"
        lines.append((first.split, first.weights, first.dtype, first.engine, f"{worst:.1e}", equal, text, verdict))
    head = f"{ranks.world} ranks on {ranks.device.type} against one, a tiny model of random weights"
    return f"{head}\n{table(lines, right=(False, False, False, False, True, True, False, False))}"


def tiny_config(world: int) -> ModelConfig:
    """A small model with a dense layer that `world` ranks can divide, plain or packed.

    If possible it has fewer key/value heads than ranks. Packed matrices are divided between groups of 128 inputs; in
    most of them all groups are full.
    """
    shared, experts = 2 if world % 2 == 0 else 1, world * max(1, 16 // world)
    return ModelConfig(
        vocab_size=203, hidden_size=128 if world <= 8 else 32, num_hidden_layers=max(4, world),
        num_key_value_heads=shared, num_attention_heads=8 if 8 % world == 0 else 2 * world, head_dim=128,
        intermediate_size=128 * world, moe_intermediate_size=24, num_experts=experts, num_experts_per_tok=4,
        norm_topk_prob=True, mlp_only_layers=(1,), max_position_embeddings=64, dtype="float64",
    )  # fmt: skip


def check_one(ranks: Ranks, folder: Path, split: str, precision: str | None, dtype: str) -> list[Row]:
    """Load and run the whole model and this rank's part; returns a row for each engine."""
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
        logits, own_trace, own_text = run(part)
        if dtype == "bf16":
            with forced(part, trace):
                logits = logits_of(part)
        results = [*logits, own_trace.experts, torch.tensor([*own_text, *drawn_apart(part, ranks.rank)])]
        digest = hashlib.sha256(b"".join(result.double().cpu().numpy().tobytes() for result in results)).hexdigest()
        difference = max(largest(one - other) for one, other in zip(expected, logits, strict=True))
        equal = float((trace.experts == own_trace.experts).double().mean())
        rows.append(Row(split, precision or "plain", dtype, part.engine, difference, equal, text == own_text, digest))
    return rows


def largest(values: Tensor) -> float:
    """The largest absolute value; NaN if any value is NaN."""
    return float(values.double().abs().max())


def random_model(config: ModelConfig) -> Transformer:
    """A model of seeded random values, the same on every machine with the same build of torch."""
    generator = torch.Generator().manual_seed(0)
    model = Transformer(config).double().eval().requires_grad_(False)
    for parameter in model.parameters():
        parameter.normal_(mean=float(parameter.dim() == 1), std=0.3, generator=generator)
    return model


def run(model: Transformer) -> tuple[list[Tensor], RoutingTrace, list[int]]:
    """Logits, their routing, and a text sampled with a seed."""
    with record_routing(model) as trace:
        logits = logits_of(model)
    return logits, trace, drawn(model, seed=7)


def drawn(model: Transformer, seed: int | None) -> list[int]:
    """The ids of a text sampled after a prompt of two chunks."""
    tokenizer: Any = SimpleNamespace(vocabulary_size=model.config.vocab_size, stop_ids=())
    prompt = list(range(3, 3 + PROMPT))
    return list(new_ids(model, tokenizer, prompt, DRAWN, SamplingSettings(temperature=1.0), seed))


def drawn_apart(model: Transformer, rank: int) -> list[int]:
    """The ids of a text sampled without a seed, while the generator of each rank is seeded differently."""
    with torch.random.fork_rng([model.device] if model.device.type == "cuda" else []):
        torch.manual_seed(rank)
        return drawn(model, seed=None)


@torch.no_grad()
def logits_of(model: Transformer) -> list[Tensor]:
    """Logits of a prompt of two sequences, run chunk by chunk, and of some steps with the cache."""
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(model.config.vocab_size, (2, PROMPT + STEPS), generator=generator)
    cache = model.new_cache(batch=2, capacity=PROMPT + STEPS)
    prompt, *steps = ids.split([PROMPT, *[1] * STEPS], dim=1)
    chunks = [model(chunk, cache) for chunk in prompt.split(model.chunk or PROMPT, dim=1)]
    return [torch.cat(chunks, dim=1), *(model(step, cache, last_only=True) for step in steps)]


@contextmanager
def forced(model: Transformer, trace: RoutingTrace) -> Iterator[None]:
    """Inside this block the routers of `model` select the experts recorded in `trace`, token by token."""
    done: Counter[int] = Counter()
    layers = trace.layers.tolist()

    def recorded(layer: int, gate: nn.Module, routing: Routing) -> Routing:
        at, rows = layers.index(layer), slice(done[layer], done[layer] + len(routing.logits))
        done[layer] = rows.stop
        device, dtype = routing.logits.device, routing.weights.dtype
        return Routing(routing.logits, trace.experts[at, rows].to(device), trace.weights[at, rows].to(device, dtype))

    here = [layer for layer in layers if isinstance(router(model, layer), Router)]  # of several ranks, on this one
    with on_routers(model, recorded, here):
        yield
