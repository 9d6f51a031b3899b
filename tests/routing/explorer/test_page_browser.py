"""The exported page, opened from a file with the network off: its pixels, numbers, keys, words and colours.

One page serves most tests; each leaves it as it found it. `data-ready` and `data-rev` say when something is drawn.
"""

import base64
import json
import re
from urllib.parse import unquote
from xml.etree import ElementTree

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image

import minimoe
from minimoe.routing.explorer.static_picture import PUOR
from minimoe.routing.statistics import count_band, design_effect
from tests.browser import open_browser

pytestmark = pytest.mark.browser
LAYERS, TOKENS, E, K = 6, 1500, 64, 8
READY = '.minimoe[data-ready="1"]'
ATLAS = '[data-view="atlas"] .mm-atlas-grid canvas:not(.mm-overlay)'
HOSTILE = [
    "<img src=x onerror=\"document.title='taken'\">",
    "</script><script>document.title='taken'</script>",
    "&lt;b&gt;",
]
STOP = "() => document.activeElement?.closest('[data-view], [role=tablist], .mm-bar')?.className ?? ''"
HERE = "name => document.activeElement?.closest('[data-view]')?.dataset.view === name"
VIEWS = {
    "c": "router", "d": "ribbon", "e": "card", "f": "domains", "g": "load", "h": "pairs", "i": "paths", "j": "ablation",
}  # fmt: skip


@pytest.fixture(scope="module")
def trace():
    """A synthetic trace in which three tokens look like HTML."""
    made = minimoe.synthetic_trace(LAYERS, TOKENS, num_experts=E, top_k=K, seed=2)
    for token, text in zip(made.tokens.unique().tolist(), HOSTILE, strict=False):
        made.metadata["token_bytes"][str(token)] = base64.b64encode(text.encode()).decode()
    return made


@pytest.fixture(scope="module")
def file(trace, tmp_path_factory):
    return minimoe.export_html(trace, tmp_path_factory.mktemp("page") / "explorer.html")


@pytest.fixture(scope="module")
def browser(chromium):
    with open_browser(chromium) as running:
        yield running


@pytest.fixture(scope="module")
def opened(browser, file):
    """The page, opened without a network; complaints and requests are collected."""
    context = browser.new_context(viewport={"width": 1400, "height": 1100}, offline=True, color_scheme="light")
    page = context.new_page()
    page.complaints, page.requests = [], []
    page.on("console", lambda message: page.complaints.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: page.complaints.append(str(error)))
    page.on("request", lambda request: page.requests.append(request.url))
    page.goto(file.as_uri())
    page.wait_for_selector(READY)
    yield page
    context.close()


@pytest.fixture
def page(opened):
    """The shared page at its beginning; afterwards nothing may have been complained about or asked from elsewhere."""
    opened.beginning = opened.evaluate("at => JSON.stringify(document.querySelector(at).minimoe.state)", READY)
    yield opened
    change(opened, json.loads(opened.beginning))
    assert opened.complaints == []
    assert [url for url in opened.requests if not url.startswith(("file:", "blob:", "data:"))] == []


def change(page, patch):
    """Set the state, and wait until it is drawn."""
    page.evaluate(
        """async ([at, patch]) => {
            const { minimoe } = document.querySelector(at);
            const { rev, ...rest } = patch;
            minimoe.set(rest, { record: false });
            await minimoe.drawn();
        }""",
        [READY, patch],
    )


def state(page):
    return page.evaluate("at => ({ ...document.querySelector(at).minimoe.state })", READY)


def counts_of(trace, mask=slice(None)):
    """(layer, expert), counted one by one."""
    counts = np.zeros((LAYERS, E), dtype=int)
    for layer, rows in enumerate(trace.experts[:, mask].tolist()):
        for row in rows:
            for expert in row:
                counts[layer, expert] += 1
    return counts


