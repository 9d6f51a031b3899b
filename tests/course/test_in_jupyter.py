"""check, hint and progress in a real kernel: what a reader sees below the cell, and what not."""

import nbformat
import pytest
from nbclient import NotebookClient

CELLS = [
    "import minimoe\nfrom minimoe.model.router import Routing, route",
    'minimoe.check("06.1", lambda logits, top_k, renormalise: route(logits, top_k, False))',
    "def mine(logits, top_k, renormalise):\n    return logits.softmax(dim=-1) + missing",
    'minimoe.check("06.1", mine)',
    'minimoe.check("06.1", route)',
    'minimoe.hint("06.1")',
    "minimoe.progress()",
    'minimoe.solution("06.1")',
]


@pytest.fixture(scope="module")
def outputs():
    """For each cell its outputs, streams joined: {"text": printed, kind: data, ...}."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in CELLS])
    NotebookClient(notebook, timeout=120).execute()
    found = []
    for cell in notebook.cells:
        seen = {"text": "".join(output.get("text", "") for output in cell.outputs)}
        for output in cell.outputs:
            seen |= output.get("data", {})
        found.append(seen)
    return found


def test_a_wrong_answer_shows_text_and_two_heat_maps(outputs):
    shown = outputs[1]
    assert shown["text"].startswith("06.1  wrong") and shown["text"].count("What failed") == 1
    assert shown["text/html"].count("<table") == 2
    assert "Verdict" not in shown["text/plain"]


def test_an_error_shows_the_readers_own_line(outputs):
    assert "line 2: return logits.softmax(dim=-1) + missing" in outputs[3]["text"]
    assert "NameError" in outputs[3]["text"] and "checking.py" not in outputs[3]["text"]


def test_a_right_answer_prints_two_lines_and_nothing_else(outputs):
    assert set(outputs[4]) == {"text"} and outputs[4]["text"].count("\n") == 2


def test_hint_and_progress_are_displayed(outputs):
    assert outputs[5]["text/plain"].startswith("06.1  hint 1 of 3")
    assert "■" in outputs[6]["text/html"] and "■" in outputs[6]["text/plain"]
    assert "<span style" in outputs[7]["text/html"]
