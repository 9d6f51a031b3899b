"""`minimoe.show_token` without a browser: what the widget holds, what it answers, and what it refuses."""

import json

import numpy as np
import pytest
import torch

import minimoe
from minimoe.errors import BadArgument, BadTrace
from minimoe.routing.token_view import widget
from minimoe.routing.trace import reader
from tests.routing.conftest import LetterTokenizer, small_model

TEXT = "ABCDAB"


@pytest.fixture
def view(model, tokenizer):
    made = minimoe.show_token(model, tokenizer, TEXT, token=1, label="random")
    made.sent = []
    made.send = lambda content, buffers=None: made.sent.append(content)
    return made


def numbers(view, trait):
    header = view.header
    return np.frombuffer(getattr(view, trait), "<u2").reshape(len(header["layers"]), header["T"], header["K"])


def test_the_browser_gets_the_routing_of_the_model(view, model, tokenizer):
    with torch.no_grad(), minimoe.record_routing(model, tokenizer) as trace:
        model([tokenizer.encode(TEXT)])
    header = view.header
    assert (header["T"], header["K"], header["E"], header["layers"]) == (6, 4, 16, [0, 2, 3])  # layer 1 is dense
    assert header["tokens"] == list(TEXT) and header["live"] and header["title"].startswith("random, measured")
    assert (numbers(view, "experts") == trace.experts.numpy()).all()
    assert np.abs(numbers(view, "weights") / 65535 - trace.weights.numpy()).max() <= 0.5 / 65535 + 1e-7
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_token_is_given_by_number_or_text_and_the_last_one_is_the_default(model, tokenizer):
    assert minimoe.show_token(model, tokenizer, TEXT).token == 5
    both = minimoe.show_token(model, tokenizer, TEXT, token="B", pin="C")
    assert (both.token, both.pinned) == (1, 2)
    first = minimoe.show_token(model, tokenizer, TEXT, token=0)
    assert (first.token, first.pinned) == (0, None)


def test_a_typed_text_replaces_the_trace(view):
    view.pinned = 3
    view.answer(view, {"kind": "trace", "id": 7, "request": {"text": "HELLO"}}, [])
    assert view.sent == [{"id": 7, "result": {"tokens": 5}}]
    assert view.header["tokens"] == list("HELLO") and view.header["text"] == "HELLO"
    assert (view.token, view.pinned, len(view.trace)) == (4, None, 5)
    assert (numbers(view, "experts") == view.trace.experts.numpy()).all()
    view.show("A")  # shorter than where the token was
    assert (view.token, view.header["T"]) == (0, 1)


def test_a_text_that_cannot_be_read_changes_nothing_and_is_explained(view, monkeypatch):
    before = dict(view.header)
    for text in ("", None, 3):
        view.answer(view, {"kind": "trace", "id": 1, "request": {"text": text}}, [])
    assert [message["id"] for message in view.sent] == [1, 1, 1] and "no tokens" in view.sent[0]["error"]
    monkeypatch.setattr(view, "read", lambda text: 1 / 0)
    view.answer(view, {"kind": "trace", "id": 2, "request": {"text": "A"}}, [])
    assert view.sent[-1] == {"id": 2, "error": "ZeroDivisionError: division by zero"}
    assert view.header == before and view.token == 1


def test_unknown_messages_are_ignored(view):
    for message in ("trace", {"kind": "dance"}, {}, None):
        view.answer(view, message, [])
    assert view.sent == []


def test_a_view_of_a_trace_reads_no_text(model, tokenizer):
    with minimoe.record_routing(model, tokenizer) as trace, torch.no_grad():
        model([tokenizer.encode(TEXT)])
    view = minimoe.show_token(trace, token="C")
    assert view.token == 2 and not view.header["live"] and view.header["text"] is None
    view.answer(view, {"kind": "trace", "id": 1, "request": {"text": "A"}}, [])
    with pytest.raises(BadArgument, match="made from a trace"):
        view.show("A")
    with pytest.raises(BadArgument, match="text and label given with a trace"):
        minimoe.show_token(trace, text="A", label="mini")


