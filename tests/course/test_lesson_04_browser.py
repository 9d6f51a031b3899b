"""Chapter 04 as a reader meets it: Run All, follow a head through the sentence, switch the mask off."""

import pytest

from tests.browser import ROOT

LESSON = "notebooks/04_attention.ipynb"
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not (ROOT / LESSON).exists(), reason="lesson 04 is not written"),
]
FIGURE = "document.querySelector('.jp-OutputArea-child:has(.widget-slider) .js-plotly-plot')"
TITLE = f"() => ({FIGURE}?.layout?.title?.text ?? '').replaceAll('<br>', ' ')"


def test_lesson_04_runs_and_its_widgets_answer(reader):
    page = reader(LESSON)
    handle = page.locator(".widget-slider .noUi-handle").first
    handle.scroll_into_view_if_needed(timeout=30_000)
    page.wait_for_function(TITLE, timeout=30_000)
    before = page.evaluate(TITLE)
    assert before.startswith("'·its' looks at '·cat'"), before
    handle.focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_function(f"() => ({TITLE})().startsWith(\"'·pen' looks at\")", timeout=30_000)
    page.locator(".widget-dropdown select").first.select_option("0")
    page.wait_for_function(f"() => ({TITLE})().includes('Layer 0, head 5')", timeout=30_000)

    switch = page.locator(".widget-checkbox:has-text('mask') input")
    switch.scroll_into_view_if_needed()
    switch.click()
    page.wait_for_selector("text=/without mask: \\d\\.\\d\\d nats/", timeout=30_000)
    assert page.complaints == [] and page.strangers == []
