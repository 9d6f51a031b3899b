"""A whole model on one GPU: the 235B in int4, which an H200 holds, and the 30B-A3B in bfloat16.

Random weights are made on the device, one matrix at a time, packed as `minimoe quantise` packs them: what comes out is
noise, but memory and speed are those of the real model (the routing of random weights is close to uniform). The model
is rank 0 of 1 over NCCL, so its two sums a layer run, too. The prompt is three chunks, of which the later ones attend
to a cache; the attention kernels that the device takes for each are named. Compared are
- allocated memory with the planner's (weights, cache, and the highest while running with the planner's total);
- tokens a second with the limit of memory bandwidth: every active weight and the cache read once a token, at the speed
  with which this device copies.

`python -m benchmarks.gpu_whole --tiny` runs the same code on the CPU with a tiny model; there it counts the tensors'
own bytes, and no peak.
"""

import gc
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile
from tqdm.auto import tqdm

from minimoe.humanize import units
from minimoe.model.attention import attend_sdpa
from minimoe.model.cache import KVCache
from minimoe.model.config import ModelConfig
from minimoe.model.experts import ExpertBank
from minimoe.quantisation.detect import OWN
from minimoe.quantisation.groupwise import Grouped
from minimoe.quantisation.modules import Packed, PackedBank, PackedLinear, pack_modules, stored_tensors
from minimoe.scale.distributed.tensor_parallel import TensorSplit
from minimoe.scale.planner.attention_kernels import kernel_of
from minimoe.scale.planner.deployment import deploy
from minimoe.scale.planner.model_size import plan
from minimoe.scale.planner.rank_memory import work_bytes

TINY = ModelConfig(
    vocab_size=512, hidden_size=256, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, head_dim=64,
    moe_intermediate_size=128, num_experts=8, num_experts_per_tok=2, norm_topk_prob=True, max_position_embeddings=256,
    dtype="bfloat16",
)  # fmt: skip
TOLERANCE = 0.03  # of the planner's bytes
CUBLAS = 64 * 2**20  # PyTorch allocates cuBLAS's work space like a tensor: 32 MiB on Hopper, twice for two libraries
CHUNKS = 3  # of a prompt


@dataclass(frozen=True)
class Case:
    """A model, how its weights are stored, and how much is asked of it."""

    name: str
    config: ModelConfig
    precision: str
    context: int  # tokens in the cache
    chunk: int  # positions that go through the model together
    answer: int

    @property
    def prompt(self) -> int:
        """Tokens of the prompt."""
        return CHUNKS * self.chunk


CASES = (
    Case("Qwen3-235B-A22B", ModelConfig.named("Qwen3-235B-A22B"), "int4", 32_768, 512, 32),
    Case("Qwen3-30B-A3B", ModelConfig.named("Qwen3-30B-A3B"), "bf16", 32_768, 512, 64),
)
SMALL = (Case("tiny", TINY, "int4", 128, 16, 8), Case("tiny", TINY, "bf16", 128, 16, 8))


def build(case: Case, device: torch.device) -> TensorSplit:
    """The model on the device, filled matrix by matrix: beside the result never more than one matrix in 32 bits."""
    with torch.device("meta"):
        model = TensorSplit(case.config, 0, 1)
        if case.precision in OWN:
            pack_modules(model, OWN[case.precision], torch.bfloat16)
    model = model.to(torch.bfloat16).requires_grad_(False).eval()
    make = torch.Generator(device).manual_seed(0)
    modules = [module for module in model.modules() if not list(module.children()) or isinstance(module, ExpertBank)]
    for module in tqdm(modules, desc=f"making {case.name} in {case.precision}", leave=False):
        if all(tensor.is_meta for tensor in (*module.parameters(), *module.buffers())):  # not yet with its bank
            module.to_empty(device=device)
            fill(module, make)
    return model


