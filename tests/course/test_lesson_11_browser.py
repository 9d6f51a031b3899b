"""Chapter 11 as a reader meets it: Run All, and a live run with its switch."""

import pytest

from tests.browser import ROOT

LESSON = "notebooks/11_training.ipynb"
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not (ROOT / LESSON).exists(), reason="lesson 11 is not written"),
]
LIVE = ".jp-OutputArea-child:has(.widget-toggle-buttons)"
TITLE = f"(document.querySelector('{LIVE} .js-plotly-plot')?.layout?.title?.text ?? '').replaceAll('<br>', ' ')"


def wait_for(page, text):
    """Wait until the title of the live picture contains a text; the title."""
    page.wait_for_function(f"text => {TITLE}.includes(text)", arg=text, timeout=60_000)
    return page.evaluate(TITLE)
