"""A whole model on one GPU: the 235B in int4, which an H200 holds, and the 30B-A3B in bfloat16.

Random weights are created on the device, packed ones as random numbers with one scale: the output is noise, but memory
and speed are those of the real model (the routing of random weights is close to uniform). The model is rank 0 of 1 over
NCCL, so its two reductions a layer are included. The prompt has three chunks, of which the later ones attend to a
cache; the attention kernels that the device uses for each are listed. Compared are
- allocated memory with the planner's numbers (weights, cache, and the peak while running with the planner's total);
- tokens per second, as written and with `compile_decode`, with the limit of memory bandwidth: every active weight and
  the cache are read once a token, at the measured copy speed of the device. `gpu_transformers` measures transformers.

`python -m benchmarks.gpu_whole 30B` runs one of them; `--tiny` runs the same code on the CPU with a tiny model, counts
the bytes of tensors, measures no peak and compiles nothing.
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

from minimoe.errors import MinimoeError
from minimoe.humanize import units
from minimoe.model.attention import attend_sdpa
from minimoe.model.cache import KVCache
from minimoe.model.config import ModelConfig
from minimoe.model.experts import ExpertBank
from minimoe.model.transformer import Transformer
from minimoe.quantisation.detect import OWN
from minimoe.quantisation.groupwise import GroupwiseInt
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
TOLERANCE = 0.03  # relative to the planner's bytes
CUBLAS = 64 * 2**20  # PyTorch allocates cuBLAS's work space like a tensor: 32 MiB on Hopper, twice for two libraries
CHUNKS = 3  # of a prompt


@dataclass(frozen=True)
class Case:
    """A model, the format of its weights, and its workload."""

    name: str
    config: ModelConfig
    precision: str
    context: int  # tokens in the cache
    chunk: int  # positions of one forward pass
    answer: int

    @property
    def prompt(self) -> int:
        """Length of the prompt in tokens."""
        return CHUNKS * self.chunk


CASES = (
    Case("Qwen3-235B-A22B", ModelConfig.named("Qwen3-235B-A22B"), "int4", 32_768, 512, 16),
    Case("Qwen3-30B-A3B", ModelConfig.named("Qwen3-30B-A3B"), "bf16", 32_768, 512, 64),
)
SMALL = (Case("tiny", TINY, "int4", 128, 16, 8), Case("tiny", TINY, "bf16", 128, 16, 8))


def build(case: Case, device: torch.device) -> TensorSplit:
    """The model on the device, filled stack by stack; the only other memory is one packed stack."""
    with torch.device("meta"):
        model = TensorSplit(case.config, 0, 1)
        if case.precision in OWN:
            pack_modules(model, OWN[case.precision], torch.bfloat16)
    model = model.to(torch.bfloat16).requires_grad_(False).eval()
    generator = torch.Generator(device).manual_seed(0)
    modules = [module for module in model.modules() if not list(module.children()) or isinstance(module, ExpertBank)]
    for module in tqdm(modules, desc=f"creating {case.name} in {case.precision}", leave=False):
        if all(tensor.is_meta for tensor in (*module.parameters(), *module.buffers())):  # not filled with its bank
            module.to_empty(device=device)
            fill(module, generator)
    return model


def fill(module: nn.Module, generator: torch.Generator) -> None:
    """Fill one module with random values."""
    if isinstance(module, ExpertBank):
        for name in ("gate_proj", "up_proj", "down_proj"):
            stack = getattr(module, name)
            if isinstance(stack, PackedBank):
                fill_packed(stack, generator)
            else:
                stack.normal_(std=0.02, generator=generator)
    elif isinstance(module, PackedLinear):
        fill_packed(module, generator)
    else:
        for parameter in module.parameters():
            parameter.normal_(std=0.02, generator=generator) if parameter.dim() > 1 else parameter.fill_(1)


def fill_packed(module: Packed, generator: torch.Generator) -> None:
    """Fill packed parts with uniform numbers and one scale: weights with a standard deviation of 0.02."""
    format = module.format
    assert isinstance(format, GroupwiseInt)
    numbers, scale = module.parts[format.numbers], module.parts["weight_scale"]
    if format.bits == 4:
        numbers.random_(1, 16, generator=generator)  # -7 to 7, plus 8
        numbers.add_(torch.empty_like(numbers).random_(1, 16, generator=generator), alpha=16)
    else:
        numbers.random_(-format.largest, format.largest + 1, generator=generator)
    scale.fill_(0.02 * 3**0.5 / format.largest)


def bandwidth(device: torch.device, size: int) -> float:
    """Memory bandwidth in bytes per second, measured by copying: each byte is read once and written once."""
    seconds = seconds_to_copy(device, size)
    if device.type == "cuda":
        torch.cuda.empty_cache()  # else these buffers would count as memory of the models
    return 2 * size / seconds


def seconds_to_copy(device: torch.device, size: int) -> float:
    """The shortest of ten copies, in seconds."""
    source = torch.empty(size, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return min(timed(lambda: target.copy_(source), device) for _ in range(10))


def timed(call: Callable[[], object], device: torch.device) -> float:
    """Seconds of a call, until the device has finished."""
    wait = torch.cuda.synchronize if device.type == "cuda" else (lambda: None)
    wait()
    start = time.perf_counter()
    call()
    wait()
    return time.perf_counter() - start


def compare(name: str, measured: int, planned: int) -> bool:
    """Print one line; returns whether both agree within the tolerance."""
    difference = measured / planned - 1
    print(f"  {name:34s}{units(measured):>12s}   planner {units(planned):>12s}   {difference:+.2%}")
    return abs(difference) <= TOLERANCE


def is_bounded(name: str, measured: int, bound: int) -> bool:
    """Print one line; returns whether a measurement is within the planner's work space, which is an upper bound."""
    fits = measured <= bound + CUBLAS
    verdict = "within its bound" if fits else "NOT within its bound"
    print(f"  {name:34s}{units(measured):>12s}   planner {units(bound):>12s}   {verdict}")
    return fits


