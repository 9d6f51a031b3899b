"""The mini beside transformers, same weights and threads: a prompt of 512 tokens, and a prompt with an answer, greedy.

transformers runs as it is by default (grouped_mm, dynamic cache), with its other implementations of the experts, and
with a static cache and a compiled forward pass. Times of an answer include its prompt, but no compiling.
"""

from functools import partial

import torch
import transformers

import minimoe
from benchmarks.stored import THREADS, interleaved, limits, machine, name_of, threads, write
from minimoe.model.transformer import Transformer
from minimoe.paths import find

PROMPT, SHORT, ANSWER = 512, 64, 32


def reference(dtype: torch.dtype, experts: str | None = None) -> transformers.PreTrainedModel:
    """The mini in transformers."""
    more = {"experts_implementation": experts} if experts else {}
    return transformers.AutoModelForCausalLM.from_pretrained(find("data/mini"), dtype=dtype, **more).eval()


def generate(model: transformers.PreTrainedModel, prompt: torch.Tensor, **more: object) -> None:
    """An answer of transformers."""
    model.generate(prompt, max_new_tokens=ANSWER, min_new_tokens=ANSWER, do_sample=False, **more)


def answer(model: Transformer, step: object, prompt: torch.Tensor) -> list[int]:
    """An answer of minimoe, with the compiled step or None."""
    model.compiled_decode = step
    cache = model.new_cache(capacity=prompt.shape[1] + ANSWER)
    tokens = [prompt]
    for _ in range(ANSWER):
        tokens.append(model(tokens[-1], cache=cache, last_only=True)[:, -1].argmax(-1, keepdim=True))
    return torch.cat(tokens[1:], dim=1)[0].tolist()


@torch.no_grad()
def main() -> None:
    """Measure, print a table, write data/benchmarks/speed.json."""
    facts, most, rows = machine(), limits(), []
    print(f"\nthe mini  {facts['processor']}, {facts['instruction_set']}, torch {facts['torch']}")
    for dtype in (torch.float32, torch.bfloat16):
        ours, _ = minimoe.load("data/mini", dtype=dtype)
        theirs = {kind: reference(dtype, kind) for kind in (None, "eager", "batched_mm")}
        compiled = reference(dtype, "batched_mm")  # the one that can be compiled in one piece
        compiled.forward = torch.compile(compiled.forward)
        ours.compile_decode()
        prompt = torch.randint(0, 1000, (1, PROMPT), generator=torch.Generator().manual_seed(0))
        short = prompt[:, :SHORT]
        prefill = {
            "transformers": partial(theirs[None], prompt, use_cache=False),
            "transformers, eager": partial(theirs["eager"], prompt, use_cache=False),
            "minimoe": partial(ours, prompt),
        }
        decode = {
            "transformers": partial(generate, theirs[None], short),
            "transformers, eager": partial(generate, theirs["eager"], short),
            "transformers, batched_mm": partial(generate, theirs["batched_mm"], short),
            "transformers, static cache, compiled": partial(generate, compiled, short, cache_implementation="static"),
            "minimoe": partial(answer, ours, None, short),
            "minimoe, compiled": partial(answer, ours, ours.compiled_decode, short),
        }
        for what, ways in ((f"prompt of {PROMPT}", prefill), (f"{SHORT} + {ANSWER} tokens", decode)):
            for count in THREADS:
                # torch.compile bakes the number of threads into its code
                use = {way: run for way, run in ways.items() if count == 1 or "compiled" not in way}
                with threads(count):
                    found = interleaved(what, use)
                for way, times in found.items():
                    rows.append({"what": what, "dtype": name_of(dtype), "threads": count, "way": way, **times})
                    speed, spread = found["transformers"]["seconds"] / times["seconds"], times["high"] / times["low"]
                    name = f"{name_of(dtype):9s}{what:16s}{count} threads  {way:38s}"
                    print(f"  {name}{times['seconds'] * 1e3:8.1f} ms   speed x {speed:5.2f}   high/low {spread:4.2f}")
    write("speed", facts, most, rows)
