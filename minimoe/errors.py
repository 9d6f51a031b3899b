"""Every way in which minimoe refuses its input: one small hierarchy, the leaf that everything may raise.

A message names the file or the argument, says what was found and what was expected, and ends with the mend.
Catch `MinimoeError` to catch them all.
"""

from typing import Any

LONGEST = 2000  # characters of a message; a value that is quoted from a file may be of any length


class MinimoeError(Exception):
    """Base of all errors that minimoe raises on purpose. A very long message is shortened in its middle: the beginning
    names the file, the end says what to do.
    """

    def __str__(self) -> str:
        text = super().__str__()
        return text if len(text) <= LONGEST else f"{text[: LONGEST - 505]} ... {text[-500:]}"


class MinimoeWarning(UserWarning):
    """Something in a file that has no effect, or looks unintended; the work continues. Not an error."""


class BadArgument(MinimoeError, ValueError):
    """An argument has a value that cannot be used; the message names the argument and what it takes."""


class NotFound(MinimoeError, FileNotFoundError):
    """A checkpoint directory, file or name does not exist; the message says where we looked and how to get it."""


class BadConfig(MinimoeError):
    """config.json (or another JSON file of a checkpoint) is absent, unreadable or contradicts itself."""


class UnsupportedModel(MinimoeError):
    """The checkpoint asks for an architecture switch that minimoe does not implement; the message names the key."""


class CacheOverflow(MinimoeError):
    """More positions were given to a KV cache than it was allocated for."""


class BadTokenizer(MinimoeError):
    """The tokenizer files or the chat template of a checkpoint are absent or unreadable."""


class NoThinkingSwitch(MinimoeError):
    """`thinking=` was given for a checkpoint whose chat template has no such switch."""


class BadTrace(MinimoeError):
    """A routing trace contradicts itself or the model it claims to come from."""


class BadModule(MinimoeError):
    """A JavaScript file of the explorer cannot be joined with the others; the message names the file and the line."""


class BadCheckpoint(MinimoeError):
    """Base of everything that can be wrong with the weight files. A partial load never yields a model."""


class MissingShard(BadCheckpoint):
    """The index names a file that is absent."""


class TruncatedShard(BadCheckpoint):
    """A file is shorter or longer than its own header says."""


class NotSafetensors(BadCheckpoint):
    """A file is something else: a Git LFS pointer, an HTML page, a pickle, or empty."""


class CorruptHeader(BadCheckpoint):
    """The header of a safetensors file is unreadable or its numbers contradict each other."""


class UnsafeIndex(BadCheckpoint):
    """The index points outside the checkpoint's own folder."""


class IndexMismatch(BadCheckpoint):
    """The index and the files disagree on which tensor is where, or on the total size."""


class WrongModel(BadCheckpoint):
    """Names, shapes or dtypes in the files are not those of the model that config.json describes."""


class ReadFailed(BadCheckpoint):
    """The operating system, or the server, could not deliver bytes that the header promised."""


class WriteFailed(BadCheckpoint, OSError):
    """The operating system could not write a file or a checkpoint; what was there before is unchanged."""


class IncompleteLoad(BadCheckpoint):
    """Some parameter, or some rows of one, would have been left unfilled or filled twice."""


class ChecksumMismatch(BadCheckpoint):
    """A file's SHA-256 is not the expected one."""


class NotFinite(BadCheckpoint):
    """A tensor holds NaN or infinity, or the logits do; the message names the tensor, and the layer if it is known."""


class PlanTooBig(MinimoeError):
    """The model does not fit the devices that were offered."""


class ServerFailed(MinimoeError):
    """A server of somebody else's did not answer, refused, or broke off."""


def shown(value: Any, limit: int = 80) -> str:
    """A value from a file, quoted for a message: escaped, and short even when the file is hostile."""
    text = repr(value)
    return text if len(text) <= limit else text[: limit - 4] + "...'"