@torch.no_grad()
def run(case: Case, device: torch.device, speed: float) -> bool:
    """Measure memory and speed of one model; returns whether its memory agrees with the planner."""
    memory = torch.cuda.get_device_properties(device).total_memory if device.type == "cuda" else None
    planned = deploy(
        case.config, 1, memory, case.precision, context=case.context, chunk=case.chunk, name=case.name,
        kernel=kernel_of(torch.cuda.get_device_capability(device)) if device.type == "cuda" else "cpu",
    )  # fmt: skip
    print(f"\n{case.name} in {case.precision}, {case.context:,} tokens of cache")
    if planned.fits is False:
        print(f"  not run: it needs {units(planned.largest.total)}, usable are {units(planned.usable or 0)}")
        return True
    for what, names in attention_kernels(case, device):
        print(f"  attention, {what + ':':13s} {names}")
    before = torch.cuda.memory_allocated(device) if device.type == "cuda" else 0
    model = build(case, device)
    cache = model.new_cache(capacity=case.context)
    weights = sum(tensor.nbytes for tensor in stored_tensors(model).values())
    agree = [compare("weights, bytes of the tensors", weights, planned.weight_bytes)]
    agree.append(compare("cache, bytes of the tensors", cache.bytes, planned.cache_bytes))
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    ids = torch.randint(0, case.config.vocab_size, (1, case.prompt), generator=torch.Generator().manual_seed(0))
    chunks = ids.to(device).split(case.chunk, dim=1)
    read(model, cache, chunks)  # the first pass initialises NCCL and cuBLAS
    cache.reset()
    prefill = timed(lambda: read(model, cache, chunks), device)
    decode = steps(model, cache, case, device)
    filled = cache.length
    if device.type == "cuda":
        # the prompt does not fill the cache, so the plan is computed for the tokens in it
        highest = torch.cuda.max_memory_allocated(device) - before
        in_cache = replace(planned.largest, work=work_bytes(
            case.config, planned.cuts(0), case.prompt + case.answer, case.precision, "bf16", case.chunk,
            planned.kernel,
        ))  # fmt: skip
        agree.append(compare("highest allocated while running", highest, in_cache.total))
        agree.append(is_bounded("work space of the prompt", highest - weights - cache.bytes, in_cache.work))
        free, total = torch.cuda.mem_get_info(device)
        print(f"  used on the device, including context and NCCL: {units(total - free)}")
    report_prompt(case, prefill, CHUNKS)
    report_decode(case, "as written", decode, speed)
    if device.type == "cuda":
        cache.length = filled - case.answer
        report_compiled(model, cache, case, device, speed)
    print(f"  memory is {'within' if all(agree) else 'NOT within'} {TOLERANCE:.0%} of the planner")
    return all(agree)


