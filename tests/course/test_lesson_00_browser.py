"""Lesson 00 as a reader meets it: JupyterLab, Run All, move the slider, ask something of one's own."""

import json

import pytest

from tests.browser import ROOT, run_all_cells

LESSON = "notebooks/00_start_here.ipynb"
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not (ROOT / LESSON).exists(), reason="lesson 00 is not written"),
]
MAP = ".js-plotly-plot:has(.slider-group)"  # the picture of the experts, not the curve before it


@pytest.fixture
def lesson(page, lab):
    """Lesson 00, run from top to bottom; what the page complains of, or asks of the network, is collected."""
    complaints, strangers = [], []
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    known = (lab.url, "ws", "data:", "blob:")
    page.on("request", lambda request: strangers.append(request.url) if not request.url.startswith(known) else None)
    page.goto(lab.address(LESSON))
    run_all_cells(page)
    page.complaints, page.strangers = complaints, strangers
    return page


def test_lesson_00_runs_and_its_slider_moves_the_map(lesson):
    assert lesson.locator(".jp-RenderedText[data-mime-type='application/vnd.jupyter.stderr']").count() == 0
    lesson.locator(".jp-CodeCell", has_text="expert_map(trace, token=1)").first.scroll_into_view_if_needed()
    lesson.wait_for_selector(MAP)
    read = f"() => JSON.stringify(document.querySelector('{MAP}').data[3].z)"
    before = json.loads(lesson.evaluate(read))
    assert [sum(weight is not None for weight in row) for row in before] == [8] * len(before)
    rail = lesson.locator(f"{MAP} .slider-rail-touch-rect").first
    rail.scroll_into_view_if_needed()
    box = rail.bounding_box()
    lesson.mouse.click(box["x"] + 0.8 * box["width"], box["y"] + box["height"] / 2)
    lesson.wait_for_function(
        f"before => JSON.stringify(document.querySelector('{MAP}').data[3].z) !== before",
        arg=json.dumps(before).replace(" ", ""),
    )
    after = json.loads(lesson.evaluate(read))
    assert after != before and [sum(weight is not None for weight in row) for row in after] == [8] * len(after)
    room = f"() => document.querySelector('{MAP}').closest('.jp-OutputArea').clientHeight"
    assert lesson.evaluate(room) > 300  # redrawing once made it collapse
    assert lesson.complaints == []
    assert lesson.strangers == []