def test_several_sequences_begin_lines(model, tokenizer):
    with minimoe.record_routing(model, tokenizer) as trace, torch.no_grad():
        model(torch.tensor([[1, 2, 3], [4, 5, 6]]))
    assert minimoe.show_token(trace).header["starts"] == [False, False, False, True, False, False]


def test_expert_ids_without_weights():
    trace = minimoe.synthetic_trace(layers=2, tokens=40, num_experts=32, top_k=4)
    absent = ("weights", "probabilities", "margins", "entropies", "probability_sums", "losses", "predicted")
    tensors = {name: tensor for name, tensor in trace.tensors.items() if name not in absent}
    bare = minimoe.RoutingTrace(trace.layers.tolist(), [tensors], [], trace.metadata | {"ids_only": True})
    view = minimoe.show_token(bare, token=3)
    assert view.weights == b"" and "largest weight" not in repr(view)


def test_the_state_is_small(view):
    size = len(view.experts) + len(view.weights) + len(json.dumps(view.header)) + len(view._esm)
    assert size < 45_000


def test_assigned_tokens_are_checked(view):
    view.token = 0
    for name, value in (("token", 6), ("token", -1), ("pinned", 6)):
        with pytest.raises(BadArgument, match=rf"{name} is {value}, but the text has tokens 0\.\.5"):
            setattr(view, name, value)
    assert (view.token, view.pinned) == (0, None)


def test_the_picture_comes_first(view, monkeypatch):
    shown = []
    monkeypatch.setattr(widget, "display", lambda what, **settings: shown.append(what))
    view._ipython_display_()
    picture, live = shown
    assert picture.figure.layout.meta["minimoe"] == view.header["mark"]
    assert live["application/vnd.jupyter.widget-view+json"]["model_id"] == view.model_id
    assert live["text/plain"] == repr(view) == picture.alt  # the same in every run, unlike an address


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"text": ""}, "text is '', which has no tokens"),
        ({"text": None}, "text is missing"),
        ({"text": 3}, "text is int"),
        ({"token": 6}, r"token is 6, but the text has tokens 0\.\.5"),
        ({"token": -1}, "token is -1"),
        ({"token": True}, "token is True, expected the number"),
        ({"token": 1.0}, r"token is 1\.0"),
        ({"token": "Z"}, "token is 'Z', but no token of the text is. Its tokens begin A B C D A B"),
        ({"pin": 9}, "pin is 9"),
        ({"tokenizer": None}, "tokenizer is missing"),
        ({"tokenizer": "mini"}, "tokenizer is str"),
        ({"tokenizer": LetterTokenizer(first="0"), "text": "Az"}, "token id 74, but the model's vocab_size is 64"),
        ({"model_or_trace": "mini"}, "model_or_trace is str"),
        ({"text": "A" * (reader.MOST_TOKENS + 1)}, "2,049 tokens, expected at most 2,048"),
    ],
)  # fmt: skip
def test_bad_input_is_refused(model, tokenizer, changes, message):
    arguments = {"model_or_trace": model, "tokenizer": tokenizer, "text": TEXT} | changes
    with pytest.raises(BadArgument, match=message):
        minimoe.show_token(**arguments)


def test_a_dense_model_is_refused(tokenizer):
    with pytest.raises(BadArgument, match="no router"):
        minimoe.show_token(small_model(mlp_only_layers=(0, 1, 2, 3)), tokenizer, TEXT)


def test_an_inconsistent_trace_is_refused(model, tokenizer):
    with minimoe.record_routing(model, tokenizer) as trace, torch.no_grad():
        model([tokenizer.encode(TEXT)])
    trace.tensors["experts"][0, 0, 0] = 99
    with pytest.raises(BadTrace):
        minimoe.show_token(trace)
