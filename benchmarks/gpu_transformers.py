"""transformers with the 30B-A3B in bfloat16 on one GPU: random weights and the workload of `gpu_whole`."""

import time

import torch
import transformers

from benchmarks.gpu_whole import CASES, bandwidth, report_decode, report_prompt, timed
from minimoe.model.config import ModelConfig
from minimoe.model.rope import frequencies_and_scale


@torch.no_grad()
def main() -> None:
    """Measure the default (dynamic cache) and the static cache with a compiled step."""
    if not torch.cuda.is_available():
        print("\ngpu_transformers: not run, this machine has no CUDA device")
        return
    device = torch.device("cuda:0")
    case = next(case for case in CASES if case.precision == "bf16")
    print(f"\ntransformers {transformers.__version__} on {torch.cuda.get_device_name()}: {case.name} in bf16")
    speed = bandwidth(device, 2**32)
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


def random_model(config: ModelConfig, device: torch.device) -> transformers.PreTrainedModel:
    """A model with random weights, created on the device."""
    theirs = transformers.Qwen3MoeConfig(**{k: v for k, v in config.to_dict().items() if k != "architectures"})
    with torch.device("meta"):
        model = transformers.AutoModelForCausalLM.from_config(theirs, dtype=torch.bfloat16)
    model = model.to_empty(device=device).eval()
    for parameter in model.parameters():
        parameter.data.normal_(std=0.02) if parameter.dim() > 1 else parameter.data.fill_(1)
    frequencies, _ = frequencies_and_scale(config, device)
    model.model.rotary_emb.inv_freq = frequencies  # a buffer that is computed, not loaded
    return model


if __name__ == "__main__":
    main()
