"""Lesson 00 as a reader meets it: Run All, compare two tokens, type a sentence, turn the dial."""

import pytest

from tests.browser import ROOT, keep

LESSON = "notebooks/00_start_here.ipynb"
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not (ROOT / LESSON).exists(), reason="lesson 00 is not written"),
]
PAGE = ".widget-vbox:has(.widget-slider) .widget-html-content"  # what the model writes, below the dial
PATIENCE = 30_000  # milliseconds for the answer of a kernel that does nothing else


def words(page, text):
    """Wait until the sentence above the map contains `text`, and return it."""
    page.wait_for_function(
        "text => document.querySelector('.mt-words')?.textContent.includes(text)", arg=text, timeout=PATIENCE
    )
    return page.locator(".mt-words").inner_text()


def test_lesson_00_runs_and_what_the_reader_does_is_answered(reader):
    lesson = reader(LESSON)
    lesson.locator(".jp-CodeCell", has_text="minimoe.show_token(").first.scroll_into_view_if_needed(timeout=PATIENCE)
    tokens = lesson.locator(".mt-token")
    lesson.wait_for_selector(".mt-light-current", timeout=PATIENCE)  # drawn once the cell is on the screen
    assert tokens.nth(1).inner_text().endswith("cat") and lesson.locator(".mt-light-current").count() == 4 * 8

    tokens.nth(1).click()  # compare the two cats
    lesson.locator(".mt-pin").click()
    tokens.nth(9).click()
    shared = words(lesson, "share")
    assert "6, 6, 3, 4 of 8 experts in layers 0, 1, 2, 3" in shared
    keep(lesson, "lesson_00_compared")

    field = lesson.locator(".mt-form input")  # a sentence of one's own
    field.fill("Hello world.")
    field.press("Enter")
    lesson.wait_for_function("() => document.querySelectorAll('.mt-token').length === 6", timeout=PATIENCE)
    tokens.nth(0).click()
    lesson.locator(".mt-pin").click()
    tokens.nth(1).click()
    assert "3, 4, 5, 2 of 8 experts" in words(lesson, "share")

    dial = lesson.locator(".widget-slider:has-text('experts for each token')")
    dial.scroll_into_view_if_needed(timeout=PATIENCE)
    lesson.wait_for_selector(f"{PAGE}:has-text('8 of 128 experts (as trained)')", timeout=PATIENCE)
    dial.locator(".noUi-handle").focus()
    lesson.keyboard.press("End")
    lesson.wait_for_selector(f"{PAGE}:has-text('128 of 128 experts')", timeout=PATIENCE)
    assert "Once upon a time a big cat" in lesson.locator(PAGE).inner_text()
    keep(lesson, "lesson_00_dial")
    assert lesson.complaints == [] and lesson.strangers == []
