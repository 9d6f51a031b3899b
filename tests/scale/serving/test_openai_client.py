"""The client against a server with the OpenAI protocol on 127.0.0.1: its requests, and the dialects of replies."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from minimoe.errors import BadArgument, ServerFailed
from minimoe.scale.serving.openai_client import ask

THOUGHT, ANSWER = ["Two and", " two."], ["It is", " 4."]
TAGGED = "<think>\nTwo and two.\n</think>\n\nIt is 4."


class Stub(BaseHTTPRequestHandler):
    """Answers any question with the same sentence, and with a thought unless that was switched off."""

    def do_GET(self) -> None:
        self.server.requests.append((self.path, self.headers["Authorization"], None))
        self.reply(200, {"data": [{"id": name} for name in self.server.models]})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.requests.append((self.path, self.headers["Authorization"], body))
        if body["model"] not in self.server.models:
            self.reply(404, {"error": {"message": f"The model `{body['model']}` does not exist."}})
            return
        thinks = body.get("chat_template_kwargs", {}).get("enable_thinking", True)
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        for delta in [{"role": "assistant", "content": ""}, *self.deltas(thinks), {}, None]:
            self.server.allowed.acquire(timeout=30)
            finish = self.server.finish if delta == {} else None
            self.event({"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})
        if self.server.fails == "error":
            self.event({"error": {"message": "CUDA out of memory"}})
        elif self.server.fails == "cut":
            self.wfile.write(b'data: {"choices": [{"ind')
        elif self.server.fails == "silence":
            return
        else:
            self.event({"choices": [], "usage": {"completion_tokens": 4}})
            self.wfile.write(b"data: [DONE]\n\n")

    def deltas(self, thinks: bool) -> list[dict[str, str]]:
        contents = [{"content": each} for each in self.server.says]
        if not thinks:
            return contents
        if self.server.field == "content":
            return [{"content": each} for each in ("<think>\n", *THOUGHT, "\n</think>\n\n")] + contents
        return [{self.server.field: each} for each in THOUGHT] + contents

    def event(self, content: dict) -> None:
        self.wfile.write(f"data: {json.dumps(content)}\n\n".encode())
        self.wfile.flush()

    def reply(self, code: int, content: dict) -> None:
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(json.dumps(content).encode())

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[ThreadingHTTPServer]:
    stub = ThreadingHTTPServer(("127.0.0.1", 0), Stub)
    stub.requests, stub.models, stub.field, stub.fails = [], ["Qwen/Qwen3-235B-A22B"], "reasoning", ""
    stub.says, stub.finish = ANSWER, None
    stub.allowed = threading.Semaphore(1000)
    stub.url = f"http://127.0.0.1:{stub.server_port}/v1"
    threading.Thread(target=stub.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    yield stub
    stub.shutdown()
    stub.server_close()


@pytest.fixture(autouse=True)
def no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.setenv("HF_TOKEN", "hf_secret")  # for the hub only
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("field", ["reasoning", "reasoning_content", "content"])
def test_both_modes_in_every_dialect(server, field):
    server.field = field
    assert "".join(ask("2 + 2?", server.url, thinking=True)) == TAGGED
    assert "".join(ask("2 + 2?", server.url, thinking=False)) == "It is 4."


@pytest.mark.parametrize("thinking", [True, False, None])
def test_the_request_follows_the_protocol(server, thinking):
    list(ask("2 + 2?", server.url, "Qwen/Qwen3-235B-A22B", thinking, 64, temperature=0.6, top_k=20, seed=1))
    ((path, key, body),) = server.requests
    assert (path, key) == ("/v1/chat/completions", None)
    switch = {} if thinking is None else {"chat_template_kwargs": {"enable_thinking": thinking}}
    assert body == {
        "model": "Qwen/Qwen3-235B-A22B", "messages": [{"role": "user", "content": "2 + 2?"}], "stream": True,
        "max_tokens": 64, "temperature": 0.6, "top_k": 20, "seed": 1,
    } | switch  # fmt: skip


def test_a_chat_a_key_and_the_only_model(server, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "mine")
    chat = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "2 + 2?"}]
    list(ask(chat, server.url))
    assert [(path, key) for path, key, _ in server.requests] == [
        ("/v1/models", "Bearer mine"), ("/v1/chat/completions", "Bearer mine"),
    ]  # fmt: skip
    assert server.requests[1][2]["messages"] == chat
    assert server.requests[1][2]["model"] == "Qwen/Qwen3-235B-A22B"


def test_pieces_arrive_while_the_server_is_still_generating(server):
    server.allowed = threading.Semaphore(2)  # the role and the first piece; then it waits
    answer = ask("2 + 2?", server.url, thinking=False)
    assert next(answer) == "It is"
    server.allowed.release(1000)
    assert list(answer) == [" 4."]


@pytest.mark.parametrize(("finish", "end"), [("stop", "\n</think>\n\n"), ("length", "")])
def test_a_thought_that_ends_the_reply_is_closed_unless_the_limit_was_reached(server, finish, end):
    server.says, server.finish = [], finish
    assert "".join(ask("2 + 2?", server.url)) == "<think>\nTwo and two." + end


@pytest.mark.parametrize(
    ("fails", "sentence"),
    [
        ("error", "sent an error: .*CUDA out of memory"),
        ("cut", "sent an invalid event"),
        ("silence", "before the reply was"),
    ],
)
def test_a_server_failure_is_an_error_after_the_received_pieces(server, fails, sentence):
    server.fails, received = fails, []
    with pytest.raises(ServerFailed, match=sentence):
        received.extend(iter_into(ask("2 + 2?", server.url, thinking=False), received))
    assert received == ANSWER


def iter_into(answer, received):
    """Collect the pieces before an error."""
    for piece in answer:
        received.append(piece)
    return []


def test_the_message_of_a_refusal_is_reported(server):
    with pytest.raises(ServerFailed, match="The model `Qwen4` does not exist"):
        list(ask("2 + 2?", server.url, "Qwen4"))
    server.RequestHandlerClass = type("Odd", (Stub,), {"do_GET": lambda self: self.reply(200, {"data": None})})
    with pytest.raises(ServerFailed, match="does not list models"):
        list(ask("2 + 2?", server.url))


def test_several_models_no_server_no_address(server):
    server.models = ["a", "b"]
    with pytest.raises(BadArgument, match=r"lists 2: a, b\. Pass one of them as model="):
        list(ask("2 + 2?", server.url))
    with pytest.raises(BadArgument, match="base_url is 'localhost:8000'"):
        list(ask("2 + 2?", "localhost:8000"))
    with pytest.raises(ServerFailed, match="Is the server up"):
        list(ask("2 + 2?", "http://127.0.0.1:9/v1", "m"))
    with pytest.raises(ServerFailed, match="Is the server up"):
        list(ask("2 + 2?", "http://127.0.0.1:9/v1"))
