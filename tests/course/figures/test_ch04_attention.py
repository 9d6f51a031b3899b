"""The figures of chapter 04 show the weights that they are given."""

import pytest
import torch

from minimoe.course.figures.ch04_attention import (
    cache_bars,
    every_head,
    explore_heads,
    explore_switches,
    head_map,
    listed,
)

WEIGHTS = torch.tensor([[1.0, 0.0, 0.0], [0.3, 0.7, 0.0], [0.1, 0.2, 0.7]])
WORDS = ["the", " cat", "the"]


def test_a_head_map_frames_the_largest_weight_of_each_row():
    picture = head_map(WEIGHTS, WORDS, WORDS, "A head", "mini", row=2)
    frames = [(shape.x0 + 0.5, shape.y0 + 0.5) for shape in picture.figure.layout.shapes]
    assert frames[:3] == [(0, 0), (1, 1), (2, 2)] and len(frames) == 4
    assert [note.text for note in picture.figure.layout.annotations] == ["1", ".70", ".70"]
    assert len(set(picture.figure.data[0].x)) == 3, "two equal tokens stay two columns"
    assert picture.alt.startswith("A head. Strongest: the at the; ·cat at ·cat")


def test_every_head_is_drawn_and_groups_have_a_colour():
    weights = WEIGHTS.expand(3, 4, 3, 3)
    figure = every_head(weights, 2, "Heads", "mini", [0, 2]).figure
    assert len(figure.data) == 8
    assert [trace.hovertemplate[:15] for trace in figure.data[::4]] == ["layer 0, head 0", "layer 2, head 0"]
    colours = [figure.layout[f"xaxis{n if n > 1 else ''}"].linecolor for n in range(1, 5)]
    assert colours[0] == colours[1] != colours[2] == colours[3]


def test_the_cache_of_each_design_is_labelled():
    picture = cache_bars({"one": 1234, "two": 10}, "Title", "Sub", lit="one")
    assert list(picture.figure.data[0].text) == ["1,234", "10"] and "one: 1,234" in picture.alt


def test_the_widget_names_where_a_token_looks():
    box = explore_heads(WEIGHTS.expand(2, 4, 3, 3), WORDS, 2, 1, 3, 1, "mini")
    controls, screen = box.children
    data = screen.outputs[0]["data"]
    assert data["text/plain"].startswith("'·cat' looks at '·cat' with 70%")
    controls.children[2].value = 2
    title = screen.outputs[0]["data"]["application/vnd.plotly.v1+json"]["layout"]["title"]["text"]
    assert title.startswith("'the' looks at 'the' with 70%") and "heads 2 to 3" in title.replace("<br>", " ")


def test_switches_run_each_setting_once():
    calls = []

    def run(off):
        calls.append(off)
        return float(len(off)), "<text>"

    box = explore_switches(run, ["scale", "mask"], "mini")
    switches, page = box.children
    assert "everything on" in page.value and "&lt;text>" in page.value
    switches.children[1].value = False
    assert "without mask: 1.00 nats" in page.value
    switches.children[1].value = True
    assert "everything on" in page.value and calls == [(), ("mask",)]


def test_names_are_listed_with_one_and():
    assert [listed(names) for names in (["a"], ["a", "b"], ["a", "b", "c"])] == ["a", "a and b", "a, b and c"]


@pytest.mark.parametrize("text, shown", [(" cat", "·cat"), ("\n", "⏎"), ("<b>", "‹b›"), ("", "∅")])
def test_tokens_are_visible(text, shown):
    from minimoe.course.figures.ch04_attention import visible

    assert visible(text) == shown
