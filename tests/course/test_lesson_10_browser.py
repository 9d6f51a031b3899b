"""Chapter 10 as a reader meets it: Run All, move the budget slider, get an exercise wrong and then right."""

import pytest

from tests.browser import ROOT, keep

LESSON, EXERCISES = "notebooks/10_thinking.ipynb", "exercises/10_thinking.ipynb"
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
    page = reader(LESSON)
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


def answer(page, stub_line, code):
    """Type an answer over the cell that holds the stub, and run it and the check below it."""
    cell = page.locator(f".jp-CodeCell:has-text('{stub_line}')").first
    cell.scroll_into_view_if_needed()
    cell.locator(".cm-content").click()
    page.keyboard.press("ControlOrMeta+a")
    page.keyboard.insert_text(code)
    page.keyboard.press("Shift+Enter")
    page.keyboard.press("Shift+Enter")


def test_exercises_10_run_unattempted_then_wrong_then_right(reader):
    page = reader(EXERCISES)
    outputs = page.locator(".jp-OutputArea-output")
    assert outputs.filter(has_text="10.4  todo").count() == 1

    head = "def cut(ids, budget, end, closing):\n    length = ids.index(end) if end in ids else len(ids)\n"
    body = "    return ids if length {} budget else ids[:budget] + closing\n"
    answer(page, "def cut(ids: list", head + body.format("<"))
    page.wait_for_selector(".jp-OutputArea-output:has-text('10.4  wrong')")
    said = outputs.filter(has_text="10.4  wrong").first.inner_text()
    assert "It is within its budget" in said and "Traceback" not in said

    answer(page, "def cut(ids", head + body.format("<="))
    page.wait_for_selector(".jp-OutputArea-output:has-text('10.4  ok')")
    assert outputs.filter(has_text="10.4  wrong").count() == 0
    assert page.complaints == [] and page.strangers == []