def diverging(fold):
    """The colour of a log2 fold: evenly spaced stops from 1/8 to 8 times uniform."""
    stops = np.array([list(bytes.fromhex(stop)) for stop in PUOR], dtype=float)
    place = np.clip((fold + 3) / 6, 0, 1) * (len(stops) - 1)
    return np.array([np.interp(place, range(len(stops)), stops[:, channel]) for channel in range(3)])


def pale(colour, empty=(241, 242, 244)):
    """What is left of a colour within chance: 16 % of it, over the colour of an empty cell."""
    return np.array(empty) * 0.84 + np.asarray(colour) * 0.16


def test_it_opens_from_a_file_with_the_network_off(page, file):
    assert len(page.requests) == 1 and page.requests[0].startswith("file:")
    assert file.stat().st_size < 2_000_000
    assert "synthetic" in page.locator(".mm-title").inner_text()
    assert page.locator("#minimoe-fallback").count() == 0, "the live page takes the picture's place"
    text = file.read_text(encoding="utf-8")
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', text).group(1)
    assert policy.startswith("default-src 'none'; script-src 'sha256-") and "connect" not in policy


def test_pixels_of_the_atlas_are_the_numbers(page, trace):
    mask = (trace.domains == 1).numpy()
    effect = design_effect(trace.experts, E, trace.documents, trace.domains).numpy()
    page.wait_for_timeout(300)  # the design effects are computed when the page is idle
    seen = {True: 0, False: 0}
    for patch, selected, seed in (({"domain": None}, slice(None), 0), ({"domain": 1}, mask, 1)):
        change(page, {"theme": "light", "order": "index", "scale": "log", "rows": None, "lights": False, **patch})
        counts = counts_of(trace, selected)
        n = TOKENS if patch["domain"] is None else int(mask.sum())
        low, high = count_band(n, K / E)
        far = np.abs(counts - n * K / E) > 1.96 * np.sqrt(n * K / E * (1 - K / E) * effect)
        beyond = far & ((counts < low) | (counts > high))
        draw = np.random.default_rng(seed)
        cells = [(int(draw.integers(LAYERS)), int(draw.integers(E))) for _ in range(20)]
        got = page.evaluate(
            """([at, cells, rows, columns]) => {
                const canvas = document.querySelector(at), pen = canvas.getContext("2d");
                const middle = (index, count, size) => Math.floor((index + 0.5) * size / count);
                return cells.map(([row, column]) => [...pen.getImageData(
                    middle(column, columns, canvas.width), middle(row, rows, canvas.height), 1, 1).data]);
            }""",
            [ATLAS, cells, LAYERS, E],
        )
        for (layer, expert), pixel in zip(cells, got, strict=True):
            if counts[layer, expert]:
                wanted = diverging(np.log2(counts[layer, expert] / (n * K / E)))
                seen[bool(beyond[layer, expert])] += 1
                wanted = wanted if beyond[layer, expert] else pale(wanted)
                assert np.abs(np.array(pixel[:3]) - wanted).max() <= 4, (layer, expert)
    assert min(seen.values()) > 0, "cells within chance and beyond it"


def test_the_tooltip_says_what_was_counted(page, trace):
    change(page, {"range": None, "domain": None, "order": "index"})
    counts = counts_of(trace)
    box = page.locator(ATLAS).bounding_box()
    for layer, expert in ((0, 0), (2, 17), (5, 63), (3, 40)):
        page.mouse.move(box["x"] + (expert + 0.5) * box["width"] / E, box["y"] + (layer + 0.5) * box["height"] / LAYERS)
        page.locator(".mm-tooltip-title", has_text=re.compile(rf"^L{layer}·E{expert}$")).wait_for()
        told = page.locator(".mm-tooltip").inner_text()
        share = counts[layer, expert] / TOKENS
        digits = 1 if share >= 0.1 else 2
        assert f"{100 * share:.{digits}f}% of tokens, {float(f'{share * E / K:.3g}'):g}× uniform" in told
        assert f"{counts[layer, expert]:,} of n 1,500 · chance 12.5%" in told
        low, high = map(float, re.search(r"interval ([\d.]+)–([\d.]+)%", told).groups())
        assert low <= 100 * share <= high < low + 12
    page.mouse.move(2, 2)


