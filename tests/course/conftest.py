"""What the browser tests of the chapters share."""

import pytest

from tests.browser import run_all_cells


@pytest.fixture
def reader(page, lab):
    """Opens a notebook and runs it from top to bottom; what the page complains of is collected."""
    page.complaints = []
    page.on("console", lambda message: page.complaints.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: page.complaints.append(str(error)))

    def read(notebook):
        page.goto(lab.address(notebook))
        run_all_cells(page, 400)
        assert page.locator(".jp-RenderedText[data-mime-type='application/vnd.jupyter.stderr']").count() == 0
        return page

    return read
