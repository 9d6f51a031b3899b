"""Chapter 11 as a reader meets it: Run All, a live run with its switch, an exercise wrong, right, and in a run."""

import pytest

from tests.browser import ROOT, keep

LESSON, EXERCISES = "notebooks/11_training.ipynb", "exercises/11_training.ipynb"
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not (ROOT / LESSON).exists(), reason="lesson 11 is not written"),
]
LIVE = ".jp-OutputArea-child:has(.widget-toggle-buttons)"
TITLE = f"(document.querySelector('{LIVE} .js-plotly-plot')?.layout?.title?.text ?? '').replaceAll('<br>', ' ')"
WRONG = """def balance(logits, top_k):
    f, P = shares(logits, top_k)
    return (f * P).sum()
"""
RIGHT = WRONG.replace("return (f", "return logits.shape[-1] * (f")
SHARES = """def shares(logits, top_k):
    probabilities = logits.float().softmax(dim=-1)
    experts = probabilities.topk(top_k, dim=-1).indices
    chosen = F.one_hot(experts, logits.shape[-1]).float()
    return reduce(chosen, "token slot expert -> token expert", "sum").mean(dim=0), probabilities.mean(dim=0)
"""


def wait_for(page, text):
    """Wait until the title of the live picture contains a text; the title."""
    page.wait_for_function(f"text => {TITLE}.includes(text)", arg=text, timeout=60_000)
    return page.evaluate(TITLE)


def answer(page, stub_line, text):
    """Type an answer over the cell that holds the stub, and run it and the check below it."""
    cell = page.locator(f".jp-CodeCell:has-text('{stub_line}')").first
    cell.scroll_into_view_if_needed()
    cell.locator(".cm-content").click()
    page.keyboard.press("ControlOrMeta+a")
    page.keyboard.insert_text(text)
    page.keyboard.press("Shift+Enter")
    page.keyboard.press("Shift+Enter")


def test_lesson_11_runs_and_its_live_run_obeys(reader):
    page = reader(LESSON)
    page.locator(LIVE).first.scroll_into_view_if_needed(timeout=30_000)
    assert "The balancing loss is on" in wait_for(page, "Step 400")  # the recorded run
    page.locator(f"{LIVE} button:has-text('train')").first.click()
    assert "The balancing loss is off" in wait_for(page, "Step 10:")
    page.locator(f"{LIVE} .widget-toggle-button:has-text('on')").first.click()
    wait_for(page, "The balancing loss is on")
    assert page.evaluate(TITLE).startswith("Step")
    keep(page, "11-live")
    page.locator(f"{LIVE} button:has-text('stop')").first.click()
    page.wait_for_selector(f"{LIVE} button:has-text('train'):not([disabled])", timeout=30_000)
    assert page.complaints == [] and page.strangers == []


def test_exercises_11_run_unattempted_then_wrong_then_right(reader):
    page = reader(EXERCISES)
    outputs = page.locator(".jp-OutputArea-output")
    assert outputs.filter(has_text="11.2  todo").count() == 1
    answer(page, "def shares(logits", SHARES)
    page.wait_for_selector(".jp-OutputArea-output:has-text('11.1  ok')")

    answer(page, "def balance(logits", WRONG)
    page.wait_for_selector(".jp-OutputArea-output:has-text('11.2  wrong')")
    said = outputs.filter(has_text="11.2  wrong").first.inner_text()
    assert "the factor is missing" in said and "Traceback" not in said

    answer(page, "def balance(logits", RIGHT)
    page.wait_for_selector(".jp-OutputArea-output:has-text('11.2  ok')")
    page.keyboard.press("Shift+Enter")  # the text below the check
    page.keyboard.press("Shift+Enter")  # the two runs
    page.wait_for_selector(".jp-OutputArea-output:has-text('largest difference')")
    assert page.complaints == [] and page.strangers == []
