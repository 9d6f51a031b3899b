"""The pictures of chapter 00: the numbers that they show, and what the dial writes."""

import json

import pytest
import torch

import minimoe
from minimoe.course.figures import ch00_start as pictures
from minimoe.model.config import ModelConfig
from minimoe.scale.planner.model_size import plan
from tests.small import SIZES

PLOTLY = "application/vnd.plotly.v1+json"
BIG = ModelConfig.named("Qwen3-235B-A22B")


def texts(picture):
    """All text that stands in a figure besides its title and axes."""
    figure = picture.figure
    labels = [text for trace in figure.data if trace.text is not None for text in trace.text]
    return " ".join([*labels, *(note.text for note in figure.layout.annotations)])


def test_the_curves_show_every_number_and_chance():
    picture = pictures.shared_curves([3.31, 2.98], [0.51, 0.5], 0.5, "Title", "random")
    for number in ("3.3", "3.0", "0.5", "chance: 0.5", "the same", "different"):
        assert number in texts(picture)
    assert "the same token: 3.3, 3.0; different tokens: 0.5, 0.5; chance: 0.5" in picture.alt


def test_losses_by_count_are_in_order_and_the_trained_one_is_marked():
    picture = pictures.loss_by_count({8: 0.8, 1: 1.0, 128: 1.3}, 8, "Title", "random")
    (curve,) = picture.figure.data
    assert list(curve.x) == [0, 3, 7] and list(curve.y) == [1.0, 0.8, 1.3]
    assert curve.marker.color[1] != curve.marker.color[0] == curve.marker.color[2]
    assert "1.00 with 1, 0.80 with 8, 1.30 with 128; trained with 8" in picture.alt


def test_the_dial_writes_with_the_chosen_number_and_shows_markup_as_text():
    asked = []

    def write(count):
        asked.append(count)
        return f"<b>{count}</b>\nend"

    dial, page = pictures.explore_count(write, [128, 1, 8], value=8, trained=8).children
    assert "8 of 128 experts (as trained)" in page.value and "&lt;b&gt;8&lt;/b&gt;<br>end" in page.value
    dial.value = 128
    assert asked == [8, 128] and "128 of 128 experts</b>" in page.value and "as trained" not in page.value


def test_answers_come_from_the_report_of_the_model():
    report = json.loads((minimoe.find("data/mini") / "report.json").read_text())
    picture = pictures.thinking_gain("data/mini")
    for task, modes in report["tasks"].items():
        rates = f"{modes['not_thinking']['rate']:.0%} and {modes['thinking']['rate']:.0%}"
        assert f"{pictures.TASKS[task]} {rates}" in picture.alt
    gains = [modes["thinking"]["rate"] - modes["not_thinking"]["rate"] for modes in report["tasks"].values()]
    first = picture.figure.data[0]
    assert first.x[1] - first.x[0] == pytest.approx(max(gains))
    assert "97% with 180" in pictures.thinking_budget("data/mini").figure.layout.title.text


@pytest.mark.parametrize("draw", [pictures.thinking_gain, pictures.thinking_budget])
def test_a_model_without_a_report_is_told_how_to_get_one(draw, tmp_path):
    assert "minimoe evaluate" in draw(tmp_path)


def test_two_models_have_one_square_for_each_selected_expert():
    small = ModelConfig(**SIZES)
    chosen = torch.tensor([[0, 5, 7], [15, 2, 3]])
    picture = pictures.two_models(chosen, small, "random", BIG)
    one, two = picture.figure.data
    assert list(one.x) == [0, 5, 7, 15, 2, 3] and list(one.y) == [0, 0, 0, 1, 1, 1]
    assert len(two.x) == 94 * 8 == len(set(zip(two.x, two.y, strict=True)))
    assert min(two.y) > max(one.y) and set(two.x) <= set(range(128))
    assert (
        "uses 6 of the random's 32 experts, and 752 of the 235B's 12,032" in picture.alt
        and "random for the 235B" in picture.alt
    )


def test_the_parts_are_those_of_the_planner():
    picture = pictures.parameters_by_part(BIG)
    (bars,) = picture.figure.data
    total = sum(part.parameters for part in plan(BIG).parts)
    assert sum(bars.x) == pytest.approx(100) and list(bars.x) == sorted(bars.x, reverse=True)
    assert {name: round(share * total / 100) for name, share in zip(bars.y, bars.x, strict=True)} == {
        part.name: part.parameters for part in plan(BIG).parts
    }
    assert bars.text[0] == "96.6%" and not any(float(text[:-1]) == 0 for text in bars.text)
    assert "experts 96.6% (227.1 billion)" in picture.alt