def fill(module: nn.Module, make: torch.Generator) -> None:
    """Random values for one module."""
    if isinstance(module, ExpertBank):
        for name in ("gate_proj", "up_proj", "down_proj"):
            stack = getattr(module, name)
            if isinstance(stack, PackedBank):
                for expert in range(len(stack)):
                    pack_random(stack, {suffix: part[expert] for suffix, part in stack.parts.items()}, make)
            else:
                stack.normal_(std=0.02, generator=make)
    elif isinstance(module, PackedLinear):
        pack_random(module, module.parts, make)
    else:
        for parameter in module.parameters():
            parameter.normal_(std=0.02, generator=make) if parameter.dim() > 1 else parameter.fill_(1)


def pack_random(module: Packed, parts: dict[str, Tensor], make: torch.Generator) -> None:
    """One random matrix, packed into its places."""
    format = module.format
    assert isinstance(format, Grouped)
    outs, stored = parts[format.numbers].shape
    ins = stored * (2 if format.bits == 4 else 1)
    weight = torch.empty(outs, ins, device=make.device).normal_(std=0.02, generator=make)
    for suffix, packed in format.pack(weight).items():
        parts[suffix].copy_(packed)


def bandwidth(device: torch.device, size: int) -> float:
    """Bytes a second that the device moves while it copies: each is read once and written once."""
    seconds = seconds_to_copy(device, size)
    if device.type == "cuda":
        torch.cuda.empty_cache()  # or what was copied would count as taken by the models
    return 2 * size / seconds


