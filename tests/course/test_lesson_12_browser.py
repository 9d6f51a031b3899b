"""Lesson 12 and its exercises as a reader meets them: make a specialist of nothing, open the explorer, answer."""

import pytest

from tests.browser import ROOT, keep

LESSON, EXERCISES = "notebooks/12_which_experts.ipynb", "exercises/12_which_experts.ipynb"
DRAWN = ".jupyter-widgets .js-plotly-plot"
EXPLORER = '.minimoe[data-ready="1"]'
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not (ROOT / LESSON).exists(), reason="lesson 12 is not written"),
]
OVER_ONE = """def frequency(experts, num_experts):
    shares = F.one_hot(experts, num_experts).sum(dim=-2).float().mean(dim=-2)
    return shares, shares * num_experts
"""
RIGHT = """def frequency(experts, num_experts):
    shares = F.one_hot(experts, num_experts).sum(dim=-2).float().mean(dim=-2)
    return shares, shares * num_experts / experts.shape[-1]
"""


SAID = f"""() => {{
    const title = document.querySelector('{DRAWN}')?.layout?.title
    return title ? title.text.replaceAll('<br>', ' ') : ''
}}"""


def after(page, old, act):
    """Do something with a widget and wait for the headline to say something else."""
    act()
    page.wait_for_function(f"old => {{ const now = ({SAID})(); return now && now !== old }}", arg=old)
    return page.evaluate(SAID)


def test_headlines_follow_their_widgets_and_the_explorer_opens(reader):
    page = reader(LESSON)
    page.locator(".jupyter-widgets").first.scroll_into_view_if_needed()
    page.wait_for_selector(DRAWN)
    keep(page, "claim-true")
    first = page.evaluate(SAID)
    assert "True labels; 2 code documents" in first
    dealt = after(page, first, lambda: page.get_by_role("button", name="dealt", exact=True).click())
    assert "Labels dealt at random (deal 1)" in dealt
    keep(page, "claim-dealt")

    def press(slider, key):
        page.locator(".jupyter-widgets .noUi-handle").nth(slider).focus()
        page.keyboard.press(key)

    again = after(page, dealt, lambda: press(1, "ArrowRight"))
    assert "(deal 2)" in again
    many = after(page, again, lambda: press(0, "End"))
    assert "; 24 code documents" in many
    chinese = after(page, many, lambda: page.locator(".jupyter-widgets select").nth(1).select_option("zh"))
    assert "; 24 zh documents" in chinese
    true = after(page, chinese, lambda: page.get_by_role("button", name="true", exact=True).click())
    assert " 0 of 128 experts above the line" not in true
    keep(page, "claim-many")

    page.locator(".minimoe").first.scroll_into_view_if_needed()
    page.wait_for_selector(EXPLORER)
    assert "mini checkpoint, " in page.locator(".mm-title").first.text_content()
    assert page.locator(".mm-bar .mm-tag").first.text_content() == "measured"
    assert not page.locator(".minimoe-fallback").first.is_visible()
    keep(page, "explorer")
    assert page.complaints == []


def answer(page, code):
    """Replace the answer of 12.1, run it and its check, and return what the check printed."""
    cell = page.locator(".jp-CodeCell").filter(has_text="def frequency(").first
    check = page.locator(".jp-CodeCell").filter(has_text='minimoe.check("12.1", ').first
    cell.locator(".cm-content").click()
    page.keyboard.press("Control+A")
    page.keyboard.insert_text(code)
    old = check.locator(".jp-InputPrompt").text_content()
    page.keyboard.press("Shift+Enter")
    page.keyboard.press("Shift+Enter")
    page.wait_for_function(
        """old => [...document.querySelectorAll('.jp-CodeCell')].some(cell => {
            const prompt = cell.querySelector('.jp-InputPrompt').textContent
            return cell.textContent.includes('minimoe.check("12.1"') && /\\d/.test(prompt) && prompt !== old
        })""",
        arg=old,
    )
    return check.locator(".jp-OutputArea").inner_text()


def test_a_wrong_answer_is_named_and_a_right_one_draws_the_atlas(reader):
    page = reader(EXERCISES, above="def coactivation_as_it_was")
    told = answer(page, OVER_ONE)
    assert "12.1  wrong" in told and "slots / num_experts" in told
    assert "12.1  ok" in answer(page, RIGHT)
    page.keyboard.press("Escape")
    atlas = page.locator(".jp-CodeCell").filter(has_text="Your atlas (mini").first
    atlas.locator(".cm-content").click()
    page.keyboard.press("Shift+Enter")
    drawn = atlas.locator(".js-plotly-plot")
    drawn.wait_for(timeout=60_000)
    assert drawn.evaluate("plot => plot.data.length") == 2
    atlas.scroll_into_view_if_needed()
    keep(page, "atlas")
    assert page.complaints == []
