"""transformers and minimoe with the 30B-A3B in bfloat16 on one GPU: random weights and the workload of `gpu_whole`.

minimoe's model is the one that `load` returns, without the reductions of several GPUs.
"""

import gc
import time

import torch
import transformers

from benchmarks.gpu_whole import CASES, Case, bandwidth, read, report_decode, report_prompt, steps, timed
from minimoe.model.config import ModelConfig
from minimoe.model.rope import frequencies_and_scale
from minimoe.model.transformer import Transformer


@torch.no_grad()
def main() -> None:
    """Measure transformers' default (dynamic cache) and its static cache with a compiled step, then minimoe."""
    if not torch.cuda.is_available():
        print("\ngpu_transformers: not run, this machine has no CUDA device")
        return
    device = torch.device("cuda:0")
    case = next(case for case in CASES if case.precision == "bf16")
    print(f"\ntransformers {transformers.__version__} on {torch.cuda.get_device_name()}: {case.name} in bf16")
    speed = bandwidth(device, 2**32)
    theirs(case, device, speed)
    gc.collect()
    torch.cuda.empty_cache()
    ours(case, device, speed)


def theirs(case: Case, device: torch.device, speed: float) -> None:
    """A prompt and its answer with transformers."""
    model = random_model(case.config, device)
    generator = torch.Generator(device).manual_seed(0)
    ids = torch.randint(0, case.config.vocab_size, (1, case.prompt), generator=generator, device=device)
    ways = {"dynamic cache": {}, "static cache, compiled": {"cache_implementation": "static"}}

    def generate(count: int, more: dict) -> float:
        settings = {"max_new_tokens": count, "min_new_tokens": count, "do_sample": False, "pad_token_id": 0}
        return timed(lambda: model.generate(ids, **settings, **more), device)

    for how, more in ways.items():
        start = time.perf_counter()
        generate(case.answer + 1, more)  # compiles
        first = time.perf_counter() - start
        prefill = min(generate(1, more) for _ in range(2))
        decode = (min(generate(case.answer + 1, more) for _ in range(2)) - prefill) / case.answer
        report_prompt(case, prefill)
        report_decode(case, f"{how} (first call {first:.0f} s)", decode, speed)


def ours(case: Case, device: torch.device, speed: float) -> None:
    """The same with minimoe, as written and compiled."""
    print("minimoe")
    with torch.device("meta"):
        model = Transformer(case.config)
    model = model.to(torch.bfloat16).to_empty(device=device).requires_grad_(False).eval()
    for parameter in model.parameters():
        parameter.normal_(std=0.02) if parameter.dim() > 1 else parameter.fill_(1)
    ids = torch.randint(0, case.config.vocab_size, (1, case.prompt), device=device)
    cache = model.new_cache(capacity=case.context)

    def prompt() -> None:
        cache.reset()
        read(model, cache, (ids,))

    prompt()
    report_prompt(case, min(timed(prompt, device) for _ in range(2)))
    for engine in ("auto", "gather", "grouped", "loop"):
        model.engine, cache.length = engine, case.prompt
        report_decode(case, f"as written, {engine}", steps(model, cache, case, device), speed)
    model.engine, cache.length = "auto", case.prompt
    model.compile_decode()
    report_decode(case, "compiled", steps(model, cache, case, device), speed)


def random_model(config: ModelConfig, device: torch.device) -> transformers.PreTrainedModel:
    """A model with random weights, created on the device."""
    settings = transformers.Qwen3MoeConfig(**{k: v for k, v in config.to_dict().items() if k != "architectures"})
    with torch.device("meta"):
        model = transformers.AutoModelForCausalLM.from_config(settings, dtype=torch.bfloat16)
    model = model.to_empty(device=device).eval()
    for parameter in model.parameters():
        parameter.data.normal_(std=0.02) if parameter.dim() > 1 else parameter.data.fill_(1)
    frequencies, _ = frequencies_and_scale(config, device)
    model.model.rotary_emb.inv_freq = frequencies  # a buffer that is computed, not loaded
    return model


if __name__ == "__main__":
    main()
