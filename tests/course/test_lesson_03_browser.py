"""Chapter 03 as a reader meets it: Run All, move the two arrows, get an exercise wrong and then right."""

import pytest

from tests.browser import ROOT

LESSON, EXERCISES = "notebooks/03_rope.ipynb", "exercises/03_rope.ipynb"
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not (ROOT / LESSON).exists(), reason="lesson 03 is not written"),
]
ARROWS, SUM = "q at", "pairs 1 to"  # the label of a slider, by which the output of each widget is found
FIGURE = """label => [...document.querySelectorAll('.jp-OutputArea-child:has(.widget-slider)')]
    .find(output => [...output.querySelectorAll('.widget-label')].some(text => text.textContent === label))
    ?.querySelector('.js-plotly-plot')"""
TITLE = f"label => ({FIGURE})(label)?.layout?.title?.text ?? ''"


def title_of(page, widget):
    """The title of a widget's picture, in one line."""
    return page.evaluate(TITLE, widget).replace("<br>", " ")


def slider(page, name):
    return page.locator(f".widget-slider:has(.widget-label:text-is('{name}')) .noUi-handle")


def move(page, widget, name, steps):
    """Press an arrow key on one slider: right for positive steps, left for negative ones; wait for the new picture."""
    before = page.evaluate(TITLE, widget)
    slider(page, name).focus()
    for _ in range(abs(steps)):
        page.keyboard.press("ArrowRight" if steps > 0 else "ArrowLeft")
    page.wait_for_function(f"([label, before]) => ({TITLE})(label) !== before", arg=[widget, before], timeout=30_000)
    page.wait_for_timeout(500)
    return title_of(page, widget)


def score(page):
    """The score at the green dot."""
    return page.evaluate(f"label => ({FIGURE})(label).data.at(-1).y[0]", ARROWS)


def show(page, widget):
    """Scroll to a widget and wait for its picture."""
    slider(page, widget).scroll_into_view_if_needed(timeout=30_000)
    page.wait_for_function(f"label => ({TITLE})(label)", arg=widget, timeout=30_000)
    return title_of(page, widget)


def test_lesson_03_runs_and_its_widgets_answer(reader):
    page = reader(LESSON, above="def scores(q, k):")
    title = show(page, ARROWS)
    assert "q at 15, turned" in title and "k at 14, by" in title and "distance 1;" in title
    first = score(page)

    assert "distance 4;" in move(page, ARROWS, "q at", 3) and score(page) != first
    assert "distance 1;" in move(page, ARROWS, "k at", 3)
    assert score(page) == pytest.approx(first, abs=2e-3)
    far = move(page, ARROWS, "move both by", 5)
    assert "q at 18 + 5 = 23, turned" in far and "k at 17 + 5 = 22, by" in far and "distance 1;" in far
    assert score(page) == pytest.approx(first, abs=2e-3)

    page.locator(".widget-dropdown select").select_option("0")
    page.wait_for_function(f"label => ({TITLE})(label).startsWith('Pair 0 of 16')", arg=ARROWS, timeout=30_000)
    assert "takes 6.3 tokens" in title_of(page, ARROWS)

    assert show(page, SUM).startswith("1 of 16 pairs")
    assert move(page, SUM, SUM, 15).startswith("16 of 16 pairs: the score is highest at distance 1")
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


def test_exercises_03_run_unattempted_then_wrong_then_right(reader):
    page = reader(EXERCISES, above="def apply_rope")
    outputs = page.locator(".jp-OutputArea-output")
    assert outputs.filter(has_text="03.1  todo").count() == 1

    head = "def frequencies(head_dim: int, theta: float) -> Tensor:\n"
    body = "return 1.0 / theta ** (torch.arange(head_dim // 2) {} / head_dim)\n"
    answer(page, "def frequencies(head_dim", head + "    " + body.format(""))
    page.wait_for_selector(".jp-OutputArea-output:has-text('03.1  wrong')")
    said = outputs.filter(has_text="03.1  wrong").first.inner_text()
    assert "the exponent is j / head_dim" in said and "Traceback" not in said

    answer(page, "def frequencies(head_dim", head + "    " + body.format("* 2"))
    page.wait_for_selector(".jp-OutputArea-output:has-text('03.1  ok')")
    assert outputs.filter(has_text="03.1  wrong").count() == 0
    assert page.complaints == [] and page.strangers == []
