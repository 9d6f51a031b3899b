"""The tokenizer files of a checkpoint: reading them, and building the byte-pair encoder that they describe.

There are two layouts: a complete `tokenizer.json`, or the older `vocab.json` + `merges.txt`, where the splitting rule
is defined in code and the added tokens in `tokenizer_config.json`.
"""

import json
from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers
from tokenizers import Tokenizer as Backend

from minimoe.errors import BadTokenizer

FILE_NAMES = (
    "tokenizer.json",
    "vocab.json",
    "merges.txt",
    "tokenizer_config.json",
    "chat_template.jinja",
    "generation_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
)
FIX = "Download it again, or copy it from the original checkpoint."

# Qwen's split of a text before merges: contractions, words with at most one leading mark, single digits, runs of
# punctuation, line ends, spaces. Merges never cross a split, so "12345" is always five tokens.
QWEN_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
    r"|[^\r\n\p{L}\p{N}]?\p{L}+"
    r"|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+"
    r"|\s+(?!\S)"
    r"|\s+"
)


def read_files(directory: Path) -> dict[str, bytes]:
    """The bytes of every tokenizer file in `directory`, by name. Raises BadTokenizer if they are incomplete."""
    contents = {name: read_if_exists(directory / name) for name in FILE_NAMES}
    files = {name: content for name, content in contents.items() if content is not None}
    if "tokenizer.json" not in files:
        missing = [name for name in ("vocab.json", "merges.txt", "tokenizer_config.json") if name not in files]
        if missing:
            raise BadTokenizer(
                f"{directory} has no tokenizer.json, and without one it lacks {', '.join(missing)}. "
                "Copy the tokenizer files of the original checkpoint into this folder."
            )
    return files


def read_if_exists(file: Path) -> bytes | None:
    """The content of `file`, None if it does not exist. Raises BadTokenizer if it exists and cannot be read."""
    try:
        if file.exists() and not file.is_file() and not file.is_dir():  # opening a pipe would block forever
            raise BadTokenizer(f"{file} is not a regular file. {FIX}")
        return file.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise BadTokenizer(f"{file} cannot be read: {error.strerror or error}. {FIX}") from error


def read_json(files: dict[str, bytes], directory: Path, name: str) -> dict[str, Any]:
    """The JSON object in the file `name`, {} if the file does not exist. Raises BadTokenizer for invalid content."""
    if name not in files:
        return {}
    try:
        value = json.loads(as_text(files, directory, name))
    except (ValueError, RecursionError) as error:
        raise BadTokenizer(f"{directory / name} is not JSON ({error}). {FIX}") from error
    if not isinstance(value, dict):
        raise BadTokenizer(f"{directory / name} holds {type(value).__name__}, expected a JSON object. {FIX}")
    return value


def as_text(files: dict[str, bytes], directory: Path, name: str) -> str:
    """The file's text, without a byte order mark, which editors on Windows add.

    Raises BadTokenizer for a Git LFS pointer and for bytes that are not UTF-8.
    """
    if files[name].startswith(b"version https://git-lfs"):
        raise BadTokenizer(f"{directory / name} is a Git LFS pointer, not the file itself. Run: git lfs pull")
    try:
        return files[name].decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if files[name].startswith((BOM_UTF16_LE, BOM_UTF16_BE)):
            raise BadTokenizer(f"{directory / name} is UTF-16 text, expected UTF-8. Save it as UTF-8.") from error
        raise BadTokenizer(f"{directory / name} is not UTF-8 text (byte {error.start}). {FIX}") from error


