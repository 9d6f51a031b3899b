"""The door opens: JupyterLab starts with our settings and shows its page in a real browser."""

import pytest

pytestmark = pytest.mark.browser


def test_lab_opens_without_a_pop_up(lab, page):
    complaints = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(f"{lab.url}/lab")
    page.wait_for_selector("#jp-main-dock-panel", timeout=60_000)
    assert "JupyterLab" in page.title()
    page.get_by_role("region", name="File Browser").or_(page.locator(".jp-DirListing")).first.wait_for(timeout=30_000)
    assert page.locator(".jp-toast, .Toastify__toast").count() == 0, "the news pop-up is meant to be off"
    assert not complaints
