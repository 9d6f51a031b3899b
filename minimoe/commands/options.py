"""Options that several commands share, and checks of option values before torch is imported or a model is read.

The library checks the same values again; a test compares the limits here with the library's.
"""

import os
import re
import sys
from math import isfinite
from pathlib import Path

import click

from minimoe.checkpoint.folder_transaction import finish_interrupted_save
from minimoe.checkpoint.resolve import find_checkpoint, remote_address
from minimoe.commands.terminal import refuse
from minimoe.dtypes import DTYPE_NAMES
from minimoe.errors import BadArgument
from minimoe.model.config import ModelConfig
from minimoe.scale.planner.sharding import SPLITS

COLDEST = 1e-6  # as in text/sampling.py
DEVICE_NAME = re.compile(r"cpu|(cuda|mps|xpu)(:[0-9]{1,3})?")
LAYERS = re.compile(r"([0-9]{1,6}):([0-9]{1,6})")
MOST = 1_000_000_000  # steps or questions; fits in a 32-bit counter
SEED = click.IntRange(min=0, max=2**63 - 1)  # the largest seed of torch.Generator


def temperature(context: click.Context, option: click.Parameter, value: float | None) -> float | None:
    """Check that --temperature is 0, or a finite number that is not too small to divide logits by."""
    if value is not None and not (isfinite(value) and (value == 0 or value >= COLDEST)):
        refuse(f"--temperature is {value}, expected 0 (greedy) or a number from {COLDEST} up.")
    return value


def device(context: click.Context, option: click.Parameter, value: str) -> str:
    """Check that --device is a device name. Whether this machine has the device is checked later, by torch."""
    if not DEVICE_NAME.fullmatch(value):
        refuse(f'--device is {value!r}, expected "cpu", "cuda", "cuda:1", "mps" or "xpu".')
    return value


def plain_text(context: click.Context, option: click.Parameter, value: str | None) -> str | None:
    """Check that a text consists of valid characters."""
    if value is not None:
        require_text(value, option.human_readable_name if isinstance(option, click.Argument) else option.opts[0])
    return value


def require_text(text: str, name: str, encoding: str | None = None) -> None:
    """Raise BadArgument, with the fix, if `text` contains an undecodable byte.

    Python represents such a byte as a lone surrogate (PEP 383). encoding: the one that failed; None: the encoding of
    command-line arguments.
    """
    position = next((index for index, letter in enumerate(text) if "\ud800" <= letter <= "\udfff"), None)
    if position is None:
        return
    encoding, code = encoding or sys.getfilesystemencoding(), ord(text[position])
    if not 0xDC80 <= code <= 0xDCFF:
        raise BadArgument(f"{name} has a lone surrogate as character {position + 1}, which is not a valid character.")
    byte = f"{name} has the byte 0x{code - 0xDC00:02x} as character {position + 1}"
    if encoding.replace("-", "").replace("_", "").lower() == "utf8":
        raise BadArgument(f"{byte}, which is not valid UTF-8. Convert the text to UTF-8.")
    raise BadArgument(
        f"{byte}, which is not valid in the encoding of this terminal, {encoding}. Choose a UTF-8 locale, such as "
        "LC_ALL=C.UTF-8, or set PYTHONUTF8=1."
    )


def parse_layers(text: str | None) -> range | None:
    """The value of --layers: "0:4" -> range(0, 4)."""
    if text is None:
        return None
    match = LAYERS.fullmatch(text)
    if match is None or int(match[2]) == 0:
        refuse(f"--layers is {text!r}, expected A:B such as 0:4.")
    if int(match[1]) != 0:
        refuse(f"--layers is {text!r}, but it must begin with 0, the layer after the embedding.")
    return range(int(match[2]))


def require_checkpoint(path: str, may_be_remote: bool = False) -> Path | None:
    """The folder of a checkpoint; None for a remote checkpoint, and under torchrun, where not every rank may see it.

    Raises the errors of `find_checkpoint`.
    """
    if (may_be_remote and remote_address(path) is not None) or "RANK" in os.environ:
        return None
    return find_checkpoint(path)


def require_recorded(show: int | None, folder: Path | None, layers: range | None) -> None:
    """Check that --show is a loaded layer with a router."""
    if show is None or folder is None:
        return
    finish_interrupted_save(folder)
    config = ModelConfig.from_file(folder / "config.json")
    numbers = [layer for layer in config.moe_layers if layers is None or layer in layers]
    if numbers and show not in numbers:
        refuse_show(show, numbers)


def refuse_show(show: int, numbers: list[int]) -> None:
    """Refuse a --show that is not among the recorded layers."""
    refuse(f"--show is {show}, expected one of the recorded layers {numbers[0]} to {numbers[-1]}.")


def refuse_with_ram(precision: str | None) -> None:
    """Refuse --precision with --ram: streamed weights keep the checkpoint's format."""
    if precision is not None:
        refuse("--ram uses the weights as stored. Pack them once with: minimoe quantise PATH --to int4")


def refuse_without_ram(ram: str | None, context: int | None) -> None:
    """Refuse --context without --ram: the KV cache of a loaded model is sized by the prompt and the answer."""
    if ram is None and context is not None:
        refuse("--context requires --ram: without it, the KV cache is sized by the prompt and --max-new-tokens.")


MODEL = click.option("--model", "-m", default="data/mini", show_default=True, help="Checkpoint folder.")
RAM = click.option("--ram", metavar="SIZE",
                   help="Stream the weights from disk within a memory budget such as 12GB. --model may then be an "
                   "address: https://host/folder/ or hf://owner/name.")  # fmt: skip
CONTEXT = click.option("--context", type=click.IntRange(min=1),
                       help="With --ram: size of the KV cache, in tokens. [default: 4096, or what fits]")  # fmt: skip
YES = click.option("--yes", is_flag=True,
                   help="With --ram on a terminal: do not ask for confirmation before reads longer than two "
                   "minutes.")  # fmt: skip
DEVICE = click.option("--device", default="cpu", show_default=True, callback=device,
                      help='Where to compute: "cpu", "cuda", "cuda:1", "mps" or "xpu".')  # fmt: skip
SPLIT = click.option("--split", type=click.Choice(SPLITS), default="tensor", show_default=True,
                     help="Under torchrun: divide heads and experts among the ranks, or layers.")  # fmt: skip
PRECISION = click.option("--precision", type=click.Choice(("int4", "int8", "bf16")),
                         help="Pack or unpack the weights while loading. [default: the checkpoint's own "
                         "format]")  # fmt: skip
DTYPE = click.option("--dtype", type=click.Choice(DTYPE_NAMES), metavar="DTYPE",
                     help='Compute in "bf16", "fp32", ... [default: the checkpoint\'s own dtype]')  # fmt: skip
