"""The pictures of chapter 12: what they say in words, and that the claim machine counts what it says."""

import math

import pytest
import torch

from minimoe.course.exercises.ch12_evidence import all_orders
from minimoe.course.figures import ch12_claims as claims
from minimoe.course.figures import ch12_experts as pictures
from minimoe.figure_style import DOMAIN_COLOURS, PART_COLOURS
from minimoe.routing.statistics import expected_maximum, pmi_chance
from minimoe.routing.trace.synthetic import synthetic_trace

PLOTLY = "application/vnd.plotly.v1+json"
DOMAINS = ("en", "zh")


def tally(documents=6, layers=2, experts=16, planted=()):
    """Documents of 40 tokens, two selections each; `planted` experts of layer 0 are twice as frequent in "zh"."""
    generator = torch.Generator().manual_seed(12)
    hits = torch.full((layers, 2 * documents, experts), 5.0) + torch.randint(
        0, 2, (layers, 2 * documents, experts), generator=generator
    )
    labels = torch.arange(2).repeat_interleave(documents)
    for expert in planted:
        hits[0, labels == 1, expert] *= 2
    return claims.Tally(hits, torch.full((2 * documents,), 40.0), labels, DOMAINS)


def drawn(dial):
    """The figure that the widget shows, and its text alternative."""
    (shown,) = dial.children[1].outputs
    return shown["data"][PLOTLY], shown["data"]["text/plain"]


def test_only_the_planted_specialist_is_above_the_line():
    one = tally(planted=[3])
    picture = claims.claim(one, 0, 1, one.labels, "true labels")
    assert "“L0·E3 is selected" in picture.alt and "1 of 16 experts above the line" in picture.alt
    colours = picture.figure.data[0].marker.color
    assert colours[0] == DOMAIN_COLOURS["zh"] and set(colours[1:]) == {pictures.CHANCE}
    assert claims.ceiling(one, 0, 1) < one.lifts(0, one.labels[None], 1).max()


def test_lifts_equal_counts_by_hand():
    one = tally(planted=[0])
    inside = one.labels == 1
    by_hand = (one.hits[0][inside].sum(0) / one.sizes[inside].sum()) / (one.hits[0].sum(0) / one.sizes.sum())
    assert torch.allclose(one.lifts(0, one.labels[None], 1)[0], by_hand)


def test_tally_equals_the_counts_of_the_trace():
    trace = synthetic_trace(layers=2, tokens=400, num_experts=16, top_k=4, plant=False)
    counted = claims.Tally.of(trace)
    assert counted.hits.sum() == trace.experts.numel() and counted.sizes.sum() == len(trace)
    first = int(trace.documents[0])
    assert counted.domains[counted.labels[first]] == trace.domain_names[trace.domains[0]]
    here = trace.experts[1][trace.documents == first]
    assert torch.equal(counted.hits[1, first].long(), here.flatten().bincount(minlength=16))


def test_permuted_labels_keep_counts_and_the_ceiling_falls_with_more_documents():
    one = tally(documents=30)
    dealt = one.dealt(seed=1, times=5)
    assert dealt.shape == (5, 60) and bool((dealt.sum(dim=1) == 30).all())
    assert claims.ceiling(one.first(2), 0, 1) > claims.ceiling(one, 0, 1) > 1


def test_interactive_picture_follows_its_widgets():
    dial = claims.explore_claims(tally(planted=[3]), layer=0, domain="zh")
    layer, domain, documents, labels, deal = dial.children[0].children
    documents.value = 6
    assert "L0·E3" in drawn(dial)[1] and "true labels; 6 zh documents" in drawn(dial)[1]
    labels.value = "dealt"
    assert "labels dealt at random (deal 1)" in drawn(dial)[1]
    before = drawn(dial)[0]["data"][0]["y"]
    deal.value = 2
    assert "(deal 2)" in drawn(dial)[1] and drawn(dial)[0]["data"][0]["y"] != before
    layer.value, domain.value = 1, "en"
    assert "“L1·E" in drawn(dial)[1] and "in en!”" in drawn(dial)[1]


