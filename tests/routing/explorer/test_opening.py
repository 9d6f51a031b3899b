"""The state in which a trace opens: complete, without a filter, on a typical word."""

import json

import pytest

import minimoe
from minimoe.routing.explorer.bundle import WEB
from minimoe.routing.explorer.opening import DEFAULTS, opening_state
from minimoe.routing.trace.roles import SPECIAL
from tests.browser import open_browser


@pytest.mark.parametrize("tokens", [4, 40, 900])
def test_all_tokens_are_selected_and_the_caret_is_on_a_word(tokens):
    trace = minimoe.synthetic_trace(layers=4, tokens=tokens)
    opening = opening_state(trace)
    assert opening["domain"] is None
    assert trace.roles[opening["token"]] != SPECIAL
    assert opening["expert"] == trace.experts[opening["layer"], opening["token"], 0]


def test_the_router_is_as_sure_as_on_half_of_the_words():
    trace = minimoe.RoutingTrace.load(minimoe.find("data/traces/mini_four_domains.safetensors"))
    opening = opening_state(trace)
    first = trace.probabilities[opening["layer"], :, 0]
    assert 0.3 < (first < first[opening["token"]]).float().mean() < 0.7


def test_the_state_is_complete_from_the_start():
    explorer = minimoe.explore(minimoe.synthetic_trace(layers=3, tokens=60))
    assert set(explorer.state) == {"rev", *DEFAULTS}
    assert explorer.state["layer"] == 1
    assert minimoe.explore(minimoe.synthetic_trace(layers=3, tokens=60), state={"layer": 2}).state["layer"] == 2


MODULE = "import(`data:text/javascript,${encodeURIComponent(source)}`)"
HOSTILE = {
    "devices": -1, "step": 9, "wide": "yes", "tour": 1e9, "compare": {"a": 77}, "ablation": 3, "range": [5, 2],
    "layer": 99, "theme": "pink",
}  # fmt: skip


@pytest.fixture(scope="module")
def state_module(chromium):
    """A function that evaluates an expression over `m`, the module core/state.js, and `given`."""
    source = (WEB / "core" / "state.js").read_text(encoding="utf-8")
    with open_browser(chromium) as browser:
        page = browser.new_page()
        yield lambda expression, given=None: json.loads(
            page.evaluate(f"([source, given]) => {MODULE}.then(m => JSON.stringify({expression}))", [source, given])
        )


@pytest.mark.browser
def test_python_and_the_page_have_the_same_defaults(state_module):
    assert state_module("m.DEFAULT_STATE") == {"rev": 0, **DEFAULTS}


@pytest.mark.browser
@pytest.mark.parametrize("devices", [-1, 65, 1.5, "8", None])
def test_a_hostile_address_becomes_the_default(state_module, devices):
    data = '{L: 4, T: 50, E: 8, has: {weights: true}, header: {domains: ["a"]}}'
    cleaned = state_module(f"m.cleanState(given, {data})", HOSTILE | {"devices": devices})
    assert cleaned == {"rev": 0, **DEFAULTS}
