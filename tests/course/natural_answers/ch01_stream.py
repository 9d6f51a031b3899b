"""Natural answers to 01.7: characters in pieces."""

import codecs

from tests.course.natural_answers.collect import Collection

collection = Collection("01.7")
wrong, right, ANSWERS = collection.wrong, collection.right, collection.answers


@wrong("01.7", "the function on the page", "page", "as given", "�", "replace", "piece", "each token", "on its own")
def _(tokens):
    return [token.decode("utf-8", errors="replace") for token in tokens]


@wrong("01.7", "errors ignored", "ignore", "lost", "piece", "each token", "on its own")
def _(tokens):
    return [token.decode("utf-8", errors="ignore") for token in tokens]


@wrong("01.7", "the whole text so far", "so far", "again", "shown before", "whole", "new")
def _(tokens):
    return [b"".join(tokens[: n + 1]).decode("utf-8", errors="ignore") for n in range(len(tokens))]


@wrong(
    "01.7", "broken tokens show nothing and are forgotten", "forgot", "lost", "kept", "piece", "on its own", "ignore"
)
def _(tokens):
    shown = []
    for token in tokens:
        try:
            shown.append(token.decode())
        except UnicodeDecodeError:
            shown.append("")
    return shown


@wrong("01.7", "a buffer that is never emptied", "again", "shown before", "empt", "buffer", "twice", "repeat")
def _(tokens):
    buffer, shown = b"", []
    for token in tokens:
        buffer += token
        try:
            shown.append(buffer.decode())
        except UnicodeDecodeError:
            shown.append("")
    return shown


@wrong("01.7", "waits until the whole buffer is valid", "wait", "complete", "whole", "hold", "late", "behind")
def _(tokens):
    buffer, shown = b"", []
    for token in tokens:
        buffer += token
        try:
            shown.append(buffer.decode("utf-8"))
            buffer = b""
        except UnicodeDecodeError:
            shown.append("")
    return shown


@wrong("01.7", "one text", "str", "list", "each token")
def _(tokens):
    return b"".join(tokens).decode("utf-8")


@wrong("01.7", "one text in a list", "each token", "length", "one entry", "as many")
def _(tokens):
    return [b"".join(tokens).decode("utf-8", errors="replace")]


@wrong("01.7", "a list of characters", "each token", "length", "character", "as many")
def _(tokens):
    return list(b"".join(tokens).decode("utf-8", errors="replace"))


@wrong("01.7", "one entry more for what is left", "end", "left", "one more", "length", "as many", "each token")
def _(tokens):
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    return [decoder.decode(token) for token in tokens] + [decoder.decode(b"", final=True)]


@wrong("01.7", "each token is the last", "error", "final", "complete", "unicode", "piece")
def _(tokens):
    decoder = codecs.getincrementaldecoder("utf-8")()
    return [decoder.decode(token, True) for token in tokens]


@wrong("01.7", "a new decoder for each token", "new", "each token", "lost", "kept", "piece", "on its own", "remember")
def _(tokens):
    return [codecs.getincrementaldecoder("utf-8")("replace").decode(token) for token in tokens]


@wrong("01.7", "tokens that complete nothing are left out", "nothing", "left out", "length", "as many", "each token")
def _(tokens):
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    return [text for token in tokens if (text := decoder.decode(token))]


@wrong("01.7", "nothing is None", "none", '""', "empty")
def _(tokens):
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    return [decoder.decode(token) or None for token in tokens]


@wrong("01.7", "latin-1", "latin", "utf-8", "one byte", "each byte", "encoding")
def _(tokens):
    return [token.decode("latin-1") for token in tokens]


@wrong("01.7", "differences of texts with replaced pieces", "�", "replace", "piece", "incomplete")
def _(tokens):
    shown, before = [], ""
    for n in range(len(tokens)):
        text = b"".join(tokens[: n + 1]).decode("utf-8", errors="replace")
        shown.append(text[len(before) :])
        before = text
    return shown


@wrong("01.7", "the replacement character removed", "lost", "piece", "ignore", "on its own", "each token")
def _(tokens):
    return [token.decode("utf-8", errors="replace").replace("\ufffd", "") for token in tokens]


@wrong("01.7", "a character at its first token", "first", "complete", "early", "too soon", "before", "future", "begin")
def _(tokens):
    starts, at = [], 0
    for token in tokens:
        starts.append((at, at + len(token)))
        at += len(token)
    text, at, shown = b"".join(tokens).decode("utf-8", errors="ignore"), 0, [""] * len(tokens)
    for character in text:
        n = next(n for n, (start, stop) in enumerate(starts) if start <= at < stop)
        shown[n] += character
        at += len(character.encode())
    return shown


@wrong("01.7", "waits for a token that ends with one byte", "byte", "wait", "ascii", "letter")
def _(tokens):
    shown, buffer = [], b""
    for token in tokens:
        buffer += token
        if buffer and buffer[-1] < 128:
            shown.append(buffer.decode("utf-8", errors="replace"))
            buffer = b""
        else:
            shown.append("")
    return shown


@right("01.7", "an incremental decoder")
def _(tokens):
    decoder = codecs.getincrementaldecoder("utf-8")()
    return [decoder.decode(token) for token in tokens]


@right("01.7", "iterdecode would leave out empty ones, so one decoder with replace")
def _(tokens):
    decode = codecs.lookup("utf-8").incrementaldecoder(errors="replace").decode
    return list(map(decode, tokens))


@right("01.7", "differences of texts without incomplete pieces")
def _(tokens):
    shown, length = [], 0
    for n in range(len(tokens)):
        text = b"".join(tokens[: n + 1]).decode("utf-8", errors="ignore")
        shown.append(text[length:])
        length = len(text)
    return shown


@right("01.7", "the longest valid front of a buffer")
def _(tokens):
    shown, buffer = [], b""
    for token in tokens:
        buffer += token
        for size in range(len(buffer), -1, -1):
            try:
                text = buffer[:size].decode("utf-8")
            except UnicodeDecodeError:
                continue
            break
        shown.append(text)
        buffer = buffer[size:]
    return shown


@right("01.7", "the place of the error")
def _(tokens):
    shown, rest = [], b""
    for token in tokens:
        rest += token
        try:
            text, rest = rest.decode(), b""
        except UnicodeDecodeError as error:
            text, rest = rest[: error.start].decode(), rest[error.start :]
        shown.append(text)
    return shown


@right("01.7", "lengths from first bytes")
def _(tokens):
    shown, character, missing = [], b"", 0
    for token in tokens:
        text = ""
        for byte in token:
            if not missing:
                missing = 1 if byte < 0x80 else 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4
            character += bytes([byte])
            missing -= 1
            if not missing:
                text += character.decode()
                character = b""
        shown.append(text)
    return shown


@right("01.7", "utf_8_decode, which says how many bytes it used")
def _(tokens):
    shown, rest = [], b""
    for token in tokens:
        text, used = codecs.utf_8_decode(rest + token, "strict", False)
        rest = (rest + token)[used:]
        shown.append(text)
    return shown
