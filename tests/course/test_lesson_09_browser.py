"""Chapter 09 as a reader meets it: Run All, move the sampler's desk, get an exercise wrong and then right."""

import pytest

from tests.browser import ROOT, keep

LESSON, EXERCISES = "notebooks/09_generation.ipynb", "exercises/09_generation.ipynb"
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not (ROOT / LESSON).exists(), reason="lesson 09 is not written"),
]
DESK = ".jp-OutputArea-child:has(.widget-dropdown)"
FIGURE = f"document.querySelector('{DESK} .js-plotly-plot')"
TITLE = f"({FIGURE}?.layout?.title?.text ?? '')"
WORLDS = f"({FIGURE}?.closest('{DESK}').querySelector('table')?.innerText ?? '')"
TEXTS = f"{WORLDS}.trim().split('\\n').map(row => row.split('\\t')[1])"


def slide(page, name, key, times, begins):
    """Press a key on a slider, and wait until the title of the picture begins with this."""
    handle = page.locator(f".widget-slider:has(.widget-label:text-is('{name}')) .noUi-handle")
    handle.focus()
    for _ in range(times):
        page.keyboard.press(key)
    page.wait_for_function(f"begins => {TITLE}.startsWith(begins)", arg=begins, timeout=30_000)


def wait_for_texts(page, different):
    """Until the ten worlds show ten texts, of which so many differ; "some": more than one. Returns them."""
    wanted = "> 1" if different == "some" else f"=== {different}"
    page.wait_for_function(f"{TEXTS}.length === 10 && new Set({TEXTS}).size {wanted}", timeout=30_000)
    return page.evaluate(TEXTS)


def test_lesson_09_runs_and_its_desk_answers(reader):
    page = reader(LESSON, above="def write_on(ids, count, temperatures):")
    page.locator(".widget-dropdown").first.scroll_into_view_if_needed(timeout=30_000)
    page.wait_for_function(f"{TITLE}.startsWith('1,990 tokens can come next')", timeout=30_000)
    first = wait_for_texts(page, "some")
    keep(page, "desk-before")
    slide(page, "top-k (0: off)", "ArrowRight", 5, "5 tokens can come next")
    assert wait_for_texts(page, "some") != first
    slide(page, "temperature", "Home", 1, "1 token can come next")
    greedy = wait_for_texts(page, 1)
    keep(page, "desk-greedy")
    page.locator(".widget-dropdown:has(.widget-label:text-is('prompt')) select").select_option(label="猫")
    page.wait_for_function(f"old => {TEXTS}.length === 10 && {TEXTS}[0] !== old", arg=greedy[0], timeout=30_000)
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


def test_exercises_09_run_unattempted_then_wrong_then_right(reader):
    page = reader(EXERCISES, above="def attend_one")
    outputs = page.locator(".jp-OutputArea-output")
    assert outputs.filter(has_text="09.1  todo").count() == 1

    head = "def append(keys, values, length, k, v):\n    stop = length + k.shape[2]\n"
    body = "    keys[:, :, {0}:stop] = k\n    values[:, :, {0}:stop] = v\n    return keys{1}, values{1}\n"
    answer(page, "def append(keys: Tensor", head + body.format("length", ""))
    page.wait_for_selector(".jp-OutputArea-output:has-text('09.1  wrong')")
    said = outputs.filter(has_text="09.1  wrong").first.inner_text()
    assert "the whole rectangle is returned" in said and "Traceback" not in said

    answer(page, "def append(keys", head + body.format("length", "[:, :, :stop]"))
    page.wait_for_selector(".jp-OutputArea-output:has-text('09.1  ok')")
    assert outputs.filter(has_text="09.1  wrong").count() == 0
    assert page.complaints == [] and page.strangers == []
