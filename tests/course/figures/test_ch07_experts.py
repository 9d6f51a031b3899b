"""The pictures of chapter 07: their numbers against plain counting, and that the driven one follows its widgets."""

import json
from itertools import combinations, product

import pytest
import torch

import minimoe
from minimoe.course.figures import ch07_batch as batches
from minimoe.course.figures import ch07_dispatch as dispatch

PLOTLY = "application/vnd.plotly.v1+json"
CHOICES = torch.tensor([[0, 2], [4, 0], [2, 4]])
WORDS = ["a", "b", "c"]
RECORDED = torch.rand(3, 600, 40, generator=torch.Generator().manual_seed(7)).topk(4, dim=-1).indices


def drawn(dial):
    """The figure that the widget shows, and its text alternative."""
    (shown,) = dial.children[1].outputs
    return shown["data"][PLOTLY], shown["data"]["text/plain"]


def test_cells_are_numbered_by_expert_or_by_token():
    chosen = torch.zeros(3, 6, dtype=torch.long).scatter(1, CHOICES, 1)
    by_expert, by_token = (dispatch.order_of_cells(chosen, way).tolist() for way in (True, False))
    assert by_expert == [[1, 0, 3, 0, 0, 0], [2, 0, 0, 0, 5, 0], [0, 0, 4, 0, 6, 0]]
    assert by_token == [[1, 0, 2, 0, 0, 0], [3, 0, 0, 0, 4, 0], [0, 0, 5, 0, 6, 0]]


def test_cells_say_what_is_computed_and_what_is_used():
    picture = dispatch.cells(CHOICES, 6, WORDS, "T", "S", everything=True)
    assert picture.alt == "T. 3 tokens, 6 experts: 18 pairs computed, 6 used."
    assert [note.text for note in picture.figure.layout.annotations].count("wasted") == 12
    assert "6 pairs computed, 6 used" in dispatch.cells(CHOICES, 6, WORDS, "T", "S").alt


def test_rows_travel_to_the_group_of_their_expert_and_back():
    picture = dispatch.journey(CHOICES, 6, WORDS, "T", "S")
    assert "(E0: 2, E1: 0, E2: 2, E3: 0, E4: 2, E5: 0)" in picture.alt
    notes = [note for note in picture.figure.layout.annotations if note.text.startswith("E")]
    columns = {}
    for note in notes:
        columns.setdefault(int(note.x), []).append((note.y, note.text))
    text = {dispatch.COLUMNS[at]: [name for _, name in sorted(column)] for at, column in columns.items()}
    assert text["copy"] == text["unsort"] == ["E0", "E2", "E4", "E0", "E2", "E4"]
    assert text["sort"] == text["compute"] == ["E0", "E0", "E2", "E2", "E4", "E4"]
    offsets = [note.text for note in picture.figure.layout.annotations if note.text.isdigit()]
    assert offsets == ["2", "4", "6"]


def test_squares_move_from_the_order_of_tokens_to_that_of_experts_and_back():
    picture = dispatch.travel(CHOICES, 6, WORDS, "T", "S")
    places = {frame.name: list(frame.data[0].y) for frame in picture.figure.frames}
    assert list(places) == list(dispatch.COLUMNS)
    assert places["copy"] == places["unsort"] == [0, 1, 2, 3, 4, 5]
    assert places["sort"] == places["compute"] == [0, 2, 4, 1, 3, 5]
    assert places["token"] == places["combine"] == [0.5, 0.5, 2.5, 2.5, 4.5, 4.5]
    bundle = picture._repr_mimebundle_()[PLOTLY]
    assert len(bundle["frames"]) == 6 and "6 rows of 3 tokens" in picture.alt


@pytest.mark.parametrize(("experts", "top_k", "tokens"), [(4, 2, 1), (4, 2, 3), (3, 1, 4), (5, 3, 2)])
def test_expected_hits_are_the_mean_over_all_choices(experts, top_k, tokens):
    choices = [set(each) for each in combinations(range(experts), top_k)]
    counts = [len(set.union(*each)) for each in product(choices, repeat=tokens)]
    assert batches.expected_hits(experts, top_k, tokens) == pytest.approx(sum(counts) / len(counts))


def test_a_batch_has_distinct_experts_and_neighbours_are_a_piece_of_the_recording():
    generator = torch.Generator().manual_seed(0)
    for order in batches.ORDERS:
        batch = batches.draw_batch(RECORDED, 40, 8, order, generator)
        assert batch.shape == (3, 8, 4)
        assert all(len(set(token)) == 4 for layer in batch.tolist() for token in layer)
    batch = batches.draw_batch(RECORDED, 40, 8, batches.ONE_TEXT, generator)
    assert any(torch.equal(batch, RECORDED[:, first : first + 8]) for first in range(593))


def test_mean_hits_of_random_choices_follow_the_formula():
    measured = batches.mean_hits(RECORDED, 40, batches.MIXED)
    for tokens, mean in zip(batches.BATCHES, measured, strict=True):
        assert mean == pytest.approx(batches.expected_hits(40, 4, tokens), abs=0.7)


def test_the_stored_benchmark_has_all_engines_of_the_mini():
    stored = batches.benchmark()
    assert stored["benchmark"] == "experts" and stored["processor"] in batches.measured_on(stored)
    seconds = batches.seconds_of(stored, "mini")
    assert {"loop", "gather", "grouped"} <= set(seconds)
    assert all(set(row) == set(batches.BATCHES) for name, row in seconds.items() if name in ("loop", "grouped"))
    json.dumps(batches.engine_curves(seconds, "T", "S")._repr_mimebundle_())


def test_seconds_are_those_of_one_thread_and_of_float32_where_it_was_measured():
    plain = {"model": "mini", "dtype": "float32", "threads": 1, "tokens": 1, "engine": "loop", "seconds": 1.0}
    changes = ({"threads": 2, "seconds": 2.0}, {"dtype": "bfloat16", "seconds": 3.0}, {})
    rows = [plain | change for change in changes] + [plain | {"model": "235B layer", "dtype": "bfloat16"}]
    assert batches.seconds_of({"rows": rows}, "mini") == {"loop": {1: 1.0}}
    assert batches.seconds_of({"rows": rows}, "235B layer") == {"loop": {1: 1.0}}


def test_the_driven_picture_follows_its_widgets():
    dial = batches.explore_batch(RECORDED, 40, [0, 2, 5], "m")
    tokens, order = dial.children[0].children
    figure, alt = drawn(dial)
    assert alt.startswith("1 token hits 4 of 40 experts: 4 read for each token") and "(m, layer 2)" in alt
    assert sum(value is not None for row in figure["data"][0]["z"] for value in row) == 4
    tokens.value = 256
    assert drawn(dial)[1].startswith("256 tokens hit 40 of 40 experts: 0.16 read for each token")
    assert "25.6 FLOPs for each byte" in drawn(dial)[1]
    order.value = batches.DICE
    assert "Random experts." in drawn(dial)[1] and "layer" not in drawn(dial)[1]


def test_the_numbers_of_an_h100_meet_at_295():
    big = minimoe.ModelConfig.named("Qwen3-235B-A22B")
    assert round(batches.H100_BALANCE) == 295 and big.num_experts // big.num_experts_per_tok == 16
