"""KL divergence and flipped choices against single runs and plain loops."""

import pytest
import torch

import minimoe
from minimoe.course.yardstick import look
from minimoe.quantisation.rounding import round_int, rounded_weights

TEXTS = [torch.tensor([list(range(5, 5 + length))]) for length in (9, 4, 6)]


@pytest.fixture(scope="module")
def mini():
    return minimoe.load("data/mini", dtype="fp32")[0]


def alone(model, ids):
    """Log-probabilities and choices of one text, without a batch."""
    with torch.no_grad(), minimoe.record_routing(model, label="mini") as trace:
        return model(ids)[0].log_softmax(dim=-1), trace.experts


def test_texts_in_a_batch_are_those_alone(mini):
    seen, start = look(mini, TEXTS), 0
    for ids in sorted(TEXTS, key=lambda ids: ids.shape[1]):
        logs, experts = alone(mini, ids)
        part = slice(start, start + ids.shape[1])
        torch.testing.assert_close(seen.log_probabilities[part], logs, rtol=1e-4, atol=1e-4)
        assert seen.targets[part].tolist() == [*ids[0, 1:].tolist(), -1]
        for layer, chosen in enumerate(experts):
            assert seen.experts[layer][part].equal(chosen.long())
        start = part.stop
    assert start == len(seen.targets)


def test_divergence_and_flips_are_those_of_loops(mini):
    seen = look(mini, TEXTS)
    with rounded_weights(mini, lambda weight: round_int(weight, 3), lambda name: "mlp.gate" in name):
        other = look(mini, TEXTS)
    p, q = seen.log_probabilities.double(), other.log_probabilities.double()
    by_token = [sum(float(a.exp() * (a - b)) for a, b in zip(*rows, strict=True)) for rows in zip(p, q, strict=True)]
    assert seen.kl(other) == pytest.approx(sum(by_token) / len(by_token), rel=1e-3)
    assert seen.kl(seen) == 0 and set(seen.flips(seen).values()) == {0.0}
    pairs = list(zip(seen.experts[1].tolist(), other.experts[1].tolist(), strict=True))
    gone = sum(len(set(one) - set(two)) for one, two in pairs)
    assert seen.flips(other)[1] == pytest.approx(gone / seen.experts[1].numel(), abs=1e-6) and gone
    assert seen.changed_sets(other)[1] == pytest.approx(sum(set(a) != set(b) for a, b in pairs) / len(pairs), abs=1e-6)


def test_the_loss_is_that_of_the_next_token(mini):
    seen = look(mini, TEXTS[:1])
    logs, ids = seen.log_probabilities, TEXTS[0][0]
    assert seen.loss == pytest.approx(-sum(float(logs[i, ids[i + 1]]) for i in range(8)) / 8, rel=1e-5)
