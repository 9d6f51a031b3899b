"""Lesson 06 and its exercises as a reader meets them: drive the cut, answer wrongly, answer rightly, run inside."""

import pytest

from tests.browser import ROOT, keep

LESSON, EXERCISES = "notebooks/06_router.ipynb", "exercises/06_router.ipynb"
WIDGET = ".jupyter-widgets"
DRAWN = f"{WIDGET} .js-plotly-plot"
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not (ROOT / LESSON).exists(), reason="lesson 06 is not written"),
]
WRONG = """def route(logits, top_k, renormalise):
    weights, experts = logits.softmax(dim=-1).topk(top_k, dim=-1)
    return Routing(logits, experts, weights)
"""
RIGHT = """def route(logits, top_k, renormalise):
    weights, experts = logits.float().softmax(dim=-1).topk(top_k, dim=-1)
    if renormalise:
        weights = weights / weights.sum(dim=-1, keepdim=True)
    return Routing(logits, experts, weights.to(logits.dtype))
"""


def title(page):
    """The title of the picture that the widgets drive."""
    return page.evaluate(f"() => document.querySelector('{DRAWN}')?.layout?.title?.text ?? ''")


def after(page, old, act):
    """Do something with a widget and wait for the picture to say something else."""
    act()
    question = f"old => (document.querySelector('{DRAWN}')?.layout?.title?.text ?? old) !== old"
    page.wait_for_function(question, arg=old)
    return title(page)


def test_every_widget_of_the_lesson_moves_its_picture(reader):
    page = reader(LESSON, above="passages = held_out_texts(tokenizer, each=12, seed=")
    assert page.locator(".jp-RenderedText[data-mime-type='application/vnd.jupyter.stderr']").count() == 0
    page.locator(WIDGET).first.scroll_into_view_if_needed()
    page.wait_for_selector(DRAWN)
    heights = f"() => document.querySelector('{DRAWN}').data[0].y.slice(0, 8)"
    first, bars = title(page), page.evaluate(heights)
    keep(page, "widget-before")

    def press(slider, times=1):
        handle = page.locator(f"{WIDGET} .noUi-handle").nth(slider)
        handle.focus()
        for _ in range(times):
            page.keyboard.press("ArrowRight")

    second = after(page, first, lambda: press(0))
    assert second.split()[1] == str(int(first.split()[1]) + 1)
    third = after(page, second, lambda: page.locator(f"{WIDGET} select").select_option("3"))
    assert "in layer 3" in third
    fourth = after(page, third, lambda: press(1, times=5))
    assert "temperature 1," not in fourth and page.evaluate(heights) != bars
    box = page.evaluate(f"() => document.querySelector('{DRAWN}').getBoundingClientRect().height")
    assert box > 300  # it has not collapsed while it was redrawn
    page.wait_for_timeout(500)
    keep(page, "widget-after")
    assert page.complaints == []


def answer(page, id, code):
    """Replace the answer cell of an exercise, run it and its check, and return what the check printed."""
    cell = page.locator(".jp-CodeCell").filter(has_text="def route(").first
    check = page.locator(".jp-CodeCell").filter(has_text=f'minimoe.check("{id}", ').first
    cell.locator(".cm-content").click()
    page.keyboard.press("Control+A")
    page.keyboard.insert_text(code)
    old = check.locator(".jp-InputPrompt").text_content()
    page.keyboard.press("Shift+Enter")
    page.keyboard.press("Shift+Enter")
    page.wait_for_function(
        """([id, old]) => [...document.querySelectorAll('.jp-CodeCell')].some(cell => {
            const prompt = cell.querySelector('.jp-InputPrompt').textContent
            return cell.textContent.includes(`minimoe.check("${id}"`) && /\\d/.test(prompt) && prompt !== old
        })""",
        arg=[id, old],
    )
    return check.locator(".jp-OutputArea").inner_text()


def test_a_wrong_answer_is_named_and_a_right_one_runs_inside_the_model(reader):
    page = reader(EXERCISES, above="def workload_as_it_was")
    assert page.locator(".jp-RenderedText[data-mime-type='application/vnd.jupyter.stderr']").count() == 0
    told = answer(page, "06.1", WRONG)
    keep(page, "wrong")
    assert "06.1  wrong" in told and "never renormalised" in told and "the model's dtype" in told
    told = answer(page, "06.1", RIGHT)
    assert "06.1  ok" in told
    page.keyboard.press("Escape")
    bench = page.locator(".jp-CodeCell").filter(has_text="minimoe.workbench(model, route=route)").first
    bench.locator(".cm-content").click()
    page.keyboard.press("Shift+Enter")
    drawn = bench.locator(".js-plotly-plot")
    drawn.wait_for(timeout=60_000)
    page.wait_for_timeout(1000)
    bench.scroll_into_view_if_needed()
    keep(page, "inside")
    title = drawn.evaluate("plot => plot.layout.title.text.replaceAll('<br>', ' ')")
    assert "Your route just ran inside a Qwen3" in title and "expert choices are identical" in title
    assert page.complaints == []
