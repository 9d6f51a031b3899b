"""The pictures of chapter 05: their numbers against a plain computation, and that the widget redraws them."""

import math

import pytest
import torch

import minimoe
from minimoe.course.capture import held_out_texts
from minimoe.course.figures import ch05_neuron as neurons
from minimoe.course.figures import ch05_swiglu as pictures
from minimoe.course.figures import ch05_training as training

PLOTLY = "application/vnd.plotly.v1+json"


@pytest.fixture(scope="module")
def mini():
    return minimoe.load("data/mini", dtype="fp32")


@pytest.fixture(scope="module")
def reading(mini):
    model, tokenizer = mini
    return neurons.read(model, held_out_texts(tokenizer, each=2, seed="figures 05"))


def silu(x):
    return x / (1 + math.exp(-x))


def drawn(dial):
    """The figure that the widget shows, and its text alternative."""
    (shown,) = dial.children[1].outputs
    return shown["data"][PLOTLY], shown["data"]["text/plain"]


def test_a_reading_has_what_the_experts_got(mini, reading):
    model, _ = mini
    tokens = len(reading.ids)
    assert set(reading.hidden) == {0, 1, 2, 3} and reading.experts[2].shape == (tokens, 8)
    got = reading.tokens_of(2, int(reading.experts[2][5, 3]))
    assert 5 in got.tolist() and len(got) < tokens
    expected = model.layers[2].mlp.gate(reading.hidden[2][:7]).experts
    assert torch.equal(reading.experts[2][:7].sort().values, expected.sort().values)


def test_the_loudest_neuron_of_a_layer_is_found(mini, reading):
    model, _ = mini
    chosen = neurons.loudest(model, reading, each=2)
    assert len(chosen) == 8 and chosen[0].expert != chosen[1].expert
    gates, sizes = neurons.all_gates(model, reading)
    top = max(float(each.product.abs().max()) * each.column for each in chosen)
    assert top == pytest.approx(float(sizes.max()), rel=1e-5)
    assert len(gates) == 4 * 8 * 32 * len(reading.ids)


def test_a_neuron_is_computed_from_its_rows(mini, reading):
    model, _ = mini
    each = neurons.loudest(model, reading, each=1)[1]
    bank, token = model.layers[each.layer].mlp.experts, int(reading.tokens_of(each.layer, each.expert)[0])
    gate, up = (matrix[each.expert, each.number] for matrix in (bank.gate_proj, bank.up_proj))
    x = reading.hidden[each.layer][token]
    assert float(each.product[0]) == pytest.approx(silu(float(x @ gate)) * float(x @ up), rel=1e-4, abs=1e-5)
    assert each.cosine == pytest.approx(float(gate @ up / gate.norm() / up.norm()), abs=1e-5)


def test_favourites_are_counted_among_the_loudest():
    gate, up = torch.tensor([9.0, 8.0, 7.0, 1.0, -9.0]), torch.tensor([1.0, -1.0, 1.0, 1.0, 1.0])
    each = neurons.Neuron(0, 0, 0, torch.tensor([4, 4, 5, 6, 4]), gate, up, 1.0, 0.0)
    assert neurons.favourite(each, ten=3) == (4, 2, pytest.approx(3 * 0.6))
    assert neurons.count_of(each, 5, ten=3) == 1


@pytest.mark.parametrize(("sign", "left"), [(1, 1.0), (-1, 0.0)])
def test_swapping_leaves_parallel_rows_alone_and_silences_opposite_ones(sign, left):
    gate = torch.tensor([10.0, 20.0, 12.0])
    each = neurons.Neuron(0, 0, 0, torch.tensor([1, 2, 3]), gate, sign * gate, 1.0, float(sign))
    assert neurons.share_left(each, "swapped: SiLU(up) × gate") == pytest.approx(left, abs=0.01)


