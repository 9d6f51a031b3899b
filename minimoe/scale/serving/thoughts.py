"""A thought that a server sends beside the text, put back between its tags.

With a reasoning parser a server removes the tags alone. What stood around them stays: the thought arrives with its own
line end at both ends, and the text after it begins with an empty line (vLLM 0.32, transformers 5.23). With the tags of
the chat template put back as they are, every line end would be there twice.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

OPEN, CLOSE = "<think>\n", "\n</think>\n\n"
FIELDS = ("reasoning", "reasoning_content")  # vLLM; transformers serve, SGLang, older versions of vLLM


def with_tags(choices: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """The text of a streamed reply, piece by piece, as the model wrote it.

    choices: {"delta": {...}, "finish_reason": ...} of each event. Line ends at both ends of a thought and at the start
    of the text after it belong to the tags; a thought of white space alone has none. A reply that reached its limit
    within the thought has no closing tag, just as the model wrote none (of a tag that was cut itself nothing arrives).
    Without a thought the text passes unchanged.
    """
    thinking = opened = False
    held, finish = "", None  # held: the end of the thought, which may turn out to be line ends only
    for choice in choices:
        finish = choice.get("finish_reason") or finish
        delta = choice.get("delta") or {}  # some servers send null where nothing is added
        if thought := next((delta[name] for name in FIELDS if delta.get(name)), None):
            thinking, held = True, held + thought
            if not opened and held.strip():
                opened, held = True, held.lstrip("\n")
                yield OPEN
            if opened and (said := held.rstrip("\n")):
                yield said
                held = held[len(said) :]
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
