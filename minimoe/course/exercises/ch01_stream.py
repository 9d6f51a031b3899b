"""Chapter 01, tokens: a bug hunt about characters in pieces (01.7)."""

import codecs

import torch

from minimoe.course.checker.exercise import Arguments, Case, Exercise

# 01.7 the bug hunt ---------------------------------------------------------------------------------------------------


def suspicious(tokens: list[bytes]) -> list[str]:
    """The text of each token, as soon as it arrives."""
    return [token.decode("utf-8", errors="replace") for token in tokens]


def stream_by_waiting(tokens: list[bytes]) -> list[str]:
    """For each token the text that is complete by then and was not shown before; what never completes is left out."""
    shown, kept = [], b""
    for token in tokens:
        kept += token
        cut = next(cut for cut in range(len(kept), -1, -1) if is_whole(kept[:cut]))
        shown.append(kept[:cut].decode("utf-8"))
        kept = kept[cut:]
    return shown


def is_whole(raw: bytes) -> bool:
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def tokens_of(*texts: str, cut: int) -> Arguments:
    """The bytes of texts in pieces of `cut` bytes, so that pieces end inside characters."""

    def arguments(generator: torch.Generator) -> tuple[list[bytes]]:
        raw = "".join(texts).encode("utf-8")
        return ([raw[place : place + cut] for place in range(0, len(raw), cut)],)

    return arguments


def dropped(tokens: list[bytes]) -> list[str]:
    return [token.decode("utf-8", errors="ignore") for token in tokens]


def all_at_the_end(tokens: list[bytes]) -> list[str]:
    return ["" for _ in tokens[:-1]] + ([b"".join(tokens).decode("utf-8")] if tokens else [])


def said_again(tokens: list[bytes]) -> list[str]:
    """The whole text so far, each time."""
    return [b"".join(tokens[: place + 1]).decode("utf-8", errors="ignore") for place in range(len(tokens))]


def as_latin(tokens: list[bytes]) -> list[str]:
    return [token.decode("latin-1") for token in tokens]


def whole_or_nothing(tokens: list[bytes]) -> list[str]:
    """Waits until everything that was kept is complete, so that finished characters wait with it."""
    shown, kept = [], b""
    for token in tokens:
        kept += token
        shown.append(kept.decode("utf-8") if is_whole(kept) else "")
        kept = b"" if is_whole(kept) else kept
    return shown


def forgets_the_rest(tokens: list[bytes]) -> list[str]:
    """Shows what is complete and throws the rest away."""
    shown = []
    for token in tokens:
        cut = next(cut for cut in range(len(token), -1, -1) if is_whole(token[:cut]))
        shown.append(token[:cut].decode("utf-8"))
    return shown


def tokens_dropped(tokens: list[bytes]) -> list[str]:
    """A token that is not a text on its own is forgotten as a whole."""
    return [token.decode("utf-8") if is_whole(token) else "" for token in tokens]


def never_emptied(tokens: list[bytes]) -> list[str]:
    shown, kept = [], b""
    for token in tokens:
        kept += token
        shown.append(kept.decode("utf-8") if is_whole(kept) else "")
    return shown


def fresh_decoders(tokens: list[bytes]) -> list[str]:
    return [codecs.getincrementaldecoder("utf-8")("replace").decode(token) for token in tokens]


def replaced_difference(tokens: list[bytes]) -> list[str]:
    """What is new in the text so far, in which an unfinished character is a question mark."""
    shown, before = [], ""
    for place in range(len(tokens)):
        now = b"".join(tokens[: place + 1]).decode("utf-8", errors="replace")
        shown.append(now[len(before) :])
        before = now
    return shown


def at_the_first_byte(tokens: list[bytes]) -> list[str]:
    """Each character with the token in which it begins."""
    starts = [number for number, token in enumerate(tokens) for _ in token]
    shown, place = ["" for _ in tokens], 0
    for character in b"".join(tokens).decode("utf-8", errors="ignore"):
        shown[starts[place]] += character
        place += len(character.encode("utf-8"))
    return shown


def waits_for_ascii(tokens: list[bytes]) -> list[str]:
    shown, kept = [], b""
    for token in tokens:
        kept += token
        ready = bool(kept) and kept[-1] < 128
        shown.append(kept.decode("utf-8", errors="replace") if ready else "")
        kept = b"" if ready else kept
    return shown


