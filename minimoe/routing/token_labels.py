"""Readable labels of tokens, for figures of routing."""

from minimoe.routing.trace.trace import RoutingTrace


def token_texts(trace: RoutingTrace) -> list[str]:
    """A readable label for each token of the trace; incomplete characters are shown in hexadecimal."""
    return [readable(trace.token_bytes(index), int(token)) for index, token in enumerate(trace.tokens)]


def readable(content: bytes | None, token: int) -> str:
    """Spaces as middle dots, line breaks as arrows, incomplete characters in hexadecimal."""
    if content is None:
        return f"#{token}"
    try:
        text = content.decode()
    except UnicodeDecodeError:
        return "‹" + content.hex(" ") + "›"
    return text.replace("\n", "↵").replace(" ", "·") or f"#{token}"
