"""The formula of the work space against the tensors that a forward pass allocates."""

from dataclasses import replace
from itertools import accumulate

import pytest
import torch
from torch.multiprocessing.reductions import StorageWeakRef
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

from minimoe.model import attention
from minimoe.model.config import ModelConfig
from minimoe.model.router import Routing
from minimoe.model.transformer import Transformer
from minimoe.quantisation.detect import FP8, GPTQ_INT4, OWN
from minimoe.quantisation.modules import pack_modules, stored_tensors
from minimoe.scale.distributed import tensor_parallel as parallel
from minimoe.scale.planner.attention_kernels import KERNELS, kernel_bytes
from minimoe.scale.planner.deployment import deploy

CONFIG = ModelConfig(
    vocab_size=1000, hidden_size=256, num_hidden_layers=2, num_attention_heads=8, num_key_value_heads=2, head_dim=32,
    moe_intermediate_size=96, num_experts=8, num_experts_per_tok=2, norm_topk_prob=True,
)  # fmt: skip

WIDTHS = {"bf16": torch.bfloat16, "fp32": torch.float32}
FORMATS = OWN | {"fp8": FP8, "gptq-int4": GPTQ_INT4}


class Alive(TorchDispatchMode):
    """Records after every operation the bytes of live tensors other than those in `known`."""

    def __init__(self, *known):
        super().__init__()
        storages = (tensor.untyped_storage() for tensor in known)
        self.known = [range(each.data_ptr(), each.data_ptr() + each.nbytes()) for each in storages]
        self.alive, self.peak = {}, 0

    def __torch_dispatch__(self, operation, types, arguments=(), keywords=None):
        result = operation(*arguments, **(keywords or {}))
        for tensor in tree_iter(result):
            if isinstance(tensor, torch.Tensor) and not self.is_known(storage := tensor.untyped_storage()):
                self.alive[storage._cdata] = (StorageWeakRef(storage), storage.nbytes())
        self.alive = {key: each for key, each in self.alive.items() if not each[0].expired()}
        self.peak = max(self.peak, sum(size for _, size in self.alive.values()))
        return result

    def is_known(self, storage):
        """By address: views of an expert cache slot have their own storage object in the cache's memory."""
        return any(storage.data_ptr() in memory for memory in self.known)


def known(model, ids, cache):
    """The tensors outside the formula of the work space: input, weights, cache."""
    return [ids, *stored_tensors(model).values(), *cache.keys.values(), *cache.values.values()]