def test_an_atlas_is_grey_at_uniform_and_white_at_never():
    picture = pictures.atlases({"one": torch.tensor([[1.0, 2.0, 0.0]])}, "a title")
    assert [list(row) for row in picture.figure.data[0].z] == [[0.0, 1.0, None]]
    assert pictures.DIVERGING[len(pictures.DIVERGING) // 2] == [0.5, "#eeeeee"]
    assert "0.00 to 2.00 times uniform" in picture.alt


def test_distances_report_the_layers_above_the_band():
    value, low, high = torch.tensor([0.5, 0.1]), torch.zeros(2), torch.tensor([0.2, 0.2])
    picture = pictures.distances({"en and zh": {"all tokens": (value, low, high)}}, "a title")
    assert "above chance in 1 of the layers" in picture.alt


def test_histograms_count_every_value_once():
    picture = pictures.histograms({"some": torch.tensor([-9.0, 0.1, 0.2, 9.0])}, [-1, 0, 1], {"0": 0.0}, "t", "u")
    assert list(picture.figure.data[0].y) == [0.25, 0.75]


def test_controls_are_described_with_the_target():
    picture = pictures.beside_controls({"L0·E3": (0.5, [0.1, 0.6])}, "a title", "nats")
    assert "1 of 2 controls at least as much" in picture.alt
    bars = pictures.ranked(torch.tensor([0.1, 0.5, 0.2]), [1], 0, "a title", "nats").figure.data[0]
    assert list(bars.customdata) == ["L0·E1", "L0·E2", "L0·E0"] and bars.marker.color[0] == pictures.MARK


def test_grey_in_the_pair_map_is_chance_and_not_zero():
    chance = pmi_chance(128, 8)
    heatmap = pictures.pair_map(torch.zeros(3, 3), torch.tensor([2, 0, 1]), chance, "a title").figure.data[0]
    assert math.isclose((heatmap.zmin + heatmap.zmax) / 2, chance, abs_tol=1e-3) and list(heatmap.x) == [
        "E2",
        "E0",
        "E1",
    ]
    assert heatmap.z[0][0] is None


def test_the_map_lights_one_step():
    lit = [shape for shape in pictures.claim_map().figure.layout.shapes if shape.fillcolor == PART_COLOURS["router"]]
    assert len(lit) == 1


@pytest.mark.parametrize("number", [2, 3, 5, 8])
def test_orders_are_permutations_and_start_with_the_real_one(number):
    orders = all_orders(number)
    assert orders[0].tolist() == list(range(number))
    assert bool((orders.sort(dim=1).values == torch.arange(number)).all())


def test_best_of_many_is_described_with_its_band():
    chance = float(expected_maximum(10, torch.full((128,), 1 / 16))) / 10
    low, high = torch.tensor([chance - 0.1, 0.1]), torch.tensor([chance + 0.1, 0.2])
    picture = pictures.best_of_many(torch.tensor([12]), torch.tensor([0.9]), (10, 100), low, high, ["·in"], "a title")
    assert f"seen 10 times has a best expert with {chance - 0.1:.0%}" in picture.alt


def test_the_damage_of_small_texts_shares_a_bar():
    damage = torch.tensor([0.0, 30.0, 1.0, 45.0, 2.0, 3.0, 4.0, -0.5, 0.25])
    names = [f"{domain} {n}" for domain in ("en", "math", "code") for n in range(3)]
    picture = pictures.damage_by_text(damage, names, "a title")
    bars = picture.figure.data[0]
    assert list(bars.y)[:2] == ["math 0", "en 1"] and bars.y[-1] == "the other 3 together"
    assert bars.x[0] == 45.0 and math.isclose(bars.x[-1], -0.2, abs_tol=0.06)
    assert list(bars.marker.color)[:2] == [DOMAIN_COLOURS["math"], DOMAIN_COLOURS["en"]]
    assert "math 0 45.0" in picture.alt


def test_chance_is_grey_among_means():
    bars = pictures.mean_bars({"dice": 0.5, "the model": 4.04}, "dice", "a title").figure.data[0]
    assert list(bars.text) == ["0.5", "4.0"] and list(bars.marker.color) == [pictures.CHANCE, pictures.REAL]


def test_lines_are_named_once_and_inside():
    lines = {"as written": (torch.tensor([0.01, 0.02]), torch.zeros(2), torch.full((2,), 0.01))}
    lines["shuffled"] = (torch.tensor([0.3, 0.3]), torch.zeros(2), torch.full((2,), 0.02))
    figure = pictures.distances({"en and zh": lines, "en and code": lines}, "a title").figure
    named = [note for note in figure.layout.annotations if note.text in ("as written", "shuffled", "chance")]
    assert [note.text for note in named] == ["as written", "shuffled", "chance"]
    assert {note.xref for note in named} == {"x2"} and all(note.yshift > -10 for note in named)
