"""What the browser tests of the chapters share."""

import pytest

from tests.browser import run_all_cells


@pytest.fixture
def reader(page, lab):
    """Opens a notebook and runs it from top to bottom; collects what the page complains of or asks of the network.

    above: run only the cells above the one that holds this text. nbval runs all of them.
    """
    page.complaints, page.strangers = [], []
    page.on("console", lambda message: page.complaints.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: page.complaints.append(str(error)))
    known = (lab.url, "ws", "data:", "blob:")
    page.on("request", lambda seen: page.strangers.append(seen.url) if not seen.url.startswith(known) else None)

    def read(notebook, above=None):
        page.goto(lab.address(notebook))
        run_all_cells(page, 400, above)
        assert page.locator(".jp-RenderedText[data-mime-type='application/vnd.jupyter.stderr']").count() == 0
        return page

    return read
