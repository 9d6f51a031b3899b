"""The pictures of chapter 03: their numbers against a plain computation, and that the widgets redraw them."""

import math
from dataclasses import replace

import pytest
import torch

from minimoe.course.figures import ch03_arrows as arrows
from minimoe.course.figures import ch03_rope as pictures
from minimoe.model.config import ModelConfig
from minimoe.model.rope import apply_rope, frequencies_and_scale, rotary_tables

MINI = ModelConfig.named("Qwen3-235B-A22B")
SMALL = replace(MINI, head_dim=8)
PLOTLY = "application/vnd.plotly.v1+json"


def draw(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(3))


def drawn(dial):
    """The figure that the widget shows, and its text alternative."""
    (shown,) = dial.children[1].outputs
    return shown["data"][PLOTLY], shown["data"]["text/plain"]


def turned_to(x, position):
    """(head_dim) turned to a position by the library."""
    cos, sin = rotary_tables(SMALL, position, position + 1, torch.float32, "cpu")
    return apply_rope(x[None, None, None], cos, sin)[0, 0, 0]


def test_the_scores_of_the_pairs_add_up_to_the_score_of_the_head():
    q, k = draw(2, 8)
    frequencies, _ = frequencies_and_scale(SMALL)
    total = sum(
        arrows.score_of(arrows.pair_of(q, pair), arrows.pair_of(k, pair), float(frequencies[pair]), 17, 5)
        for pair in range(4)
    )
    assert total == pytest.approx(float(turned_to(q, 17) @ turned_to(k, 5)), abs=1e-4)


def test_score_by_pair_is_the_mean_over_queries_and_earlier_keys():
    q, k = draw(2, 5, 8)
    frequencies, _ = frequencies_and_scale(SMALL)
    parts = arrows.score_by_pair(q, k, frequencies, torch.tensor([0, 3, 11]))
    for column, distance in enumerate((0, 3, 11)):
        met = [float(turned_to(q[m], distance) @ turned_to(k[n], 0)) for m in range(5) for n in range(m)]
        assert float(parts[:, column].sum()) == pytest.approx(sum(met) / len(met) / math.sqrt(8), abs=1e-4)


def test_sliders_of_the_arrows_redraw_them():
    q, k = draw(2, 8)
    frequencies, _ = frequencies_and_scale(SMALL)
    dial = arrows.explore_arrows(q, k, frequencies, ("cat", "the"), 1, m=15, n=14, label="random")
    m, n, pair, both = dial.children[0].children
    before = drawn(dial)[1]
    assert "query of 'cat', key of 'the'" in before and "q at 15, turned" in before and "(random)" in before
    both.value = 300
    after = drawn(dial)[1]
    assert "q at 15 + 300 = 315" in after and "k at 14 + 300 = 314" in after
    assert before.rpartition("Distance")[2] == after.rpartition("Distance")[2]
    m.value, n.value = 20, 4
    assert "Distance 16" in drawn(dial)[1]
    pair.value = 0
    assert "a whole turn takes 6.3 tokens" in drawn(dial)[1]


def test_the_slider_adds_pairs_and_the_axis_stands_still():
    parts = arrows.score_by_pair(*draw(2, 5, 8), frequencies_and_scale(SMALL)[0], torch.arange(20))
    dial = arrows.explore_sum(parts, 1, "random")
    (count,) = dial.children[0].children
    first, _ = drawn(dial)
    count.value = 4
    last, alt = drawn(dial)
    assert len(first["data"]) == 1 + 1 and len(last["data"]) == 4 + 1
    assert first["layout"]["yaxis"]["range"] == last["layout"]["yaxis"]["range"]
    total = parts.sum(dim=0)
    assert last["data"][-1]["y"] == pytest.approx(total.tolist(), abs=1e-3)
    assert f"highest at distance {int(total.argmax())}" in alt
    low, high = last["layout"]["yaxis"]["range"]
    assert low < float(parts.cumsum(0).min()) and float(parts.cumsum(0).max()) < high


def test_panels_state_the_scores():
    picture = arrows.arrow_panels(
        torch.tensor([1.0, 0.0]), torch.tensor([2.0, 0.0]), math.pi / 2, [(5, 4), (9, 9)], "t", "s"
    )
    assert "q at 5, k at 4: 0.00" in picture.alt.replace("-0.00", "0.00") and "q at 9, k at 9: 2.00" in picture.alt


def test_table_of_cosines_has_a_row_per_position():
    cos, _ = rotary_tables(SMALL, 0, 12, torch.float32, "cpu")
    (heat,) = pictures.cosine_table(cos[:, :4], "a title", "from a config").figure.data
    assert len(heat.z) == 12 and list(heat.z[0]) == [1.0] * 4 and heat.z[3][0] == pytest.approx(math.cos(3), abs=6e-3)


def test_curves_of_wavelengths_and_contexts():
    picture = pictures.wavelength_curves({"big": MINI, "small": SMALL}, {"big": 40_960}, "a title", "from configs")
    assert "big from 6.3 to 5,063,256" in picture.alt
    notes = [note.text for note in picture.figure.layout.annotations]
    assert "big: 40,960" in notes and "small: 4 pairs" in notes and "big" in notes


def test_bars_have_their_values_as_labels_and_mark_the_right_one():
    picture = pictures.loss_bars({"right": 0.5309, "wrong": 2.8668}, "a title", "random", right="right")
    (trace,) = picture.figure.data
    assert list(trace.text) == ["0.5", "2.9"] and "wrong 2.9" in picture.alt
    assert trace.marker.color[0] != trace.marker.color[1]


def test_shift_errors_name_their_curves_at_the_end():
    picture = pictures.shift_errors((1, 1000), {"exact": [1e-6, 1e-5], "rounded": [0.1, 5.0]}, "a title", "random")
    assert "exact: below 0.01; rounded: 5.00" in picture.alt
    assert {"exact", "rounded"} <= {note.text for note in picture.figure.layout.annotations}


def test_stretch_curve_counts_the_pairs():
    recipe = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32_768}
    plain, _ = frequencies_and_scale(MINI)
    stretched, _ = frequencies_and_scale(replace(MINI, rope_scaling=recipe))
    alt = pictures.stretch_curve(plain, stretched, 32_768, "a title", "from the config").alt
    assert "Of 64 pairs 24 are kept, 24 stretched in full" in alt


def test_map_lights_the_turn():
    assert "turning q and k; v is left alone" in pictures.attention_map().alt
