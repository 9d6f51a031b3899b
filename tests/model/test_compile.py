"""torch.compile(model): every engine, prompt and decoding, in float32 and bfloat16.

The backends "eager" and "aot_eager" trace as every backend does and need no C++ compiler.
"""

import pytest
import torch
from torch._dynamo.utils import counters

from minimoe.model.config import ModelConfig
from minimoe.model.experts import ENGINES, grouped_linear
from minimoe.model.transformer import Transformer
from tests.small import SIZES

CONFIG = ModelConfig(**SIZES | dict(num_hidden_layers=1, mlp_only_layers=()))


@pytest.fixture(autouse=True)
def nothing_compiled():
    torch._dynamo.reset()
    counters.clear()
    yield
    torch._dynamo.reset()


def small_bank(engine, dtype=torch.float32):
    """A layer's experts with their router, as one function of (token, hidden)."""
    torch.manual_seed(0)
    layer = Transformer(CONFIG).to(dtype).layers[0].mlp
    layer.experts.engine = engine
    return layer


def rows(count, seed=0, dtype=torch.float32):
    return torch.randn(1, count, 32, generator=torch.Generator().manual_seed(seed)).to(dtype)


@torch.no_grad()
def test_prompt_and_decoding_of_a_float32_model():
    """`auto` groups the prompt and gathers for one token."""
    torch.manual_seed(0)
    model = Transformer(CONFIG).eval()
    compiled = torch.compile(model, backend="eager")
    caches = [model.new_cache(capacity=16) for _ in range(2)]
    for count in (9, 1):
        ids = torch.randint(0, 64, (1, count), generator=torch.Generator().manual_seed(0))
        ours, theirs = model(ids, cache=caches[0]), compiled(ids, cache=caches[1])
        torch.testing.assert_close(theirs, ours, rtol=0, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("engine", ENGINES)
@torch.no_grad()
def test_every_engine_equals_itself_uncompiled(engine, dtype):
    bank = small_bank(engine, dtype)
    compiled = torch.compile(bank, backend="eager")
    torch.testing.assert_close(compiled(rows(9, dtype=dtype)), bank(rows(9, dtype=dtype)), rtol=0, atol=0)


def test_gradients_equal_those_of_the_uncompiled_engine():
    bank = small_bank("grouped")
    gradients = []
    for run in (bank, torch.compile(bank, backend="aot_eager")):
        bank.zero_grad()
        run(rows(9)).square().mean().backward()
        gradients.append({name: parameter.grad.clone() for name, parameter in bank.named_parameters()})
    for name, ours in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], ours, rtol=1e-4, atol=1e-6, msg=name)


@pytest.mark.parametrize("engine", ["loop", "grouped"])
@torch.no_grad()
def test_other_selected_experts_do_not_recompile(engine):
    compiled = torch.compile(small_bank(engine), backend="eager")
    compiled(rows(9))
    graphs = counters["stats"]["unique_graphs"]
    for seed in range(1, 6):
        compiled(rows(9, seed))
    assert counters["stats"]["unique_graphs"] == graphs


def test_a_grouped_product_in_float32_is_traced_without_the_kernel():
    given, weights, ends = torch.randn(16, 64), torch.randn(4, 32, 64), torch.tensor([4, 4, 13, 16])
    compiled = torch.compile(grouped_linear, backend="eager")
    torch.testing.assert_close(compiled(given, weights, ends), grouped_linear(given, weights, ends))
