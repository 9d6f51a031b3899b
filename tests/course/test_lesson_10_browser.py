"""Chapter 10 as a reader meets it: Run All, and move the budget slider."""

import pytest

from tests.browser import ROOT, keep

LESSON = "notebooks/10_thinking.ipynb"
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not (ROOT / LESSON).exists(), reason="lesson 10 is not written"),
]
DESK = ".jp-OutputArea-child:has(.widget-dropdown)"
FIGURE = f"document.querySelector('{DESK} .js-plotly-plot')"
TITLE = f"({FIGURE}?.layout?.title?.text ?? '')"
REPLY = f"({FIGURE}?.closest('{DESK}').querySelector('.jp-RenderedHTMLCommon')?.innerText ?? '')"
HANDLE = ".widget-slider:has(.widget-label:text-is('budget')) .noUi-handle"


def wait_for(page, budget, verdict, says):
    """Until the picture is that of the budget, with this verdict, and the reply below says this."""
    page.wait_for_function(
        f"([budget, verdict, says]) => {TITLE}.startsWith(`With ${{budget}} tokens`) && "
        f"{TITLE}.replaceAll('<br>', ' ').includes(`this answer is ${{verdict}}`) && {REPLY}.includes(says)",
        arg=[budget, verdict, says],
        timeout=30_000,
    )


def test_lesson_10_runs_and_its_slider_answers(reader):
    page = reader(LESSON, above="examples = [ch10_charts.Written(tokenizer, turn) for turn in sums[:8]]")
    page.locator(".widget-dropdown").first.scroll_into_view_if_needed(timeout=30_000)
    wait_for(page, 100, "wrong", "cut after 100 tokens")
    keep(page, "budget-before")
    page.locator(HANDLE).focus()
    page.keyboard.press("End")
    wait_for(page, 240, "right", "ended by itself")
    page.keyboard.press("Home")
    wait_for(page, 0, "wrong", "cut after 0 tokens")
    keep(page, "budget-none")
    question = page.locator(".widget-dropdown:has(.widget-label:text-is('question')) select")
    question.select_option(index=4)
    wait_for(page, 0, "right", "cut after 0 tokens")
    assert page.complaints == [] and page.strangers == []
