"""/think and /no_think inside a message: the soft switches of the Qwen3 model card ("Advanced Usage: Switching Between
Thinking and Non-Thinking Modes via User Input"). The most recent one holds for the turns that follow, too.

A released Qwen3 was trained to obey them; other checkpoints were not. So they are taken out of the message, and its
chat template is given `enable_thinking`, which works for every checkpoint whose template has that switch.
"""

import re

SWITCHES = {"/think": True, "/no_think": False}
IN_FRONT = re.compile(r"\s*(/think|/no_think)(?:\s+(.*))?", re.DOTALL)
BEHIND = re.compile(r"(.*\S)\s+(/think|/no_think)\s*", re.DOTALL)


def split_switch(message: str) -> tuple[bool | None, str]:
    """The switch at the beginning or the end of a message, None if there is none, and the message without it.

    "/no_think What is 2 + 3?" -> (False, "What is 2 + 3?"). Of two switches the later one holds.
    """
    thinking = None
    if found := IN_FRONT.fullmatch(message):
        thinking, message = SWITCHES[found[1]], found[2] or ""
    if found := BEHIND.fullmatch(message):
        thinking, message = SWITCHES[found[2]], found[1]
    return thinking, message