def build_backend(files: dict[str, bytes], directory: Path, settings: dict[str, Any]) -> Backend:
    """The `tokenizers` object described by the files, with added tokens. `settings`: tokenizer_config.json."""
    if "tokenizer.json" in files:
        backend = from_tokenizer_json(as_text(files, directory, "tokenizer.json"), directory / "tokenizer.json")
    else:
        vocabulary = read_json(files, directory, "vocab.json")
        merges = read_merges(as_text(files, directory, "merges.txt"), directory / "merges.txt")
        backend = guarded(lambda: qwen_backend(vocabulary, merges), f"{directory / 'vocab.json'} and merges.txt")
        if not settings.get("added_tokens_decoder"):
            raise BadTokenizer(
                f"{directory / 'tokenizer_config.json'} has no added_tokens_decoder, so <|im_start|> and the others "
                f"have no ids. {FIX}"
            )
    add_tokens(backend, settings.get("added_tokens_decoder") or {}, directory / "tokenizer_config.json")
    size, top = backend.get_vocab_size(with_added_tokens=True), max(backend.get_vocab().values(), default=-1)
    if size != top + 1:
        raise BadTokenizer(
            f"{directory}: the tokenizer has {size} tokens but its highest id is {top}; ids must have no gaps. {FIX}"
        )
    return backend


def qwen_backend(vocabulary: dict[str, int], merges: list[tuple[str, str]]) -> Backend:
    """Byte-level BPE as in Qwen: NFC, the split above, then bytes mapped to printable characters."""
    backend = Backend(models.BPE(vocab=vocabulary, merges=merges))
    backend.normalizer = normalizers.NFC()
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(QWEN_SPLIT), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    backend.decoder = decoders.ByteLevel()
    return backend


def from_tokenizer_json(text: str, file: Path) -> Backend:
    """Parse tokenizer.json. Only byte-level tokenizers are accepted, as decoding needs the bytes of every token."""
    backend = guarded(lambda: Backend.from_str(text), str(file))
    if not isinstance(backend.decoder, decoders.ByteLevel):
        raise BadTokenizer(
            f"{file}: the decoder is {type(backend.decoder).__name__}, minimoe reads byte-level tokenizers (ByteLevel)."
        )
    return backend


def read_merges(text: str, file: Path) -> list[tuple[str, str]]:
    """The merges in order. Copies differ in line ends and in whether they start with a "#version" line."""
    merges = []
    for number, line in enumerate(text.split("\n"), start=1):
        line = line.removesuffix("\r")
        if not line or line.startswith("#version"):
            continue
        left, space, right = line.partition(" ")
        if not (left and right and " " not in right):
            raise BadTokenizer(
                f"{file}, line {number} is {line[:40]!r}, expected two tokens separated by one space. {FIX}"
            )
        merges.append((left, right))
    return merges


def add_tokens(backend: Backend, added: dict[str, Any], file: Path) -> None:
    """Add the tokens of `added_tokens_decoder` (id -> description) that are missing, and check every id."""
    known = {token.content for token in backend.get_added_tokens_decoder().values()}
    try:
        entries = sorted((int(number), dict(entry), str(entry["content"])) for number, entry in added.items())
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise BadTokenizer(
            f"{file}: added_tokens_decoder is malformed, expected id -> {{content, special, ...}}. {FIX}"
        ) from error
    flags = ("single_word", "lstrip", "rstrip", "normalized", "special")
    for number, entry, content in entries:
        if content not in known:
            token = AddedToken(content, **{flag: bool(entry.get(flag, False)) for flag in flags})
            guarded(lambda token=token: backend.add_tokens([token]), str(file))
        actual = backend.token_to_id(content)
        if actual != number:
            raise BadTokenizer(
                f"{file}: added token {content!r} has id {number}, but the vocabulary gives it {actual}. {FIX}"
            )


def guarded(build: Any, what: str) -> Any:
    """Call `build`. For invalid files, `tokenizers` raises a plain Exception or a panic, a BaseException."""
    try:
        return build()
    except (KeyboardInterrupt, SystemExit, MemoryError):
        raise
    except BaseException as error:
        raise BadTokenizer(f"{what} cannot be used: {str(error)[:200]}. {FIX}") from error
