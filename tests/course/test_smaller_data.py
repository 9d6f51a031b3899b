"""The stored measurements of chapter 13 belong to the mini that is in the repository, and are complete."""

import pytest

import minimoe
from minimoe.course.figures import ch13_charts
from minimoe.course.yardstick import look
from scripts import measure_smaller as script


@pytest.fixture(scope="module")
def stored():
    return ch13_charts.measured()


def test_every_row_is_there(stored):
    rows = [(row["format"], row["router"]) for row in stored["formats"]["rows"]]
    assert rows == [("bfloat16", "kept")] + [(name, way) for name in script.FORMATS for way in ("kept", "too", "alone")]
    ways = {(row["way"], row["kept"]) for row in stored["pruning"]["rows"]}
    assert ways == {(way, kept) for way in ch13_charts.WAYS for kept in script.KEPT}
    assert [row["without"] for row in stored["left_out"]] == list(script.DOMAINS) == list(ch13_charts.DOMAINS)
    assert len(stored["few_rows"]) == len(script.CALIBRATION)
    assert stored["formats"]["tokens"] == sum(stored["pruning"]["tokens"].values())


def test_the_loss_is_that_of_the_mini(stored):
    model, tokenizer = minimoe.load("data/mini", dtype="fp32")
    texts = script.held_out_texts(tokenizer, script.EACH, "smaller", ("en",))
    assert sum(ids.numel() for ids in texts) == stored["pruning"]["tokens"]["en"]
    assert look(model, texts).loss == pytest.approx(stored["pruning"]["loss"]["en"], abs=2e-3)


def test_one_row_a_line(stored):
    text = script.as_lines(stored)
    assert text.count("\n") > len(stored["formats"]["rows"]) + len(stored["pruning"]["rows"])
    assert max(map(len, text.splitlines())) < 1_000
