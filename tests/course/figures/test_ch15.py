"""Chapter 15: the widget without a browser, the tiles, and what the curves are drawn from."""

import pytest
import torch

from minimoe.course.article.claims import COLOURS, VERDICTS, claims
from minimoe.course.article.quantities import share_read
from minimoe.course.article.tables import tables
from minimoe.course.figures import ch15_claims, ch15_numbers


def tile_colours(picture):
    return [shape.fillcolor for shape in picture.figure.layout.shapes][: len(claims())]


def test_tiles_show_verdicts_guesses_or_nothing():
    keys = list(claims())
    assert tile_colours(ch15_claims.verdict_tiles()) == [COLOURS[claim.verdict] for claim in claims().values()]
    guessed = tile_colours(ch15_claims.verdict_tiles({keys[2]: "false"}, shown=False))
    assert guessed[2] == COLOURS["false"] and len(set(guessed)) == 2


def test_the_game_goes_on_keeps_guesses_and_counts():
    game = ch15_claims.Guessing()
    keys = list(claims())
    for guess in ("true", "false", "true"):
        game.buttons.value = guess
    assert game.guesses == dict(zip(keys, ("true", "false", "true"), strict=False)) and game.claim.key == keys[3]
    assert "2 of 3 right" in game.score() and "you said “false”, it is “true”" in game.score()

    game.go(-1)
    assert game.claim.key == keys[2] and game.buttons.value == "true"
    game.reveal.value = True
    game.buttons.value = "outdated"
    assert game.claim.key == keys[2] and game.guesses[keys[2]] == "outdated"  # with verdicts shown it stays
    game.go(-3)
    assert game.claim.key == keys[-1] and game.buttons.value is None


def test_verdicts_are_told_only_when_asked_for():
    game = ch15_claims.Guessing(["half"])
    assert "470.2" not in game.says.value
    game.reveal.value = True
    assert "470.2" in game.says.value and "false" in game.says.value


def test_no_guess_no_score():
    assert ch15_claims.Guessing().score().startswith("No guesses yet")


def test_every_verdict_can_be_chosen():
    assert [value for _, value in ch15_claims.Guessing().buttons.options] == list(VERDICTS)


def test_first_seen_by_hand():
    experts = torch.tensor([[[0, 1], [1, 2], [0, 1]], [[3, 4], [3, 4], [0, 5]]])  # layer token slot
    assert ch15_numbers.first_seen(experts, 10) == pytest.approx([0.2, 0.25, 0.35])


def test_first_seen_of_independent_tokens_follows_the_formula():
    generator = torch.Generator().manual_seed(15)
    experts = torch.rand(200, 20, 32, generator=generator).topk(4).indices
    measured = ch15_numbers.first_seen(experts, 32)
    assert measured == pytest.approx([share_read(n, 32, 4) for n in range(1, 21)], abs=0.01)


def test_row_bars_are_sorted_and_say_all_scores():
    picture = ch15_numbers.row_bars(tables()["2507"], "a title")
    lengths = picture.figure.data[0].x
    assert list(lengths) == sorted(lengths, reverse=True) and "57.3 against 59.6" in picture.alt
