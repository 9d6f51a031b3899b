"""The pictures of chapter 06: what they say in words, and that the driven one follows its widgets."""

import math

import pytest
import torch

from minimoe.course.figures import ch06_router as pictures
from minimoe.figure_style import PART_COLOURS

LOGITS = torch.randn(2, 3, 32, generator=torch.Generator().manual_seed(6))
PLOTLY = "application/vnd.plotly.v1+json"


def drawn(dial):
    """The figure that the widget shows, and its text alternative."""
    (shown,) = dial.children[1].outputs
    return shown["data"][PLOTLY], shown["data"]["text/plain"]


def test_interactive_picture_follows_its_widgets():
    dial = pictures.explore_cut(LOGITS, ["a", "b", "c"], top_k=4, token=1)
    token, layer, temperature = dial.children[0].children
    before, alt = drawn(dial)
    assert "Token 1 'b' in layer 0" in alt and f"(by chance: {4 * 4 / 32:g})" in alt
    token.value, layer.value = 2, 1
    assert "Token 2 'c' in layer 1" in drawn(dial)[1]
    names = drawn(dial)[0]["data"][0]["customdata"]
    assert names[:4] == [f"expert {expert}" for expert in LOGITS[1, 2].topk(4).indices.tolist()]
    temperature.value = 10
    after, _ = drawn(dial)
    assert after["data"][0]["customdata"] == names
    assert after["data"][0]["y"][0] < before["data"][0]["y"][0]
    token.value = 0
    assert "no neighbour" in drawn(dial)[1]


def test_cut_agrees_with_the_router():
    picture = pictures.cut(LOGITS[0, 0], 4, "a title")
    ranked = LOGITS[0, 0].softmax(-1).topk(4).values
    assert f"hold {float(ranked.sum()):.0%}" in picture.alt
    weights = torch.tensor(picture.figure.data[1].y)
    assert torch.allclose(weights, ranked / ranked.sum(), atol=1e-3)


@pytest.mark.parametrize(("top_k", "experts"), [(8, 128), (2, 5), (1, 1)])
def test_chance_is_a_distribution_with_the_known_mean(top_k, experts):
    shares = pictures.chance_of_sharing(top_k, experts)
    assert math.isclose(sum(shares), 1)
    assert math.isclose(sum(n * share for n, share in enumerate(shares)), top_k**2 / experts)


def test_margin_curves_report_the_share_below_a_step():
    picture = pictures.margin_curves(torch.tensor([[0.1, 0.2, 0.3, 0.4], [1.0, 1.0, 1.0, 1.0]]), 0.25, "margins")
    assert "layer 0: 50%, layer 1: 0%" in picture.alt


def test_usage_is_sorted_and_measured_against_an_even_share():
    counts = torch.tensor([[30, 10, 20, 20], [20, 20, 20, 20]])
    picture = pictures.usage_curves(counts, 2, "usage", "mini")
    named = {trace.name: list(trace.y) for trace in picture.figure.data if trace.name}
    assert named == {"layer 0": [0.5, 1.0, 1.0, 1.5], "layer 1": [1.0] * 4}
    assert "0.5 to 1.5 times an even share" in picture.alt


def test_dice_fall_inside_the_grey_band():
    tokens, experts, top_k = 4000, 64, 4
    generator = torch.Generator().manual_seed(0)
    chosen = torch.stack([torch.randperm(experts, generator=generator)[:top_k] for _ in range(tokens)])
    counts = chosen.flatten().bincount(minlength=experts)[None]
    low, high, line = (torch.tensor(trace.y) for trace in pictures.usage_curves(counts, top_k, "t", "s").figure.data)
    assert ((low <= line) & (line <= high)).float().mean() > 0.9


def test_areas_of_the_square_are_shares():
    shapes = pictures.layer_square(1, 19, 80, "a layer").figure.layout.shapes
    areas = [(shape.x1 - shape.x0) * (shape.y1 - shape.y0) for shape in shapes]
    assert [round(area, 6) for area in areas] == [0.81, 0.19, 0.01]  # the dot lies on the experts


def test_map_highlights_one_part():
    shapes = pictures.model_map("router").figure.layout.shapes
    assert len([shape for shape in shapes if shape.fillcolor == PART_COLOURS["router"]]) == 1


def test_a_push_is_minus_the_gradient_by_rank():
    scores, gradient = torch.tensor([1.0, 3.0, 2.0, 0.0, -1.0]), torch.tensor([-0.3, 0.5, -0.2, 0.0, 0.0])
    picture = pictures.pushes(scores, gradient, 2, "pushes", "random")
    (bar,) = picture.figure.data
    assert list(bar.y) == pytest.approx([-0.5, 0.2, 0.3, 0.0])
    assert list(bar.text) == ["−0.5", "+0.2", "+0.3", "0"]
    assert "Of the 2 chosen, 1 go up and 1 down" in picture.alt


def test_dial_begins_where_it_is_told_and_calls_layers_by_their_numbers():
    dial = pictures.explore_cut(LOGITS, ["a", "b", "c"], top_k=4, token=1, layers=[3, 7], layer=1)
    assert "in layer 7" in drawn(dial)[1]
    dial.children[0].children[1].value = 0
    assert "in layer 3" in drawn(dial)[1]
    assert drawn(dial)[0]["layout"]["yaxis"]["range"] == [0, 1.0]


def test_curves_call_layers_by_their_numbers():
    counts = torch.tensor([[30, 10, 20, 20], [20, 20, 20, 20]])
    usage = pictures.usage_curves(counts, 2, "usage", "mini", [3, 7])
    margins = pictures.margin_curves(torch.tensor([[0.1, 0.4], [1.0, 2.0]]), 0.25, "margins", "mini", [3, 7])
    assert [trace.name for trace in usage.figure.data if trace.name] == ["layer 3", "layer 7"]
    assert "layer 3: 50%, layer 7: 0%" in margins.alt
