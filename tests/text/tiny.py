"""A complete tokenizer of 275 tokens in the family's format: 256 bytes, a few merges, added tokens, a template.

Its merges join only ASCII, so Chinese characters and emoji are always spread over several tokens. One of them joins two
digits, which the split must prevent.
"""

import json
from pathlib import Path
from typing import Any

from minimoe.paths import checkout
from minimoe.text.tokenizer import BYTE_OF

MERGES = ("Ġ t", "h e", "Ġt he", "i n", "e r", "a n", "Ġ a", "t h", "1 2", "# #")
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
PLAIN_ADDED = ("<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>", "<think>", "</think>")
END_OF_TEXT, START_OF_TURN, END_OF_TURN = 266, 267, 268  # behind 256 bytes and 10 merges
SIZE = 275


def vocabulary() -> dict[str, int]:
    tokens = [character for character, _ in sorted(BYTE_OF.items(), key=lambda pair: pair[1])]
    return {token: i for i, token in enumerate([*tokens, *(merge.replace(" ", "") for merge in MERGES)])}


def settings() -> dict[str, Any]:
    flags = {"lstrip": False, "normalized": False, "rstrip": False, "single_word": False}
    added = {
        str(END_OF_TEXT + n): {"content": token, **flags, "special": token in SPECIAL}
        for n, token in enumerate(SPECIAL + PLAIN_ADDED)
    }
    return {
        "add_bos_token": False,
        "added_tokens_decoder": added,
        "bos_token": None,
        "eos_token": "<|im_end|>",
        "pad_token": "<|endoftext|>",
        "unk_token": None,
        "tokenizer_class": "Qwen2Tokenizer",
    }


def write_tokenizer(directory: Path, template: str | None = None, **generation: Any) -> Path:
    """Write vocab.json, merges.txt, tokenizer_config.json, generation_config.json and a template (the mini's own)."""
    directory.mkdir(parents=True, exist_ok=True)
    if template is None:
        template = (checkout() / "data" / "mini" / "chat_template.jinja").read_text(encoding="utf-8")
    defaults = {"eos_token_id": [END_OF_TURN, END_OF_TEXT], "do_sample": False} | generation
    contents = {
        "vocab.json": json.dumps(vocabulary()),
        "merges.txt": "#version: 0.2\n" + "\n".join(MERGES) + "\n",
        "tokenizer_config.json": json.dumps(settings()),
        "generation_config.json": json.dumps(defaults),
        "chat_template.jinja": template,
    }
    for name, content in contents.items():
        (directory / name).write_text(content, encoding="utf-8")
    return directory
