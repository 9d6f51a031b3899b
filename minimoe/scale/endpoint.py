"""A question to a server: vLLM, or anything else that speaks OpenAI's protocol.

A request is one JSON object sent to `/chat/completions`; the answer is a stream of lines, `data: {...}`, each with what
was added. Here it comes as `minimoe.generate` gives it: pieces of text, a thought between <think> and </think>. Servers
differ in how they send a thought: with a reasoning parser in a field beside the text ("reasoning", in older ones
"reasoning_content"), without one in the text itself.

huggingface_hub's InferenceClient sends the same, but refuses to while HF_HUB_OFFLINE is set, even to a server on the
same machine.
"""

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import httpx

from minimoe.errors import BadArgument, ServerFailed

OPEN, CLOSE = "<think>\n", "\n</think>\n\n"
THOUGHTS = ("reasoning", "reasoning_content")
PATIENCE = httpx.Timeout(10, read=600)  # seconds; a long prompt may take its time before the first piece


def ask(
    question: str | Sequence[Mapping[str, Any]],
    base_url: str = "http://127.0.0.1:8000/v1",
    model: str | None = None,
    thinking: bool | None = None,
    max_new_tokens: int = 512,
    **sampling: Any,
) -> Iterator[str]:
    """Yield a server's answer as str pieces while it comes, `<think>` tags included.

    question: a str, or a chat as a list of {"role", "content"}. model: what the server calls it; None takes the only
    one that it has. thinking: True or False sets the chat template's switch, None leaves it as it was made. sampling:
    temperature, top_p, top_k, min_p, seed; left out, the server's defaults hold. The variable OPENAI_API_KEY is sent
    as the key, if it is set.
    Raises, with the first piece: BadArgument (no address, or no model and the server has several), ServerFailed.
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
            base_url=base_url, timeout=PATIENCE, headers={"Authorization": f"Bearer {key}"} if key else None
        ) as client:
            body["model"] = only_model(client) if model is None else model
            with client.stream("POST", "chat/completions", json=body) as answer:
                require_success(answer)
                yield from pieces(deltas(answer.iter_lines(), base_url))
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise ServerFailed(
            f"{base_url} cannot be reached or broke off: {error}. Is the server up? `minimoe plan NAME --card CARD "
            "--serve` prints the command for one."
        ) from error


def deltas(lines: Iterable[str], base_url: str) -> Iterator[Mapping[str, Any]]:
    """What each event of the stream adds. Raises ServerFailed if the server reports an error or stops half-way."""
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
                raise ServerFailed(f"{base_url} broke off: {shortened(event['error'])}. Its own log says why.")
            for choice in event["choices"][:1]:
                finished = finished or bool(choice.get("finish_reason"))
                yield choice["delta"] or {}  # some send null where nothing is added
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ServerFailed(f"{base_url} broke off: it sent {shortened(data)}. Its own log says why.") from error
    if not finished:
        raise ServerFailed(f"{base_url} broke off before the answer was complete. Its own log says why.")


def pieces(additions: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """One text of what was added: a thought that came beside the text is put between its tags."""
    within = False
    for addition in additions:
        if thought := next((addition[name] for name in THOUGHTS if addition.get(name)), None):
            yield from (thought,) if within else (OPEN, thought)
            within = True
        if said := addition.get("content"):
            yield from (CLOSE, said) if within else (said,)
            within = False
    if within:
        yield CLOSE


def only_model(client: httpx.Client) -> str:
    """The name under which the server has its model. Raises BadArgument if it has several, ServerFailed."""
    answer = client.get("models")
    require_success(answer)
    try:
        names = [str(each["id"]) for each in answer.json()["data"]]
    except (ValueError, KeyError, TypeError) as error:
        raise ServerFailed(f"{answer.url} does not list models. Does the address end in /v1?") from error
    if len(names) != 1:
        found = f"{len(names)}: {', '.join(names[:10])}"
        raise BadArgument(f"model is None, but {client.base_url} has {found}. Name one of them.")
    return names[0]


def require_success(answer: httpx.Response) -> None:
    """Raises ServerFailed with the server's own words."""
    if not answer.is_success:
        answer.read()
        raise ServerFailed(f"{answer.url} refused with {answer.status_code}: {shortened(answer.text)}")


def shortened(said: Any) -> str:
    """Somebody else's words, on one line."""
    return " ".join(str(said).split())[:300]
