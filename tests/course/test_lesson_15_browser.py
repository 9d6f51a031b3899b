"""Chapter 15 as a reader meets it: Run All, guess, and look at the verdicts."""

import pytest

from tests.browser import ROOT, keep

LESSON = "notebooks/15_the_article.ipynb"
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not (ROOT / LESSON).exists(), reason="lesson 15 is not written"),
]
GAME = ".jp-OutputArea-child:has(.widget-toggle-buttons)"
TITLE = f"(document.querySelector('{GAME} .js-plotly-plot')?.layout?.title?.text ?? '')"


def wait_for_title(page, begins):
    page.wait_for_function(f"begins => {TITLE}.startsWith(begins)", arg=begins, timeout=30_000)


def test_lesson_15_runs_and_its_game_keeps_the_score(reader):
    page = reader(LESSON)
    game = page.locator(GAME)
    game.first.scroll_into_view_if_needed(timeout=30_000)
    wait_for_title(page, "0 of 43 guessed")
    for number, guess in enumerate(("true", "false", "outdated"), start=1):
        game.locator(".widget-toggle-button", has_text=guess).first.click()
        wait_for_title(page, f"{number} of 43 guessed")
    assert "GPT-4o and Claude Sonnet" in game.locator(".widget-html").first.inner_text()  # it went on to the fourth
    assert "18 of 23" not in game.locator(".widget-html").first.inner_text()  # and tells nothing yet
    keep(page, "game-guessed")
    game.locator(".widget-checkbox input").check()
    wait_for_title(page, "You: 1 of 3 right")
    assert "18 of 23" in game.locator(".widget-html").first.inner_text()
    keep(page, "game-verdicts")
    corrected = page.locator(".jp-RenderedMarkdown:has-text('with its conditions')").last.text_content()
    assert "470 GB" in corrected and "{" not in corrected
    assert page.complaints == [] and page.strangers == []
