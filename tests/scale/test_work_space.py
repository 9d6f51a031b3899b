"""The formula of the work space against the tensors that a forward pass really keeps alive."""

from dataclasses import replace

import pytest
import torch
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

from minimoe.checkpoint.formats.choose import FP8, GPTQ_INT4, OWN
from minimoe.checkpoint.formats.packed import pack_modules, stored_tensors
from minimoe.model.config import ModelConfig
from minimoe.model.router import Routing
from minimoe.model.transformer import Transformer
from minimoe.scale import parallel
from minimoe.scale.plan import deploy

CONFIG = ModelConfig(
    vocab_size=1000, hidden_size=256, num_hidden_layers=2, num_attention_heads=8, num_key_value_heads=2, head_dim=32,
    moe_intermediate_size=96, num_experts=8, num_experts_per_tok=2, norm_topk_prob=True,
)  # fmt: skip

WIDTHS = {"bf16": torch.bfloat16, "fp32": torch.float32}
FORMATS = OWN | {"fp8": FP8, "gptq-int4": GPTQ_INT4}


class Alive(TorchDispatchMode):
    """Notes after every operation how many bytes are alive that do not belong to what is `known`."""

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
        """By its address: a slot of the cache of experts is lent as a storage of its own, in the cache's memory."""
        return any(storage.data_ptr() in memory for memory in self.known)


def known(model, ids, cache):
    """What the formula of the work space leaves out: input, weights, cache."""
    return [ids, *stored_tensors(model).values(), *cache.keys.values(), *cache.values.values()]


@pytest.mark.parametrize(("chunk", "context"), [(64, 64), (1, 8)])
@pytest.mark.parametrize("precision", ["fp8", "int8", "int4", "gptq-int4"])
@pytest.mark.parametrize("ffn", [96, 128, 512])
def test_unpacked_matrices_are_in_the_formula(precision, chunk, context, ffn):
    """Stored zeros serve as well as weights: what is alive while they are unpacked is the same."""
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
    said = deploy(config, 1, context=context, chunk=chunk, precision=precision).ranks[0]
    routing = 40 * chunk * config.num_experts_per_tok  # zeros send all tokens to the same experts: the worst case
    assert (0.4 if ffn == 96 else 0.6) * said.work <= seen.peak <= said.work + routing
    assert (cache.bytes, sum(part.nbytes for part in stored_tensors(model).values())) == (said.cache, said.weights)


@pytest.mark.parametrize(("chunk", "context"), [(64, 64), (64, 256), (200, 200), (1, 300)])
@pytest.mark.parametrize(("dtype", "precision"), [(torch.bfloat16, "bf16"), (torch.float32, "fp32")])
def test_no_more_is_alive_than_the_formula_says_and_not_much_less(dtype, precision, chunk, context):
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
    said = deploy(CONFIG, 1, context=context, chunk=chunk, precision=precision, kv_precision=precision).ranks[0]
    assert seen.peak <= said.work
    if chunk > 1:  # for one token the formula also counts what sampling needs
        assert seen.peak >= 0.6 * said.work
    assert (cache.bytes, sum(p.nbytes for p in model.parameters())) == (said.cache, said.weights)


@pytest.mark.parametrize(("chunk", "context"), [(64, 64), (200, 300), (1, 300)])
@pytest.mark.parametrize(
    ("world", "top_k", "precision"), [(1, 2, "bf16"), (2, 2, "bf16"), (2, 6, "fp32"), (4, 4, "bf16"), (4, 4, "fp32")]
)
def test_a_rank_keeps_no_more_alive_than_its_plan_says(monkeypatch, world, top_k, precision, chunk, context):
    """Rank 0 of some, in the worst case: every token chooses as many experts here as there are."""
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
    said = deploy(config, world, context=context, chunk=chunk, precision=precision, kv_precision=precision).ranks[0]
    routing = (40 if world == 1 else 80) * chunk * top_k
    assert seen.peak <= said.work + routing
    if chunk > 1:
        assert seen.peak >= 0.6 * said.work


def all_choose_the_first(routing):
    return Routing(routing.logits, torch.arange(routing.experts.shape[1]).expand_as(routing.experts), routing.weights)