LIGHTS = """([at, E]) => {
  const svg = document.querySelector(".mm-atlas-lights"), wide = Number(svg.getAttribute("width"));
  const column = (one) => Math.floor(Number(one.getAttribute("cx")) * E / wide);
  const lights = (kind) => [...svg.querySelectorAll(`.mt-light-${kind}`)].map(column);
  return { token: Number(svg.dataset.token), current: lights("current"), pinned: lights("pinned") };
}"""


def test_the_experts_of_the_token_are_lit_in_every_layer(page, trace):
    change(page, {"token": 40, "pinned": None, "order": "index", "rows": None, "lights": True})
    lit = page.evaluate(LIGHTS, [READY, E])
    assert lit["token"] == 40 and lit["pinned"] == []
    assert lit["current"] == trace.experts[:, 40].flatten().tolist()
    change(page, {"pinned": 7, "rows": [2, 4]})
    both = page.evaluate(LIGHTS, [READY, E])
    assert both["current"] == trace.experts[2:4, 40].flatten().tolist()
    assert both["pinned"] == trace.experts[2:4, 7].flatten().tolist()
    here, there = trace.experts[:, 40].tolist(), trace.experts[:, 7].tolist()
    shared = [len(set(one) & set(other)) for one, other in zip(here, there, strict=True)]
    told = page.locator(".mm-lights-words").inner_text()
    assert (
        f"share {', '.join(map(str, shared))} of {K} experts" in told and "Two random sets share 1 on average" in told
    )
    change(page, {"order": "load", "rows": None})
    counts = counts_of(trace)
    ranks = np.argsort(np.argsort(-counts, axis=1, kind="stable"), axis=1)
    lit = page.evaluate(LIGHTS, [READY, E])["current"]
    assert lit == [ranks[layer, expert] for layer in range(LAYERS) for expert in trace.experts[layer, 40].tolist()]
    change(page, {"lights": False})
    assert page.evaluate(LIGHTS, [READY, E])["current"] == []


def test_a_token_under_the_pointer_is_lit_until_the_pointer_leaves(page, trace):
    change(page, {"token": 40, "pinned": None, "lights": True})
    box = page.locator(".mm-strip canvas").bounding_box()
    page.mouse.move(box["x"] + 60, box["y"] + 12)
    page.wait_for_function("() => document.querySelector('.mm-atlas-lights').dataset.token !== '40'")
    pointed = page.evaluate(LIGHTS, [READY, E])["token"]
    assert page.evaluate(LIGHTS, [READY, E])["current"] == trace.experts[:, pointed].flatten().tolist()
    page.mouse.move(2, 2)
    page.wait_for_function("() => document.querySelector('.mm-atlas-lights').dataset.token === '40'")
    assert state(page)["token"] == 40


def test_a_new_page_says_what_it_shows_offers_the_tour_and_listens_to_keys(browser, file):
    context = browser.new_context(viewport={"width": 1400, "height": 1000}, offline=True)
    page = context.new_page()
    page.goto(file.as_uri())
    page.wait_for_function("() => document.querySelector('.mm-headline-words').textContent.includes('experts')")
    offer = page.locator(".mm-offer")
    assert offer.is_visible() and "tour" in offer.inner_text()
    page.keyboard.press("f")  # nothing has the focus
    page.wait_for_function("at => document.querySelector(at).minimoe.state.view === 'domains'", arg=READY)
    page.evaluate("() => document.activeElement.blur()")
    page.keyboard.press("t")
    page.locator(".mm-tour").wait_for()
    assert not offer.is_visible()
    context.close()


STRIP_PLACE = """() => {
  const strip = document.querySelector(".mm-strip");
  return [strip.scrollTop, strip.querySelector("canvas").clientHeight / 26];
}"""


