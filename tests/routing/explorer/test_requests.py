"""View J's requests: an ablation comes back, or one sentence, and never an exception."""

import json

import pytest
import torch

from minimoe.errors import BadArgument
from minimoe.routing.ablation.ablate import ablate
from minimoe.routing.explorer.explore import explore
from minimoe.routing.explorer.requests import KEYS, Kernel
from minimoe.routing.trace.trace import record_routing
from tests.routing.conftest import small_model

LENGTHS = (12, 9, 20, 5)


@pytest.fixture(scope="module")
def kernel():
    model = small_model()
    draw = torch.Generator().manual_seed(2)
    with record_routing(model) as trace:
        for length in LENGTHS:
            model(torch.randint(0, 60, (1, length), generator=draw))
    return Kernel(model, [trace])


def ask(kernel, **request):
    return kernel.answer({"kind": "ablate", "id": 7, "request": request})


def test_reply_equals_an_ablation_of_the_documents_of_the_trace(kernel):
    answer = ask(kernel, layer=2, experts=[3], mode="drop", controls=2, documents=[2, 0])
    assert (answer["kind"], answer["id"]) == ("ablated", 7) and "error" not in answer
    result, trace = answer["result"], kernel.traces[0]
    texts = [trace.tokens[trace.sequences == number] for number in (0, 2)]
    expected = ablate(kernel.model, texts, 2, [3], "drop", controls=2).to_json()
    places = [*range(12), *range(21, 41)]
    assert result == expected | {"trace_tokens": places, "seconds": result["seconds"]}
    assert result["token_ids"] == trace.tokens[places].tolist()
    json.dumps(answer, allow_nan=False)


def test_null_means_default(kernel):
    request = dict.fromkeys(KEYS) | {"layer": 0, "top_k": 2, "trace": 0}
    result = ask(kernel, **request)["result"]
    assert (result["top_k"], result["documents"], result["n"]) == (2, 4, sum(LENGTHS) - 4)


def test_long_trace_is_sampled_with_a_note(kernel):
    with record_routing(kernel.model) as trace:
        for _ in range(40):
            kernel.model(torch.arange(50)[None])
    result = ask(Kernel(kernel.model, [trace]), layer=3, experts=[1], controls=0)["result"]
    assert result["documents"] == 10 and len(result["per_token"]) == 500
    assert "10 of the trace's 40 documents, 500 tokens" in result["notes"][0]


BAD = [
    (dict(), "has no 'layer'"),
    (dict(layer=1, experts=[0]), "layer is 1"),
    (dict(layer=2, experts=[99]), "experts contains 99"),
    (dict(layer=2, experts="3"), "experts is '3'"),
    (dict(layer=2, experts=[3], mode=["mask"]), "mode is"),
    (dict(layer=2, top_k=2.5), "top_k is 2.5"),
    (dict(layer=2, experts=[3], controls=1000), "at most 100"),
    (dict(layer=2, experts=[3], controls=True), "controls is True"),
    (dict(layer=2, experts=[3], trace=1), "trace is 1"),
    (dict(layer=2, experts=[3], documents=[4]), "documents is"),
    (dict(layer=2, experts=[3], documents="all"), "documents is"),
    (dict(layer=2, experts=[3], documents=[[0]]), "documents is"),
    (dict(layer=2, experts=[3], prompt="The cat"), "has no tokenizer"),
    (dict(layer=2, experts=[3], prompt=4), "prompt is int"),
    (dict(layer=2, expert=3), "unknown key 'expert'"),
]


@pytest.mark.parametrize("request_, message", BAD, ids=[message for _, message in BAD])
def test_bad_request_gets_an_error_message(kernel, request_, message):
    answer = ask(kernel, **request_)
    assert message in answer["error"] and answer["id"] == 7 and "result" not in answer


@pytest.mark.parametrize("message", [None, [], "ablate", {}, {"id": [1], "request": None}, {"request": [2]}])
def test_malformed_message_gets_an_error_message(kernel, message):
    answer = kernel.answer(message)
    assert "request is" in answer["error"] and answer["id"] is None


def test_unexpected_exception_becomes_an_error_message(kernel, monkeypatch):
    monkeypatch.setattr(type(kernel.model.layers[3].self_attn), "forward", lambda *args: 1 / 0)
    assert "ZeroDivisionError" in ask(kernel, layer=2, experts=[3])["error"]


def test_trace_without_its_beginning_is_rejected(kernel):
    cut = kernel.traces[0].select(torch.arange(3, 12))
    assert "beginning was not recorded" in ask(Kernel(kernel.model, [cut]), layer=2, experts=[3])["error"]


def test_a_typed_text_becomes_the_first_trace(tokenizer):
    model = small_model()
    with record_routing(model, tokenizer) as trace:
        model([tokenizer.encode("ABCDEF")])
    live = Kernel(model, [trace], tokenizer)
    for text in ("AB", "CAD", "BA", "DAB", "ACE", "FEE"):
        reply = live.read({"kind": "read", "id": 4, "request": {"text": text}})
        assert reply == {"kind": "read", "id": 4, "result": {"tokens": len(text)}}
    assert [len(each) for each in live.traces] == [3, 3, 3, 2, 3, 6], "the last five texts, then the given trace"
    assert live.traces[-1] is trace
    for request, sentence in (({"text": ""}, "no tokens"), ({}, "text is missing"), (None, "request is NoneType")):
        reply = live.read({"kind": "read", "id": 5, "request": request})
        assert sentence in reply["error"] and len(live.traces) == 6


def test_show_puts_a_text_before_the_given_traces(tokenizer):
    model = small_model()
    with record_routing(model, tokenizer) as trace:
        model([tokenizer.encode("ABCDEF")])
    explorer = explore(trace, model, tokenizer)
    sent = []
    explorer.send = lambda content, buffers=None: sent.append((content, buffers))
    explorer.state = {"layer": 2, "token": 5, "theme": "dark"}
    explorer.show("CAB")
    (message, (blob,)) = sent[0]
    assert message["kind"] == "trace" and message["replace"] and blob == explorer.blob
    assert [entry["tokens"] for entry in message["header"]["traces"]] == [3, 6]
    assert message["header"]["traces"][0]["name"] == "“CAB”"
    assert explorer.state["token"] < 3 and explorer.state["trace"] == 0 and explorer.state["theme"] == "dark"
    with pytest.raises(BadArgument, match="has no model to read with"):
        explore(trace).show("CAB")
