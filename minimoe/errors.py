"""The exceptions of minimoe. All are subclasses of `MinimoeError`.

A message names the file or the argument, what was found and what was expected, and ends with the fix.
"""

from typing import Any

LONGEST = 2000  # characters of a message, which may quote a value of any length from a file


class MinimoeError(Exception):
    """Base class of minimoe's errors. The message says what was found, where, what was expected, and the fix.

    A very long message is shortened in its middle: its start names the file, its end the fix.
    """

    def __str__(self) -> str:
        text = super().__str__()
        return text if len(text) <= LONGEST else f"{text[: LONGEST - 505]} ... {text[-500:]}"


class MinimoeWarning(UserWarning):
    """Something in a file that has no effect or looks unintended. Execution continues."""


class BadArgument(MinimoeError, ValueError):
    """An argument has an invalid value; the message names the argument and the accepted values."""


class NotFound(MinimoeError, FileNotFoundError):
    """A checkpoint directory, file or name does not exist; the message says where it was searched and how to get it."""


class BadConfig(MinimoeError):
    """config.json (or another JSON file of a checkpoint) is absent, unreadable or inconsistent."""


class UnsupportedModel(MinimoeError):
    """The checkpoint needs a feature that minimoe does not implement; the message names the key."""


class CacheOverflow(MinimoeError):
    """A KV cache has too little capacity for the positions."""


class BadTokenizer(MinimoeError):
    """The tokenizer files or the chat template of a checkpoint are absent or unreadable."""


class NoThinkingSwitch(MinimoeError):
    """`thinking=` was given for a checkpoint whose chat template has no such switch."""


class BadTrace(MinimoeError):
    """A routing trace is inconsistent, or does not match the model that it names."""


class BadModule(MinimoeError):
    """A JavaScript file of the explorer cannot be joined with the others; the message names the file and the line."""


class BadCheckpoint(MinimoeError):
    """Base class of errors in weight files. A partial load never returns a model."""


class MissingShard(BadCheckpoint):
    """The index names a file that is absent."""


class TruncatedShard(BadCheckpoint):
    """A file is shorter or longer than its header specifies."""


class NotSafetensors(BadCheckpoint):
    """A file is something else: a Git LFS pointer, an HTML page, a pickle, or empty."""


class CorruptHeader(BadCheckpoint):
    """The header of a safetensors file is unreadable or inconsistent."""


class UnsafeIndex(BadCheckpoint):
    """The index refers to a file outside the checkpoint's folder."""


class IndexMismatch(BadCheckpoint):
    """The index and the files disagree on which tensor is where, or on the total size."""


class WrongModel(BadCheckpoint):
    """Names, shapes or dtypes in the files do not match the model in config.json."""


class ReadFailed(BadCheckpoint):
    """The operating system, or the server, did not deliver bytes that the header specifies."""


class WriteFailed(BadCheckpoint, OSError):
    """The operating system could not write a file or a checkpoint; the previous one is unchanged."""


class IncompleteLoad(BadCheckpoint):
    """A parameter, or rows of one, would have been filled twice or not at all."""


class ChecksumMismatch(BadCheckpoint):
    """A file's SHA-256 is not the expected one."""


class NotFinite(BadCheckpoint):
    """A tensor holds NaN or infinity, or the logits do; the message names the tensor and, if known, the layer."""


class PlanTooBig(MinimoeError):
    """The model does not fit the given devices."""


class ServerFailed(MinimoeError):
    """A remote server did not answer, refused, or dropped the connection."""


def shown(value: Any, limit: int = 80) -> str:
    """A value from a file, quoted for a message: escaped and shortened, as the file is untrusted."""
    text = repr(value)
    return text if len(text) <= limit else text[: limit - 4] + "...'"