def test_the_headline_counts_what_view_f_counts_and_the_strip_shows_whole_lines(browser, tmp_path):
    trace = minimoe.synthetic_trace(layers=3, tokens=2800, num_experts=32, top_k=4, seed=1)
    page = browser.new_context(viewport={"width": 1400, "height": 1000}, offline=True).new_page()
    page.goto(minimoe.export_html(trace, tmp_path / "page.html").as_uri())
    page.wait_for_function("() => document.querySelector('.mm-headline-words').textContent.includes('prefer')")
    told = page.locator(".mm-headline-words").inner_text()
    found = int(re.search(r"([\d,]+) of 96 experts", told)[1])
    names = re.search(r"prefer (\S+) or (\S+)\.", told).groups()
    codes = {"English": "en", "Chinese": "zh", "mathematics": "math", "code": "code"}
    first, second = (trace.domain_names.index(codes[name]) for name in names)
    page.get_by_role("button", name="Show these experts").click()
    shown = page.evaluate("at => document.querySelector(at).minimoe.state", READY)
    assert (shown["view"], shown["compare"]) == ("domains", {"a": first, "b": second, "matched": False})
    alt = "document.querySelector(at).minimoe.layout.panel('domains').instance.alt()"
    page.wait_for_function(f"at => {alt}.includes('q ≤ 5%')", arg=READY)
    assert found > 0 and f"{found} of 96 experts differ" in page.evaluate(f"at => {alt}", READY)
    assert re.search(r"shuffled 10 times: 0( each time| to \d)\.", told)
    # the strip scrolls to a token by whole lines of 26 pixels
    for token in (2600, 1300):
        change(page, {"token": token})
        top, lines = page.evaluate(STRIP_PLACE)
        assert top > 0 and top % 26 == 0 and lines == 5
    page.context.close()


def test_a_walk_with_the_keyboard_reaches_every_view(page):
    page.locator(".mm-bar button").last.focus()
    for letter, name in {"a": "strip", "b": "atlas", **VIEWS}.items():
        page.keyboard.press(letter)
        page.wait_for_function(HERE, arg=name)
        assert page.locator(f'[data-view="{name}"]').is_visible()
        if name not in ("strip", "atlas"):
            assert state(page)["view"] == name
    # by Tab alone, from the top: the tabs of the views are one stop, arrows move along them
    page.evaluate("() => document.activeElement.blur()")
    stops = set()
    for _ in range(80):
        page.keyboard.press("Tab")
        stops.add(page.evaluate(STOP))
        if any("mm-tabs" in stop for stop in stops):
            break
    assert any("mm-panel-strip" in stop for stop in stops) and any("mm-panel-atlas" in stop for stop in stops)
    assert any("mm-tabs" in stop for stop in stops), stops
    before = state(page)["view"]
    page.keyboard.press("ArrowRight")
    page.wait_for_function("([at, old]) => document.querySelector(at).minimoe.state.view !== old", arg=[READY, before])


def test_arrows_in_the_atlas_move_and_enter_selects(page):
    change(page, {"layer": 2, "expert": 10, "order": "index", "rows": None})
    page.locator(".mm-atlas-grid").focus()
    for key in ("ArrowDown", "ArrowRight", "ArrowRight", "Enter"):
        page.keyboard.press(key)
    page.wait_for_function("at => document.querySelector(at).minimoe.state.layer === 3", arg=READY)
    assert state(page)["expert"] == 12
    page.keyboard.press("Control+z")
    page.wait_for_function("at => document.querySelector(at).minimoe.state.layer === 2", arg=READY)
    assert state(page)["expert"] == 10


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing_serious(page, theme):
    change(page, {"theme": theme})
    found = {}
    for view in VIEWS.values():
        change(page, {"view": view})
        part = None if view == "router" else f'[data-view="{view}"]'  # the whole page once, then what is new
        for violation in Axe().run(page, context=part).response["violations"]:
            if violation["impact"] in ("serious", "critical"):
                nodes = [node["html"][:150] for node in violation["nodes"][:3]]
                found.setdefault(violation["id"], (view, violation["help"], nodes))
    assert found == {}


