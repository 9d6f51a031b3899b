"""The browser loads the files of web/ as separate ES modules: they draw the same page as the joined module.

So each file imports what it uses, and joining changes nothing.
"""

import json
import re

import pytest

import minimoe
from minimoe.routing.explorer.bundle import WEB, import_order, read_files
from minimoe.routing.explorer.export import PAGE_ENTRY
from minimoe.routing.explorer.state import VIEWS
from tests.browser import open_browser

pytestmark = pytest.mark.browser
SITE = "http://explorer.test/"
READY = '.minimoe[data-ready="1"]'
SCRIPT = re.compile(r'<script type="module">.*?</script>', re.DOTALL)
POLICY = re.compile(r'<meta http-equiv="Content-Security-Policy"[^>]*>')
SEEN = """async ([at, patch]) => {
  const root = document.querySelector(at);
  root.minimoe.set({ tour: null, ...patch }, { record: false });
  await root.minimoe.drawn();
  await new Promise((done) => setTimeout(done, 300)); // what waits until the page is still
  await root.minimoe.drawn();
  return [root.innerText, ...[...root.querySelectorAll("canvas")].map((canvas) => canvas.toDataURL())];
}"""


@pytest.fixture(scope="module")
def pages(chromium, tmp_path_factory):
    """The exported page, and the same page with the files of web/ in place of the joined module."""
    trace = minimoe.synthetic_trace(layers=4, tokens=1200, num_experts=32, top_k=4, seed=2)
    text = minimoe.export_html(trace, tmp_path_factory.mktemp("page") / "page.html").read_text(encoding="utf-8")
    assert len(SCRIPT.findall(text)) == 1 and len(POLICY.findall(text)) == 1
    unjoined = SCRIPT.sub(f'<script type="module" src="web/{PAGE_ENTRY}"></script>', POLICY.sub("", text))
    style = json.dumps((WEB / "explorer.css").read_text(encoding="utf-8"))

    def answer(route):
        name = route.request.url.removeprefix(SITE)
        if not name.startswith("web/"):
            return route.fulfill(body=unjoined if name == "unjoined.html" else text, content_type="text/html")
        source = (WEB / name.removeprefix("web/")).read_text(encoding="utf-8")
        if name == "web/core/style.js":
            source = source.replace('""', style)
        return route.fulfill(body=source, content_type="text/javascript")

    with open_browser(chromium) as browser:
        opened = {}
        for name in ("joined", "unjoined"):
            page = browser.new_page(viewport={"width": 1400, "height": 1100}, color_scheme="light")
            page.complaints, page.files = [], set()
            page.on("pageerror", lambda error, page=page: page.complaints.append(str(error)))
            page.on("request", lambda request, page=page: page.files.add(request.url.removeprefix(SITE)))
            page.route("**/*", answer)
            page.goto(f"{SITE}{name}.html")
            page.wait_for_selector(READY)
            opened[name] = page
        yield opened


def test_every_file_is_loaded_by_itself(pages):
    loaded = {name.removeprefix("web/") for name in pages["unjoined"].files if name.endswith(".js")}
    assert loaded == set(import_order(read_files(WEB), PAGE_ENTRY))
    assert not [name for name in pages["joined"].files if name.endswith(".js")]


PATCHES = [*({"view": view, "expert": 3} for view in VIEWS), {"tour": 0}, {"domain": 1}]


@pytest.mark.parametrize("patch", PATCHES, ids=str)
def test_every_view_is_drawn_as_by_the_joined_module(pages, patch):
    for _ in range(20):  # some parts are drawn a little later
        joined, unjoined = (page.evaluate(SEEN, [READY, patch]) for page in pages.values())
        if joined == unjoined:
            break
    assert len(joined) > 3 and len(joined[0]) > 500
    assert joined == unjoined
    assert [page.complaints for page in pages.values()] == [[], []]


def test_no_file_declares_a_name_of_the_browser(pages):
    """Else a file that means the browser's own name would get the other file's one, once joined."""
    declared = {name for file in read_files(WEB).values() for name in file.declared}
    assert declared & set(pages["joined"].evaluate("Object.getOwnPropertyNames(window)")) == set()
