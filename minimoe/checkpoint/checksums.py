"""SHA-256 of weight files, and where the expected one is written down. A flipped bit in the weights shows in nothing
else.
"""

import hashlib
import re
from collections.abc import Callable
from pathlib import Path

from tqdm.auto import tqdm

from minimoe.checkpoint.safetensors.pread import PositionedFile

STEP = 8 * 2**20  # bytes
SHA256 = re.compile(r"[0-9a-f]{64}")


def sha256_of(
    path: Path, progress: "tqdm | None" = None, see: Callable[[int, memoryview], None] = lambda offset, data: None
) -> str:
    """The SHA-256 of a file in hexadecimal. `see` is shown all bytes on the way: an offset, and what begins there.
    Raises ReadFailed, also if the file is changed meanwhile.
    """
    digest = hashlib.sha256()
    buffer = memoryview(bytearray(STEP))
    with PositionedFile(path) as file:
        for offset in range(0, file.size, STEP):
            part = buffer[: min(STEP, file.size - offset)]
            file.read_into(part, offset)
            digest.update(part)
            see(offset, part)
            if progress is not None:
                progress.update(len(part))
        file.require_unchanged(file.identity)
    return digest.hexdigest()


def expected_sha256(path: Path) -> str | None:
    """The digest that the file should have, if something beside it says so, else None. In this order:

    `<file>.sha256` (as `sha256sum` writes it); the name of the blob that a hub cache's link points to; the note that
    `hf download --local-dir` leaves in `.cache/huggingface/download`.
    """
    written = [first_word(path.with_name(path.name + ".sha256"), line=0)]
    if path.is_symlink():
        written.append(Path(path.readlink()).name)
    written.append(first_word(path.parent / ".cache" / "huggingface" / "download" / f"{path.name}.metadata", line=1))
    return next((word.lower() for word in written if word and SHA256.fullmatch(word.lower())), None)


def first_word(path: Path, line: int) -> str | None:
    """The first word in that line of a small text file, or None."""
    try:
        with path.open("rb") as file:
            lines = file.read(1000).decode("utf-8", "replace").splitlines()
    except OSError:
        return None
    words = lines[line].split() if len(lines) > line else []
    return words[0] if words else None
