"""Terminal behaviour of all commands: errors and warnings in one line, exit codes, Ctrl-C, aligned tables."""

import contextlib
import os
import sys
import unicodedata
import warnings
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

import click

from minimoe.errors import MinimoeError, MinimoeWarning

FAULT_FOUND, BAD_INPUT, INTERRUPTED = 1, 2, 130
TRACEBACK = "MINIMOE_TRACEBACK"  # environment variable that shows tracebacks, for bug reports


class OneLineGroup(click.Group):
    """A command group that answers bad input with one line on stderr and exit code 2 instead of a usage text."""

    def main(self, *args: Any, **extra: Any) -> Any:
        """Run a command and exit with its code."""
        # Undecodable input is kept, and reported by options.require_text; unprintable output is replaced.
        for stream, errors in ((sys.stdin, "surrogateescape"), (sys.stdout, "replace")):
            with contextlib.suppress(AttributeError):  # a closed or replaced stream
                stream.reconfigure(errors=errors)  # type: ignore[union-attr]
        warnings.showwarning = show_warning
        try:
            run: Any = super().main
            code = run(*args, **(extra | {"standalone_mode": False}))
        except (click.Abort, EOFError, KeyboardInterrupt):
            code = INTERRUPTED
        except click.ClickException as error:
            code = print_error(error.format_message())
        except (MinimoeError, OSError) as error:
            code = print_error(str(error) or type(error).__name__)
        except Exception as error:
            code = print_unexpected_error(error)
        sys.exit(code if isinstance(code, int) else 0)


def print_unexpected_error(error: Exception) -> int:
    """Print one line for an error that no command expects; MINIMOE_TRACEBACK=1 re-raises it. Returns the exit code."""
    if os.environ.get(TRACEBACK):
        raise error
    message = " ".join(str(error).split())[:300]
    if is_out_of_memory(error):
        return print_error(f"out of memory. {message} Try a smaller model, context or --dtype, or --ram.")
    if isinstance(error, RecursionError):
        return print_error("the input is nested too deeply.")
    print_error(f"unexpected {type(error).__name__}: {message}. Please report it with the output of {TRACEBACK}=1.")
    return FAULT_FOUND


def is_out_of_memory(error: Exception) -> bool:
    """Whether Python, or torch on a GPU or CPU, ran out of memory. Does not import torch."""
    torch_kind = getattr(sys.modules.get("torch"), "OutOfMemoryError", MemoryError)
    return isinstance(error, MemoryError | torch_kind) or "can't allocate memory" in str(error)


def print_error(message: str) -> int:
    """Print a message as one line on stderr, with control characters escaped. Returns the exit code for bad input."""
    line = " ".join(message.split())
    with contextlib.suppress(OSError):  # if stderr is not writable, the exit code has to suffice
        click.echo("minimoe: " + "".join(c if c.isprintable() else repr(c)[1:-1] for c in line), err=True)
    return BAD_INPUT


def show_warning(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, file: Any = None, line: Any = None
) -> None:
    """Print minimoe's own warnings as one line on stderr, and other warnings as Python does."""
    if issubclass(category, MinimoeWarning):
        click.echo("minimoe: warning: " + " ".join(str(message).split()), err=True)
    else:
        click.echo(warnings.formatwarning(message, category, filename, lineno, line), err=True, nl=False)


def refuse(message: str) -> NoReturn:
    """End the command with one line about bad input."""
    raise click.UsageError(message)


def table(rows: Iterable[Sequence[str]], right: Sequence[bool]) -> str:
    """Rows of cells as aligned text. right: whether each column is right-aligned. Wide characters count twice."""
    cells = [list(row) for row in rows]
    widths = [max(width(row[column]) for row in cells) for column in range(len(cells[0]))]

    def aligned(text: str, column: int) -> str:
        space = " " * (widths[column] - width(text))
        return space + text if right[column] else text + space

    return "\n".join("  ".join(aligned(text, column) for column, text in enumerate(row)).rstrip() for row in cells)


def width(text: str) -> int:
    """Width of a text on a terminal, in columns."""
    wide = sum(unicodedata.east_asian_width(letter) in "WF" for letter in text)
    return len(text) + wide - sum(unicodedata.combining(letter) > 0 for letter in text)


def is_interactive() -> bool:
    """Whether stdin and stdout are a terminal that can show a prompt."""
    streams = (sys.stdin, sys.stdout)  # a closed stream is None
    return all(stream is not None and stream.isatty() for stream in streams) and os.environ.get("TERM") != "dumb"


def open_closed_streams() -> None:
    """Open descriptors 0, 1 and 2 on the null device if the caller closed them (`minimoe ... >&-`). Otherwise the next
    opened file would get such a number, and the output of C libraries would be written into it.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # the lowest free number
    if sys.stderr is None:  # progress bars write to it
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115
