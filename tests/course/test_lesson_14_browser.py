"""Lesson 14 and its exercises as a reader meets them: drive both planners, answer wrongly, answer rightly.

The lesson as a whole is run by nbval; here only the cells that the widgets need, since a reader waits for nothing else.
"""

import pytest

from tests.browser import ROOT, keep

LESSON, EXERCISES = "notebooks/14_the_whole_235b.ipynb", "exercises/14_the_whole_235b.ipynb"
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not (ROOT / LESSON).exists(), reason="lesson 14 is not written"),
]
LIKE_CARDS = """def place(loads, ranks):
    home = torch.empty_like(loads)
    home[loads.argsort(descending=True, stable=True)] = torch.arange(len(loads)) % ranks
    return home
"""
RIGHT = """def place(loads, ranks):
    work, left, home = [0] * ranks, [len(loads) // ranks] * ranks, torch.zeros_like(loads)
    for expert in loads.argsort(descending=True, stable=True).tolist():
        rank = min((rank for rank in range(ranks) if left[rank]), key=lambda rank: work[rank])
        home[expert], work[rank], left[rank] = rank, work[rank] + int(loads[expert]), left[rank] - 1
    return home
"""


def cell(page, text):
    """The first code cell that holds this text."""
    return page.locator(".jp-CodeCell").filter(has_text=text).first


def run(page, text):
    """Run the cell and wait for its number."""
    found = cell(page, text)
    found.locator(".cm-content").click()
    old = found.locator(".jp-InputPrompt").text_content()
    page.keyboard.press("Shift+Enter")
    page.wait_for_function(
        r"""([text, old]) => [...document.querySelectorAll('.jp-CodeCell')].some(cell => {
            const prompt = cell.querySelector('.jp-InputPrompt').textContent
            return cell.textContent.includes(text) && /\d/.test(prompt) && prompt !== old
        })""",
        arg=[text, old],
        timeout=120_000,
    )
    return found


def opened(page, lab, notebook):
    """The notebook with its kernel ready and no output; what the page complains of is collected."""
    page.complaints = []
    page.on("console", lambda message: page.complaints.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: page.complaints.append(str(error)))
    page.goto(lab.address(notebook))
    page.wait_for_selector(".jp-CodeCell", timeout=120_000)
    page.wait_for_selector("#jp-main-statusbar >> text=/Python 3 .*Idle/", timeout=120_000)
    page.get_by_role("menuitem", name="Edit", exact=True).click()
    page.get_by_role("menuitem", name="Clear Outputs of All Cells", exact=True).click()


def says(page, shown):
    """Title and subtitle of the picture in this cell."""
    return shown.locator(".js-plotly-plot").evaluate("plot => plot.layout.title.text").replace("<br>", " ")


def after(page, shown, act):
    """Do something with a widget and wait for the picture to say something else."""
    old = says(page, shown)
    act()
    for _ in range(100):
        page.wait_for_timeout(100)
        if shown.locator(".js-plotly-plot").count() == 1 and says(page, shown) != old:
            return says(page, shown)
    raise AssertionError(f"the picture still says {old!r}")


def test_both_planners_follow_their_widgets(page, lab):
    opened(page, lab, LESSON)
    run(page, "from minimoe.course.figures import ch14_charts as charts")
    shown = run(page, "holders = pictures.explore_holders(big)")
    shown.locator(".js-plotly-plot").wait_for(timeout=60_000)
    assert "rank 5 of 8" in says(page, shown)

    def press(slider, key):
        shown.locator(".noUi-handle").nth(slider).focus()
        page.keyboard.press(key)

    assert "rank 6 of 8" in after(page, shown, lambda: press(1, "ArrowRight"))
    assert "of 16" in after(page, shown, lambda: press(0, "ArrowRight"))
    keep(page, "holders")

    shown = run(page, "dial = charts.explore_plan(big)")
    shown.locator(".js-plotly-plot").wait_for(timeout=60_000)
    assert "8 x H100, bf16, 32,768 tokens" in says(page, shown)
    assert "cannot be divided" in after(page, shown, lambda: press(0, "ArrowLeft"))
    assert "6 x H100" in after(page, shown, lambda: shown.locator("select").nth(2).select_option("layers"))
    short = after(page, shown, lambda: press(0, "ArrowLeft"))
    assert "4 x H100" in short and "What fits: the weights in fp8" in short
    fits = after(page, shown, lambda: shown.locator("select").nth(1).select_option("fp8"))
    assert "fits:" in fits
    shown.scroll_into_view_if_needed()
    keep(page, "plan")
    assert page.complaints == []


def test_settings_reach_the_commands_and_the_bill(page, lab):
    opened(page, lab, LESSON)
    run(page, "from minimoe.course.figures import ch14_charts as charts")
    run(page, "sizes = plan(big, context=32_768")
    settings = run(page, "CARD, COUNT =")
    assert "22.73 GB to spare" in settings.locator(".jp-OutputArea").inner_text()
    told = run(page, "hf download {REPOSITORY}").locator(".jp-OutputArea").inner_text()
    assert "hf download Qwen/Qwen3-235B-A22B --local-dir models/Qwen3-235B-A22B" in told
    run(page, "from minimoe.course.figures import ch14_renting as renting")
    run(page, "from minimoe.scale.planner.load_time import reading")
    run(page, "charges = {")
    shown = run(page, "wallet = renting.explore_bill(")
    shown.locator(".js-plotly-plot").wait_for(timeout=60_000)
    assert "41.72 USD, of which 21.72 USD before the first word" in says(page, shown)

    def cheaper():
        shown.locator("select").nth(0).select_option("the files are there")

    assert "20.82 USD, of which 0.82 USD" in after(page, shown, cheaper)
    shown.scroll_into_view_if_needed()
    keep(page, "bill")
    assert page.complaints == []


def test_a_wrong_answer_is_named_and_a_right_one_counts(page, lab):
    opened(page, lab, EXERCISES)
    run(page, "from minimoe.checkpoint.sparse_checkpoint import write_sparse")
    for answer, told in ((LIKE_CARDS, "the heaviest first, dealt round and round"), (RIGHT, "14.1  ok")):
        cell(page, "def place(").locator(".cm-content").click()
        page.keyboard.press("Control+A")
        page.keyboard.insert_text(answer)
        page.keyboard.press("Shift+Enter")
        check = run(page, 'minimoe.check("14.1", ')
        assert told in check.locator(".jp-OutputArea").inner_text()
    assert page.complaints == []
