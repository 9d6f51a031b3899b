"""The byte alphabet: how vocabulary files write bytes that are no printable character (the convention of GPT-2)."""


def byte_alphabet() -> dict[str, int]:
    """Which byte each character of a vocabulary file stands for: 256 characters, 256 bytes.

    Printable bytes are written as themselves. The other 68, space and line end among them, are the characters from
    U+0100 on, so a space is written as U+0120.
    """
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + n): byte for n, byte in enumerate(others)}


BYTE_OF = byte_alphabet()
