"""The forward pass, compared with transformers: same weights, same threads."""

import torch
import transformers

import minimoe
from benchmarks.side_by_side import side_by_side
from minimoe.paths import find


@torch.no_grad()
def main() -> None:
    """Measure a prompt in one chunk, and generation, in both dtypes."""
    for dtype in (torch.float32, torch.bfloat16):
        model, _ = minimoe.load("data/mini", dtype=dtype)
        reference = transformers.AutoModelForCausalLM.from_pretrained(find("data/mini"), dtype=dtype).eval()
        name = str(dtype).removeprefix("torch.")
        prompt = torch.randint(0, 1000, (1, 512))
        ways = {"transformers, its default": lambda r=reference, p=prompt: r(p, use_cache=False)}
        for engine in ("auto", "loop", "grouped"):

            def ours(m=model, p=prompt, e=engine):
                m.engine = e
                m(p)

            ways[f"minimoe, {engine}"] = ours
        side_by_side(f"mini checkpoint, {name}, 512-token prompt", ways)
        model.engine = "auto"

        def decode_reference(r=reference, p=prompt):
            r.generate(p[:, :64], max_new_tokens=32, min_new_tokens=32, do_sample=False)

        def decode_ours(m=model, p=prompt):
            cache = m.new_cache(capacity=96)
            logits = m(p[:, :64], cache=cache, last_only=True)
            for _ in range(31):
                logits = m(logits[:, -1].argmax(-1, keepdim=True), cache=cache, last_only=True)

        ways = {"transformers, its default": decode_reference, "minimoe, auto": decode_ours}
        side_by_side(f"mini checkpoint, {name}, 64-token prompt + 32 tokens, greedy", ways, repeats=5)