def test_html_in_a_token_is_text(page, trace):
    assert page.title() != "taken"
    assert page.locator("img").count() == 0
    panel = page.locator('[data-view="strip"]')
    panel.get_by_role("button", name="Table").or_(panel.get_by_text("Table", exact=True)).first.click()
    table = panel.locator(".mm-table")
    table.locator("td").first.wait_for()
    shown = [text for text in HOSTILE if any(text in cell for cell in table.locator("td").all_inner_texts())]
    assert HOSTILE[0] in shown or HOSTILE[1] in shown or HOSTILE[2] in shown
    assert table.locator("img, script, b").count() == 0
    panel.get_by_text("Table", exact=True).first.click()


def test_themes_follow_the_system_and_the_button(page):
    change(page, {"theme": "auto"})
    colour = "at => getComputedStyle(document.querySelector(at)).getPropertyValue('--mm-background').trim()"
    light = page.evaluate(colour, READY)
    page.emulate_media(color_scheme="dark")
    page.wait_for_function("at => document.querySelector(at).dataset.theme === 'dark'", arg=READY)
    assert page.evaluate(colour, READY) != light
    page.emulate_media(color_scheme="light")
    page.wait_for_function("at => document.querySelector(at).dataset.theme === 'light'", arg=READY)
    page.get_by_role("button", name="To the dark theme").click()
    page.wait_for_function("at => document.querySelector(at).dataset.theme === 'dark'", arg=READY)
    assert state(page)["theme"] == "dark"


def code_of(page, view):
    """What the button "Code" of this view puts into the clipboard."""
    page.evaluate("navigator.clipboard.writeText = async (text) => { window.copied = text }")
    page.locator(f'[data-view="{view}"] button', has_text="Code").first.click()
    return page.evaluate("window.copied")


def test_the_code_that_each_view_copies_runs(page, trace, tmp_path):
    trace.save(tmp_path / "trace.safetensors")
    for view in ("strip", "atlas", *VIEWS.values()):
        if view in VIEWS.values():
            change(page, {"view": view, "range": [100, 900], "domain": None, "expert": 3})
        code = code_of(page, view)
        if view == "ablation":  # a synthetic trace has no model to run
            compile(code, view, "exec")
            assert "experts=[3]" in code
            continue
        names = {}
        exec(code.replace("trace.safetensors", str(tmp_path / "trace.safetensors")), names)
        assert view in ("strip", "router", "ribbon") or "minimoe.routing.statistics" in code


def test_where_there_is_too_little_nothing_overlaps_and_no_number_is_given(page):
    for view in ("load", "pairs", "paths", "domains"):
        change(page, {"view": view, "range": [0, 40], "domain": None})
        panel = page.locator(f'[data-view="{view}"]')
        message = panel.locator(".mm-shortage").bounding_box()
        controls = panel.locator(".mm-controls").bounding_box()
        assert controls["y"] + controls["height"] <= message["y"], view
        for name in ("Table", "CSV"):
            assert panel.locator(".mm-tools button", has_text=name).is_disabled(), view


def test_a_refusal_names_the_filter_and_offers_to_lift_it(page):
    change(page, {"view": "load", "range": [0, 40], "domain": 0, "expert": 3})
    message = page.locator('[data-view="load"] .mm-shortage')
    told = message.inner_text()
    assert "needs at least 512 tokens" in told and "Only the domain en and a range of the text are selected" in told
    assert "tokens of 1,500" in told
    message.get_by_role("button", name="use all 1,500 tokens").click()
    page.wait_for_function("() => document.querySelector('[data-view=load] .mm-shortage').hidden")
    assert state(page)["range"] is None and state(page)["domain"] is None


def test_experts_worth_a_visit_are_those_that_were_planted(browser, tmp_path):
    trace = minimoe.synthetic_trace(layers=3, tokens=2800, num_experts=32, top_k=4, seed=1)
    page = browser.new_context(viewport={"width": 1400, "height": 1000}, offline=True).new_page()
    page.goto(minimoe.export_html(trace, tmp_path / "page.html", state={"view": "card"}).as_uri())
    page.get_by_text("Experts worth a visit").click()
    rows = page.locator("details .mm-list tbody tr").all_inner_texts()
    found = {tuple(row.split()[:2]) for row in rows}
    planted = trace.metadata["planted"]["specialists"]
    assert {(f"L{one['layer']}·E{one['expert']}", one["domain"]) for one in planted} <= found
    assert len(rows) <= 8
    page.context.close()


