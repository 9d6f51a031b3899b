"""Chapter 13 as a reader meets it: Run All, move bits, group and router of the desk, and read the answers."""

import pytest

from tests.browser import ROOT, keep

LESSON = "notebooks/13_smaller.ipynb"
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not (ROOT / LESSON).exists(), reason="lesson 13 is not written"),
]
DESK = ".jp-OutputArea-child:has(.widget-dropdown)"
FIGURE = f"document.querySelector('{DESK} .js-plotly-plot')"
TITLE = f"({FIGURE}?.layout?.title?.text ?? '').replaceAll('<br>', ' ')"
ANSWER = f"(document.querySelector('{DESK} pre')?.innerText ?? '')"


def press(page, name, key, begins):
    """Press a key on a slider, and wait until the title of the picture begins with this. Returns the title."""
    handle = page.locator(f".widget-slider:has(.widget-label:text-is('{name}')) .noUi-handle")
    handle.focus()
    page.keyboard.press(key)
    page.wait_for_function(f"begins => {TITLE}.startsWith(begins)", arg=begins, timeout=30_000)
    return page.evaluate(TITLE)


def flips(title):
    """The share of flipped choices that a title names, in percent."""
    return int(title.split("%")[0].split()[-1])


def test_lesson_13_runs_and_its_desk_answers(reader):
    page = reader(LESSON, above="planned = {each: plan(big, precision=each).weight_bytes / 1e9 for each")
    page.locator(".widget-dropdown").first.scroll_into_view_if_needed(timeout=30_000)
    page.wait_for_function(f"{TITLE}.startsWith('4.50 bits a weight')", timeout=30_000)
    page.wait_for_function(f"{ANSWER}.includes('4307 + 2189')", timeout=30_000)
    four, answer = page.evaluate(TITLE), page.evaluate(ANSWER)
    keep(page, "desk-before")

    page.locator(".widget-checkbox input").check()
    page.wait_for_function(f"old => {TITLE} !== old", arg=four, timeout=30_000)
    assert flips(page.evaluate(TITLE)) > flips(four)

    press(page, "bits", "Home", "2.50 bits a weight")
    page.wait_for_function(f"old => {ANSWER} !== old", arg=answer, timeout=30_000)
    two = page.evaluate(TITLE)
    assert flips(two) > 50
    keep(page, "desk-two-bits")
    assert press(page, "group", "Home", "4.00 bits a weight") != two
    assert page.complaints == [] and page.strangers == []
