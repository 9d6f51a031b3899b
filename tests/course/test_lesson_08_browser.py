"""Chapter 08 as a reader meets it: Run All, stop the model, leave a layer out, get an exercise wrong and then right."""

import pytest

from tests.browser import ROOT

LESSON, EXERCISES = "notebooks/08_whole_model.ipynb", "exercises/08_whole_model.ipynb"
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not (ROOT / LESSON).exists(), reason="lesson 08 is not written"),
]
FIGURE = "document.querySelector('.jp-OutputArea-child:has(.widget-hslider) .js-plotly-plot')"
TITLE = f"({FIGURE}?.layout?.title?.text ?? '').replaceAll('<br>', ' ')"


def move(page, name, keys):
    """Press keys on a slider; returns the title of the new picture in one line."""
    before = page.evaluate(TITLE)
    handle = page.locator(f".widget-hslider:has(.widget-label:text-is('{name}')) .noUi-handle")
    handle.focus()
    for key in keys:
        handle.press(key)
    page.wait_for_function(f"before => {TITLE} !== before", arg=before, timeout=30_000)
    return page.evaluate(TITLE)


def test_lesson_08_runs_and_its_widget_answers(reader):
    page = reader(LESSON, above="layers = list(model.layer_range)")
    page.locator(".widget-hslider").first.scroll_into_view_if_needed(timeout=30_000)
    page.wait_for_function(TITLE, timeout=30_000)
    title = page.evaluate(TITLE)
    assert "“bird" in title and "Layers that run: 0, 1, 2, 3 of 4. Loss on other texts: 0.47" in title

    assert "Layers that run: 0, 1, 2 of 4" in move(page, "stop after", ["ArrowLeft"])
    assert "Layers that run: 1, 2 of 4" in move(page, "leave out", ["ArrowRight"])
    rows = page.evaluate(f"{FIGURE}.data[0].y")
    assert rows == ["embedding", "layer 1", "layer 2"]
    assert "Layers that run: 1, 2, 3 of 4. Loss on other texts: 9.07" in move(page, "stop after", ["ArrowRight"])
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


def test_exercises_08_run_unattempted_then_wrong_then_right(reader):
    page = reader(EXERCISES, above="def to_memory")
    outputs = page.locator(".jp-OutputArea-output")
    assert outputs.filter(has_text="08.1  todo").count() == 1

    head = "def block(x, input_layernorm, self_attn, post_attention_layernorm, mlp):\n"
    body = "    x = x + self_attn(input_layernorm(x))\n    return {}mlp(post_attention_layernorm(x))\n"
    answer(page, "def block(x: Tensor", head + body.format(""))
    page.wait_for_selector(".jp-OutputArea-output:has-text('08.1  wrong')")
    said = outputs.filter(has_text="08.1  wrong").first.inner_text()
    assert "the result is that of mlp alone" in said and "Traceback" not in said

    answer(page, "def block(x", head + body.format("x + "))
    page.wait_for_selector(".jp-OutputArea-output:has-text('08.1  ok')")
    assert outputs.filter(has_text="08.1  wrong").count() == 0
    assert page.complaints == [] and page.strangers == []
