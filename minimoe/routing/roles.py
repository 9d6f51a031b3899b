"""Roles: is a token markup, part of the prompt, of the thinking, or of the answer? Told by the chat markup alone.

A small machine reads each sequence once. `<|im_start|>` opens a turn, whose first line is its name; `<|im_end|>` closes
it. In a turn of the assistant, what stands between `<think>` and `</think>` is thinking and the rest is the answer. A
text without such markup is all prompt, also where a model wrote it: nothing in it says where the model began.
"""

import re

import torch
from torch import Tensor

ROLES = ("special", "prompt", "thinking", "answer")
SPECIAL, PROMPT, THINKING, ANSWER = range(len(ROLES))
MARKUP = re.compile(rb"<\|[\w-]+\|>|</?think>|</?tool_call>|</?tool_response>")  # added tokens of the Qwen family


def roles_of(tokens: Tensor, sequences: Tensor, positions: Tensor, token_bytes: dict[int, bytes]) -> Tensor:
    """(token) int64, an index into ROLES.

    tokens, sequences, positions: (token) int64, in any order. A token without known bytes counts as plain text.
    """
    roles = torch.full_like(tokens, PROMPT)
    if not any(MARKUP.fullmatch(content) for content in token_bytes.values()):
        return roles
    ids = tokens.tolist()
    for sequence in sequences.unique():
        places = (sequences == sequence).nonzero().flatten()
        places = places[positions[places].argsort()].tolist()
        roles[places] = torch.tensor(read_sequence([token_bytes.get(ids[place], b"") for place in places]))
    return roles


def read_sequence(texts: list[bytes]) -> list[int]:
    """The roles of the tokens of one sequence, in order of position."""
    roles: list[int] = []
    current, assistant = PROMPT, False
    name: bytes | None = None  # what was read of a turn's first line, None outside of it
    for text in texts:
        markup = MARKUP.fullmatch(text) is not None
        roles.append(SPECIAL if markup or name is not None else current)
        if text == b"<|im_start|>":
            name, assistant = b"", False
        elif text == b"<|im_end|>":
            name, assistant, current = None, False, SPECIAL  # the line end between two turns is markup too
        elif text == b"<|endoftext|>":
            name, assistant, current = None, False, PROMPT
        elif markup and assistant and text in (b"<think>", b"</think>"):
            current = THINKING if text == b"<think>" else ANSWER
        elif name is not None and not markup:
            name += text
            if b"\n" in name:
                assistant = name.startswith(b"assistant\n")
                current, name = ANSWER if assistant else PROMPT, None
    return roles
