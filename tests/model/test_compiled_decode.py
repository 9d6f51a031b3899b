"""The compiled step writes the same tokens as the step as written, and stands aside where it cannot know them."""

import shutil
from dataclasses import replace

import pytest
import torch

from minimoe.errors import CacheOverflow, MinimoeError, UnsupportedModel
from minimoe.model import compiled_decode
from minimoe.model.compiled_decode import KEYS, CompiledDecode
from minimoe.model.config import ModelConfig
from minimoe.model.transformer import Transformer
from minimoe.quantisation.groupwise import INT4, INT8
from minimoe.quantisation.modules import pack_modules
from minimoe.routing.trace.hooks import on_routers

SMALL = ModelConfig(
    vocab_size=64, hidden_size=128, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, head_dim=32,
    moe_intermediate_size=128, num_experts=8, num_experts_per_tok=2, norm_topk_prob=True, max_position_embeddings=512,
)  # fmt: skip

ONE_LAYER = replace(SMALL, num_hidden_layers=1)
COMPILERS = ("g++", "clang++", "cl")


@pytest.fixture
def without_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch.compile traces and runs the graph, without a C++ compiler: the graph is tested here, not inductor."""
    compile_ = torch.compile
    monkeypatch.setattr(torch, "compile", lambda step, options=None, **more: compile_(step, backend="eager", **more))


def tokens(model: Transformer, count: int, capacity: int) -> list[int]:
    """Greedy tokens after a fixed prompt."""
    cache, found = model.new_cache(capacity=capacity), []
    with torch.no_grad():
        logits = model(torch.tensor([[1, 2, 3, 4, 5]]), cache=cache, last_only=True)
        for _ in range(count):
            found.append(int(logits[0, -1].argmax()))
            logits = model(torch.tensor([found[-1:]]), cache=cache, last_only=True)
    return found


def random_model(config: ModelConfig = SMALL) -> Transformer:
    torch.manual_seed(0)
    return Transformer(config).eval().requires_grad_(False)


@pytest.mark.parametrize("few_layers", [8, 1], ids=["one graph", "layer by layer"])
def test_the_tokens_are_equal_beyond_the_first_number_of_keys(few_layers, monkeypatch, without_compiler):
    monkeypatch.setattr(compiled_decode, "FEW_LAYERS", few_layers)
    model = random_model()
    expected = tokens(model, KEYS + 20, capacity=KEYS + 40)
    model.compile_decode()
    assert tokens(model, KEYS + 20, capacity=KEYS + 40) == expected


def test_logits_of_a_cache_with_garbage_in_it_are_equal(without_compiler):
    model = random_model()
    cache = model.new_cache(capacity=200)
    for tensor in (*cache.keys.values(), *cache.values.values()):
        tensor.fill_(torch.nan)
    with torch.no_grad():
        model(torch.tensor([[1, 2, 3]]), cache=cache)
        plain = model(torch.tensor([[4]]), cache=cache)
        cache.length = 3
        model.compile_decode()
        torch.testing.assert_close(model(torch.tensor([[4]]), cache=cache), plain, atol=1e-5, rtol=1e-5)
        assert cache.length == 4


@pytest.mark.skipif(not any(map(shutil.which, COMPILERS)), reason="no C++ compiler")
@pytest.mark.skipif(" " in torch.__file__, reason="torch.compile cannot link: the path of PyTorch contains a space")
def test_with_a_real_compiler():
    model = random_model(ONE_LAYER)
    expected = tokens(model, 24, capacity=40)
    model.compile_decode()
    assert tokens(model, 24, capacity=40) == expected


@pytest.mark.parametrize("format", [INT4, INT8], ids=lambda format: format.name)
def test_packed_weights_give_the_logits_of_the_unpacked_ones(format, without_compiler):
    plain, packed = random_model(ONE_LAYER), random_model(ONE_LAYER)
    pack_modules(packed, format, torch.float32)
    stored = dict(packed.named_modules())
    for name, module in plain.named_modules():
        if isinstance(module, torch.nn.Linear) and name != "lm_head":
            weight = format.pack(module.weight)
            for suffix, part in weight.items():
                stored[name].parts[suffix].copy_(part)
            module.weight.data = format.unpack(weight, torch.float32)
        elif hasattr(module, "gate_proj") and hasattr(module, "engine"):
            for kind in ("gate_proj", "up_proj", "down_proj"):
                stack, bank = getattr(module, kind), getattr(stored[name], kind)
                for expert in range(len(stack)):
                    weight = format.pack(stack[expert])
                    for suffix, part in weight.items():
                        bank.parts[suffix][expert] = part
                    stack.data[expert] = format.unpack(weight, torch.float32)
    packed.compile_decode()
    with torch.no_grad():
        for token in (3, 60):
            expected = plain(torch.tensor([[token]]), cache=plain.new_cache(capacity=8))
            found = packed(torch.tensor([[token]]), cache=packed.new_cache(capacity=8))
            torch.testing.assert_close(found, expected, atol=2e-5, rtol=1e-4)


def test_recorded_passes_prompts_and_training_run_as_before(without_compiler, monkeypatch):
    model = random_model()
    model.compile_decode()
    monkeypatch.setattr(CompiledDecode, "__call__", lambda *_: pytest.fail("the compiled step ran"))
    cache, seen = model.new_cache(capacity=16), []
    with torch.no_grad(), on_routers(model, lambda layer, router, routing: seen.append(layer)):
        model(torch.tensor([[1]]), cache=cache)
    assert seen == [0, 1]
    with torch.no_grad():
        model(torch.tensor([[1, 2]]), cache=cache)
        model(torch.tensor([[1]]))
    model(torch.tensor([[1]]), cache=cache)  # with gradients


def test_a_full_cache_and_ids_out_of_range_are_refused_as_before(without_compiler):
    model = random_model()
    model.compile_decode()
    cache = model.new_cache(capacity=2)
    with torch.no_grad():
        with pytest.raises(MinimoeError, match="vocabulary"):
            model(torch.tensor([[64]]), cache=cache)
        model(torch.tensor([[1, 2]]), cache=cache)
        with pytest.raises(CacheOverflow):
            model(torch.tensor([[1]]), cache=cache)


def test_parts_of_a_model_are_refused():
    with pytest.raises(UnsupportedModel, match="needs all layers"):
        Transformer(SMALL, layers=range(1, 2)).compile_decode()
    model = random_model()
    for layer in model.layers:
        layer.mlp.experts.gate_proj = None
        del layer.mlp.experts.gate_proj
        layer.mlp.experts.gate_proj = [torch.zeros(1)] * 8
    with pytest.raises(UnsupportedModel, match="streamed"):
        model.compile_decode()


def test_without_a_compiler_the_message_names_one(monkeypatch):
    class InvalidCxxCompiler(RuntimeError):
        pass

    def fails(*arguments):
        raise InvalidCxxCompiler("No working C++ compiler found in torch._inductor.config.cpp.cxx: (None, 'g++')")

    monkeypatch.setattr(CompiledDecode, "__call__", fails)
    with pytest.raises(MinimoeError, match="apt-get install g\\+\\+"):
        random_model().compile_decode()


def test_a_space_in_the_path_of_pytorch_is_named(monkeypatch):
    def fails(*arguments):
        raise RuntimeError("CppCompileError: C++ compile error ... cannot find -ltorch")

    monkeypatch.setattr(CompiledDecode, "__call__", fails)
    monkeypatch.setattr(torch, "__file__", "/my files/torch/__init__.py")
    with pytest.raises(MinimoeError, match="contains a space: /my files/torch"):
        random_model().compile_decode()


def test_code_that_the_compiler_refuses_is_named(monkeypatch):
    def fails(*arguments):
        raise RuntimeError("CppCompileError: C++ compile error ... 'at::vec' has not been declared")

    monkeypatch.setattr(CompiledDecode, "__call__", fails)
    monkeypatch.setattr(torch, "__file__", "/files/torch/__init__.py")
    with pytest.raises(MinimoeError, match="compiler refused what"):
        random_model().compile_decode()
