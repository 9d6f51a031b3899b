"""Roles: classify each token as markup, prompt, thinking or answer, from the chat markup alone.

A small state machine reads each sequence once. `<|im_start|>` opens a turn, whose first line is the name of the
speaker; `<|im_end|>` closes it. In a turn of the assistant, the text between `<think>` and `</think>` is thinking and
the rest is the answer. A text without markup is all prompt, even if a model generated part of it: without markup the
start of the generated part is unknown.
"""

import re

import torch
from torch import Tensor

ROLES = ("special", "prompt", "thinking", "answer")
SPECIAL, PROMPT, THINKING, ANSWER = range(len(ROLES))
MARKUP = re.compile(rb"<\|[\w-]+\|>|</?think>|</?tool_call>|</?tool_response>")  # added tokens of the Qwen family


def roles_of(tokens: Tensor, sequences: Tensor, positions: Tensor, token_bytes: dict[int, bytes]) -> Tensor:
    """The role of each token, (token) int64, an index into ROLES.

    tokens, sequences, positions: (token) int64, in any order. A token with unknown bytes counts as plain text.
    """
    roles = torch.full_like(tokens, PROMPT)
    if not any(MARKUP.fullmatch(content) for content in token_bytes.values()):
        return roles
    ids = tokens.tolist()
    for sequence in sequences.unique():
        indices = (sequences == sequence).nonzero().flatten()
        indices = indices[positions[indices].argsort()].tolist()
        roles[indices] = torch.tensor(read_sequence([token_bytes.get(ids[index], b"") for index in indices]))
    return roles


def read_sequence(texts: list[bytes]) -> list[int]:
    """The roles of the tokens of one sequence, in order of position."""
    roles: list[int] = []
    current, assistant = PROMPT, False
    name: bytes | None = None  # the part of a turn's first line read so far, None outside it
    for text in texts:
        markup = MARKUP.fullmatch(text) is not None
        roles.append(SPECIAL if markup or name is not None else current)
        if text == b"<|im_start|>":
            name, assistant = b"", False
        elif text == b"<|im_end|>":
            name, assistant, current = None, False, SPECIAL  # the line break between two turns is markup too
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
