"""The widget where readers meet it: JupyterLab in every state of trust, two at once, Voila, a page without a kernel.

Nothing here sleeps: `data-ready` says that an explorer is drawn, `data-rev` that a change has been.
"""

import os
import re
import subprocess
import sys
from contextlib import contextmanager
from urllib.parse import urlsplit

import nbformat
import pytest
from nbconvert import HTMLExporter
from nbformat.sign import NotebookNotary
from nbformat.v4 import new_code_cell, new_notebook, new_output

from minimoe.routing.explorer.explore import explore
from tests.browser import ROOT, free_port, open_browser, run_all_cells, wait_for

pytestmark = pytest.mark.browser
READY = '.minimoe[data-ready="1"]'
LOADED = ".minimoe-fallback img"
CELLS = [
    "import minimoe\n"
    "trace = minimoe.synthetic_trace(layers=4, tokens=400, num_experts=32, top_k=4)\n"
    "one = minimoe.explore(trace, state={'layer': 0})\n"
    "one",
    "two = minimoe.explore(trace, state={'layer': 2})\ntwo",
    "print('python sees', one.state.get('layer'), two.state.get('layer'))\none.select(layer=1, expert=5)\nNone",
]


@pytest.fixture(scope="module")
def browser(chromium):
    with open_browser(chromium) as running:
        yield running


@contextmanager
def watched(browser, **settings):
    """A page that remembers every complaint and every request that leaves this machine."""
    page = browser.new_page(viewport={"width": 1400, "height": 2600}, **settings)
    page.set_default_timeout(90_000)  # of a machine that is busy with other tests
    page.complaints, page.abroad = [], []
    page.on("console", lambda message: page.complaints.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: page.complaints.append(str(error)))
    page.on("request", lambda request: None if at_home(request.url) else page.abroad.append(request.url))
    page.on("websocket", lambda socket: None if at_home(socket.url) else page.abroad.append(socket.url))
    try:
        yield page
    finally:
        page.close()


def at_home(url):
    """Does this address stay on the machine?"""
    parts = urlsplit(url)
    return parts.scheme in ("data", "blob", "file", "about") or parts.hostname in ("127.0.0.1", "localhost")


@pytest.fixture(scope="module")
def stored(small_trace):
    """A notebook as it is found on disk: picture and widget as outputs, with the widget's state."""
    from ipywidgets.embed import dependency_state

    explorer = explore(small_trace)
    view = {"version_major": 2, "version_minor": 0, "model_id": explorer.model_id}
    outputs = [
        new_output("display_data", explorer.static._repr_mimebundle_()),
        new_output("display_data", {"application/vnd.jupyter.widget-view+json": view, "text/plain": "Explorer()"}),
    ]
    cell = new_code_cell("minimoe.explore(trace)", outputs=outputs, execution_count=1)
    state = {"state": dependency_state([explorer], drop_defaults=False), "version_major": 2, "version_minor": 0}
    kernel = {"name": "python3", "display_name": "Python 3 (ipykernel)", "language": "python"}
    return new_notebook(
        cells=[cell],
        metadata={"kernelspec": kernel, "widgets": {"application/vnd.jupyter.widget-state+json": state}},
    )


def write(lab, name, notebook, trusted):
    """Put a notebook into JupyterLab's folder, signed by its owner or not."""
    path = lab.root / "notebooks" / name
    nbformat.write(notebook, path)
    if trusted:
        signed = nbformat.read(path, as_version=4)
        notary = NotebookNotary(data_dir=str(lab.root.parent / "data"))
        notary.sign(signed)
        notary.store.close()
    return lab.address(f"notebooks/{name}")


def picture_is_there(page):
    """The static picture is drawn, with its text and five rows."""
    page.wait_for_function("at => document.querySelector(at)?.naturalWidth > 0", arg=LOADED)
    assert page.locator(LOADED).is_visible()
    assert page.locator(LOADED).get_attribute("alt").startswith("Atlas of synthetic")
    assert page.locator(".minimoe-fallback tbody tr").count() == 5


def test_two_explorers_live_and_apart(browser, lab):
    notebook = new_notebook(cells=[new_code_cell(source) for source in CELLS])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    with watched(browser) as page:
        page.goto(write(lab, "explorers.ipynb", notebook, trusted=True))
        run_all_cells(page)
        page.wait_for_function("at => document.querySelectorAll(at).length === 2", arg=READY)
        assert page.locator(".minimoe-fallback").count() == 2
        page.wait_for_function(
            "() => [...document.querySelectorAll('.minimoe-fallback')].every(one => one.offsetHeight === 0)"
        )
        page.wait_for_function(
            "at => document.querySelector(at).minimoe.state.layer === 1", arg=READY
        )  # Python's select
        layers = "at => [...document.querySelectorAll(at)].map(root => root.minimoe.state.layer)"
        assert page.evaluate(layers, READY) == [1, 2]
        assert page.evaluate("at => document.querySelector(at).minimoe.state.expert", READY) == 5
        # the browser's turn: what is chosen there reaches Python, which answers with a choice of its own
        page.evaluate("at => document.querySelector(at).minimoe.set({ layer: 3 })", READY)
        page.wait_for_function(
            """at => { const { state, model } = document.querySelector(at).minimoe;
                       return state.layer === 3 && model.get('state').rev === state.rev }""",
            arg=READY,
        )
        last = page.locator(".jp-CodeCell").nth(2)
        last.locator(".cm-content").click()
        page.keyboard.press("Control+Enter")
        last.get_by_text("python sees 3 2").wait_for()
        page.wait_for_function("at => document.querySelector(at).minimoe.state.layer === 1", arg=READY)
        revision = page.evaluate("at => Number(document.querySelector(at).dataset.rev)", READY)
        assert revision >= 2
        # JupyterLab's own theme
        page.evaluate("() => { document.body.dataset.jpThemeLight = 'false' }")
        page.wait_for_function(
            "at => [...document.querySelectorAll(at)].every(root => root.dataset.theme === 'dark')", arg=READY
        )
        assert (page.complaints, page.abroad) == ([], [])


