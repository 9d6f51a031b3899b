"""The tokens of a trace as short labels, for strips, titles and menus."""

import re

from minimoe.routing.trace.trace import RoutingTrace

LONGEST_RUN = 8  # tokens that may form one character
WHITE = {"\r": "␍", "\n": "⏎", "\t": "⇥"}
HIDDEN = re.compile("[\u0000-\u001f\u007f\u200b-\u200f\u202a-\u202e\u2066-\u2069]")


def token_labels(trace: RoutingTrace) -> list[str]:
    """A label for each token, with visible white space: "␣cat" for a cat after a space, ⏎ for a line break.

    A character that is split over three tokens gives "猫 1/3", "猫 2/3", "猫 3/3"; bytes that form no character are
    given in hexadecimal, and a token whose text is unknown by its id.
    """
    contents = [trace.token_bytes(index) for index in range(len(trace))]
    sequences, ids = trace.sequences.tolist(), trace.tokens.tolist()
    labels: list[str] = []
    while len(labels) < len(contents):
        start = len(labels)
        content = contents[start]
        if content is None:
            labels.append(f"#{ids[start]}")
            continue
        length = run_length(contents, sequences, start)
        text = decode(b"".join(part or b"" for part in contents[start : start + length]))
        if text is None:
            labels.append("‹" + content.hex(" ") + "›")
        elif length == 1:
            labels.append(visible(text) or f"#{ids[start]}")
        else:
            labels += [f"{visible(text)} {part}/{length}" for part in range(1, length + 1)]
    return labels


def run_length(contents: list[bytes | None], sequences: list[int], start: int) -> int:
    """The number of tokens from `start` that are text only together; 1 if there is no such run in its sequence."""
    joined = b""
    for end in range(start, min(len(contents), start + LONGEST_RUN)):
        part = contents[end]
        if part is None or sequences[end] != sequences[start]:
            break
        joined += part
        if decode(joined) is not None:
            return end - start + 1
    return 1


def decode(content: bytes) -> str | None:
    """UTF-8 as text, or None."""
    try:
        return content.decode()
    except UnicodeDecodeError:
        return None


def visible(text: str) -> str:
    """`text` with spaces at its ends, line breaks, tabs and invisible characters made visible, as in core/bytes.js."""
    inner = text.strip(" ")
    left = len(text) - len(text.lstrip(" "))
    right = len(text) - len(inner) - left
    text = "␣" * left + inner + "␣" * right
    for character, symbol in WHITE.items():
        text = text.replace(character, symbol)
    return HIDDEN.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def find_token(trace: RoutingTrace, text: str) -> int | None:
    """The first token whose text is `text`, else the first whose text without spaces around it is; None if none is."""
    texts = [decode(trace.token_bytes(index) or b"") for index in range(len(trace))]
    if text in texts:
        return texts.index(text)
    stripped = [each.strip() if each is not None else None for each in texts]
    return stripped.index(text.strip()) if text.strip() in stripped else None
