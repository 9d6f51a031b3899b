"""Chapter 01 as a reader meets it: Run All, solve a puzzle, type a text and go through its merges."""

import pytest

from tests.browser import ROOT

LESSON = "notebooks/01_tokens.ipynb"
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not (ROOT / LESSON).exists(), reason="lesson 01 is not written"),
]


def fill(page, label, text):
    """Type into the text field with this label, and press Enter."""
    field = page.locator(f".widget-text:has(.widget-label:text-is('{label}')) input")
    field.scroll_into_view_if_needed(timeout=30_000)
    field.fill(text)
    field.press("Enter")


def test_lesson_01_runs_and_its_widgets_answer(reader):
    page = reader(LESSON)
    fill(page, "pattern", "picture row column -> row (picture column)")
    page.wait_for_selector("text=That is it.", timeout=30_000)

    fill(page, "text", "eine Katze")
    page.wait_for_selector("text=/which are the tokens \\(10 characters\\)/", timeout=30_000)
    handle = page.locator(".widget-slider .noUi-handle").first
    handle.focus()
    page.keyboard.press("Home")
    page.wait_for_selector("text=/10 bytes/", timeout=30_000)
    assert page.complaints == [] and page.strangers == []
