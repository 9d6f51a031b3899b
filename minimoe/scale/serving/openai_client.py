"""A client for servers with the OpenAI protocol: vLLM, transformers serve and others.

A request is one JSON object sent to `/chat/completions`; the reply is a stream of lines, `data: {...}`, each with the
next piece. `ask` yields it as `minimoe.generate` does: pieces of text, a thought between <think> and </think>. Servers
differ in how they send a thought (see thoughts.py); the yielded text is the same.

huggingface_hub's InferenceClient sends the same requests, but not while HF_HUB_OFFLINE is set, even to a server on the
same machine.
"""

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import httpx

from minimoe.errors import BadArgument, ServerFailed
from minimoe.scale.serving.thoughts import FIELDS, with_tags

TIMEOUT = httpx.Timeout(10, read=600)  # seconds; a long prompt delays the first piece
PASS_MODEL = "Pass model=, the name or folder that the server was started with."


def ask(
    question: str | Sequence[Mapping[str, Any]],
    base_url: str = "http://127.0.0.1:8000/v1",
    model: str | None = None,
    thinking: bool | None = None,
    max_new_tokens: int = 512,
    **sampling: Any,
) -> Iterator[str]:
    """Yield a server's reply as str pieces while it arrives, including `<think>` tags.

    question: a str, or a chat as a list of {"role", "content"}. model: its name on the server; None uses the only one
    in `/v1/models`. That list may be empty (transformers serve lists its download cache, not the model that it was
    started with): then pass the name or folder with which the server was started. thinking: True or False sets the
    switch of the chat template, None leaves its default. sampling: temperature, top_p, top_k, min_p, seed; others have
    the server's defaults. The environment variable OPENAI_API_KEY, if set, is sent as the key.
    Raises, when the first piece is requested: BadArgument (invalid address; no model given, and the server lists none
    or several), ServerFailed.
    """
    if not str(base_url).startswith(("http://", "https://")):
        raise BadArgument(f"base_url is {base_url!r}, expected the address of a server: http://127.0.0.1:8000/v1")
    chat = [{"role": "user", "content": question}] if isinstance(question, str) else list(question)
    body = {"messages": chat, "stream": True, "max_tokens": max_new_tokens} | sampling
    if thinking is not None:
        body["chat_template_kwargs"] = {"enable_thinking": thinking}
    key = os.environ.get("OPENAI_API_KEY")
    try:
        with httpx.Client(
            base_url=base_url, timeout=TIMEOUT, headers={"Authorization": f"Bearer {key}"} if key else None
        ) as client:
            body["model"] = only_model(client) if model is None else model
            with client.stream("POST", "chat/completions", json=body) as answer:
                require_success(answer, listed=body["model"] if model is None else None)
                yield from with_tags(choices(answer.iter_lines(), base_url))
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise ServerFailed(
            f"{base_url} cannot be reached or closed the connection: {error}. Is the server up? `minimoe plan NAME "
            "--card CARD --serve` prints a command that starts one."
        ) from error


def choices(lines: Iterable[str], base_url: str) -> Iterator[Mapping[str, Any]]:
    """The first choice of each event of the stream. Raises ServerFailed if the server reports an error or stops."""
    finished = False
    for line in lines:
        if not line.startswith("data:"):
            continue
        data = line.removeprefix("data:").strip()
        if data == "[DONE]":
            return
        try:
            event = json.loads(data)
            if event.get("error"):
                raise ServerFailed(f"{base_url} sent an error: {error_text(event)}. See the server's log.")
            for choice in event["choices"][:1]:
                require_text(choice["delta"] or {})
                finished = finished or bool(choice.get("finish_reason"))
                yield choice
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ServerFailed(f"{base_url} sent an invalid event: {shortened(data)}. See the server's log.") from error
    if not finished:
        raise ServerFailed(f"{base_url} stopped before the reply was complete. See the server's log.")


def require_text(delta: Mapping[str, Any]) -> None:
    """Raise TypeError if `delta` has anything but text or null."""
    if not all(isinstance(delta.get(name), str | None) for name in (*FIELDS, "content")):
        raise TypeError


def only_model(client: httpx.Client) -> str:
    """The name of the server's only model. Raises BadArgument if it lists none or several, ServerFailed if it cannot
    list them.
    """
    answer = client.get("models")
    if answer.is_server_error:
        raise ServerFailed(f"{answer.url} cannot list the models: {answer.status_code}, {reason(answer)}. {PASS_MODEL}")
    require_success(answer)
    try:
        names = [str(entry["id"]) for entry in answer.json()["data"]]
    except (ValueError, KeyError, TypeError) as error:
        raise ServerFailed(f"{answer.url} does not list models. Does the address end in /v1?") from error
    if not names:
        raise BadArgument(f"model is None, but {client.base_url} lists no model. {PASS_MODEL}")
    if len(names) > 1:
        listed = shortened(f"{len(names)}: {', '.join(names[:10])}")
        raise BadArgument(f"model is None, but {client.base_url} lists {listed}. Pass one of them as model=.")
    return names[0]


def require_success(answer: httpx.Response, listed: str | None = None) -> None:
    """Raise ServerFailed, with the server's message, and advice if it rejected the name that it `listed`."""
    if answer.is_success:
        return
    answer.read()
    message = reason(answer)
    advice = f" {listed!r} is what /v1/models lists. {PASS_MODEL}" if listed and listed in message else ""
    raise ServerFailed(f"{answer.url} refused with {answer.status_code}: {message}{advice}")


def reason(answer: httpx.Response) -> str:
    """The server's message for a refused request, on one line."""
    try:
        return error_text(answer.json())
    except ValueError:
        return shortened(answer.text)


def error_text(reply: Any) -> str:
    """The message in an error reply: {"error": {"message": ...}} of OpenAI and vLLM, {"detail": ...} of FastAPI."""
    for name in ("error", "message", "detail"):
        if isinstance(reply, Mapping) and reply.get(name):
            reply = reply[name]
    return shortened(reply)


def shortened(message: Any) -> str:
    """Another program's message, on one line and at most 300 characters."""
    return " ".join(str(message).split())[:300]