def test_an_untrusted_notebook_shows_the_picture(browser, lab, stored):
    with watched(browser) as page:
        page.goto(write(lab, "untrusted.ipynb", stored, trusted=False))
        page.wait_for_selector(".minimoe-fallback")
        picture_is_there(page)
        assert page.locator(READY).count() == 0
        assert (page.complaints, page.abroad) == ([], [])


def test_a_trusted_notebook_that_was_not_run_shows_the_picture(browser, lab, stored):
    with watched(browser) as page:
        page.goto(write(lab, "restored.ipynb", stored, trusted=True))
        page.wait_for_selector(".minimoe .mm-wait")
        picture_is_there(page)
        assert page.locator(READY).count() == 0
        assert (page.complaints, page.abroad) == ([], [])


def test_a_notebook_without_widget_state_shows_the_picture(browser, lab, stored):
    bare = nbformat.from_dict(dict(stored))
    bare.metadata = {"kernelspec": stored.metadata["kernelspec"]}
    with watched(browser) as page:
        page.goto(write(lab, "stripped.ipynb", bare, trusted=True))
        page.wait_for_selector(".minimoe-fallback")
        picture_is_there(page)
        assert page.abroad == []  # it does complain: the widget's model is gone, as we want it to be


def test_a_converted_notebook_without_a_network_shows_the_picture(browser, stored, tmp_path):
    file = tmp_path / "converted.html"
    file.write_text(HTMLExporter().from_notebook_node(stored)[0], encoding="utf-8")
    with watched(browser) as page:
        page.context.set_offline(True)
        page.goto(file.as_uri(), wait_until="domcontentloaded")
        picture_is_there(page)


def voila_command():
    """What `make explorer` types after `python -m`."""
    recipe = re.search(r"^explorer:.*?\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M).group(1)
    return re.search(r"-m (voila .*?) \$\(VOILA_FLAGS\)", recipe.replace("\\\n", " ")).group(1).split()


@pytest.fixture
def voila(tmp_path):
    """The shipped page on a server of its own, started as `make explorer` does."""
    log, port = tmp_path / "voila.log", free_port()
    own = {f"JUPYTER_{kind}_DIR": str(tmp_path / kind.lower()) for kind in ("CONFIG", "DATA", "RUNTIME")}
    own["JUPYTER_PATH"] = str(ROOT)  # where voila/templates is
    command = [sys.executable, "-m", *voila_command(), "--no-browser", f"--port={port}"]
    with log.open("wb") as sink:
        process = subprocess.Popen(command, cwd=ROOT, env=os.environ | own, stdout=sink, stderr=subprocess.STDOUT)
        try:
            wait_for(f"http://127.0.0.1:{port}/voila/static/require.min.js", process, log)
            yield f"http://127.0.0.1:{port}/"
        finally:
            process.terminate()
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def test_voila_shows_the_shipped_trace(browser, voila):
    with watched(browser) as page:
        page.goto(voila)
        page.wait_for_selector(READY, timeout=60_000)
        assert "mini checkpoint, " in page.locator(".mm-title").first.inner_text()
        assert page.locator(".mm-bar .mm-tag").first.text_content() == "measured"
        page.wait_for_function("() => document.querySelector('.minimoe-fallback').offsetHeight === 0")
        assert page.evaluate("at => document.querySelector(at).minimoe.kernel !== null", READY)
        page.get_by_label("Your own text").fill("The cat sleeps.")
        page.get_by_role("button", name="Show its experts").click()
        page.wait_for_function("at => document.querySelector(at)?.minimoe?.data.T < 20", arg=READY)
        assert page.locator(".mm-bar select option").all_inner_texts() == [
            "“The cat sleeps.”",
            "mini checkpoint, 8,815 tokens",
        ]
        page.evaluate("at => document.querySelector(at).minimoe.set({ view: 'card' })", READY)
        there = page.get_by_text("Where was it used in a long text?")
        there.wait_for()
        assert "mini checkpoint, measured, float32, 4 layers x 8,815 tokens" in page.locator(".mm-parts").inner_text()
        page.locator(".mm-bar select").select_option("1")
        page.wait_for_function("at => document.querySelector(at).minimoe.data.T === 8815", arg=READY)
        assert (page.complaints, page.abroad) == ([], [])
