"""Chapter 07 as a reader meets it: Run All, more tokens in the batch, an exercise wrong, right, and in the model."""

import pytest

from tests.browser import ROOT, keep

LESSON, EXERCISES = "notebooks/07_experts.ipynb", "exercises/07_experts.ipynb"
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not (ROOT / LESSON).exists(), reason="lesson 07 is not written"),
]
FIGURE = "document.querySelector('.jp-OutputArea-child:has(.widget-dropdown) .js-plotly-plot')"
TITLE = f"({FIGURE}?.layout?.title?.text ?? '').replaceAll('<br>', ' ')"
WRONG = """def combine(outputs, weights):
    rows = rearrange(outputs, "(slot token) hidden -> token slot hidden", slot=weights.shape[1])
    return einsum(rows, weights, "token slot hidden, token slot -> token hidden")
"""
RIGHT = WRONG.replace("(slot token)", "(token slot)")


def after(page, act):
    """Do something with a widget; the title of the new picture in one line."""
    before = page.evaluate(TITLE)
    act()
    page.wait_for_function(f"before => {TITLE} !== before", arg=before, timeout=30_000)
    return page.evaluate(TITLE)


def test_lesson_07_runs_and_its_widget_answers(reader):
    page = reader(LESSON, above="big = minimoe.ModelConfig.named(")
    page.locator(".widget-dropdown").first.scroll_into_view_if_needed(timeout=30_000)
    page.wait_for_function(TITLE, timeout=30_000)
    assert page.evaluate(TITLE).startswith("1 token hits 8 of 128 experts: 8 read for each token")
    dots = f"{FIGURE}.data.find(trace => trace.mode === 'markers+text').x[0]"
    assert page.evaluate(dots) == 1

    slider = page.locator(".jp-OutputArea-child:has(.widget-dropdown) .noUi-handle").first
    slider.focus()
    title = after(page, lambda: page.keyboard.press("ArrowRight"))
    assert title.startswith("2 tokens hit 1")
    for _ in range(8):
        title = after(page, lambda: page.keyboard.press("ArrowRight"))
    assert title.startswith("512 tokens hit 128 of 128 experts: 0.25 read for each token")
    assert page.evaluate(dots) == 32
    keep(page, "07-512-tokens")
    menu = page.locator(".jp-OutputArea-child:has(.widget-dropdown) select").first
    assert "Random experts" in after(page, lambda: menu.select_option("dice"))
    assert page.complaints == [] and page.strangers == []


def answer(page, stub_line, wrong_or_right):
    """Type an answer over the cell that holds the stub, and run it and the check below it."""
    cell = page.locator(f".jp-CodeCell:has-text('{stub_line}')").first
    cell.scroll_into_view_if_needed()
    cell.locator(".cm-content").click()
    page.keyboard.press("ControlOrMeta+a")
    page.keyboard.insert_text(wrong_or_right)
    page.keyboard.press("Shift+Enter")
    page.keyboard.press("Shift+Enter")


def test_exercises_07_run_unattempted_then_wrong_then_right(reader):
    page = reader(EXERCISES, above="def plan")
    outputs = page.locator(".jp-OutputArea-output")
    assert outputs.filter(has_text="07.1  todo").count() == 1

    answer(page, "def combine(outputs", WRONG)
    page.wait_for_selector(".jp-OutputArea-output:has-text('07.1  wrong')")
    said = outputs.filter(has_text="07.1  wrong").first.inner_text()
    assert "the rows are read slot by slot" in said and "Traceback" not in said

    answer(page, "def combine(outputs", RIGHT)
    page.wait_for_selector(".jp-OutputArea-output:has-text('07.1  ok')")
    assert outputs.filter(has_text="07.1  wrong").count() == 0
    assert page.complaints == [] and page.strangers == []
