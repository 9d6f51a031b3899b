"""Rows as the scope of the balancing loss, the z-loss and the bias, against definitions written out."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from minimoe.errors import BadArgument
from minimoe.training.balancing import balance_each_row, moved_bias, router_z_loss
from minimoe.training.losses import balance_each_layer
from tests.training.test_losses import random_logits


def test_balance_of_rows_is_the_mean_of_the_rows_alone() -> None:
    logits = random_logits(2, 12, 8)
    alone = [balance_each_layer([layer[4 * row : 4 * row + 4] for layer in logits], 3) for row in range(3)]
    torch.testing.assert_close(balance_each_row(logits, 3, rows=3), torch.stack(alone).mean())
    torch.testing.assert_close(balance_each_row(logits, 3, rows=1), balance_each_layer(logits, 3))
    with pytest.raises(BadArgument, match="rows is 5, expected a divisor of the 12 tokens"):
        balance_each_row(logits, 3, rows=5)


def test_one_sided_rows_of_an_even_batch_cost_only_alone() -> None:
    logits = torch.full((8, 4), -50.0)
    for token in range(8):
        logits[token, token // 2] = 0.0  # four rows of two tokens, each sure of an expert of its own
    assert balance_each_layer([logits], 1).item() == pytest.approx(1.0, rel=1e-5)
    assert balance_each_row([logits], 1, rows=4).item() == pytest.approx(4.0, rel=1e-5)


def test_z_loss_is_the_mean_square_of_the_log_of_the_sum() -> None:
    logits = random_logits(2, 5, 6)
    wanted = sum(
        sum(math.log(sum(math.exp(x) for x in row)) ** 2 for row in layer.tolist()) / len(layer) for layer in logits
    )
    assert router_z_loss(logits).item() == pytest.approx(wanted, rel=1e-5)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 100), min_size=2, max_size=12), st.floats(1e-4, 0.1))
def test_the_bias_moves_against_the_load_and_keeps_its_mean_at_zero(counts: list[int], rate: float) -> None:
    before = torch.linspace(-0.3, 0.5, len(counts), dtype=torch.float64)
    after = moved_bias(before, torch.tensor(counts), rate)
    steps = (after - before) - (after - before)[0]
    mean = sum(counts) / len(counts)
    signs = [(count < mean) - (count > mean) for count in counts]
    assert abs(float(after.mean())) < 1e-12
    torch.testing.assert_close(steps, rate * torch.tensor([sign - signs[0] for sign in signs], dtype=torch.float64))
