"""Chapter 17 as a reader meets it: Run All, choose a method and a pair, hover over the table of distances."""

import pytest

from tests.browser import ROOT, keep

LESSON = "notebooks/17_million_tokens.ipynb"
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not (ROOT / LESSON).exists(), reason="lesson 17 is not written"),
]
DESK = ".jp-OutputArea-child:has(.widget-dropdown)"
FIGURE = f"document.querySelector('{DESK} .js-plotly-plot')"
TITLE = f"({FIGURE}?.layout?.title?.text ?? '').replaceAll('<br>', ' ')"
HOVER = f"[...{FIGURE}.querySelectorAll('.hoverlayer text')].map(text => text.textContent).join(' ')"


def wait_for_title(page, part):
    """Until the title of the widget's picture contains this."""
    page.wait_for_function(f"part => {TITLE}.includes(part)", arg=part, timeout=30_000)


def choose(page, name, value):
    page.locator(f".widget-dropdown:has(.widget-label:text-is('{name}')) select").select_option(value)


def test_lesson_17_runs_and_its_widget_answers(reader):
    page = reader(LESSON, above="minimoe.show_code(Chunks.query_positions)")
    page.locator(".widget-dropdown").first.scroll_into_view_if_needed(timeout=30_000)
    wait_for_title(page, "dual chunk: 0% of all pairs")
    assert "Query 1008, key 64: 944 apart, used as 192" in page.evaluate(TITLE)
    keep(page, "distances-dual-chunk")

    choose(page, "method", "scaled positions")
    wait_for_title(page, "scaled positions: 0% of all pairs")
    assert "used as 236" in page.evaluate(TITLE)
    choose(page, "method", "YaRN")
    choose(page, "pair", "0")
    wait_for_title(page, "pair 0 makes 150")
    handle = page.locator(".widget-slider:has(.widget-label:text-is('key at')) .noUi-handle")
    handle.focus()
    handle.press("ArrowRight")
    wait_for_title(page, "key 80: 928 apart, used as 928")

    box = page.locator(f"{DESK} .js-plotly-plot .draglayer .nsewdrag").first.bounding_box()
    page.mouse.move(box["x"] + 0.25 * box["width"], box["y"] + 0.75 * box["height"])
    page.wait_for_function(f"() => {HOVER}.includes('true distance')", timeout=30_000)
    keep(page, "distances-hover")
    assert page.complaints == [] and page.strangers == []
