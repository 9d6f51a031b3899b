"""Recorded streams of vLLM 0.32 and transformers serve 5.23 for data/mini, and the text that `ask` yields.

server_streams.json holds what each event added and its finish reason, recorded from both servers (greedy, float32) for
the question below; the envelope around it is written here.
"""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import minimoe
from minimoe.errors import BadArgument, ServerFailed
from minimoe.scale.serving.openai_client import ask
from minimoe.scale.serving.thoughts import with_tags

STREAMS = json.loads(Path(__file__).with_name("server_streams.json").read_text())
QUESTION = "What is 346 + 278?"
THOUGHT = "6+8+0=14, carry 1: 4\n4+7+1=12, carry 1: 24\n3+2+1=6, carry 0: 624"
REPLIES = {"thinking": f"<think>\n{THOUGHT}\n</think>\n\n346 + 278 = 624", "not thinking": "346 + 278 = 614"}


class Server(BaseHTTPRequestHandler):
    """Sends one recorded stream. /v1/models answers with `server.models`: a status and a body."""

    def do_GET(self) -> None:
        self.reply(*self.server.models)

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if body["model"] != "mini":
            detail = f"Server is pinned to 'mini'; requested '{body['model']}'."  # as transformers serve words it
            self.reply(400, {"detail": detail})
            return
        stream = self.server.stream
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        for delta, finish in stream["events"]:
            choice = {"delta": delta, "index": 0} | ({"finish_reason": finish} if finish or stream["done"] else {})
            self.wfile.write(f"data: {json.dumps({'choices': [choice]})}\n\n".encode())
        self.wfile.write(b"data: [DONE]\n\n" if stream["done"] else b"")

    def reply(self, code: int, content: object) -> None:
        self.send_response(code)
        self.end_headers()
        self.wfile.write(content.encode() if isinstance(content, str) else json.dumps(content).encode())

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ThreadingHTTPServer]:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    stub = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    stub.url = f"http://127.0.0.1:{stub.server_port}/v1"
    stub.models = 200, {"data": [{"id": "mini"}]}
    stub.stream = STREAMS["vllm, thinking"]
    threading.Thread(target=stub.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    yield stub
    stub.shutdown()
    stub.server_close()


@pytest.mark.parametrize("stream", STREAMS)
def test_recorded_streams_give_the_text_of_the_model(server, stream):
    server.stream = STREAMS[stream]
    assert "".join(ask(QUESTION, server.url)) == REPLIES[stream.partition(", ")[2]]


@pytest.mark.parametrize("mode", REPLIES)
def test_generate_and_a_server_without_a_parser_give_the_same_text(server, mode):
    """Without a parser the tags are part of the text."""
    model, tokenizer = minimoe.load("data/mini", dtype="fp32")
    chat = [{"role": "user", "content": QUESTION}]
    pieces = list(minimoe.generate(model, tokenizer, chat, 100, thinking=mode == "thinking", temperature=0))
    assert "".join(pieces) == REPLIES[mode]
    server.stream = {"done": True, "events": [[{"content": piece}, None] for piece in pieces] + [[{}, "stop"]]}
    assert "".join(ask(QUESTION, server.url)) == REPLIES[mode]


def streamed(thought: list[str], text: list[str], finish: str = "stop") -> str:
    """The output of `with_tags` for a stream of these pieces."""
    deltas = [{"reasoning": piece} for piece in thought] + [{"content": piece} for piece in text]
    return "".join(with_tags([{"delta": delta} for delta in deltas] + [{"delta": {}, "finish_reason": finish}]))


def cut(text: str, places: list[int]) -> list[str]:
    """The text in pieces, some of them empty."""
    edges = [0, *sorted(min(place, len(text)) for place in places), len(text)]
    return [text[begin:end] for begin, end in pairwise(edges)]


INNER = st.text("ab \n", max_size=12).map(lambda text: "a" + text + "b")  # line ends within, none at the ends
PLACES = st.lists(st.integers(0, 20), max_size=6)


@given(INNER, INNER, PLACES, PLACES)
def test_the_text_does_not_depend_on_the_pieces(thought, text, first, second):
    """The server removes the tags and keeps every line end."""
    joined = streamed(cut(f"\n{thought}\n", first), cut(f"\n\n{text}", second))
    assert joined == f"<think>\n{thought}\n</think>\n\n{text}"
    assert streamed(cut(f"\n{thought}\n", first), [], "length") == f"<think>\n{thought}\n"


@given(st.text(" \n", max_size=6), INNER, PLACES, PLACES)
def test_a_thought_of_white_space_has_no_tags(blank, text, first, second):
    assert streamed(cut(blank + "\n", first), cut("\n\n" + text, second)) == text


def test_text_without_a_thought_passes_unchanged():
    assert streamed([], ["\n\n", "  a", "\n"]) == "\n\n  a\n"


def test_pieces_of_a_thought_are_not_delayed():
    """Only line ends are withheld until the next piece."""
    pieces = with_tags({"delta": delta} for delta in ({"reasoning": "\n"}, {"reasoning": "a\n"}, {"reasoning": "b"}))
    assert list(pieces) == ["<think>\n", "a", "\nb", "\n</think>\n\n"]


@pytest.mark.parametrize(
    ("models", "error", "sentence"),
    [
        ((200, {"data": []}), BadArgument, "lists no model. Pass model=, the name or folder"),
        ((500, {"error": "no cache"}), ServerFailed, "cannot list the models: 500, no cache. Pass model="),
        ((500, "Internal Server Error"), ServerFailed, "500, Internal Server Error. Pass model="),
        ((200, {"data": [{"id": "a"}, {"id": "b"}]}), BadArgument, "lists 2: a, b. Pass one of them as model="),
        (
            (200, {"data": [{"id": "other"}]}),
            ServerFailed,
            "refused with 400: Server is pinned to 'mini'; requested 'other'. 'other' is what /v1/models lists. Pass",
        ),
    ],
)
def test_a_server_that_does_not_list_its_model(server, models, error, sentence):
    server.models = models
    with pytest.raises(error) as raised:
        list(ask(QUESTION, server.url))
    assert sentence in str(raised.value) and "\n" not in str(raised.value) and len(str(raised.value)) < 300
    assert "".join(ask(QUESTION, server.url, model="mini")) == REPLIES["thinking"]


def test_a_refused_name_is_reported_in_one_line(server):
    with pytest.raises(ServerFailed) as raised:
        list(ask(QUESTION, server.url, model="x"))
    assert str(raised.value).endswith("refused with 400: Server is pinned to 'mini'; requested 'x'.")


def test_something_other_than_text_is_refused(server):
    server.stream = {"done": True, "events": [[{"reasoning": {"text": "a"}}, None]]}
    with pytest.raises(ServerFailed, match="sent an invalid event"):
        list(ask(QUESTION, server.url))
