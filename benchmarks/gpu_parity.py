"""The mini on a GPU: its logits compared with the CPU, engine by engine, and the tokens of the compiled step with those
of the step as written; then the time of a prompt and an answer, compared with transformers on the same GPU.
"""

import time

import torch
import transformers

import minimoe
from benchmarks.side_by_side import side_by_side
from minimoe.model.experts import ENGINES
from minimoe.model.transformer import Transformer
from minimoe.paths import find

PROMPT, ANSWER = 512, 64


@torch.no_grad()
def decode(model: Transformer, prompt: torch.Tensor, count: int) -> list[int]:
    """Greedy tokens after the prompt."""
    cache, tokens = model.new_cache(capacity=PROMPT + ANSWER), []
    logits = model(prompt, cache=cache, last_only=True)
    for _ in range(count):
        tokens.append(int(logits[0, -1].argmax()))
        logits = model(torch.tensor([tokens[-1:]]), cache=cache, last_only=True)
    return tokens


@torch.no_grad()
def main() -> None:
    """Run on the first CUDA device, if there is one."""
    if not torch.cuda.is_available():
        print("\ngpu_parity: not run, this machine has no CUDA device")
        return
    print(f"\nthe mini on {torch.cuda.get_device_name()}, torch {torch.__version__}")
    prompt = torch.randint(0, 1000, (1, PROMPT), generator=torch.Generator().manual_seed(0))
    for dtype in (torch.float32, torch.bfloat16):
        on_cpu, _ = minimoe.load("data/mini", dtype=dtype)
        model, _ = minimoe.load("data/mini", dtype=dtype, device="cuda")
        expected = on_cpu(prompt)
        for engine in ENGINES:
            model.engine = engine
            logits = model(prompt).cpu()
            agree = (logits.argmax(-1) == expected.argmax(-1)).float().mean()
            difference = (logits - expected).abs().max()
            print(f"  {dtype} {engine:8s} largest difference from the CPU {difference:.1e}, same likeliest {agree:.1%}")
        model.engine = "auto"
        plain = decode(model, prompt, ANSWER)
        start = time.perf_counter()
        model.compile_decode()
        compiled, model.compiled_decode = model.compiled_decode, None
        print(f"  {dtype} compiled in {time.perf_counter() - start:.0f} s", end=", ")
        model.compiled_decode = compiled
        same = sum(a == b for a, b in zip(plain, decode(model, prompt, ANSWER), strict=True))
        print(f"{same} of {ANSWER} tokens as before")

        theirs = transformers.AutoModelForCausalLM.from_pretrained(find("data/mini"), dtype=dtype).cuda().eval()
        settings = {"max_new_tokens": ANSWER, "min_new_tokens": ANSWER, "do_sample": False}

        def generate(theirs=theirs, settings=settings, **more):
            theirs.generate(prompt.cuda(), **settings, **more)

        def ours(model=model, step=None):
            model.compiled_decode = step
            decode(model, prompt, ANSWER)

        side_by_side(f"{dtype}, prompt of {PROMPT} + {ANSWER} tokens, greedy", {
            "transformers, its default": generate,
            "transformers, static cache, compiled": lambda g=generate: g(cache_implementation="static"),
            "minimoe, as written": ours,
            "minimoe, compiled": lambda o=ours, c=compiled: o(step=c),
        }, repeats=5)  # fmt: skip


if __name__ == "__main__":
    main()
