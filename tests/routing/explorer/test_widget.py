"""The widget without a browser: what it sends, what it keeps, and what it refuses."""

import json

import pytest
import torch

import minimoe
from minimoe.errors import BadArgument, BadTrace
from minimoe.routing.explorer import widget
from minimoe.routing.explorer.explore import explore
from minimoe.routing.explorer.widget import Explorer
from tests.routing.conftest import LetterTokenizer, small_model


@pytest.fixture
def explorer(small_trace):
    """An explorer of the small trace whose messages are collected in `.sent`."""
    made = explore(small_trace)
    made.sent = []
    made.send = lambda content, buffers=None: made.sent.append((content, buffers))
    return made


def recorded(model, ids):
    with minimoe.record_routing(model, LetterTokenizer(), label="random") as trace:
        model(ids)
    return trace


def test_trace_is_sent_as_a_message_and_not_stored(explorer, small_trace):
    explorer.answer(explorer, {"kind": "ready"}, [])
    ((content, (blob,)),) = explorer.sent
    assert content["kind"] == "trace" and content["header"]["traces"][0]["tokens"] == len(small_trace)
    json.dumps(content, allow_nan=False)
    stored = explorer.get_state()
    assert len(blob) > 20_000 > sum(len(repr(value)) for key, value in stored.items() if key != "_esm")
    assert not {"header", "blob", "traces"} & set(stored)


def test_unknown_messages_are_ignored(explorer):
    for message in ("ready", {"kind": "dance"}, {}, None, {"kind": "ablate", "id": 1, "request": {}}):
        explorer.answer(explorer, message, [])
    assert explorer.sent == []


def test_state_set_in_python_is_merged_and_increments_rev(explorer):
    first = dict(explorer.state)
    explorer.state = {"layer": 3, "view": "card"}
    assert explorer.state == first | {"layer": 3, "view": "card", "rev": first["rev"] + 1}
    explorer.state = {"layer": 3}
    assert explorer.state["rev"] == first["rev"] + 1, "nothing changed, so nobody has to be told"


def test_state_from_the_browser_is_kept(explorer):
    told = dict(explorer.state) | {"rev": 12, "expert": 4, "of the future": {"a": [1]}}
    explorer.set_state({"state": told})
    assert explorer.state == told


def test_select_uses_layer_numbers_of_the_checkpoint():
    trace = recorded(small_model(), torch.randint(0, 60, (1, 24)))
    assert trace.layers.tolist() == [0, 2, 3]  # layer 1 is dense
    explorer = explore(trace)
    assert explorer.select(layer=2, expert=15, token=23) is explorer
    assert [explorer.state[key] for key in ("layer", "expert", "token")] == [1, 15, 23]
    explorer.select(token=0)
    assert [explorer.state[key] for key in ("layer", "expert", "token")] == [1, 15, 0]
    with pytest.raises(BadArgument, match="layer is 1, but the trace has layers 0 to 3"):
        explorer.select(layer=1)


def test_invalid_state_changes_nothing(explorer):
    before = dict(explorer.state)
    for wrong in ({"layer": 6}, {"expert": 32, "layer": 1}, {"view": "none"}):
        with pytest.raises(BadArgument):
            explorer.state = wrong
    with pytest.raises(BadArgument):
        explorer.select(expert=32)
    assert explorer.state == before


def test_initial_state(small_trace):
    explorer = explore(small_trace, state={"layer": 2, "view": "load"})
    assert explorer.header["state"] == {"layer": 2, "view": "load"}
    assert (explorer.state["layer"], explorer.state["view"], explorer.state["rev"]) == (2, "load", 0)


def test_static_picture_is_the_first_output(explorer, monkeypatch):
    shown = []
    monkeypatch.setattr(widget, "display", lambda what, **settings: shown.append(what))
    explorer._ipython_display_()
    static, live = shown
    assert explorer.header["fallback"] in static.html and "image/png" in static._repr_mimebundle_()
    assert live["application/vnd.jupyter.widget-view+json"]["model_id"] == explorer.model_id


def test_two_explorers_hide_their_own_pictures(small_trace):
    one, two = explore(small_trace), explore(small_trace)
    assert one.header["fallback"] != two.header["fallback"]
    assert two.header["fallback"] not in one.static.html


def test_a_path_and_several_traces(small_trace, ids_only, tmp_path):
    small_trace.save(tmp_path / "t.safetensors")
    explorer = explore([tmp_path / "t.safetensors", ids_only])
    assert [entry["has_weights"] for entry in explorer.header["traces"]] == [True, False]
    with pytest.raises(BadArgument, match="contains int"):
        explore([small_trace, 3])
    with pytest.raises(BadArgument, match="empty"):
        explore([])
    with pytest.raises(FileNotFoundError):
        explore(tmp_path / "no such trace")


def test_the_module_is_shared_and_not_empty(explorer):
    assert isinstance(explorer, Explorer) and explorer._esm.rstrip().endswith("export default { render };")


def test_a_model_must_be_the_one_of_the_trace(small_trace):
    model, ids = small_model(), torch.randint(0, 60, (1, 24))
    trace = recorded(model, ids)
    assert explore(trace, model).header["live"] and not explore(trace).header["live"]
    with pytest.raises(BadTrace, match="router_sha256"):
        explore(trace, small_model(seed=1))
    with pytest.raises(BadTrace, match="num_experts"):
        explore(trace, small_model(num_experts=32))
    with pytest.raises(BadTrace, match="layers 0 to 3"):
        explore(trace, small_model(num_hidden_layers=3))
    with pytest.raises(BadTrace, match="synthetic"):
        explore(small_trace, model)
