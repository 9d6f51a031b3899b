"""The figures of chapter 17 draw the numbers that they are given."""

import torch

from minimoe.course.figures import ch17_charts


def test_the_steps_of_a_sum_begin_where_the_last_one_ended():
    picture = ch17_charts.memory_bars({"a": 4e9, "b": 1e9, "c": 2e9}, 8e9, "Title", "")
    assert [float(bar.base[0]) for bar in picture.figure.data[:3]] == [0, 4, 5]
    assert [float(bar.x[0]) for bar in picture.figure.data] == [4, 1, 2, 8]
    assert "a: 4 GB; b: 1 GB; c: 2 GB" in picture.alt


def test_a_table_of_needles_writes_each_count_in_its_cell():
    picture = ch17_charts.found_table(["0", "128"], {"one": [16, 3], "two": [0, 7]}, 16, "before", "Title", "")
    cells = {(note.x, note.y): note.text for note in picture.figure.layout.annotations}
    assert cells == {(0, "one"): "16", (1, "one"): "3", (0, "two"): "0", (1, "two"): "7"}


def test_a_cell_of_a_pattern_is_kept_if_one_of_its_pairs_is():
    weights = torch.ones(6, 6).tril()
    kept = torch.zeros(6, 6, dtype=torch.bool)
    kept[5, 1] = True
    picture = ch17_charts.pattern_map(weights / weights.sum(-1, keepdim=True), kept, "Title", "")
    both = [[[value is not None for value in row] for row in trace.z] for trace in picture.figure.data]
    assert both == [[[True, False], [True, True]], [[False, False], [True, False]]]
    assert "Two triangles of 6 queries and keys: all pairs, and the 1 kept" in picture.alt


def test_lengths_have_their_number_and_the_colour_of_their_kind():
    rows = [("a", 256, "trained"), ("b", 2048, "config"), ("c", 10_000, "stretched")]
    traces = ch17_charts.contexts(rows, "Title", "").figure.data
    assert [trace.text[0].strip() for trace in traces] == ["256", "2,048", "10,000"]
    assert [trace.marker.color for trace in traces] == [ch17_charts.KINDS[kind] for _, _, kind in rows]
