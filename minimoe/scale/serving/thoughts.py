"""Restores the <think> tags around a thought that a server sends in a separate field.

A server with a reasoning parser removes only the tags and not the white space around them: the thought arrives with a
line end at both ends, and the text after it begins with an empty line (vLLM 0.32, transformers 5.23). If the tags of
the chat template were inserted unchanged, every line end would be doubled.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

OPEN, CLOSE = "<think>\n", "\n</think>\n\n"
FIELDS = ("reasoning", "reasoning_content")  # vLLM; transformers serve, SGLang, older versions of vLLM


def with_tags(choices: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """Yield the text of a streamed reply in pieces, as the model generated it.

    choices: {"delta": {...}, "finish_reason": ...} of each event. Line ends at both ends of a thought and at the start
    of the text after it belong to the tags; a thought of only white space gets no tags. A reply that reached its length
    limit within the thought gets no closing tag, because the model generated none (a server sends nothing of a
    truncated tag). A reply without a thought is unchanged.
    """
    thinking = opened = False
    held, finish = "", None  # held: the last part of the thought, withheld because it may be only line ends
    for choice in choices:
        finish = choice.get("finish_reason") or finish
        delta = choice.get("delta") or {}  # some servers send null for an empty delta
        if thought := next((delta[name] for name in FIELDS if delta.get(name)), None):
            thinking, held = True, held + thought
            if not opened and held.strip():
                opened, held = True, held.lstrip("\n")
                yield OPEN
            if opened and (complete := held.rstrip("\n")):
                yield complete
                held = held[len(complete) :]
        if text := delta.get("content"):
            text = text.lstrip("\n") if thinking else text
            if not text:
                continue
            if opened:
                yield CLOSE
            thinking, opened, held = False, False, ""
            yield text
    if opened and finish == "length" and held:
        yield held
    elif opened and finish != "length":
        yield CLOSE