def seconds_to_copy(device: torch.device, size: int) -> float:
    """The shortest of ten tries."""
    source = torch.empty(size, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return min(timed(lambda: target.copy_(source), device) for _ in range(10))


def timed(call: Callable[[], object], device: torch.device) -> float:
    """Seconds until the device has finished."""
    wait = torch.cuda.synchronize if device.type == "cuda" else (lambda: None)
    wait()
    start = time.perf_counter()
    call()
    wait()
    return time.perf_counter() - start


def compare(what: str, found: int, said: int) -> bool:
    """One line; whether both agree to the tolerance."""
    off = found / said - 1
    print(f"  {what:34s}{units(found):>12s}   planner {units(said):>12s}   {off:+.2%}")
    return abs(off) <= TOLERANCE


def is_bounded(what: str, found: int, said: int) -> bool:
    """One line; whether no more was found than the planner, whose work space is an upper bound, says."""
    fine = found <= said + CUBLAS
    print(f"  {what:34s}{units(found):>12s}   planner {units(said):>12s}   {'' if fine else 'NOT '}within its bound")
    return fine


@torch.no_grad()
def run(case: Case, device: torch.device, speed: float) -> bool:
    """One model: what it takes and how fast it is. Whether memory agrees with the planner."""
    memory = torch.cuda.get_device_properties(device).total_memory if device.type == "cuda" else None
    said = deploy(
        case.config, 1, memory, case.precision, context=case.context, chunk=case.chunk, name=case.name,
        kernel=kernel_of(torch.cuda.get_device_capability(device)) if device.type == "cuda" else "cpu",
    )  # fmt: skip
    print(f"\n{case.name} in {case.precision}, {case.context:,} tokens of cache")
    if said.fits is False:
        print(f"  not run: it needs {units(said.largest.total)}, this device has {units(said.usable or 0)} to use")
        return True
    for what, names in attention_kernels(case, device):
        print(f"  attention, {what + ':':13s} {names}")
    before = torch.cuda.memory_allocated(device) if device.type == "cuda" else 0
    model = build(case, device)
    cache = model.new_cache(capacity=case.context)
    weights = sum(tensor.nbytes for tensor in stored_tensors(model).values())
    agree = [compare("weights, bytes of the tensors", weights, said.weight_bytes)]
    agree.append(compare("cache, bytes of the tensors", cache.bytes, said.cache_bytes))
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    ids = torch.randint(0, case.config.vocab_size, (1, case.prompt), generator=torch.Generator().manual_seed(0))
    chunks = ids.to(device).split(case.chunk, dim=1)
    read(model, cache, chunks)  # NCCL and cuBLAS set themselves up in the first pass
    cache.reset()
    prefill = timed(lambda: read(model, cache, chunks), device)
    decode = steps(model, cache, case, device)
    if device.type == "cuda":
        # no prompt of three chunks fills the cache, so the plan for what was in it is compared
        highest = torch.cuda.max_memory_allocated(device) - before
        in_cache = replace(said.largest, work=work_bytes(
            case.config, said.cuts(0), case.prompt + case.answer, case.precision, "bf16", case.chunk, said.kernel
        ))  # fmt: skip
        agree.append(compare("highest allocated while running", highest, in_cache.total))
        agree.append(is_bounded("work space of the prompt", highest - weights - cache.bytes, in_cache.work))
        free, total = torch.cuda.mem_get_info(device)
        print(f"  taken of the device, context and NCCL included: {units(total - free)}")
    report_speed(case, prefill, decode, speed)
    print(f"  memory is {'within' if all(agree) else 'NOT within'} {TOLERANCE:.0%} of the planner")
    return all(agree)


def read(model: TensorSplit, cache: KVCache, chunks: tuple[Tensor, ...]) -> None:
    """A prompt, chunk by chunk."""
    for chunk in chunks:
        model(chunk, cache=cache, last_only=True)


def attention_kernels(case: Case, device: torch.device) -> Iterator[tuple[str, str]]:
    """(what, operators that are run for it) for the first chunk, the last one and a single token."""
    config = case.config
    for what, queries, keys in (
        ("first chunk", case.chunk, case.chunk), ("last chunk", case.chunk, case.prompt), ("one token", 1, case.prompt),
    ):  # fmt: skip
        q = torch.zeros(1, config.num_attention_heads, queries, config.head_dim, dtype=torch.bfloat16, device=device)
        k = torch.zeros(1, config.num_key_value_heads, keys, config.head_dim, dtype=torch.bfloat16, device=device)
        with profile(activities=[ProfilerActivity.CPU]) as seen:
            attend_sdpa(q, k, k, None)
        names = {event.name.removeprefix("aten::") for event in seen.events() if "_scaled_dot_product" in event.name}
        yield what, ", ".join(sorted(names)) or "none named"


def steps(model: TensorSplit, cache: KVCache, case: Case, device: torch.device) -> float:
    """Median seconds of one token after the other, the first ones not counted."""
    token, found = torch.zeros(1, 1, dtype=torch.int64, device=device), []
    for _ in range(case.answer):
        found.append(timed(lambda: model(token, cache=cache, last_only=True), device))
    return statistics.median(found[len(found) // 4 :])


def report_speed(case: Case, prefill: float, decode: float, speed: float) -> None:
    """Tokens a second, beside what bandwidth allows."""
    sizes = plan(case.config, precision=case.precision)
    lookup = case.config.vocab_size * case.config.hidden_size * 2  # of the embedding one row is read
    each = sizes.active_bytes - (0 if case.config.tie_word_embeddings else lookup)
    each += (case.prompt + case.answer // 2) * case.config.kv_cache_bytes_per_token("bf16")
    print(f"  prompt of {case.prompt} tokens, {CHUNKS} chunks: {prefill:.2f} s, {case.prompt / prefill:.1f} tokens/s")
    print(f"  then {1 / decode:.2f} tokens/s; {units(each)} a token at {speed / 1e9:,.0f} GB/s would be "
          f"{speed / each:.1f} tokens/s: {each / decode / speed:.1%} of the limit")  # fmt: skip


def main(tiny: bool = False) -> None:
    """All cases that this machine can run."""
    if not tiny and not torch.cuda.is_available():
        print("\ngpu_whole: not run, this machine has no CUDA device")
        return
    device = torch.device("cpu" if tiny else "cuda:0")
    name = "the CPU (tiny models)" if tiny else torch.cuda.get_device_name(device)
    print(f"\nwhole models with random weights on {name}, torch {torch.__version__}")
    speed = bandwidth(device, 2**26 if tiny else 2**32)
    dist.init_process_group("gloo" if tiny else "nccl", store=dist.HashStore(), rank=0, world_size=1)
    try:
        agree = []
        for case in SMALL if tiny else CASES:
            agree.append(run(case, device, speed))
            gc.collect()
            if not tiny:
                torch.cuda.empty_cache()
    finally:
        dist.destroy_process_group()
    if not all(agree):
        sys.exit("gpu_whole: memory differs from the planner")


if __name__ == "__main__":
    main(tiny="--tiny" in sys.argv[1:])
