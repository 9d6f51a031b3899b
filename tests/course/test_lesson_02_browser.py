"""Chapter 02 as a reader meets it: Run All, scale a hidden vector, switch the norm."""

import pytest

from tests.browser import ROOT

LESSON = "notebooks/02_rmsnorm.ipynb"
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not (ROOT / LESSON).exists(), reason="lesson 02 is not written"),
]
FIGURE = "document.querySelector('.jp-OutputArea-child:has(.widget-slider) .js-plotly-plot')"
TITLE = f"() => ({FIGURE}?.layout?.title?.text ?? '').replaceAll('<br>', ' ')"


def test_lesson_02_runs_and_its_widget_answers(reader):
    page = reader(LESSON, above="direction = F.normalize(before_norm, dim=0) * before_norm.numel() ** 0")
    handle = page.locator(".widget-slider .noUi-handle").first
    handle.scroll_into_view_if_needed(timeout=30_000)
    page.wait_for_function(TITLE, timeout=30_000)
    assert page.evaluate(TITLE).startswith("8 of 8 experts stay: RMSNorm, times 1")
    handle.focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_function(f"() => ({TITLE})().includes('times 1.78')", timeout=30_000)
    assert page.evaluate(TITLE).startswith("8 of 8")
    page.locator(".widget-dropdown select").first.select_option("none")
    page.wait_for_function(f"() => ({TITLE})().includes('experts stay: none')", timeout=30_000)
    assert page.complaints == [] and page.strangers == []