def test_the_widget_changes_neuron_and_function(mini, reading):
    model, tokenizer = mini
    chosen = neurons.loudest(model, reading, each=1)
    dial = neurons.explore_neuron(chosen, tokenizer, "mini")
    number, function = dial.children[0].children
    figure, alt = drawn(dial)
    assert alt.startswith("Open for") and chosen[0].name in alt and "mini" in alt
    assert len(figure["data"][1]["x"]) == min(neurons.POINTS, len(chosen[0].ids))
    function.value = "no SiLU: gate × up"
    other, alt = drawn(dial)
    assert "The neuron passes on" in alt and "before" in alt and other["data"][0]["z"] != figure["data"][0]["z"]
    number.value = 2
    assert chosen[2].name in drawn(dial)[1]


@pytest.mark.parametrize(
    "share, says",
    [(0.02, "98% less"), (0.998, "as much as"), (1.1, "10% more"), (2.5, "2.5 times as much as"), (1.499, "50% more")],
)
def test_a_change_is_said_in_words(share, says):
    assert neurons.change(share).startswith(says) and neurons.change(share).endswith("before")


def test_the_landscape_is_the_function(mini, reading):
    model, tokenizer = mini
    each = neurons.loudest(model, reading, each=1)[0]
    (heat, points) = neurons.landscape(each, tokenizer, "a title", "mini").figure.data
    row, column = 25, 20
    value = silu(heat.x[column]) * heat.y[row]
    assert heat.z[row][column] == pytest.approx(math.copysign(math.log10(1 + abs(value)), value), abs=0.01)
    loudest = int(each.product.abs().argmax())
    assert points.x[0] == pytest.approx(float(each.gate[loudest]), abs=0.01)


def test_shares_of_gates_are_counted():
    gate, written = torch.tensor([-1.0, -2.0, 0.5, 9.0]), torch.tensor([0.0, 0.0, 3.0, 4.0])
    picture = pictures.shares_by_gate(gate, written, "a title", "random")
    assert "closed: below 0: 50.0 % of the neurons, 0.0 % of the output" in picture.alt
    assert "above 8: 25.0 % of the neurons, 64.0 % of the output" in picture.alt


def test_histogram_of_angles():
    cosine, chance = torch.tensor([0.9, -0.9, 0.1, -0.8]), torch.zeros(4)
    bars, outline = pictures.angle_histogram(cosine, chance, "a title", "random").figure.data
    assert sum(bars.y) == pytest.approx(100) and max(outline.y) == pytest.approx(100)
    assert "Above 0.5: 25 % of the neurons; below -0.5: 50 %." in pictures.angle_histogram(cosine, chance, "t", "r").alt


def test_bars_and_curves_name_their_values():
    picture = pictures.loss_bars({"right": 0.69, "wrong": 1.7}, "a title", "random", right="right")
    assert list(picture.figure.data[0].text) == ["0.69", "1.70"] and "wrong 1.70" in picture.alt
    share = pictures.share_bars({"experts": 990, "routers": 1, "others": 9}, "a title", "from a config")
    assert list(share.figure.data[0].text) == ["99.0 %", "0.10 %", "0.90 %"]
    curves = pictures.training_curves([0, 20], {"SwiGLU": [[8.0, 4.0]], "ReLU": [[8.0, 5.0], [8.0, 5.5]]}, "t", "s")
    assert "SwiGLU 4.0, ReLU 5.0" in curves.alt and len(curves.figure.data) == 3


def test_the_map_and_the_switch_are_described():
    assert "gate and up; the SiLU of gate is multiplied by up" in pictures.expert_map().alt
    assert "SiLU is at its lowest, -0.28, at -1.3" in pictures.activation_curves("a title", "").alt


def test_all_kinds_have_equally_many_parameters_and_learn(mini):
    _, tokenizer = mini
    sizes = {kind: sum(p.numel() for p in training.ThreeTokens(kind, 50, 0).parameters()) for kind in pictures.KINDS}
    assert len(set(sizes.values())) == 1
    seen = training.windows(tokenizer, "train", 2, "figures 05")
    assert torch.equal(seen[1:, :-1], seen[:-1, 1:])
    losses = training.train("SwiGLU", seen, seen, 2048, seed=0, steps=20)
    assert len(losses) == 2 and losses[1] < losses[0] - 1
    assert losses == training.train("SwiGLU", seen, seen, 2048, seed=0, steps=20)