def report_compiled(model: Transformer, cache: KVCache, case: Case, device: torch.device, speed: float) -> None:
    """Compile the step, and print tokens per second with it."""
    started = time.perf_counter()
    try:
        model.compile_decode()
    except MinimoeError as error:
        print(f"  not compiled: {error}")
        return
    compiling = time.perf_counter() - started
    report_decode(case, f"compiled in {compiling:.0f} s", steps(model, cache, case, device), speed)


def read(model: Transformer, cache: KVCache, chunks: tuple[Tensor, ...]) -> None:
    """Run a prompt chunk by chunk."""
    for chunk in chunks:
        model(chunk, cache=cache, last_only=True)


def attention_kernels(case: Case, device: torch.device) -> Iterator[tuple[str, str]]:
    """(name, operators) of the attention of the first chunk, the last one and a single token."""
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


def steps(model: Transformer, cache: KVCache, case: Case, device: torch.device) -> float:
    """Median seconds of a token, without the first quarter."""
    token, seconds = torch.zeros(1, 1, dtype=torch.int64, device=device), []
    for _ in range(case.answer):
        seconds.append(timed(lambda: model(token, cache=cache, last_only=True), device))
    return statistics.median(seconds[len(seconds) // 4 :])


def report_prompt(case: Case, prefill: float, chunks: int = 1) -> None:
    """Print the time of the prompt."""
    how = "one chunk" if chunks == 1 else f"{chunks} chunks"
    print(f"  prompt of {case.prompt} tokens, {how}: {prefill:.2f} s, {case.prompt / prefill:.1f} tokens/s")


def report_decode(case: Case, how: str, decode: float, speed: float) -> None:
    """Print tokens per second, compared with the limit of bandwidth."""
    sizes = plan(case.config, precision=case.precision)
    lookup = case.config.vocab_size * case.config.hidden_size * 2  # only one row of the embedding is read
    size = sizes.active_bytes - (0 if case.config.tie_word_embeddings else lookup)
    size += (case.prompt + case.answer // 2) * case.config.kv_cache_bytes_per_token("bf16")
    print(f"  then, {how}: {1 / decode:.2f} tokens/s; {units(size)} a token at {speed / 1e9:,.0f} GB/s would be "
          f"{speed / size:.1f} tokens/s: {size / decode / speed:.1%} of the limit")  # fmt: skip


def main(tiny: bool = False, part: str = "") -> None:
    """Run all cases that this machine can run, or those whose name holds `part`."""
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
        for case in SMALL if tiny else [case for case in CASES if part in case.name]:
            agree.append(run(case, device, speed))
            gc.collect()
            if not tiny:
                torch.cuda.empty_cache()
    finally:
        dist.destroy_process_group()
    if not all(agree):
        sys.exit("gpu_whole: memory differs from the planner")


if __name__ == "__main__":
    names = [argument for argument in sys.argv[1:] if argument != "--tiny"]
    main("--tiny" in sys.argv[1:], *names)