def silent_left_out(tokens: list[bytes]) -> list[str]:
    return [text for text in stream_by_waiting(tokens) if text]


def one_more(tokens: list[bytes]) -> list[str]:
    return [*stream_by_waiting(tokens), ""]


def in_one_entry(tokens: list[bytes]) -> list[str]:
    return [b"".join(tokens).decode("utf-8", errors="replace")]


def by_characters(tokens: list[bytes]) -> list[str]:
    return list(b"".join(tokens).decode("utf-8", errors="replace"))


def by_codec(tokens: list[bytes]) -> list[str]:
    decoder = codecs.getincrementaldecoder("utf-8")()
    return [decoder.decode(token) for token in tokens]


def by_difference(tokens: list[bytes]) -> list[str]:
    shown, before = [], ""
    for place in range(len(tokens)):
        now = b"".join(tokens[: place + 1]).decode("utf-8", errors="ignore")
        shown.append(now[len(before) :])
        before = now
    return shown


EXERCISES = (
    Exercise(
        id="01.7",
        title="Bug hunt: characters in pieces",
        kind="bug hunt",
        minutes=12,
        difficulty=3,
        hints=(
            "Where do the question marks appear? How many bytes has the character there, and how many the token?",
            "Keep the bytes that do not form a character yet, and put them before the next token.",
            'codecs.getincrementaldecoder("utf-8")() keeps the unfinished bytes itself: decoder.decode(token).',
        ),
        now_you_know="a token is a piece of bytes, and only a text is made of characters.",
        oracle=stream_by_waiting,
        cases=(
            Case("é in two tokens", ([b"caf", b"\xc3", b"\xa9", b"!"],), ["caf", "", "é", "!"]),
            Case("a smile, one byte each", ([bytes([byte]) for byte in "🙂".encode()],), ["", "", "", "🙂"]),
            Case("Chinese, two bytes at a time", tokens_of("猫看见一只鸟。", cut=2)),
            Case("a mixture, five bytes at a time", tokens_of("a é 猫 🙂 z", cut=5)),
            Case("plain letters", ([b"The", b" cat"],), ["The", " cat"]),
            Case("nothing", ([],), []),
        ),
        given=suspicious,
        mutants={
            "as it was": (
                suspicious,
                "each token is still decoded alone, and a part of a character becomes a question mark.",
            ),
            "ignored": (dropped, "unfinished bytes are dropped, so characters in several tokens never appear."),
            "at the end": (all_at_the_end, "everything appears at the end. Show each character once it is complete."),
            "said again": (said_again, "the whole text so far is returned each time. Return what is new."),
            "latin-1": (as_latin, "the bytes are read as Latin-1, one character each. They are UTF-8."),
            "whole or nothing": (
                whole_or_nothing,
                "characters that are complete wait for others that are not. Show all that is complete.",
            ),
            "thrown away": (
                forgets_the_rest,
                "the unfinished bytes are thrown away instead of being kept for the next token.",
            ),
            "tokens dropped": (
                tokens_dropped,
                "a token with a piece of a character is dropped. Keep its bytes for the next token.",
            ),
            "never emptied": (
                never_emptied,
                "what was shown is shown again. Once a text is shown, forget its bytes.",
            ),
            "fresh decoders": (
                fresh_decoders,
                "each token has a new decoder, which knows nothing of the bytes before. Use one for all tokens.",
            ),
            "replaced difference": (
                replaced_difference,
                "an unfinished character is shown as a question mark, and what it becomes is never shown.",
            ),
            "at the first byte": (
                at_the_first_byte,
                "a character is shown with the token in which it begins. It is complete only in the last one.",
            ),
            "waits for ASCII": (
                waits_for_ascii,
                "it waits for a token whose last byte is an ASCII character. Others are complete before that.",
            ),
            "silent left out": (silent_left_out, 'a token that completes nothing has no entry. Return "" for it.'),
            "one more": (one_more, "there is one entry too many: one for each token, and nothing at the end."),
            "in one entry": (in_one_entry, "there is one entry for the whole text. Return one for each token."),
            "by characters": (by_characters, "there is one entry for each character. Return one for each token."),
        },
        accepted={"an incremental decoder": by_codec, "the difference": by_difference},
    ),
)
