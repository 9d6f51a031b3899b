"""What "Code" copies gives the numbers of the page: views G, H and I, with copied documents and after a selection."""

import csv
import io

import pytest
import torch

import minimoe
from minimoe.routing.explorer.payload import pack
from minimoe.routing.trace.documents import duplicate_documents, merge_copies
from minimoe.routing.trace.trace import RoutingTrace
from tests.browser import open_browser

pytestmark = pytest.mark.browser
READY = '.minimoe[data-ready="1"]'
E = 16
SELECTIONS = {"everything": {}, "a range": {"range": [150, 1500]}, "a domain": {"domain": 0}}


def with_copies(trace, times):
    """The trace, and its first ten documents `times` more: the same tokens with the same routing, as new documents."""
    chosen = torch.cat([torch.arange(len(trace))] + [(trace.documents < 10).nonzero().flatten()] * times)
    copied = trace.select(chosen)
    number = int(trace.documents.max()) + 1
    shift = torch.zeros(len(chosen), dtype=torch.int64)
    for time in range(times):
        size = int((trace.documents < 10).sum())
        start = len(trace) + time * size
        shift[start : start + size] = number + 10 * time
    tensors = dict(copied.tensors)
    for name in ("documents", "sequences"):
        tensors[name] = torch.where(shift > 0, tensors[name] % number + shift, tensors[name])
    entries = trace.metadata["documents"]
    again = [entry | {"title": f"{entry['title']}, copy {time + 1}"} for time in range(times) for entry in entries[:10]]
    return RoutingTrace(trace.layers.tolist(), [tensors], [], copied.metadata | {"documents": entries + again})


@pytest.fixture(scope="module")
def plain():
    return minimoe.synthetic_trace(layers=3, tokens=2400, num_experts=E, top_k=3, seed=4)


@pytest.fixture(scope="module")
def copied(plain):
    return with_copies(plain, 4)


def test_copies_are_found_named_and_counted_once(plain, copied):
    assert duplicate_documents(plain) == {} and merge_copies(plain) is plain
    found = duplicate_documents(copied)
    number = int(plain.documents.max()) + 1
    assert found == {number + 10 * time + document: document for time in range(4) for document in range(10)}
    once = merge_copies(copied)
    assert once.documents.unique().tolist() == plain.documents.unique().tolist()
    assert len(once) == len(copied) and torch.equal(once.experts, copied.experts)
    assert once.metadata["documents"][0]["title"].endswith("(one of 5 equal documents)")
    assert "equal" not in copied.metadata["documents"][0]["title"] and int(copied.documents.max()) == number + 39
    once.check()
    for trace, copies in ((plain, 0), (copied, 40)):
        assert pack([trace])[0]["traces"][0]["copies"] == copies


def test_documents_of_other_domains_or_unknown_tokens_are_no_copies(copied):
    tensors = dict(copied.tensors)
    number = 7 + int(copied.documents.max()) - 39  # the first copy of document 7
    tensors["domains"] = torch.where(tensors["documents"] == number, (tensors["domains"] + 1) % 4, tensors["domains"])
    tensors["tokens"] = torch.where(tensors["documents"] == number + 1, -1, tensors["tokens"])
    changed = RoutingTrace(copied.layers.tolist(), [tensors], [], copied.metadata)
    assert set(duplicate_documents(copied)) - set(duplicate_documents(changed)) == {number, number + 1}


@pytest.fixture(scope="module")
def pages(chromium, plain, copied, tmp_path_factory):
    """name -> (page, path of its trace)."""
    folder = tmp_path_factory.mktemp("code")
    opened = {}
    with open_browser(chromium) as browser:
        for name, trace in (("plain", plain), ("copied", copied)):
            trace.save(folder / f"{name}.safetensors")
            page = browser.new_page(viewport={"width": 1400, "height": 1000})
            page.complaints = []
            page.on("pageerror", lambda error, page=page: page.complaints.append(str(error)))
            page.goto(minimoe.export_html(trace, folder / f"{name}.html").as_uri())
            page.wait_for_selector(READY)
            page.evaluate("navigator.clipboard.writeText = async (text) => { window.copied = text }")
            opened[name] = (page, folder / f"{name}.safetensors")
        yield opened


def shown(page, view, patch):
    """(the rows of the view's CSV as dictionaries of columns, the code it copies, its words)."""
    page.evaluate(
        """async ([at, patch]) => {
            const { minimoe } = document.querySelector(at);
            minimoe.set(patch, { record: false });
            await minimoe.drawn();
        }""",
        [READY, {"range": None, "domain": None, "layer": 1} | patch | {"view": view}],
    )
    panel = page.locator(f'[data-view="{view}"]')
    panel.locator("button", has_text="Code").first.click()
    code = page.evaluate("window.copied")
    with page.expect_download() as download:
        panel.locator("button", has_text="CSV").first.click()
    rows = list(csv.reader(io.StringIO(download.value.path().read_text(encoding="utf-8-sig"))))
    assert page.complaints == []
    return rows[0], rows[1:], code, panel.inner_text()


