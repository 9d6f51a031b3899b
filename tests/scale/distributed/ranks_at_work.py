"""Runs several ranks and records the results of each: `python -m tests.scale.distributed.ranks_at_work JSON`.

One helper process imports torch once and forks the ranks of each world in turn, because starting each separately
would cost seconds per rank. The tests read the file. Without a file it runs worlds that tests disturb, or a command
of minimoe on several ranks, as requested on stdin: see test_process_group.py.
"""

import contextlib
import ctypes
import hashlib
import io
import itertools
import json
import os
import socket
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from minimoe.checkpoint.load import load_model
from minimoe.checkpoint.save import save
from minimoe.checkpoint.weights import fill as rank_fill
from minimoe.cli import cli
from minimoe.commands.compare_ranks import forced, random_model
from minimoe.errors import MinimoeError, ReadFailed
from minimoe.model.config import ModelConfig
from minimoe.model.transformer import Transformer
from minimoe.routing.trace.trace import RoutingTrace, record_routing
from minimoe.scale.distributed import process_group as ranks_module
from minimoe.scale.distributed import watchdog as rank_watch
from minimoe.scale.distributed.load_shard import open_part, read_part
from minimoe.scale.distributed.process_group import Ranks, joined
from minimoe.scale.distributed.shared_draw import stopping_on
from minimoe.scale.distributed.tensor_parallel import TensorSplit
from minimoe.text import generate
from minimoe.text.generate import new_ids
from minimoe.text.sampling import SamplingSettings

WORLDS = (2, 3, 4, 8)
# 8 query and 2 key/value heads: at 4 and 8 ranks neighbours share one. 101 vocabulary rows never divide evenly.
TINY = ModelConfig(
    vocab_size=101, hidden_size=16, num_hidden_layers=4, num_attention_heads=8, num_key_value_heads=2, head_dim=4,
    intermediate_size=24, moe_intermediate_size=12, num_experts=16, num_experts_per_tok=3, norm_topk_prob=True,
    mlp_only_layers=(1,), max_position_embeddings=64, dtype="float64",
)  # fmt: skip
DEEP = replace(TINY, num_hidden_layers=8)  # at least one layer for each of eight ranks
TIED = replace(TINY, num_hidden_layers=3, tie_word_embeddings=True, mlp_only_layers=())
PROMPT, STEPS = 9, 3
STOP_ID = 100
TOKENIZER: Any = SimpleNamespace(vocabulary_size=101, stop_ids=(STOP_ID,))


def say(line: str) -> None:
    """Print a line in one write, because several ranks print concurrently."""
    os.write(1, f"{line}\n".encode())


def splits(config: ModelConfig, world: int) -> Iterator[str]:
    """The splits of a config that work with this number of ranks."""
    if config.num_attention_heads % world == 0 and config != DEEP:
        yield "tensor"
    if config.num_hidden_layers >= world:
        yield "layers"


# ---------------------------------------------------------------- what every rank does


@torch.no_grad()
def logits_of(model: Transformer) -> list[torch.Tensor]:
    """A prompt of two sequences, cached steps, and a pass without a cache."""
    ids = torch.randint(101, (2, PROMPT + STEPS), generator=torch.Generator().manual_seed(1))
    cache = model.new_cache(batch=2, capacity=PROMPT + STEPS)
    prompt, *steps = ids.split([PROMPT, *[1] * STEPS], dim=1)
    return [model(prompt, cache), *(model(step, cache) for step in steps), model(prompt, last_only=True)]


def recorded(model: Transformer) -> tuple[list[torch.Tensor], RoutingTrace]:
    with record_routing(model) as trace:
        return logits_of(model), trace


def drawn(model: Transformer, seed: int | None) -> list[int]:
    return list(new_ids(model, TOKENIZER, [3, 1, 4], 4, SamplingSettings(temperature=1.0), seed))


def drawn_apart(model: Transformer, ranks: Ranks, seed: int) -> list[int]:
    """As `drawn`, but all ranks except the first draw another token first, and then the end of the text."""
    real, count = generate.sample, itertools.count()

    def other(*arguments: Any, **settings: Any) -> torch.Tensor:
        right = real(*arguments, **settings)
        return right if ranks.is_first else torch.full_like(right, STOP_ID) if next(count) else (right + 1) % 100

    generate.sample = other
    try:
        return drawn(model, seed)
    finally:
        generate.sample = real


def drawn_until_stopped(model: Transformer, ranks: Ranks, seed: int) -> tuple[list[int], str]:
    """As `drawn`, but a stop is requested on rank 0 before the third token: the tokens until then, and how it ended."""
    calls, results = itertools.count(1), []
    with stopping_on(lambda: next(calls) == 3):
        try:
            for token_id in new_ids(model, TOKENIZER, [3, 1, 4], 4, SamplingSettings(temperature=1.0), seed):
                results.append(token_id)
        except KeyboardInterrupt:
            return results, "stopped"
    return results, "not stopped"


