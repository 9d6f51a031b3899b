"""The two losses, against transformers and against definitions written out."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from minimoe.errors import BadArgument
from minimoe.model.config import ModelConfig
from minimoe.model.transformer import Transformer
from minimoe.training.losses import RouterTap, balance_each_layer, load_balancing_loss, next_token_loss
from tests.small import SIZES

CONFIG = ModelConfig(**SIZES | dict(num_hidden_layers=3, initializer_range=0.02))


def random_logits(layers: int, tokens: int, experts: int, seed: int = 0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(tokens, experts, generator=generator) for _ in range(layers)]


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 4), st.integers(1, 40), st.sampled_from([(4, 1), (16, 4), (128, 8)]), st.integers(0, 99))
def test_balance_equals_the_formula_of_transformers(
    layers: int, tokens: int, shape: tuple[int, int], seed: int
) -> None:
    qwen = pytest.importorskip("transformers.models.qwen3_moe.modeling_qwen3_moe")
    experts, top_k = shape
    logits = random_logits(layers, tokens, experts, seed)
    expected = qwen.load_balancing_loss_func(tuple(logits), num_experts=experts, top_k=top_k)
    assert load_balancing_loss(logits, top_k).item() == pytest.approx(expected.item(), rel=1e-5)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 3), st.lists(st.integers(1, 9), min_size=1, max_size=4), st.integers(0, 99))
def test_balance_without_padding_equals_transformers_with_an_attention_mask(
    layers: int, lengths: list[int], seed: int
) -> None:
    qwen = pytest.importorskip("transformers.models.qwen3_moe.modeling_qwen3_moe")
    counted = torch.arange(9) < torch.tensor(lengths)[:, None]
    logits = random_logits(layers, counted.numel(), 16, seed)
    expected = qwen.load_balancing_loss_func(tuple(logits), 16, 4, attention_mask=counted.long())
    assert load_balancing_loss(logits, 4, counted).item() == pytest.approx(expected.item(), rel=1e-5)


def test_its_gradient_equals_theirs() -> None:
    qwen = pytest.importorskip("transformers.models.qwen3_moe.modeling_qwen3_moe")
    ours = [logits.requires_grad_() for logits in random_logits(3, 50, 16)]
    theirs = [logits.detach().clone().requires_grad_() for logits in ours]
    load_balancing_loss(ours, 4).backward()
    qwen.load_balancing_loss_func(tuple(theirs), num_experts=16, top_k=4).backward()
    for mine, reference in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine.grad, reference.grad, rtol=1e-5, atol=1e-8)


def test_even_use_costs_top_k_and_collapse_costs_the_number_of_experts() -> None:
    even = torch.full((16, 16), -50.0)
    for token in range(16):
        even[token, [(token + slot) % 16 for slot in range(4)]] = 0.0
    assert load_balancing_loss([even], 4).item() == pytest.approx(4.0, rel=1e-4)
    collapsed = torch.full((16, 16), -50.0)
    collapsed[:, :4] = 0.0
    assert load_balancing_loss([collapsed], 4).item() == pytest.approx(16.0, rel=1e-4)


def test_only_the_loss_of_each_layer_sees_layers_that_starve_opposite_experts() -> None:
    """Why training does not pool the layers: two collapsed layers that complement each other look even together."""
    first, second = torch.full((32, 8), -50.0), torch.full((32, 8), -50.0)
    first[:, :4] = 0.0
    second[:, 4:] = 0.0
    assert load_balancing_loss([first, second], 4).item() == pytest.approx(4.0, rel=1e-4)
    assert balance_each_layer([first, second], 4).item() == pytest.approx(16.0, rel=1e-4)


def test_next_token_loss_counts_only_what_is_counted() -> None:
    logits = torch.randn(2, 3, 5, generator=torch.Generator().manual_seed(0))
    targets = torch.tensor([[0, 1, 2], [3, 4, 0]])
    counted = torch.tensor([[True, False, True], [False, False, True]])
    wanted = [-math.log(logits[row, place].softmax(0)[targets[row, place]]) for row, place in ((0, 0), (0, 2), (1, 2))]
    assert next_token_loss(logits, targets, counted).item() == pytest.approx(sum(wanted) / 3, rel=1e-5)
    assert next_token_loss(logits, targets, torch.zeros(2, 3, dtype=torch.bool)).item() == 0.0
    everything = next_token_loss(logits, targets, torch.ones(2, 3, dtype=torch.bool))
    torch.testing.assert_close(next_token_loss(logits, targets), everything)


def test_the_tap_hears_every_router_and_leaves_nothing_behind() -> None:
    model = Transformer(CONFIG)
    ids = torch.arange(20).reshape(2, 10)
    before = model(ids)
    with RouterTap(model) as tap:
        torch.testing.assert_close(model(ids), before, rtol=0, atol=0)
        assert list(tap.routings) == [0, 2]  # layer 1 is dense
        assert tap.counts().sum(dim=1).tolist() == [20 * 4, 20 * 4]
        assert all(logits.requires_grad for logits in tap.logits)
    assert not any(module._forward_hooks for module in model.modules())


def test_what_padding_is_made_of_and_how_much_there_is_changes_nothing() -> None:
    """The text of a row is the same in every batch; what follows it differs, and so does the row's length."""
    model = Transformer(CONFIG)
    found = []
    for length, filler in ((12, 0), (12, 5), (20, 5)):
        ids = torch.full((2, length), filler)
        ids[0, :10], ids[1, :7] = torch.arange(10), torch.arange(30, 37)
        counted = torch.arange(length) < torch.tensor([[10], [7]])
        with RouterTap(model, counted) as tap:
            model(ids)
        assert tap.counts().sum(dim=1).tolist() == [17 * 4, 17 * 4]
        found.append((tap.counts(), balance_each_layer(tap.logits, 4, counted)))
    for counts, balance in found[1:]:
        assert torch.equal(counts, found[0][0])
        torch.testing.assert_close(balance, found[0][1])


def test_counted_of_another_batch_is_refused() -> None:
    logits = random_logits(1, 6, 16)
    with pytest.raises(BadArgument, match=r"torch\.bool \(2, 4\), expected one bool for each of the 6 tokens"):
        load_balancing_loss(logits, 4, torch.ones(2, 4, dtype=torch.bool))
    with pytest.raises(BadArgument, match=r"counted is torch\.int64"):
        balance_each_layer(logits, 4, torch.ones(2, 3, dtype=torch.int64))
