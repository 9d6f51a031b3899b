"""The widget of one token in a browser: on a plain page without a kernel, and in JupyterLab with one."""

import base64
import json
from itertools import pairwise

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

import minimoe
from minimoe.routing.token_view.labels import token_labels
from tests.browser import open_browser, run_all_cells

pytestmark = pytest.mark.browser
READY = '.minimoe-token[data-ready="1"]'
PAGE = """<!doctype html><html><head><meta charset="utf-8"></head><body %s><div id="here"></div>
<script type="module">%s
const values = %s;
for (const key of ["experts", "weights"]) {
  values[key] = new DataView(Uint8Array.from(atob(values[key]), (character) => character.charCodeAt(0)).buffer);
}
const set = (key, value) => { values[key] = value; };
const model = { get: (key) => values[key], set, save_changes() {}, on() {}, off() {}, send() {} };
globalThis.values = values;
globalThis.close = showToken({ model, el: document.getElementById("here") });
</script></body></html>"""


def page_of(view, theme="light"):
    """A page with the widget and a stand-in for its model."""
    fields = {name: base64.b64encode(getattr(view, name)).decode() for name in ("experts", "weights")}
    values = fields | {"header": view.header, "token": view.token, "pinned": view.pinned}
    source = view._esm.replace("export default { render: showToken };", "")
    inert = json.dumps(values).replace("<", "\\u003c")
    return PAGE % (f'data-jp-theme-light="{str(theme == "light").lower()}"', source, inert)


@pytest.fixture(scope="module")
def browser(chromium):
    with open_browser(chromium) as running:
        yield running


@pytest.fixture
def opened(browser, tmp_path):
    """opened(view, width, theme): a page with the widget; complaints of the page fail the test."""
    pages, complaints = [], []

    def open_page(view, width=900, theme="light"):
        page = browser.new_page(viewport={"width": width, "height": 900})
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
        file = tmp_path / f"{len(pages)}.html"
        file.write_text(page_of(view, theme), encoding="utf-8")
        page.goto(file.as_uri())
        page.wait_for_selector(READY)
        pages.append(page)
        return page

    yield open_page
    for page in pages:
        page.close()
    assert complaints == []


@pytest.fixture(scope="module")
def trace():
    return minimoe.synthetic_trace(layers=6, tokens=80, num_experts=32, top_k=4, seed=3)


MARKED = """() => [...document.querySelectorAll('.mt-token')]
  .flatMap((box, t) => box.classList.contains('mt-user') ? [t] : [])"""
BOXES = """() => [...document.querySelectorAll('.mt-token')].map((one) => {
  const { left, right, top } = one.getBoundingClientRect();
  return [left, right, top];
})"""


def lit(page):
    page.wait_for_function(
        "() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done(true))))"
    )
    return int(page.locator(".minimoe-token").get_attribute("data-lit"))


def columns(page, kind="current"):
    """The experts of the drawn lights, in the order of drawing, from their places and those of the axis."""
    return page.evaluate(
        """kind => {
          const middle = [...document.querySelectorAll('.mt-map text[text-anchor=middle]')];
          const ticks = middle.filter((one) => /^\\d+$/.test(one.textContent));
          const [a, b] = [ticks[0], ticks.at(-1)];
          const x = (one, name = 'x') => Number(one.getAttribute(name));
          const wide = (x(b) - x(a)) / (Number(b.textContent) - Number(a.textContent));
          const lights = [...document.querySelectorAll(`.mt-light-${kind}`)];
          return lights.map((one) => Math.round((x(one, 'cx') - x(a)) / wide));
        }""",
        kind,
    )


@pytest.mark.parametrize("token", [0, 41])
def test_the_lights_are_the_experts_of_the_token(opened, trace, token):
    page = opened(minimoe.show_token(trace, token=token))
    assert lit(page) == token and columns(page) == trace.experts[:, token].flatten().tolist()


def test_keys_pointer_and_pin(opened, trace):
    page = opened(minimoe.show_token(trace, token=3))
    strip = page.locator(".mt-strip")
    strip.focus()
    page.keyboard.press("ArrowRight")
    assert lit(page) == 4 and page.evaluate("() => values.token") == 4
    page.keyboard.press("Home")
    page.keyboard.press("Enter")  # pins token 0
    page.keyboard.press("End")
    assert (lit(page), page.evaluate("() => values.pinned")) == (79, 0)
    assert columns(page, "pinned") == trace.experts[:, 0].flatten().tolist()
    both = [
        len(set(a) & set(b)) for a, b in zip(trace.experts[:, 0].tolist(), trace.experts[:, 79].tolist(), strict=True)
    ]
    words = page.locator(".mt-words").inner_text()
    assert f"share {', '.join(map(str, both))} of 4 experts in layers 0, 1, 2, 3, 4, 5" in words
    assert "Two random sets share 0.5 on average (4 × 4 / 32)" in words
    assert page.locator(".mt-count").all_text_contents() == [f"{count} of 4" for count in both]
    page.keyboard.press("Escape")
    assert lit(page) == 79 and page.locator(".mt-light-pinned").count() == 0
    first = page.locator(".mt-token").nth(0)
    first.scroll_into_view_if_needed()
    first.hover()
    assert (lit(page), page.evaluate("() => values.token")) == (0, 79)  # shown, not chosen
    page.mouse.move(5, 890)
    assert lit(page) == 79
    first.click()
    assert page.evaluate("() => values.token") == 0
    page.keyboard.press("ArrowDown")
    assert lit(page) > 0