@pytest.mark.parametrize(("chunk", "context"), [(64, 64), (1, 8)])
@pytest.mark.parametrize("precision", ["fp8", "int8", "int4", "gptq-int4"])
@pytest.mark.parametrize("ffn", [96, 128, 512])
def test_unpacked_matrices_are_in_the_formula(precision, chunk, context, ffn):
    """Zeros need the same memory while they are unpacked as real weights."""
    config = replace(CONFIG, moe_intermediate_size=ffn)
    with torch.device("meta"):
        model = Transformer(config).to(torch.bfloat16)
        pack_modules(model, FORMATS[precision], torch.bfloat16)
    model = model.to_empty(device="cpu").requires_grad_(False)
    for name, tensor in stored_tensors(model).items():
        tensor.copy_(torch.arange(tensor.shape[-1]) // 128 if name.endswith("g_idx") else torch.zeros(()))
    model.engine = "loop"
    cache = model.new_cache(capacity=context)
    ids = torch.randint(0, config.vocab_size, (1, chunk))
    with torch.inference_mode(), Alive(*known(model, ids, cache)) as seen:
        model(ids, cache, last_only=True)
    planned = deploy(config, 1, context=context, chunk=chunk, precision=precision, kernel="cpu").ranks[0]
    routing = 40 * chunk * config.num_experts_per_tok  # zeros send all tokens to the same experts: the worst case
    assert (0.4 if ffn == 96 else 0.6) * planned.work <= seen.peak <= planned.work + routing
    weights = sum(part.nbytes for part in stored_tensors(model).values())
    assert (cache.bytes, weights) == (planned.cache, planned.weights)


@pytest.mark.parametrize(("chunk", "context"), [(64, 64), (64, 256), (200, 200), (1, 300)])
@pytest.mark.parametrize(("dtype", "precision"), [(torch.bfloat16, "bf16"), (torch.float32, "fp32")])
def test_the_formula_is_a_close_upper_bound(dtype, precision, chunk, context):
    torch.manual_seed(0)
    model = Transformer(CONFIG).to(dtype)
    model.engine = "loop"
    cache = model.new_cache(capacity=context)
    ids = torch.randint(0, CONFIG.vocab_size, (1, context))
    with torch.inference_mode():
        if chunk < context:
            model(ids[:, :-chunk], cache)
        with Alive(*known(model, ids, cache)) as seen:
            model(ids[:, -chunk:], cache, last_only=True)
    planned = plan_of_one_rank(CONFIG, 1, precision, chunk, context, "cpu")
    assert seen.peak <= planned.work
    if chunk > 1:  # for one token the formula also counts what sampling needs
        assert seen.peak >= 0.6 * planned.work
    assert (cache.bytes, sum(p.nbytes for p in model.parameters())) == (planned.cache, planned.weights)


@pytest.mark.parametrize(("chunk", "context"), [(64, 64), (200, 300), (1, 300)])
@pytest.mark.parametrize(
    ("world", "top_k", "precision"), [(1, 2, "bf16"), (2, 2, "bf16"), (2, 6, "fp32"), (4, 4, "bf16"), (4, 4, "fp32")]
)
def test_a_rank_uses_no_more_work_space_than_planned(monkeypatch, world, top_k, precision, chunk, context):
    """Rank 0 of several in the worst case: every token selects as many local experts as possible."""
    monkeypatch.setattr(parallel, "sum_over_ranks", lambda part: part)
    monkeypatch.setattr(parallel.dist, "all_gather", lambda everyone, mine: None)
    config = replace(CONFIG, num_key_value_heads=4, num_experts_per_tok=top_k)
    model = parallel.TensorSplit(config, 0, world).to(WIDTHS[precision]).requires_grad_(False)
    model.engine = "loop"
    for layer in model.layers:
        layer.mlp.gate.register_forward_hook(lambda _, inputs, routing: all_choose_the_first(routing))
    cache = model.new_cache(capacity=context)
    ids = torch.randint(0, config.vocab_size, (1, chunk))
    cache.length = context - chunk
    with torch.inference_mode(), Alive(*known(model, ids, cache)) as seen:
        model(ids, cache, last_only=True)
    planned = plan_of_one_rank(config, world, precision, chunk, context, "cpu")
    routing = (40 if world == 1 else 80) * chunk * top_k
    assert seen.peak <= planned.work + routing
    if chunk > 1:
        assert seen.peak >= 0.6 * planned.work


def all_choose_the_first(routing):
    return Routing(routing.logits, torch.arange(routing.experts.shape[1]).expand_as(routing.experts), routing.weights)


def plan_of_one_rank(config, world, precision, chunk, context, kernel):
    """The planned work space of rank 0."""
    return deploy(
        config, world, context=context, chunk=chunk, precision=precision, kv_precision=precision, kernel=kernel
    ).ranks[0]


def peak_of_a_chunk(model, chunk, context):
    """Peak bytes while the last `chunk` of `context` positions pass through the model."""
    cache = model.new_cache(capacity=context)
    for stored in (*cache.keys.values(), *cache.values.values()):
        stored.zero_()
    cache.length = context - chunk
    ids = torch.randint(0, model.config.vocab_size, (1, chunk))
    # not inference mode, which would hide tensors created inside the kernel
    with torch.no_grad(), Alive(*known(model, ids, cache)) as seen:
        model(ids, cache, last_only=True)
    return seen.peak


@pytest.mark.parametrize(("chunk", "context"), [(64, 64), (64, 512), (64, 4096), (200, 700), (8, 2048), (1, 300)])
@pytest.mark.parametrize("precision", ["bf16", "fp32"])
@pytest.mark.parametrize(("heads", "shared", "head_dim"), [(8, 2, 32), (8, 8, 16), (6, 1, 8), (4, 2, 128)])
def test_the_formula_of_the_plain_kernel_is_a_close_upper_bound(
    heads, shared, head_dim, precision, chunk, context
):
    """The kernel of a T4, and of every GPU in float32, forced on the CPU, where PyTorch runs the same code."""
    config = replace(CONFIG, num_attention_heads=heads, num_key_value_heads=shared, head_dim=head_dim)
    model = Transformer(config).to(WIDTHS[precision])
    model.engine = "loop"
    with sdpa_kernel(SDPBackend.MATH):
        peak = peak_of_a_chunk(model, chunk, context)
    planned = plan_of_one_rank(config, 1, precision, chunk, context, "plain").work
    assert peak <= planned
    width = WIDTHS[precision].itemsize
    inside = kernel_bytes("plain", chunk, context, heads * head_dim, shared * head_dim, head_dim, width)
    if inside > 0.5 * planned:  # where attention dominates
        assert planned <= 1.5 * peak


def allocated_at_most(call):
    """Peak bytes according to the allocator, which also counts operations inside operations."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        kept = call()
    changes = [event.nbytes() for event in seen.profiler.kineto_results.events() if event.name() == "[memory]"]
    del kept
    return max(accumulate(changes))


@pytest.mark.parametrize("precision", ["bf16", "fp32"])
@pytest.mark.parametrize(
    ("heads", "shared", "chunk", "context"), [(32, 2, 512, 1024), (8, 1, 256, 2048), (4, 4, 256, 1024), (64, 4, 1, 500)]
)
def test_the_plain_kernel_is_bounded_closely(heads, shared, chunk, context, precision):
    """Shares of the 235B's attention, the kernel alone."""
    dtype = WIDTHS[precision]
    q = torch.zeros(1, heads, chunk, 128, dtype=dtype)
    k, v = (torch.zeros(1, shared, context, 128, dtype=dtype) for _ in range(2))
    with sdpa_kernel(SDPBackend.MATH), torch.inference_mode():
        peak = allocated_at_most(lambda: attention.attend_sdpa(q, k, v, None))
    planned = kernel_bytes("plain", chunk, context, heads * 128, shared * 128, 128, dtype.itemsize)
    assert 0.99 * peak <= planned <= 1.05 * peak  # a few numbers, such as minus infinity, are not in the formula


@pytest.mark.parametrize(("chunk", "context"), [(64, 64), (64, 512), (200, 700), (1, 300)])
def test_nothing_is_allocated_beside_flash_attention(monkeypatch, chunk, context):
    """With a substitute that allocates what FlashAttention does: the output, and a number per query and head."""

    def fused(q, k, v, mask):
        numbers = torch.empty(q.shape[:-1], dtype=torch.float32)
        return torch.empty_like(q), numbers

    monkeypatch.setattr(attention, "attend_sdpa", lambda *arguments: fused(*arguments)[0])
    model = Transformer(CONFIG).to(torch.bfloat16)
    model.engine = "loop"
    peak = peak_of_a_chunk(model, chunk, context)
    planned = plan_of_one_rank(CONFIG, 1, "bf16", chunk, context, "flash").work
    assert peak <= planned
    if chunk > 1:
        assert planned <= 1.5 * peak


@pytest.mark.parametrize(("chunk", "context"), [(1, 10), (512, 512), (512, 40_960), (2048, 131_072)])
@pytest.mark.parametrize(("devices", "precision"), [(1, "bf16"), (8, "int4"), (16, "fp8")])
def test_an_unknown_device_is_counted_with_the_kernel_that_needs_most(devices, precision, chunk, context):
    big = ModelConfig.named("Qwen3-235B-A22B")
    works = {
        kernel: deploy(big, devices, context=context, chunk=chunk, precision=precision, kernel=kernel).ranks[0].work
        for kernel in (None, *KERNELS)
    }
    assert works[None] == works["plain"] >= max(works.values())
    assert works["flash"] <= works["cpu"]
