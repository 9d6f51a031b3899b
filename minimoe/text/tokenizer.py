"""Tokenizer: text to token ids and back, from the checkpoint's own files, independent of the weights."""

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer as Backend

from minimoe.errors import BadArgument, BadTokenizer
from minimoe.paths import find
from minimoe.text.chat import ChatTemplate, pick_template
from minimoe.text.tokenizer_files import build_backend, read_files, read_if_exists, read_json


def byte_alphabet() -> dict[str, int]:
    """The byte of each character in a vocabulary file: 256 characters, 256 bytes (the convention of GPT-2).

    Printable bytes are written as themselves. The other 68, space and line end among them, are written as the
    characters from U+0100 on, so a space is U+0120.
    """
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + n): byte for n, byte in enumerate(others)}


BYTE_OF = byte_alphabet()


class Tokenizer:
    """Byte-level byte-pair encoding, with added tokens, chat template and sampling defaults.

    `files`: the raw bytes of every source file by name; `minimoe.save` writes them back unchanged.
    """

    def __init__(
        self,
        backend: Backend,
        templates: Mapping[str, ChatTemplate],
        named_tokens: dict[str, str],
        generation_defaults: dict[str, Any],
        stop_ids: tuple[int, ...],
        files: dict[str, bytes],
        source: str,
    ):
        self.backend = backend
        self.templates = templates
        self.named_tokens = named_tokens
        self.generation_defaults = generation_defaults
        self.stop_ids = stop_ids
        self.files = files
        self.source = source

    @classmethod
    def from_directory(cls, directory: str | Path) -> "Tokenizer":
        """Read `tokenizer.json`, or `vocab.json` + `merges.txt` + `tokenizer_config.json`, and the files
        beside them.

        Raises BadTokenizer, naming the file, if one is absent or invalid.
        """
        directory = find(directory)
        files = read_files(directory)
        settings = read_json(files, directory, "tokenizer_config.json")
        generation = read_json(files, directory, "generation_config.json")
        backend = build_backend(files, directory, settings)
        named = named_tokens(settings)
        templates = pick_template(files, settings, directory)
        return cls(
            backend=backend,
            templates=templates,
            named_tokens=named,
            generation_defaults=generation,
            stop_ids=find_stop_ids(backend, generation, files, named, templates, directory),
            files=files,
            source=str(directory),
        )

    # ---------------------------------------------------------------- text and ids

    def encode(self, text: str, special: bool = True) -> list[int]:
        """Token ids of `text`, without any added at the start or the end.

        special=True: `<|im_end|>` and other added tokens in the text become single tokens. special=False: they are
        plain characters, as untrusted text requires. Raises BadArgument for anything but a valid str.
        """
        if not isinstance(text, str):
            raise BadArgument(f"text is {type(text).__name__}, expected str.")
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise BadArgument(
                f"text has half a surrogate pair at position {error.start}, expected whole characters."
            ) from error
        if special:
            return self.backend.encode(text, add_special_tokens=False).ids
        # the backend's three steps, without its search for added tokens
        if self.backend.normalizer is not None:
            text = self.backend.normalizer.normalize_str(text)
        pieces = (
            self.backend.pre_tokenizer.pre_tokenize_str(text)
            if self.backend.pre_tokenizer is not None
            else [(text, None)]
        )
        return [token.id for piece, _ in pieces for token in self.backend.model.tokenize(piece)]

    def decode(self, ids: Iterable[int], skip_special: bool = False) -> str:
        """The text of `ids`; bytes that form no character become U+FFFD.

        skip_special=True omits the tokens that the checkpoint marks as special: `<|im_end|>`, but not `<think>`.
        """
        kept = (int(i) for i in ids)
        return b"".join(self.token_bytes(i) for i in kept if not (skip_special and i in self.hidden_ids)).decode(
            "utf-8", errors="replace"
        )

    def token_bytes(self, token_id: int) -> bytes:
        """The bytes of token `token_id`; often only part of a character."""
        if not 0 <= token_id < self.vocabulary_size:
            raise BadArgument(
                f"token id is {token_id}, expected 0..{self.vocabulary_size - 1}, the vocabulary of this tokenizer."
            )
        added = self.added_tokens.get(token_id)
        if added is not None:
            return added.encode("utf-8")
        written = self.backend.id_to_token(token_id) or ""
        try:
            return bytes(BYTE_OF[character] for character in written)
        except KeyError:  # not in the byte alphabet: plain text
            return written.encode("utf-8")

    def token(self, token_id: int) -> str:
        """Token `token_id` for display: its text, with `\\xe4` for a byte of an incomplete character."""
        return self.token_bytes(token_id).decode("utf-8", errors="backslashreplace")

    @cached_property
    def vocabulary_size(self) -> int:
        """Number of ids. The model's vocab_size may be larger: its other rows are padding, never sampled."""
        return self.backend.get_vocab_size(with_added_tokens=True)

    @cached_property
    def added_tokens(self) -> dict[int, str]:
        return {i: token.content for i, token in sorted(self.backend.get_added_tokens_decoder().items())}

    @cached_property
    def hidden_ids(self) -> frozenset[int]:
        return frozenset(i for i, token in self.backend.get_added_tokens_decoder().items() if token.special)

    @cached_property
    def special_tokens(self) -> dict[str, int]:
        """Every added token and its id: `<|im_start|>`, `<think>`, ..."""
        return {content: i for i, content in self.added_tokens.items()}

    # ---------------------------------------------------------------- chat

    def chat(
        self,
        messages: Sequence[Mapping[str, Any]],
        thinking: bool | None = None,
        add_generation_prompt: bool = True,
        tools: Sequence[Mapping[str, Any]] | None = None,
    ) -> str:
        """The conversation as the checkpoint's own template writes it; `messages` are {"role", "content"} dicts.

        thinking=None leaves the choice to the template. Raises NoThinkingSwitch if `thinking` is given and the
        template has no `enable_thinking`, BadArgument for messages that cannot be rendered, BadTokenizer if there is no
        template, or it exceeds its budget of time or memory.
        """
        return self.template(tools).render(messages, thinking, add_generation_prompt, tools, self.named_tokens)

    @property
    def has_thinking_switch(self) -> bool:
        """Whether this checkpoint's template supports `thinking=True` and `thinking=False`."""
        return bool(self.templates) and self.template().has_thinking_switch

    def template(self, tools: Sequence[Mapping[str, Any]] | None = None) -> ChatTemplate:
        """The template for a conversation: `tool_use` if it exists and tools are given, else `default`."""
        name = "tool_use" if tools is not None and "tool_use" in self.templates else "default"
        if name not in self.templates:
            among = f" among {', '.join(self.templates)}" if self.templates else ""
            raise BadTokenizer(
                f"{self.source} has no chat template{' named default' if among else ''}{among}. "
                "Add a chat_template.jinja, or pass generate a str to continue."
            )
        return self.templates[name]


