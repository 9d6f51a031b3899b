"""One layer with the width of the 235B in bfloat16 (5 GB, random weights), compared with transformers: a prompt, and
one token with and without a compiled step.

A token reads the active weights once: the limit is their bytes at the read bandwidth of the same run. The limit of a
prompt is its operations at the rate of a large matrix product.
"""

import torch
import transformers
from einops import pack
from transformers import DynamicCache

from benchmarks.stored import THREADS, interleaved, limits, machine, threads, write
from minimoe.model.config import ModelConfig
from minimoe.model.transformer import Transformer
from minimoe.scale.planner.model_size import plan

CONFIG = ModelConfig.from_dict(
    ModelConfig.named("Qwen3-235B-A22B").to_dict() | {"num_hidden_layers": 1, "vocab_size": 2048}
)
PROMPTS = (512, 2048)
CONTEXT = 64  # tokens before the new one


def random_pair() -> tuple[Transformer, transformers.PreTrainedModel]:
    """The same weights in both libraries. transformers stacks gate and up, so the experts are in memory twice."""
    with torch.device("meta"):
        ours = Transformer(CONFIG).to(torch.bfloat16)
        facts = {key: value for key, value in CONFIG.to_dict().items() if key != "architectures"}
        config = transformers.Qwen3MoeConfig(**facts)
        theirs = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    ours = ours.to_empty(device="cpu").requires_grad_(False).eval()
    some = torch.randn(2**22, generator=torch.Generator().manual_seed(0)).mul_(0.02).bfloat16()
    for name, parameter in ours.named_parameters():
        for part in parameter.data.flatten().split(len(some)):
            part.copy_(some[: len(part)]) if "norm" not in name else part.fill_(1)
    tensors = {f"model.{name}" if name != "lm_head.weight" else name: value for name, value in ours.named_parameters()}
    experts = "model.layers.0.mlp.experts"
    gate, up = (tensors.pop(f"{experts}.{kind}_proj") for kind in ("gate", "up"))
    tensors[f"{experts}.gate_up_proj"], _ = pack([gate, up], "expert * hidden")
    theirs.load_state_dict({name: tensor.data for name, tensor in tensors.items()}, assign=True)
    theirs.model.rotary_emb = type(theirs.model.rotary_emb)(theirs.config)
    return ours, theirs.eval()


@torch.no_grad()
def main() -> None:
    """Measure, print a table, write data/benchmarks/wide.json."""
    facts, most, rows = machine(), limits(), []
    ours, theirs = random_pair()
    active = plan(CONFIG, precision="bf16").active_bytes - CONFIG.vocab_size * CONFIG.hidden_size * 2
    print(f"\none layer of the 235B in bfloat16  {facts['processor']}, {facts['instruction_set']}")
    with threads(max(THREADS)):
        ours.compile_decode()
    compiled = ours.compiled_decode
    for count in THREADS:
        reads = next(row["bytes_per_second"] for row in most if row["threads"] == count)
        cache, dynamic = ours.new_cache(capacity=CONTEXT + 64), DynamicCache(config=theirs.config)
        ids = torch.randint(0, 2000, (1, max(PROMPTS)), generator=torch.Generator().manual_seed(0))
        ours(ids[:, :CONTEXT], cache=cache)
        theirs(ids[:, :CONTEXT], past_key_values=dynamic, use_cache=True)

        def decode(step, cache=cache, ids=ids) -> None:
            ours.compiled_decode, cache.length = step, CONTEXT
            ours(ids[:, :1], cache=cache, last_only=True)

        def reference(dynamic=dynamic, ids=ids) -> None:
            theirs(ids[:, :1], past_key_values=dynamic, use_cache=True)
            dynamic.crop(-1)

        with threads(count):
            ways = {"transformers": reference, "minimoe": lambda d=decode: d(None)}
            if count == max(THREADS):
                ways["minimoe, compiled"] = lambda d=decode: d(compiled)
            for way, times in interleaved("one token", ways, rounds=15).items():
                rows.append({"what": "one token", "threads": count, "way": way, **times})
                milliseconds, share = times["seconds"] * 1e3, active / reads / times["seconds"]
                print(f"  one token, {count} threads, {way:24s}{milliseconds:9.1f} ms   {share:.0%} of the limit")
            ours.compiled_decode = None
            for length in PROMPTS:
                ways = {
                    "transformers": lambda i=ids[:, :length]: theirs(i, use_cache=False, logits_to_keep=1),
                    "minimoe": lambda i=ids[:, :length]: ours(i, last_only=True),
                }
                for way, times in interleaved(f"prompt of {length}", ways, rounds=2).items():
                    rows.append({"what": f"prompt of {length}", "threads": count, "way": way, **times})
                    print(f"  prompt of {length}, {count} threads, {way:18s}{times['seconds']:9.2f} s")
    write("wide", facts, most, rows)


if __name__ == "__main__":
    main()
