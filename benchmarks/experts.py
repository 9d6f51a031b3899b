"""The engines of the experts, by number of tokens: the mini's on real text, and one layer with the width of the 235B.

The mini's layer gets the hidden states and choices of a text; the wide layer (5 GB in bfloat16, random weights) gets
random ones. `gather` copies weights to tokens, so on the wide layer it runs with a few tokens only.
"""

import json
from collections.abc import Iterator
from typing import Any

import torch

import minimoe
from benchmarks.stored import THREADS, interleaved, limits, machine, name_of, threads, write
from minimoe.model.config import ModelConfig
from minimoe.model.experts import ExpertBank, run_experts
from minimoe.model.router import Routing, route
from minimoe.paths import find
from minimoe.routing.trace.hooks import on_routers

TOKENS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
LAYER = 2  # of the mini
GATHERS = {"mini": 512, "235B layer": 4}
WIDE_ROUNDS = 3


def mini(dtype: torch.dtype) -> tuple[ExpertBank, torch.Tensor, Routing]:
    """The bank of a layer of the mini, and what a text sends to it."""
    model, tokenizer = minimoe.load("data/mini", dtype=dtype)
    kinds = json.loads(find("data/prompts/mini.json").read_text())
    ids, seen = tokenizer.encode("\n".join(text for texts in kinds.values() for text in texts))[: max(TOKENS)], []
    router = model.layers[LAYER].mlp.gate
    with on_routers(model, lambda layer, _, routing: seen.append(routing), [LAYER]):
        handle = router.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0]))
        model(torch.tensor([ids]))
        handle.remove()
    hidden, routing = seen
    return model.layers[LAYER].mlp.experts, hidden, routing


def wide(dtype: torch.dtype) -> tuple[ExpertBank, torch.Tensor, Routing]:
    """One layer's bank of the 235B with random weights. Blocks of values repeat, which no engine exploits."""
    config = ModelConfig.named("Qwen3-235B-A22B")
    with torch.device("meta"):
        bank = ExpertBank(config)
    bank = bank.to(dtype).to_empty(device="cpu").requires_grad_(False)
    generator = torch.Generator().manual_seed(0)
    matrix = torch.randn(config.moe_intermediate_size, config.hidden_size, generator=generator).mul_(0.02).to(dtype)
    for stack in (bank.gate_proj, bank.up_proj):
        stack.copy_(matrix)
    bank.down_proj.copy_(matrix.mT)
    hidden = torch.randn(max(TOKENS), config.hidden_size, generator=generator).to(dtype)
    logits = torch.randn(max(TOKENS), config.num_experts, generator=generator)
    return bank, hidden, route(logits.to(dtype), config.num_experts_per_tok, True)


@torch.no_grad()
def measure(model: str, dtype: torch.dtype, bank: ExpertBank, hidden: torch.Tensor, routing: Routing) -> Iterator[dict]:
    """A row for each number of threads and tokens and each engine."""
    for count in THREADS:
        for tokens in TOKENS:
            few = Routing(*(part[:tokens] for part in routing))
            engines = ("loop", "grouped", "gather") if tokens <= GATHERS[model] else ("loop", "grouped")

            def run(engine: str, x: torch.Tensor = hidden[:tokens], few: Routing = few) -> None:
                bank.engine = engine
                run_experts(x, few, bank)

            ways = {engine: lambda engine=engine, run=run: run(engine) for engine in engines}
            with threads(count):
                rounds = {"rounds": WIDE_ROUNDS} if model != "mini" else {}
                for engine, times in interleaved(f"{model}, {tokens} tokens, {count} threads", ways, **rounds).items():
                    yield {"model": model, "dtype": name_of(dtype), "threads": count, "tokens": tokens,
                           "experts_hit": len(few.experts.unique()), "engine": engine, **times}  # fmt: skip


def main() -> None:
    """Measure, print a table, write data/benchmarks/experts.json."""
    facts, most, rows = machine(), limits(), []
    cases = (("mini", torch.float32, mini), ("mini", torch.bfloat16, mini), ("235B layer", torch.bfloat16, wide))
    for model, dtype, make in cases:
        rows += list(measure(model, dtype, *make(dtype)))
    print(f"\nexperts of one layer, milliseconds (medians)  {facts['processor']}, {facts['instruction_set']}")
    print_table(rows)
    write("experts", facts, most, rows)


def print_table(rows: list[dict[str, Any]]) -> None:
    """A line for each model, dtype, number of threads and engine; a column for each number of tokens."""
    print(f"  {'':42s}" + "".join(f"{tokens:9d}" for tokens in TOKENS))
    lines: dict[str, dict[int, float]] = {}
    for row in rows:
        name = f"{row['model']}, {row['dtype']}, {row['threads']} threads, {row['engine']}"
        lines.setdefault(name, {})[row["tokens"]] = row["seconds"] * 1e3
    for name, times in lines.items():
        print(f"  {name:42s}" + "".join(f"{times[tokens]:9.2f}" if tokens in times else " " * 9 for tokens in TOKENS))
