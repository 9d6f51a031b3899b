"""Chapter 11 as a reader meets it: Run All, and a live run with its switch."""

import pytest

from tests.browser import ROOT, keep

LESSON = "notebooks/11_training.ipynb"
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not (ROOT / LESSON).exists(), reason="lesson 11 is not written"),
]
LIVE = ".jp-OutputArea-child:has(.widget-toggle-buttons)"
TITLE = f"(document.querySelector('{LIVE} .js-plotly-plot')?.layout?.title?.text ?? '').replaceAll('<br>', ' ')"


def wait_for(page, text):
    """Wait until the title of the live picture contains a text; the title."""
    page.wait_for_function(f"text => {TITLE}.includes(text)", arg=text, timeout=60_000)
    return page.evaluate(TITLE)


def test_lesson_11_runs_and_its_live_run_obeys(reader):
    page = reader(LESSON)
    page.locator(LIVE).first.scroll_into_view_if_needed(timeout=30_000)
    assert "Recorded: the balancing loss was off until step 200, then on" in wait_for(page, "Step 400")
    page.locator(f"{LIVE} button:has-text('train')").first.click()
    assert "The balancing loss is off" in wait_for(page, "Step 10:")
    page.locator(f"{LIVE} .widget-toggle-button:has-text('on')").first.click()
    wait_for(page, "The balancing loss is on")
    assert page.evaluate(TITLE).startswith("Step")
    keep(page, "11-live")
    page.locator(f"{LIVE} button:has-text('stop')").first.click()
    page.wait_for_selector(f"{LIVE} button:has-text('train'):not([disabled])", timeout=30_000)
    assert page.complaints == [] and page.strangers == []