def run(code, path):
    """The names that the copied code defines, without the line that opens an explorer."""
    lines = [line for line in code.splitlines() if not line.startswith("minimoe.explore(")]
    names = {}
    exec("\n".join(lines).replace("trace.safetensors", str(path)), names)
    return names


def number(cell):
    return float(cell) if cell not in ("", "NaN") else float("nan")


def approximately(value):
    return pytest.approx(float(value), rel=1e-5, nan_ok=True)


@pytest.mark.parametrize("selection", SELECTIONS)
@pytest.mark.parametrize("name", ["plain", "copied"])
def test_pairs(pages, name, selection):
    page, path = pages[name]
    columns, rows, code, words = shown(page, "pairs", SELECTIONS[selection])
    found = run(code, path)["pairs"]
    assert len(rows) == E * (E - 1) // 2
    for row in rows:
        a, b = int(row[1]), int(row[2])
        cell = dict(zip(columns, row, strict=True))
        assert int(cell["together"]) == int(found.counts[a, b])
        for column, value in (
            ("by chance", found.expected), ("q", found.q), ("times chance", found.ratio.value),
            ("low", found.ratio.low), ("high", found.ratio.high),
        ):  # fmt: skip
            assert number(cell[column]) == approximately(value[a, b]), (column, a, b)
    assert ("40 documents are copies of others; a text and its copies count as one document." in words) == (
        name == "copied"
    )
    assert ("merge_copies" in code) == (name == "copied")


@pytest.mark.parametrize("selection", SELECTIONS)
@pytest.mark.parametrize("name", ["plain", "copied"])
def test_paths(pages, name, selection):
    page, path = pages[name]
    columns, rows, code, words = shown(page, "paths", SELECTIONS[selection])
    found = run(code, path)["paths"]
    assert len(rows) == E * E
    for row in rows:
        a, b = int(row[1]), int(row[3])
        cell = dict(zip(columns, row, strict=True))
        assert int(cell["tokens"]) == int(found.counts[a, b])
        for column, value in (
            ("by chance", found.expected), ("q", found.q), ("lift", found.ratio.value), ("low", found.ratio.low),
            ("high", found.ratio.high), ("by tokens of equal ids", found.alike),
        ):  # fmt: skip
            assert number(cell[column]) == approximately(value[a, b]), (column, a, b)
    assert ("copies of others" in words) == (name == "copied")


@pytest.mark.parametrize("selection", SELECTIONS)
@pytest.mark.parametrize("name", ["plain", "copied"])
def test_load(pages, name, selection):
    page, path = pages[name]
    columns, rows, code, _ = shown(page, "load", SELECTIONS[selection])
    entropy, effective, variation, violation = ((each.value, each.chance) for each in run(code, path)["load"])
    for layer, row in enumerate(rows):
        cell = dict(zip(columns, row, strict=True))
        assert number(cell["entropy / log E"]) == approximately(entropy[0][layer])
        assert number(cell["effective experts"]) == approximately(effective[0][layer])
        assert number(cell["CV"]) == approximately(variation[0][layer])
        assert number(cell["MaxVio"]) == approximately(violation[0][layer])
        assert number(cell["CV by chance"]) == approximately(variation[1])
        assert number(cell["MaxVio by chance"]) == approximately(violation[1])


@pytest.mark.parametrize("selection", SELECTIONS)
@pytest.mark.parametrize("name", ["plain", "copied"])
def test_the_tokens_and_domains_of_a_card(pages, name, selection):
    page, path = pages[name]
    columns, rows, code, _ = shown(page, "card", SELECTIONS[selection] | {"expert": 5})
    names = run(code, path)
    found, order = names["found"], names["order"].tolist()
    assert names["tokens"].tolist() == found.token_ids[order].tolist()
    assert 0 < len(rows) == len(order) <= 200  # the page lists no more
    keys = ("selected", "n", "lift", "low", "high", "q")
    listed = [[number(dict(zip(columns, row, strict=True))[key]) for key in keys] for row in rows]
    lift = found.lift
    values = (found.used, found.times[:, None].expand_as(found.used), lift.value, lift.low, lift.high, found.q)
    computed = [[float(value[place, 5]) for value in values] for place in order]
    assert [row[3] for row in listed] == [approximately(row[3]) for row in computed]
    for mine, theirs in zip(sorted(listed), sorted(computed), strict=True):  # equal ones are listed in another order
        assert mine == pytest.approx(theirs, rel=1e-5, nan_ok=True)
    domain = names["shares"].value[:, 1, 5]
    picked = names["compared"].experts[1].eq(5).any(1)
    for index, value in enumerate(domain.tolist()):
        inside = names["compared"].domains == index
        assert value == approximately(picked[inside].double().mean())


def test_the_headline_says_that_there_are_copies(pages):
    for name, said in (("plain", False), ("copied", True)):
        words = pages[name][0].locator(".mm-headline-words").inner_text()
        assert words and ("40 documents are copies of others" in words) is said
