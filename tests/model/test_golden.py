"""The frozen golden: numbers computed once by transformers (tests/golden/make.py), reproduced without it."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from minimoe.checkpoint.load import load_model

GOLDEN = Path(__file__).parents[1] / "golden"


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("engine", ["loop", "gather", "grouped"])
def test_golden(engine, attention):
    expected = load_file(GOLDEN / "expected.safetensors")
    model = load_model(GOLDEN / "checkpoint")
    model.engine, model.attention = engine, attention
    experts, hidden = [], []
    for layer in model.layers:
        layer.register_forward_pre_hook(lambda module, args: hidden.append(args[0]))
        if hasattr(layer.mlp, "gate"):
            layer.mlp.gate.register_forward_hook(lambda module, args, routing: experts.append(routing.experts))
    with torch.no_grad():
        logits = model(expected["ids"])
    computed = {f"hidden.{n}": state for n, state in enumerate(hidden)} | {"logits": logits}
    for name, state in computed.items():
        torch.testing.assert_close(state, expected[name], atol=1e-5 * float(expected[name].std()), rtol=0)
    assert torch.equal(torch.stack(experts).sort().values, expected["experts"].sort().values)