NAMED_TOKENS = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")


def named_tokens(settings: dict[str, Any]) -> dict[str, str]:
    """"eos_token" and the others with their texts, from tokenizer_config.json or special_tokens_map.json."""
    return {key: token_text(value) for key, value in settings.items() if key in NAMED_TOKENS and value is not None}


def token_text(value: Any) -> str:
    """The text of a named token, which is given as text or as an object with "content"."""
    return str(value.get("content", "")) if isinstance(value, dict) else str(value)


def find_stop_ids(
    backend: Backend,
    generation: dict[str, Any],
    files: dict[str, bytes],
    named: dict[str, str],
    templates: Mapping[str, ChatTemplate],
    directory: Path,
) -> tuple[int, ...]:
    """The ids that end a reply, without duplicates: those in any file of the checkpoint, and the token with which its
    chat template ends a turn.

    Base models and their fine-tunes often name only `<|endoftext|>` in generation_config.json and config.json, and
    `<|im_end|>` in tokenizer_config.json or in the template alone. vLLM stops at the tokenizer's eos_token as well.
    """
    content = read_if_exists(directory / "config.json")
    config = {} if content is None else read_json({"config.json": content}, directory, "config.json")
    stop: list[int] = []
    for name, raw in (("generation_config.json", generation), ("config.json", config)):
        value = raw.get("eos_token_id")
        for token_id in value if isinstance(value, list) else [] if value is None else [value]:
            if type(token_id) is not int or not 0 <= token_id < backend.get_vocab_size():
                raise BadTokenizer(
                    f"{directory / name}: eos_token_id {token_id!r} is not a token, expected "
                    f"0..{backend.get_vocab_size() - 1}. The file belongs to another checkpoint."
                )
            stop.append(token_id)
    special = {token.content: i for i, token in backend.get_added_tokens_decoder().items() if token.special}
    named_before = named_tokens(read_json(files, directory, "special_tokens_map.json"))
    ends = [named.get("eos_token"), named_before.get("eos_token")]
    ends += [template.end_of_turn(special, named) for template in templates.values()]
    stop += [i for end in ends if end and (i := backend.token_to_id(end)) is not None]
    return tuple(dict.fromkeys(stop))
