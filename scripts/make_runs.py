"""Record data/training/small_runs.json: the small training runs that chapter 11 compares.

    python scripts/make_runs.py             # all that are missing, one after the other, on one thread
    python scripts/make_runs.py loss_0 base  # these, again

Each run trains a model of two layers for 300 steps of 512 tokens, which takes about 15 seconds of one core; all of them
take 10 minutes. Batches depend on the seed and the step only. On another processor the last digits differ.
"""

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from minimoe import atomic
from minimoe.paths import checkout, find
from minimoe.training.corpus.batches import GeneratedSource, read_tokenizer
from minimoe.training.small.plan import Plan
from minimoe.training.small.run import SmallRun, record_run
from minimoe.training.small.variants import upcycled

OUT = checkout() / "data" / "training" / "small_runs.json"
BASE = Plan()
FINE = replace(BASE, experts=32, top_k=4, width=16)
PLANS = {
    "base": BASE,
    "loss_0": replace(BASE, coefficient=0.0),
    "switched_on": replace(BASE, switch=200, steps=400),
    "rows_0.2": replace(BASE, coefficient=0.2, scope="row"),
    "loss_0.2": replace(BASE, coefficient=0.2),
    "dense": replace(BASE, dense=True),
    "bias": replace(BASE, coefficient=0.0, bias_rate=2e-3),
    "loss_0.002": replace(BASE, coefficient=0.002),
    "loss_2": replace(BASE, coefficient=2.0),
    "experts_4": replace(BASE, experts=4),
    "experts_8": replace(BASE, experts=8),
    "experts_32": replace(BASE, experts=32),
    "experts_64": replace(BASE, experts=64),
    "top_1": replace(BASE, top_k=1),
    "top_1_not_renormalised": replace(BASE, top_k=1, renormalise=False),
    "top_4": replace(BASE, top_k=4),
    "top_8": replace(BASE, top_k=8),
    "fine": FINE,
    "fine_shared": replace(FINE, experts=31, top_k=3, shared_width=16),
    "pooled": replace(BASE, scope="pooled"),
    "z_loss": replace(BASE, z_coefficient=1e-3),
    "dense_seed_1": replace(BASE, dense=True, seed=1),
    "base_seed_1": replace(BASE, seed=1),
    "dense_seed_2": replace(BASE, dense=True, seed=2),
    "base_seed_2": replace(BASE, seed=2),
    "loss_0_seed_1": replace(BASE, coefficient=0.0, seed=1),
    "loss_0_seed_2": replace(BASE, coefficient=0.0, seed=2),
    "rows_0.2_seed_1": replace(BASE, coefficient=0.2, scope="row", seed=1),
    "loss_0.2_seed_1": replace(BASE, coefficient=0.2, seed=1),
    "rows_0.2_seed_2": replace(BASE, coefficient=0.2, scope="row", seed=2),
    "loss_0.2_seed_2": replace(BASE, coefficient=0.2, seed=2),
}
UPCYCLING = ("upcycled", "dense_continued", "scratch")


def upcycling_runs(source: GeneratedSource) -> Iterator[tuple[str, dict[str, Any]]]:
    """A dense model of 300 steps, then 300 more: as it is, and with 8 copies of its feed-forward as experts.

    Beside them, the same Mixture of Experts from random weights for all 600 steps.
    """
    wide = replace(BASE, experts=8, width=64)
    start = replace(wide, dense=True, top_k=1)  # its feed-forward is as wide as one expert
    with SmallRun(start, source) as first:
        record_run(first)
        state = {name: value.clone() for name, value in first.model.state_dict().items()}
        mixture = upcycled(first.model, wide.experts, wide.top_k)
        later = replace(start, seed=100)  # other batches
        first.model.load_state_dict(state)
        with SmallRun(later, source, first.model) as run:
            yield "dense_continued", {"plan": asdict(later)} | record_run(run)
    with SmallRun(replace(wide, seed=100), source, mixture) as run:
        yield "upcycled", {"plan": asdict(run.plan)} | record_run(run)
    scratch = replace(wide, steps=600)
    with SmallRun(scratch, source) as run:
        yield "scratch", {"plan": asdict(scratch)} | record_run(run)


def main() -> None:
    """Run what is missing, or what is named, and write the file after each run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="Runs to do again. [default: those that are missing]")
    parser.add_argument("--out", type=Path, default=OUT)
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # sums in one order
    file: Path = arguments.out
    runs: dict[str, Any] = json.loads(file.read_text()) if file.is_file() else {}
    source = GeneratedSource(read_tokenizer(find("data/mini")))

    def keep(name: str, record: dict[str, Any]) -> None:
        runs[name] = record
        file.parent.mkdir(parents=True, exist_ok=True)
        atomic.write(file, as_text(runs).encode())

    wanted = arguments.names or [name for name in (*PLANS, *UPCYCLING) if name not in runs]
    for name in wanted:
        if name in PLANS:
            begin = time.process_time()
            with SmallRun(PLANS[name], source) as run:
                keep(name, {"plan": asdict(PLANS[name])} | record_run(run))
            last = runs[name]["held_out"][-1]
            print(f"{name:26} {time.process_time() - begin:5.1f} s of processor time, held out {last}", flush=True)
    if set(wanted) & set(UPCYCLING):
        for name, record in upcycling_runs(source):
            keep(name, record)
            print(name, record["held_out"][-1], flush=True)


def as_text(runs: dict[str, Any]) -> str:
    """JSON with one line for each list of a run, sorted by name."""
    entries = []
    for name in sorted(runs):
        lines = ",\n".join(
            f"  {json.dumps(key)}: {json.dumps(value, separators=(',', ':'))}" for key, value in runs[name].items()
        )
        entries.append(f"{json.dumps(name)}: {{\n{lines}\n}}")
    return "{\n" + ",\n".join(entries) + "\n}\n"


if __name__ == "__main__":
    main()
