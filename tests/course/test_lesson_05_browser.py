"""Chapter 05 as a reader meets it: Run All, choose a neuron and swap its rows, get an exercise wrong and then right."""

import pytest

from tests.browser import ROOT

LESSON, EXERCISES = "notebooks/05_swiglu.ipynb", "exercises/05_swiglu.ipynb"
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not (ROOT / LESSON).exists(), reason="lesson 05 is not written"),
]
FIGURE = "document.querySelector('.jp-OutputArea-child:has(.widget-dropdown) .js-plotly-plot')"
TITLE = f"({FIGURE}?.layout?.title?.text ?? '')"


def choose(page, name, label):
    """Choose from a dropdown by the beginning of a label; returns the title of the new picture in one line."""
    menu = page.locator(f".widget-dropdown:has(.widget-label:text-is('{name}')) select")
    texts = [text.replace("\xa0", " ") for text in menu.locator("option").all_text_contents()]
    before = page.evaluate(TITLE)
    menu.select_option(index=next(number for number, text in enumerate(texts) if text.startswith(label)))
    page.wait_for_function(f"before => {TITLE} !== before", arg=before, timeout=30_000)
    return page.evaluate(TITLE).replace("<br>", " ")


def test_lesson_05_runs_and_its_widget_answers(reader):
    page = reader(LESSON, above="banks = [model.layers[number].mlp.experts for number in config.moe_lay")
    page.locator(".widget-dropdown").first.scroll_into_view_if_needed(timeout=30_000)
    page.wait_for_function(TITLE, timeout=30_000)
    title = page.evaluate(TITLE).replace("<br>", " ")
    assert title.startswith("Open for") and "have the cosine −0.99" in title

    assert "98% less" in choose(page, "compute", "swapped")
    parallel = choose(page, "neuron", "layer 3, expert 101, neuron 22")
    assert "as much as before" in parallel and "have the cosine 1.00" in parallel
    assert choose(page, "compute", "SwiGLU").startswith("Open for")
    words = page.evaluate(f"{FIGURE}.layout.annotations.map(note => note.text)")
    assert "'在'" in words
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


def test_exercises_05_run_unattempted_then_wrong_then_right(reader):
    page = reader(EXERCISES, above="def suspicious")
    outputs = page.locator(".jp-OutputArea-output")
    assert outputs.filter(has_text="05.1  todo").count() == 1

    head = "def swiglu(x: Tensor, gate: Tensor, up: Tensor, down: Tensor) -> Tensor:\n"
    body = "return F.linear({} * F.linear(x, up), down)\n"
    answer(page, "def swiglu(x: Tensor", head + "    " + body.format("torch.sigmoid(F.linear(x, gate))"))
    page.wait_for_selector(".jp-OutputArea-output:has-text('05.1  wrong')")
    said = outputs.filter(has_text="05.1  wrong").first.inner_text()
    assert "the switch is a sigmoid" in said and "Traceback" not in said

    answer(page, "def swiglu(x: Tensor", head + "    " + body.format("F.silu(F.linear(x, gate))"))
    page.wait_for_selector(".jp-OutputArea-output:has-text('05.1  ok')")
    assert outputs.filter(has_text="05.1  wrong").count() == 0
    assert page.complaints == [] and page.strangers == []
