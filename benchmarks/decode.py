"""One new token of the mini, by the number of tokens before it: with the KV cache, without it, and compiled."""

import torch

import minimoe
from benchmarks.stored import THREADS, interleaved, limits, machine, name_of, threads, write
from minimoe.model.transformer import Transformer

POSITIONS = (32, 64, 128, 256, 512, 1024)


@torch.no_grad()
def measure(model: Transformer, count: int) -> list[dict]:
    """A row for each position, with and without the cache."""
    rows = []
    for position in POSITIONS:
        ids = torch.randint(0, 1000, (1, position + 1), generator=torch.Generator().manual_seed(0))
        cache = model.new_cache(capacity=position + 1)
        model(ids[:, :-1], cache=cache, last_only=True)

        def with_cache(ids=ids, cache=cache, position=position) -> None:
            cache.length = position
            model(ids[:, -1:], cache=cache, last_only=True)

        ways = {"with": with_cache, "without": lambda ids=ids: model(ids, last_only=True)}
        if model.compiled_decode is not None:
            ways = {"compiled": with_cache}
        with threads(count):
            for how, times in interleaved(f"position {position}", ways, rounds=15).items():
                rows.append({
                    "model": "mini", "dtype": name_of(model.dtype), "threads": count, "cache": how != "without",
                    "compiled": how == "compiled", "position": position, **times,
                })  # fmt: skip
    return rows


def main() -> None:
    """Measure, print a table, write data/benchmarks/decode.json."""
    facts, most, rows = machine(), limits(), []
    for dtype in (torch.float32, torch.bfloat16):
        model, _ = minimoe.load("data/mini", dtype=dtype)
        for count in THREADS:
            rows += measure(model, count)
        with threads(1):
            model.compile_decode()
        rows += measure(model, 1)
    print(f"\none token of the mini, milliseconds (medians)  {facts['processor']}, {facts['instruction_set']}")
    print(f"  {'':48s}" + "".join(f"{position:9d}" for position in POSITIONS))
    lines: dict[str, list[float]] = {}
    for row in rows:
        how = "compiled" if row["compiled"] else "with a cache" if row["cache"] else "without a cache"
        lines.setdefault(f"{row['dtype']}, {row['threads']} threads, {how}", []).append(row["seconds"] * 1e3)
    for name, times in lines.items():
        print(f"  {name:48s}" + "".join(f"{milliseconds:9.2f}" for milliseconds in times))
    write("decode", facts, most, rows)
