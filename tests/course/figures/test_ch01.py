"""Chapter 01: patterns are applied as they are written, and the merges that are shown are those of the tokenizer."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from minimoe.course.figures.ch01_axes import PUZZLES, apply, explore_puzzles, four_pictures, show
from minimoe.course.figures.ch01_merges import (
    explore_merges,
    merge,
    merge_table,
    merges_of,
    pieces_of,
    readable,
    steps_of_text,
)
from minimoe.errors import BadArgument
from minimoe.text.tokenizer import Tokenizer
from tests.house.repository import ROOT

MINI = Tokenizer.from_directory(ROOT / "data" / "mini")
QWEN = "Qwen3-Coder-30B-A3B-Instruct"


@pytest.mark.parametrize("puzzle", PUZZLES, ids=lambda puzzle: puzzle.name)
def test_a_puzzle_is_solved_by_its_own_pattern_only(puzzle):
    pictures = four_pictures()
    target = apply(pictures, puzzle.solution)
    assert target.dim() == 2
    others = [apply(pictures, other.solution) for other in PUZZLES if other is not puzzle]
    assert not any(other.shape == target.shape and bool((other == target).all()) for other in others)


@pytest.mark.parametrize(
    "text, says",
    [
        ("picture row column", "one arrow"),
        ("picture row column -> row (picture column", "parentheses"),
        ("a b -> b a", "can't use this pattern. It says: .*(3 dimensions|Wrong shape|tensor)"),
        ("(a b) row column -> a b row column", "Could not infer sizes"),
        ("picture row column -> row column, picture", "name=number"),
    ],
)
def test_what_is_wrong_with_a_pattern_is_said(text, says):
    with pytest.raises(BadArgument, match=says):
        apply(four_pictures(), text)


def test_missing_axes_are_reduced_and_new_ones_repeated():
    pictures = four_pictures()
    assert apply(pictures, "picture row column -> row column").equal(pictures.amax(dim=0))
    assert apply(pictures[0], "row column -> row column copy, copy=3").shape == (8, 8, 3)


def test_the_puzzle_widget_judges():
    box = explore_puzzles(four_pictures())
    choice, pattern, verdict, screen = box.children[0].children[0], *box.children[1:]
    assert "Not yet" in verdict.value
    pattern.value = PUZZLES[0].solution
    assert "That is it" in verdict.value and "yours: 8 × 32" in screen.outputs[0]["data"]["text/plain"]
    choice.value = PUZZLES[1].name
    assert "Not yet" in verdict.value
    pattern.value = "picture row column -> picture row column"
    assert "has 3 axes" in verdict.value and "yours" not in screen.outputs[0]["data"]["text/plain"]


def test_only_pictures_are_shown():
    with pytest.raises(BadArgument, match="'one' has 3 axes"):
        show({"one": torch.zeros(2, 3, 4)}, "title")


TEXTS = st.text(max_size=40) | st.text(alphabet="the cat's 12猫图书馆 é\n()_+", max_size=60)


@given(TEXTS)
def test_the_merges_give_the_ids_of_the_tokenizer(text):
    ids = merges_of(MINI).ids
    pieces = steps_of_text(MINI, text)[-1][1]
    assert [ids[symbol] for symbols in pieces for symbol in symbols] == MINI.encode(text, special=False)


def test_steps_begin_with_bytes_and_join_one_pair_at_a_time():
    rows = steps_of_text(MINI, " the 猫")
    assert rows[0][0] is None and sum(map(len, rows[0][1])) == len(" the 猫".encode())
    for (_, before), (rank, after) in pairwise(rows):
        assert rank is not None and sum(map(len, after)) < sum(map(len, before))
        assert ["".join(symbols) for symbols in after] == ["".join(symbols) for symbols in before]


@pytest.mark.parametrize(
    "symbols, pair, joined", [("aaa", "aa", ["aa", "a"]), ("banana", "an", ["b", "an", "an", "a"]), ("", "ab", [])]
)
def test_merge(symbols, pair, joined):
    assert merge(list(symbols), tuple(pair)) == joined


def test_bytes_that_are_no_character_are_shown_in_hexadecimal():
    assert [readable(symbol) for symbol in pieces_of(MINI, "猫")[0]] == ["E7", "8C", "AB"]
    assert readable("Ġcat") == "·cat"


def test_a_table_is_for_one_piece():
    assert "·library" in repr(merge_table(MINI, " library")).splitlines()[-1]
    with pytest.raises(BadArgument, match="cut into 2 pieces"):
        merge_table(MINI, "two words")


def test_the_widget_reads_what_is_typed_and_goes_back_to_bytes():
    field, slider, page = explore_merges(MINI, "a cat", "mini").children
    assert "2 symbols, which are the tokens (5 characters)" in page.value
    slider.value = 0
    assert "5 bytes" in page.value
    field.value = "<b>猫</b>"
    assert "&lt;" in page.value and "<b>猫" not in page.value and slider.value == slider.max
    field.value = ""
    assert "type a text" in page.value
    field.value = "a cat"
    assert "2 symbols" in page.value


def test_qwens_token_counts_in_the_lesson(reference):
    counts = {
        "The big cat sees a red bird.": 8, "大猫看见一只红色的鸟。": 8, "Le grand chat voit un oiseau rouge.": 11,
        "def add_5(n):\n    return n + 5": 12, "🙂🐈🐦": 3,
    }  # fmt: skip
    qwen = Tokenizer.from_directory(reference / QWEN)
    assert {text: len(qwen.encode(text)) for text in counts} == counts
    assert len(merges_of(qwen).ranks) == 151_387