def largest(one: list[torch.Tensor], other: list[torch.Tensor]) -> float:
    return max(float((a.double() - b.double()).abs().max()) for a, b in zip(one, other, strict=True))


def digest(tensors: list[torch.Tensor]) -> str:
    return hashlib.sha256(b"".join(each.double().numpy().tobytes() for each in tensors)).hexdigest()


def refusals(model: Transformer) -> list[str]:
    """Bad input is refused on every rank before anything is sent, and the model stays usable."""
    results = []
    for ids, capacity in (([[200]], 8), ([[5, -1]], 8), ([[1, 2, 3]], 2), ([[1], [2, 3]], 8)):
        try:
            model(ids, cache=model.new_cache(capacity=capacity))
        except MinimoeError as error:
            results.append(type(error).__name__)
    return results


def checks(ranks: Ranks, folder: Path) -> dict[str, Any]:
    """All results of one rank for one checkpoint, by split."""
    whole = load_model(folder)
    expected, trace = recorded(whole)
    text, rough = drawn(whole, seed=5), load_model(folder, dtype="bf16")
    rough_expected, rough_trace = recorded(rough)
    results: dict[str, Any] = {}
    for split in splits(whole.config, ranks.world):
        part = open_part(folder, ranks.rank, ranks.world, split)
        ranks.agree("the checkpoint", part.fingerprint)
        model = read_part(part)
        ranks.wait_for_all(f"loaded {split} {folder.name}")
        bare = logits_of(model)
        logits, own = recorded(model)
        coarse = read_part(part, dtype="bf16")
        with forced(coarse, rough_trace):
            coarse_logits = logits_of(coarse)
        results[split] = {
            "difference": largest(logits, expected),
            "unrecorded": largest(logits, bare),
            "experts": torch.equal(own.experts, trace.experts),
            "trace": all(torch.allclose(own.tensors[name].double(), each.double(), atol=1e-6)
                         for name, each in trace.tensors.items()),
            "metadata": own.metadata == trace.metadata,
            "bf16": largest(coarse_logits, rough_expected),
            "digest": digest([*logits, *coarse_logits, own.experts]),
            "seeded": drawn(model, seed=5) == text,
            "free": drawn(model, seed=None),
            "apart": drawn_apart(model, ranks, seed=5) == text,
            "stopped": drawn_until_stopped(model, ranks, seed=5) == (text[:2], "stopped"),
            "again": drawn(model, seed=5) == text,
            "refused": refusals(model),
            "attention": [model.attention, setattr(model, "attention", "eager"), model.attention][::2],
        }  # fmt: skip
        engines = {}
        for engine in ("loop", "gather", "grouped") if ranks.world < 4 else ():
            model.engine = engine
            engines[engine] = largest(logits_of(model), expected)
        results[split]["engines"] = engines
    return results


# ---------------------------------------------------------------- worlds


def names_of(world: int) -> dict[str, ModelConfig]:
    """The checkpoints that are run on this number of ranks."""
    return {"tiny": TINY} | ({"tied": TIED} if world < 4 else {"deep": DEEP} if world == 8 else {})


def everything(ranks: Ranks, folder: Path) -> dict[str, Any]:
    results: dict[str, Any] = {name: checks(ranks, folder / name) for name in names_of(ranks.world)}
    results["shared"] = ranks.share("你好" if ranks.is_first else "?")
    results["gathered"] = ranks.gather(ranks.rank * 10)
    return results


def joined_work(work: Callable[[Ranks], Any], out: Path | None = None) -> Callable[[int], None]:
    """The main function of a rank: join the others, work, and write the result to `out`/RANK.json."""

    def run(rank: int) -> None:
        with joined("cpu") as ranks:
            result = work(ranks)
        if out is not None:
            (out / f"{rank}.json").write_text(json.dumps(result))

    return run


