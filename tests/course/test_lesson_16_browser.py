"""Chapter 16 as a reader meets it: Run All, set the switches, and balance by hand."""

import pytest

from tests.browser import ROOT, keep

LESSON = "notebooks/16_router_zoo.ipynb"
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not (ROOT / LESSON).exists(), reason="lesson 16 is not written"),
]
GAME, BOARD = ".jp-OutputArea-child:has(.widget-play)", ".jp-OutputArea-child:has(.widget-checkbox)"


def title(output):
    """A JavaScript expression: the title of the picture in an output."""
    return f"(document.querySelector('{output} .js-plotly-plot')?.layout?.title?.text ?? '').replaceAll('<br>', ' ')"


def wait_for_title(page, output, words):
    page.wait_for_function(f"words => {title(output)}.includes(words)", arg=words, timeout=30_000)


def choose(page, label, option):
    """Choose an option of a dropdown of the switchboard."""
    page.locator(f"{BOARD} .widget-dropdown:has(.widget-label:text-is('{label}')) select").select_option(label=option)


def test_lesson_16_runs_and_its_switches_answer(reader):
    page = reader(LESSON, above="changes = zoo.history()")
    page.locator(".widget-play").first.scroll_into_view_if_needed(timeout=30_000)
    wait_for_title(page, GAME, "Step 0: the busiest expert has 1.4")
    handle = page.locator(f"{GAME} .widget-slider .noUi-handle")
    handle.focus()
    page.keyboard.press("End")
    wait_for_title(page, GAME, "Step 120")
    page.locator(f"{GAME} .widget-dropdown select").select_option(label="quantile (K3)")
    wait_for_title(page, GAME, "Step 120: the busiest expert has 1.0")
    keep(page, "game")

    page.locator(".widget-checkbox").first.scroll_into_view_if_needed(timeout=30_000)
    wait_for_title(page, BOARD, "This is Mixtral; Qwen3-MoE")
    keep(page, "board-before")
    choose(page, "score", "sigmoid")
    wait_for_title(page, BOARD, "No family of the zoo")
    page.locator(f"{BOARD} .widget-checkbox:has-text('selection bias') input").check()
    wait_for_title(page, BOARD, "This is MiniMax")
    choose(page, "scale", "× 2.5")
    wait_for_title(page, BOARD, "This is GLM-4.5")
    choose(page, "groups", "4 of 8, by the two best")
    wait_for_title(page, BOARD, "This is DeepSeek-V3")
    said = page.locator(BOARD).inner_text()
    assert "One switch away:" in said and "GLM-4.5" in said
    keep(page, "board-after")
    assert page.complaints == [] and page.strangers == []
