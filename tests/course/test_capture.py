"""Tensors taken out of a running model, and the loss that lessons measure."""

import math

import pytest
import torch
from torch.nn import functional as F

import minimoe
from minimoe.course.capture import (
    attention_weights,
    capture,
    changed_config,
    held_out_texts,
    layers_in_order,
    next_token_loss,
)
from minimoe.errors import BadArgument


@pytest.fixture(scope="module")
def mini():
    return minimoe.load("data/mini", dtype="fp32")


def test_captured_outputs_are_those_of_the_modules_and_no_hook_stays(mini):
    model, _ = mini
    ids = torch.tensor([[5, 6, 7, 8]])
    embedded, out = capture(model, ids, "embed_tokens", "layers.0.self_attn")
    assert embedded.equal(model.embed_tokens(ids)) and out.shape == embedded.shape
    assert not any(module._forward_hooks for module in model.modules())


def test_a_wrong_name_is_refused_and_no_hook_stays(mini):
    model, _ = mini
    with pytest.raises(BadArgument, match=r"'layers.0.attention' is no module"):
        capture(model, torch.tensor([[5]]), "embed_tokens", "layers.0.attention")
    with pytest.raises(BadArgument, match="returns a tensor"):
        capture(model, torch.tensor([[5]]), "layers.0.mlp.gate")
    assert not any(module._forward_hooks for module in model.modules())


def test_loss_is_the_mean_over_all_tokens(mini):
    model, tokenizer = mini
    texts = held_out_texts(tokenizer, each=1, seed="test")
    assert len(texts) == 3
    total = count = 0.0
    with torch.no_grad():
        for ids in texts:
            for place in range(ids.shape[1] - 1):
                total -= float(F.log_softmax(model(ids)[0, place], dim=-1)[ids[0, place + 1]])
                count += 1
    assert next_token_loss(model, texts) == pytest.approx(total / count, abs=1e-4)
    assert next_token_loss(model, texts) < 0.5 * math.log(model.config.vocab_size)


def test_config_is_restored_after_an_exception(mini):
    model, _ = mini
    before = model.config
    with pytest.raises(ZeroDivisionError), changed_config(model, rope_theta=5.0):
        assert model.config.rope_theta == 5.0
        raise ZeroDivisionError
    assert model.config is before


def test_attention_weights_are_those_of_transformers(mini):
    transformers = pytest.importorskip("transformers")
    model, tokenizer = mini
    ids = torch.tensor([tokenizer.encode("The big cat sees a red bird.")])
    reference = transformers.AutoModelForCausalLM.from_pretrained(
        str(minimoe.find("data/mini")), dtype=torch.float32, attn_implementation="eager"
    )
    with torch.no_grad():
        expected = torch.cat(reference(ids, output_attentions=True).attentions)
    weights = attention_weights(model, ids)
    torch.testing.assert_close(weights, expected, atol=2e-5, rtol=0)
    torch.testing.assert_close(weights.sum(dim=-1), torch.ones(weights.shape[:3]), atol=1e-5, rtol=0)


def test_attention_weights_leave_the_model_as_it_was(mini):
    model, _ = mini
    ids = torch.tensor([[5, 6, 7]])
    before = model(ids)
    attention_weights(model, ids)
    assert model(ids).equal(before) and not any(module._forward_hooks for module in model.modules())


def test_layers_in_order_puts_all_layers_back(mini):
    model, _ = mini
    ids, before = torch.tensor([[5, 6, 7, 8]]), list(model.layers)
    expected = model(ids)
    with layers_in_order(model, [0, 1, 2, 3]):
        assert model(ids).equal(expected)
    with pytest.raises(ZeroDivisionError), layers_in_order(model, [2]):
        assert not model(ids).equal(expected)
        raise ZeroDivisionError
    assert list(model.layers) == before and model(ids).equal(expected)
    assert [name for name, _ in model.named_parameters()][1].startswith("layers.0.")


def test_layers_in_order_needs_layers_of_the_model(mini):
    with pytest.raises(BadArgument, match="layer 4 is not in this model"), layers_in_order(mini[0], [0, 4]):
        pass