def fork_world(world: int, run: Callable[[int], None]) -> dict[int, int]:
    """Fork `world` processes with the environment that torchrun would set; return process id -> rank."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = {}
    for rank in range(world):
        process = os.fork()
        if process:
            processes[process] = rank
            continue
        os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(world), "MASTER_ADDR": "127.0.0.1"}
        os.environ |= {"MASTER_PORT": str(port)}
        try:
            run(rank)
        except BaseException:
            traceback.print_exc()
            os._exit(99)
        os._exit(0)
    return processes


def all_worlds(out: Path) -> None:
    """Run one world after another."""
    with tempfile.TemporaryDirectory() as place:
        scratch = Path(place)
        for name, config in (names_of(2) | names_of(8)).items():
            save(random_model(config), None, scratch / name, max_shard_bytes=30_000)
        results = {}
        for world in WORLDS:
            begun = time.monotonic()
            processes = fork_world(world, joined_work(lambda ranks: everything(ranks, scratch), scratch))
            codes = [os.waitpid(process, 0)[1] for process in processes]
            if any(codes):
                sys.exit(f"a world of {world} ended with {codes}")
            results[world] = [json.loads((scratch / f"{rank}.json").read_text()) for rank in range(world)]
            say(f"{world} ranks: {time.monotonic() - begun:.1f} s")
    out.write_text(json.dumps(results))


# ---------------------------------------------------------------- disturbed worlds


def slow_load(folder: Path) -> Callable[[Ranks], Any]:
    """A load that never ends; a line is printed before each tensor."""

    def work(ranks: Ranks) -> None:
        def crawl(*arguments: Any) -> None:
            say(f"rank {ranks.rank} reads")
            time.sleep(600)

        rank_fill.fill_one = crawl
        read_part(open_part(folder, ranks.rank, ranks.world))

    return work


def failing_load(folder: Path) -> Callable[[Ranks], Any]:
    """The disk of rank 2 fails while the others wait for it to load."""

    def work(ranks: Ranks) -> None:
        def break_off(*arguments: Any) -> None:
            raise ReadFailed("model-00003.safetensors: reading 12 bytes at 4,096 failed: Input/output error.")

        if ranks.rank == 2:
            rank_fill.fill_one = break_off
        read_part(open_part(folder, ranks.rank, ranks.world))
        ranks.wait_for_all("loaded")
        time.sleep(600)

    return work


def endless_text(folder: Path) -> Callable[[Ranks], Any]:
    """Forward passes in an endless loop."""

    def work(ranks: Ranks) -> None:
        model = read_part(open_part(folder, ranks.rank, ranks.world))
        say(f"rank {ranks.rank} runs")
        while True:
            model([[1, 2, 3]])

    return work


def other_checkpoint(folder: Path) -> Callable[[Ranks], Any]:
    """Rank 1 has another checkpoint."""

    def work(ranks: Ranks) -> None:
        ranks.agree("the checkpoint", "abc" if ranks.rank != 1 else "abd")
        time.sleep(600)

    return work


def locked(seconds: int) -> None:
    """Hold the interpreter lock of this process, so that no other thread runs."""
    ctypes.PyDLL(None).sleep(seconds)


def silent(rank: int) -> None:
    """Rank 1 is silent for longer than SILENCE, first while it initialises its device and then while it computes."""
    rank_watch.SILENCE, real = 0.6, ranks_module.own_device

    def slow(device: str, local_rank: int) -> torch.device:
        watched = [thread.name for thread in threading.enumerate() if isinstance(thread, rank_watch.Watch)]
        say(f"rank {rank} opens its device, watched by {watched}")
        if rank == 1:
            locked(2)
        return real(device, local_rank)

    ranks_module.own_device = slow
    with joined("cpu") as ranks:
        if rank == 1:
            locked(2)
        say(f"rank {rank} hears {ranks.gather(rank)}")


def command(line: list[str]) -> Callable[[int], None]:
    """A command of minimoe on every rank, as under torchrun; the next line of stdin is the typed input."""
    [typed] = json.loads(sys.stdin.readline())

    def run(rank: int) -> None:
        sys.stdin = io.StringIO(typed)  # type: ignore[assignment]
        with contextlib.suppress(SystemExit):
            cli.main(line)

    return run


def obey(folder: Path) -> None:
    """For each line of stdin, "KIND WORLD", run one world. Prints "process RANK PID" and finally "code RANK CODE"."""
    kinds = {"load": slow_load, "fail": failing_load, "text": endless_text, "other": other_checkpoint}
    for line in iter(sys.stdin.readline, ""):
        kind, world, *rest = json.loads(line)
        if kind == "command":
            run = command(rest)
        else:
            run = silent if kind == "silent" else joined_work(kinds[kind](folder))
        processes = fork_world(world, run)
        for process, rank in processes.items():
            say(f"process {rank} {process}")
        for _ in range(world):
            process, status = os.wait()
            say(f"code {processes[process]} {os.waitstatus_to_exitcode(status)}")
        say("all have ended")


if __name__ == "__main__":
    torch.set_num_threads(1)
    with torch.device("meta"):  # imports what torch needs for it, once for all forks
        TensorSplit(TINY, 0, 2)
    if sys.argv[1:]:
        all_worlds(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as scratch:
            save(random_model(TINY), None, Path(scratch) / "tiny")
            obey(Path(scratch) / "tiny")