def test_an_expert_underlines_the_tokens_that_use_it(opened, trace):
    page = opened(minimoe.show_token(trace, token=10))
    expert = int(trace.experts[2, 10, 1])
    place = page.locator(".mt-light-current").nth(2 * 4 + 1).bounding_box()
    page.mouse.move(place["x"] + place["width"] / 2, place["y"] + place["height"] / 2)
    lit(page)
    users = [t for t in range(80) if expert in trace.experts[2, t].tolist()]
    words = page.locator(".mt-words").inner_text()
    assert f"Layer 2, expert {expert}: weight " in words and f"Selected for {len(users)} of 80 tokens" in words
    assert "(if all experts were chosen equally often: 10)" in words
    assert page.evaluate(MARKED) == users
    page.mouse.move(5, 890)
    lit(page)
    assert page.evaluate(MARKED) == []
    page.locator("summary").click()
    page.wait_for_selector(".mt-table tr")
    cells = page.locator(".mt-table tr").nth(2).locator("button").all_inner_texts()
    assert cells == list(map(str, trace.experts[2, 10].tolist()))
    page.locator(".mt-table tr").nth(2).locator("button").nth(1).click()
    lit(page)
    assert page.evaluate(MARKED) == users


@pytest.mark.parametrize("width", [360, 700, 1200])
def test_text_wraps_and_nothing_overflows(opened, trace, width):
    page = opened(minimoe.show_token(trace, token=0, pin=5), width)
    assert page.evaluate("() => document.documentElement.scrollWidth <= innerWidth")
    boxes = page.evaluate(BOXES)
    for (_, right, top), (left, _, below) in pairwise(boxes):
        assert below > top or left >= right
    assert page.locator(".mt-token").all_inner_texts() == token_labels(trace)
    assert page.locator(".mt-map").bounding_box()["width"] <= width


def test_94_layers_and_512_experts_are_drawn(opened):
    page = opened(minimoe.show_token(minimoe.synthetic_trace(layers=94, tokens=64), token=0))
    assert page.locator(".mt-map").bounding_box()["height"] < 640 and page.locator(".mt-path-current").count() == 1
    big = minimoe.synthetic_trace(layers=3, tokens=64, num_experts=512, top_k=10)
    page = opened(minimoe.show_token(big, token=5))
    assert columns(page) == big.experts[:, 5].flatten().tolist()


CONTRAST = """
() => {
  const linear = (part) => (part / 255 <= 0.04045 ? part / 255 / 12.92 : ((part / 255 + 0.055) / 1.055) ** 2.4);
  const light = (text) => {
    const [red, green, blue] = text.match(/[\\d.]+/g).slice(0, 3).map(linear);
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
  };
  const behind = (node) => {
    const colour = getComputedStyle(node).backgroundColor;
    return /, 0\\)$/.test(colour) && node.parentElement ? behind(node.parentElement) : colour;
  };
  const names = '.mt-token, .mt-space, .mt-note, .mt-words, .mt-pin, summary, .mt-label';
  return Math.min(...[...document.querySelectorAll(names)].filter((node) => node.textContent).map((node) => {
    const style = getComputedStyle(node);
    const [a, b] = [light(node.namespaceURI.endsWith('svg') ? style.fill : style.color), light(behind(node))];
    return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  }));
}
"""


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_all_text_has_contrast(opened, trace, theme):
    page = opened(minimoe.show_token(trace, token=2, pin=9), theme=theme)
    assert page.locator(".minimoe-token").get_attribute("data-theme") == theme
    assert page.evaluate(CONTRAST) >= 4.5


CELLS = [
    "import minimoe\nmodel, tokenizer = minimoe.load('data/mini')\n"
    "view = minimoe.show_token(model, tokenizer, 'The cat sleeps.', token='cat', label='mini')\nview",
    "print('python sees', view.token, view.pinned, view.header['T'])",
]


def test_in_jupyterlab_a_text_is_typed_and_python_follows(browser, lab):
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    notebook = new_notebook(cells=[new_code_cell(source) for source in CELLS])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(notebook, lab.root / "notebooks" / "token.ipynb")
    complaints = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(lab.address("notebooks/token.ipynb"))
    run_all_cells(page)
    page.wait_for_selector(READY)
    page.wait_for_function(
        "() => !document.querySelector('.js-plotly-plot')?.offsetHeight"
    )  # the widget takes its place
    page.mouse.move(5, 890)  # the menu's entry, where the pointer was, may have been above a token
    assert lit(page) == 1
    field = page.locator(".mt-form input")
    field.fill("Hello world. <b>")
    field.press("Enter")
    page.wait_for_function("() => document.querySelectorAll('.mt-token')[0].textContent === 'H'")
    page.locator(".mt-token").nth(1).click()
    page.keyboard.press("Enter")
    assert page.locator(".mt-strip b").count() == 0  # text stays text
    last = page.locator(".jp-CodeCell").nth(1)
    last.locator(".cm-content").click()
    page.keyboard.press("Control+Enter")
    count = page.locator(".mt-token").count()
    last.get_by_text(f"python sees 1 1 {count}").wait_for()
    field.fill("")
    field.press("Enter")
    page.get_by_text("which has no tokens").wait_for()
    page.close()
    assert complaints == []
