"""The committed mini checkpoint, through its files: transformers and minimoe compute the same."""

import pytest
import torch
import transformers

import minimoe
from minimoe.checkpoint.load import load_model
from minimoe.paths import find
from tests.model.reference import SAME_ROUNDING, assert_as_exact_as_the_reference

TEXT = "The cat sees a red bird. 猫看见一只红色的鸟。 def add(a, b): return a + b\n12 + 30 = 42"


@pytest.fixture(scope="module")
def truth():
    """ids -> the logits in float64."""
    return load_model("data/mini", dtype=torch.float64)


@pytest.fixture(scope="module", params=[torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
def both(request):
    reference = transformers.AutoModelForCausalLM.from_pretrained(find("data/mini"), dtype=request.param).eval()
    return reference, *minimoe.load("data/mini", dtype=request.param)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("engine", ["loop", "gather", "grouped"])
@torch.no_grad()
def test_logits(both, truth, engine, attention):
    reference, model, tokenizer = both
    reference.set_experts_implementation(SAME_ROUNDING[engine])
    reference.set_attn_implementation(attention)
    model.engine, model.attention = engine, attention
    ids = torch.tensor([tokenizer.encode(TEXT)])
    expected, logits = reference(ids, use_cache=False).logits, model(ids)
    if model.dtype == torch.bfloat16:
        assert torch.equal(logits, expected)
    else:
        assert_as_exact_as_the_reference(logits, expected, truth(ids))
