"""/think and /no_think inside a message: the soft switches of the Qwen3 model card ("Advanced Usage: Switching Between
Thinking and Non-Thinking Modes via User Input"). The most recent one also applies to the following turns.

Released Qwen3 models were trained to obey them; other checkpoints were not. So they are removed from the message, and
`enable_thinking` is passed to the chat template instead, which works for every template with that variable.
"""

import re

SWITCHES = {"/think": True, "/no_think": False}
LEADING = re.compile(r"\s*(/think|/no_think)(?:\s+(.*))?", re.DOTALL)
TRAILING = re.compile(r"(.*\S)\s+(/think|/no_think)\s*", re.DOTALL)


def split_switch(message: str) -> tuple[bool | None, str]:
    """(the switch at the start or the end of a message, or None; the message without it).

    "/no_think What is 2 + 3?" -> (False, "What is 2 + 3?"). Of two switches, the later one applies.
    """
    thinking = None
    if match := LEADING.fullmatch(message):
        thinking, message = SWITCHES[match[1]], match[2] or ""
    if match := TRAILING.fullmatch(message):
        thinking, message = SWITCHES[match[2]], match[1]
    return thinking, message
