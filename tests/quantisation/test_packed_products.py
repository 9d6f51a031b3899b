"""Packed products agree with unpacking, the plain oracle, and stand aside where the kernel does not fit."""

import pytest
import torch
from torch.nn import functional as F

from minimoe.errors import BadArgument
from minimoe.model.config import ModelConfig
from minimoe.model.experts import ENGINES, ExpertBank
from minimoe.model.transformer import Transformer
from minimoe.quantisation.groupwise import INT4, INT8
from minimoe.quantisation.modules import PackedBank, PackedLinear, pack_modules, stored_tensors
from minimoe.quantisation.packed_products import FEW_ROWS, PackedMatrix, add_packed_products, product_of

CONFIG = ModelConfig(
    vocab_size=64, hidden_size=256, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, head_dim=64,
    moe_intermediate_size=128, num_experts=4, num_experts_per_tok=2, norm_topk_prob=True, max_position_embeddings=128,
)  # fmt: skip


def packed_model(config: ModelConfig = CONFIG, format=INT4, dtype: torch.dtype = torch.bfloat16) -> Transformer:
    torch.manual_seed(0)
    model = Transformer(config).to(dtype).eval().requires_grad_(False)
    plain = dict(model.named_modules())
    weights = {name: getattr(module, "weight", None) for name, module in plain.items()}
    banks = {name: {kind: getattr(module, kind).data for kind in ("gate_proj", "up_proj", "down_proj")}
             for name, module in plain.items() if isinstance(module, ExpertBank)}  # fmt: skip
    pack_modules(model, format, dtype)
    for name, module in model.named_modules():
        if isinstance(module, PackedLinear):
            for suffix, part in format.pack(weights[name]).items():
                module.parts[suffix].copy_(part)
        elif isinstance(module, PackedBank):
            owner, kind = name.rsplit(".", 1)
            for expert, weight in enumerate(banks[owner][kind]):
                for suffix, part in format.pack(weight).items():
                    module.parts[suffix][expert].copy_(part)
    model.engine = "loop"
    return model


@pytest.mark.parametrize("rows", [(1,), (8,), (2, 5), (FEW_ROWS,), (FEW_ROWS + 1,)], ids=str)
def test_a_product_agrees_with_unpacking(rows):
    torch.manual_seed(1)
    parts = INT4.pack(torch.randn(48, 384))
    matrix = product_of(parts, lambda: INT4.unpack(parts, torch.bfloat16))
    x = torch.randn(*rows, 384).bfloat16()
    exact = x.double() @ INT4.unpack(parts, torch.float32).double().T
    found = F.linear(x, matrix)
    assert found.shape == (*rows, 48)
    torch.testing.assert_close(found.double(), exact, rtol=0.02, atol=0.02 * float(exact.abs().max()))


def test_every_number_and_scale_arrives_at_its_place():
    numbers = torch.arange(16 * 256).remainder(15).sub(7).float().reshape(16, 256)
    scales = 2.0 ** torch.arange(32).remainder(7).reshape(16, 2)
    weight = numbers * scales.repeat_interleave(128, dim=1)
    parts = INT4.pack(weight)
    matrix = product_of(parts, lambda: weight)
    unit = torch.eye(256)[: FEW_ROWS].bfloat16()
    assert torch.equal(F.linear(unit, matrix).float(), weight[:, :FEW_ROWS].T)
    unit = torch.eye(256)[-FEW_ROWS:].bfloat16()
    assert torch.equal(F.linear(unit, matrix).float(), weight[:, -FEW_ROWS:].T)


def test_a_model_computes_the_same_and_keeps_its_stored_tensors():
    model, ids = packed_model(), torch.tensor([[1, 2, 3, 4]])
    with torch.no_grad():
        expected, before = model(ids).float(), {name: part.clone() for name, part in stored_tensors(model).items()}
        assert add_packed_products(model) == 2 * (4 + 3 * 4)
        found = model(ids).float()
    assert (found - expected).abs().max() < 0.05 * expected.abs().max()
    assert not torch.equal(found, expected)  # another kernel did run
    assert all(torch.equal(part, before[name]) for name, part in stored_tensors(model).items())


def test_a_shape_that_does_not_fit_is_unpacked_as_before():
    parts = INT4.pack(torch.randn(48, 192))
    assert product_of(parts, lambda: None) is None
    model, ids = packed_model(ModelConfig.from_dict(CONFIG.to_dict() | {"moe_intermediate_size": 64})), torch.ones(1, 2)
    added = add_packed_products(model)
    assert added == 2 * (4 + 2 * 4)  # down_proj has 64 inputs
    with torch.no_grad():
        assert model(ids.long()).isfinite().all()


def test_another_dtype_removes_the_layout():
    model = packed_model()
    add_packed_products(model)
    assert isinstance(model.layers[0].mlp.experts.gate_proj[0], PackedMatrix)
    model.to(torch.float32)
    assert isinstance(model.layers[0].mlp.experts.gate_proj[0], torch.Tensor)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (lambda: Transformer(CONFIG), "no weights in int4"),
        (lambda: packed_model(format=INT8), "no weights in int4"),
        (lambda: packed_model(dtype=torch.float32), "float32"),
    ],
)
def test_other_models_are_refused(model, message):
    with pytest.raises(BadArgument, match=message):
        add_packed_products(model())


def test_every_engine_runs_with_such_matrices():
    model, ids = packed_model(), torch.tensor([[1, 2, 3, 4]])
    add_packed_products(model)
    logits = []
    with torch.no_grad():
        for engine in ENGINES:
            model.engine = engine
            logits.append(model(ids).float())
    assert all((each - logits[0]).abs().max() < 0.05 * logits[0].abs().max() for each in logits)