def test_the_picture_of_a_view_says_where_it_comes_from(page):
    change(page, {"view": "load", "range": None, "domain": None, "theme": "light"})
    for view, inside in (("atlas", "uniform"), ("load", "tokens"), ("strip", "shared"), ("router", "rank 9")):
        change(page, {"view": view if view in VIEWS.values() else "router"})
        page.locator(f'[data-view="{view}"] .mm-tools button', has_text="Picture").click()
        image = page.locator("dialog img")
        image.wait_for()
        source = image.get_attribute("src")
        svg = unquote(source.partition(",")[2])
        tree = ElementTree.fromstring(svg)
        words = " ".join(" ".join(tree.itertext()).split())
        assert "synthetic, 6 layers x 1,500 tokens (synthetic)" in words and "all 1,500 tokens" in words, view
        assert inside in words, (view, words)
        assert page.evaluate("() => document.querySelector('dialog img').decode().then(() => true)")
        with page.expect_download() as saved:
            page.get_by_role("button", name="Save PNG").click()
        assert saved.value.suggested_filename == f"minimoe-{view}-synthetic.png"
        drawn = Image.open(saved.value.path())
        assert drawn.size == (2 * int(tree.get("width")), 2 * int(tree.get("height")))
        assert len(drawn.convert("RGB").getcolors(10**6)) > 20, "not an empty sheet"
        page.get_by_role("button", name="Close").click()


def test_the_link_leads_to_the_same_state(page):
    change(page, {"layer": 3, "view": "ribbon", "token": 12})
    page.evaluate("navigator.clipboard.writeText = async (text) => { window.copied = text }")
    page.get_by_role("button", name="Copy a link to what is shown now").click()
    link = page.evaluate("window.copied")
    assert link.startswith("file:") and {"layer=3", "view=ribbon", "token=12"} <= set(link.partition("#")[2].split("&"))


def test_pairs_and_paths_follow_a_brush_that_has_come_to_rest(page, trace):
    for view in ("pairs", "paths"):
        change(page, {"view": view, "domain": None, "range": None})
        change(page, {"range": [0, 1400]})
        note = f"document.querySelector('[data-view={view}] .mm-part-note').textContent"
        page.wait_for_function(f"() => {note}.startsWith('n 1,400 tokens')")


def test_the_address_holds_the_state(page):
    change(page, {"layer": 4, "view": "load"})
    page.wait_for_function("() => location.hash.includes('view=load')")
    page.evaluate("() => { location.hash = '#layer=1&view=paths' }")
    page.wait_for_function("at => document.querySelector(at).minimoe.state.view === 'paths'", arg=READY)
    assert state(page)["layer"] == 1


def test_a_page_whose_data_is_cut_says_so_and_keeps_the_picture(browser, file, tmp_path):
    text = file.read_text(encoding="utf-8")
    cut = tmp_path / "cut.html"
    cut.write_text(re.sub(r'(id="minimoe-data">)(.{4000})[^<]*', r"\1\2", text), encoding="utf-8")
    page = browser.new_page()
    page.goto(cut.as_uri())
    page.locator("[role=alert]").wait_for()
    assert page.locator("#minimoe-fallback img").is_visible()
    assert page.locator(READY).count() == 0
    page.close()


def test_without_javascript_there_is_a_picture_with_its_text(browser, file):
    context = browser.new_context(java_script_enabled=False, offline=True)
    page = context.new_page()
    page.goto(file.as_uri())
    assert page.locator("#minimoe-fallback img").get_attribute("alt").startswith("Atlas of synthetic")
    assert page.locator("#minimoe-fallback tbody tr").count() == 5
    context.close()
