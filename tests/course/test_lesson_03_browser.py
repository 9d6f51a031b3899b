"""Chapter 03 as a reader meets it: Run All, move the two arrows, get an exercise wrong and then right."""

import re

import pytest

from tests.browser import ROOT, run_all_cells

LESSON, EXERCISES = "notebooks/03_rope.ipynb", "exercises/03_rope.ipynb"
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not (ROOT / LESSON).exists(), reason="lesson 03 is not written"),
]
SCREEN = ".jp-OutputArea:has(.widget-slider) .js-plotly-plot"  # the picture below the sliders
SUBTITLE = f"() => document.querySelector('{SCREEN}').layout.title.subtitle.text"


@pytest.fixture
def watched(page, lab):
    """A page that notes what it complains of and what it asks of the network."""
    page.complaints, page.strangers = [], []
    page.on("console", lambda message: page.complaints.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: page.complaints.append(str(error)))
    known = (lab.url, "ws", "data:", "blob:")
    page.on("request", lambda seen: page.strangers.append(seen.url) if not seen.url.startswith(known) else None)
    return page


def move(page, name, steps):
    """Press an arrow key on one slider: right for positive steps, left for negative ones; wait for the new picture."""
    before = page.evaluate(SUBTITLE)
    handle = page.locator(f".widget-slider:has(.widget-label:text-is('{name}')) .noUi-handle")
    handle.focus()
    for _ in range(abs(steps)):
        page.keyboard.press("ArrowRight" if steps > 0 else "ArrowLeft")
    page.wait_for_function(
        f"before => document.querySelector('{SCREEN}')?.layout.title.subtitle?.text !== before", arg=before
    )
    page.wait_for_timeout(700)
    return page.evaluate(SUBTITLE)


def numbers(subtitle):
    """(position of q, position of k, distance, score) out of the line below the title."""
    found = re.search(r"q at (\d+) .*k at (\d+) .*distance (-?\d+), <b>score (-?[\d.]+)", subtitle)
    return int(found[1]), int(found[2]), int(found[3]), float(found[4])


def test_lesson_03_runs_and_its_arrows_turn(watched, lab):
    watched.goto(lab.address(LESSON))
    run_all_cells(watched)
    assert watched.locator(".jp-RenderedText[data-mime-type='application/vnd.jupyter.stderr']").count() == 0
    watched.locator(SCREEN).scroll_into_view_if_needed()
    watched.wait_for_function(f"() => document.querySelector('{SCREEN}')?.layout?.title?.subtitle")
    first = numbers(watched.evaluate(SUBTITLE))
    assert first[:3] == (12, 4, 8)

    apart = numbers(move(watched, "q at", 3))
    assert apart[:3] == (15, 4, 11) and apart[3] != first[3]
    together = numbers(move(watched, "k at", 3))
    assert together[:3] == (15, 7, 8)
    assert together[3] == pytest.approx(first[3], abs=2e-3)

    far = numbers(move(watched, "move both", 5))
    assert far[:3] == (20, 12, 8) and far[3] == pytest.approx(first[3], abs=2e-3)

    watched.locator(".widget-dropdown select").select_option("0")
    watched.wait_for_function(
        f"() => document.querySelector('{SCREEN}').layout.title.text.includes('Channels 0 and 16')"
    )
    assert "takes 6.3 tokens" in watched.evaluate(SUBTITLE)
    height = watched.evaluate(f"() => document.querySelector('{SCREEN}').closest('.jp-OutputArea').clientHeight")
    assert height > 300
    assert watched.complaints == [] and watched.strangers == []


def answer(page, stub_line, wrong_or_right):
    """Type an answer over the cell that holds the stub, and run it and the check below it."""
    cell = page.locator(f".jp-CodeCell:has-text('{stub_line}')").first
    cell.scroll_into_view_if_needed()
    cell.locator(".cm-content").click()
    page.keyboard.press("ControlOrMeta+a")
    page.keyboard.insert_text(wrong_or_right)
    page.keyboard.press("Shift+Enter")
    page.keyboard.press("Shift+Enter")


def test_exercises_03_run_unattempted_then_wrong_then_right(watched, lab):
    watched.goto(lab.address(EXERCISES))
    run_all_cells(watched)
    assert watched.locator(".jp-RenderedText[data-mime-type='application/vnd.jupyter.stderr']").count() == 0
    outputs = watched.locator(".jp-OutputArea-output")
    assert outputs.filter(has_text="03.1  todo").count() == 1

    head = "def frequencies(head_dim: int, theta: float) -> Tensor:\n"
    body = "return 1.0 / theta ** (torch.arange(head_dim // 2) {} / head_dim)\n"
    answer(watched, "def frequencies(head_dim", head + "    " + body.format(""))
    watched.wait_for_selector(".jp-OutputArea-output:has-text('03.1  wrong')")
    said = outputs.filter(has_text="03.1  wrong").first.inner_text()
    assert "the exponent is j / head_dim" in said and "Traceback" not in said

    answer(watched, "def frequencies(head_dim", head + "    " + body.format("* 2"))
    watched.wait_for_selector(".jp-OutputArea-output:has-text('03.1  ok')")
    assert outputs.filter(has_text="03.1  wrong").count() == 0
    assert watched.complaints == [] and watched.strangers == []
