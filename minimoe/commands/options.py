"""What options may be, checked before torch is imported and before a model is read.

The library checks the same again; a test compares the limits here with the library's.
"""

import os
import re
import sys
from math import isfinite
from pathlib import Path

import click

from minimoe.checkpoint.atomic_save import finish_interrupted_save
from minimoe.checkpoint.resolve import find_checkpoint, remote_address
from minimoe.commands.terminal import refuse
from minimoe.errors import BadArgument
from minimoe.model.config import ModelConfig

COLDEST = 1e-6  # of text/sampling.py
DEVICE_NAME = re.compile(r"cpu|(cuda|mps|xpu)(:[0-9]{1,3})?")
LAYERS = re.compile(r"([0-9]{1,6}):([0-9]{1,6})")
MOST = 1_000_000_000  # steps, questions: what a 32-bit counter holds
SEED = click.IntRange(min=0, max=2**63 - 1)  # torch.Generator takes no larger one


def temperature(context: click.Context, option: click.Parameter, value: float | None) -> float | None:
    """0, or a number that a logit can be divided by."""
    if value is not None and not (isfinite(value) and (value == 0 or value >= COLDEST)):
        refuse(f"--temperature is {value}, expected 0 (greedy) or a number from {COLDEST} up.")
    return value


def device(context: click.Context, option: click.Parameter, value: str) -> str:
    """A name that torch may know; whether this machine has the device, torch says later."""
    if not DEVICE_NAME.fullmatch(value):
        refuse(f'--device is {value!r}, expected "cpu", "cuda", "cuda:1", "mps" or "xpu".')
    return value


def plain_text(context: click.Context, option: click.Parameter, value: str | None) -> str | None:
    """A text of characters that all exist."""
    if value is not None:
        require_text(value, option.human_readable_name if isinstance(option, click.Argument) else option.opts[0])
    return value


def require_text(text: str, name: str, encoding: str | None = None) -> None:
    """Raises BadArgument if `text` holds a byte that could not be decoded, and says how to type it instead.

    Python keeps such a byte as half a surrogate pair (PEP 383). encoding: which one failed, None for that of arguments.
    """
    at = next((number for number, letter in enumerate(text) if "\ud800" <= letter <= "\udfff"), None)
    if at is None:
        return
    encoding, code = encoding or sys.getfilesystemencoding(), ord(text[at])
    if not 0xDC80 <= code <= 0xDCFF:
        raise BadArgument(f"{name} has half a surrogate pair as character {at + 1}, which is no character.")
    byte = f"{name} has the byte 0x{code - 0xDC00:02x} as character {at + 1}"
    if encoding.replace("-", "").replace("_", "").lower() == "utf8":
        raise BadArgument(f"{byte}, which is not valid UTF-8. Convert the text to UTF-8.")
    raise BadArgument(
        f"{byte}, which the encoding of this terminal, {encoding}, does not have. Choose a UTF-8 locale, such as "
        "LC_ALL=C.UTF-8, or set PYTHONUTF8=1."
    )


def parse_layers(text: str | None) -> range | None:
    """ "0:4" -> range(0, 4)."""
    if text is None:
        return None
    found = LAYERS.fullmatch(text)
    if found is None or int(found[2]) == 0:
        refuse(f"--layers is {text!r}, expected A:B such as 0:4.")
    if int(found[1]) != 0:
        refuse(f"--layers is {text!r}, but a text enters at layer 0: it must begin with 0.")
    return range(int(found[2]))


def require_checkpoint(path: str, may_be_remote: bool = False) -> Path | None:
    """The folder of a checkpoint; None if it is on a server, or if only some of several ranks may have it.

    Raises what `find_checkpoint` raises.
    """
    if (may_be_remote and remote_address(path) is not None) or "RANK" in os.environ:
        return None
    return find_checkpoint(path)


def require_recorded(show: int | None, folder: Path | None, layers: range | None) -> None:
    """Is --show a layer with a router, among the first ones that are loaded?"""
    if show is None or folder is None:
        return
    finish_interrupted_save(folder)
    config = ModelConfig.from_file(folder / "config.json")
    numbers = [layer for layer in config.moe_layers if layers is None or layer in layers]
    if numbers and show not in numbers:
        refuse_show(show, numbers)


def refuse_show(show: int, numbers: list[int]) -> None:
    """--show is a layer that is not recorded."""
    refuse(f"--show is {show}, expected one of the recorded layers {numbers[0]} to {numbers[-1]}.")
