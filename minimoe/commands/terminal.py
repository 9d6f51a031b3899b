"""What a command owes its user: one clear line when the input is bad, a clean end on Ctrl-C, tables that line up."""

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
TRACEBACK = "MINIMOE_TRACEBACK"  # an environment variable, for reports of errors in minimoe itself


class OneLineGroup(click.Group):
    """A group of commands that ends bad input with one line on stderr and exit code 2, instead of a usage text."""

    def main(self, *args: Any, **extra: Any) -> Any:
        """Run a command and leave the process with its exit code."""
        # What a stream cannot decode or show is neither an error nor lost: see options.require_text.
        for stream, errors in ((sys.stdin, "surrogateescape"), (sys.stdout, "replace")):
            with contextlib.suppress(AttributeError):  # closed, or replaced by something else
                stream.reconfigure(errors=errors)  # type: ignore[union-attr]
        warnings.showwarning = show_warning
        try:
            run: Any = super().main
            code = run(*args, **(extra | {"standalone_mode": False}))
        except (click.Abort, EOFError, KeyboardInterrupt):
            code = INTERRUPTED
        except click.ClickException as error:
            code = complain(error.format_message())
        except (MinimoeError, OSError) as error:
            code = complain(str(error) or type(error).__name__)
        except Exception as error:
            code = explain(error)
        sys.exit(code if isinstance(code, int) else 0)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order in which they are written, not by the alphabet."""
        return list(self.commands)


def explain(error: Exception) -> int:
    """One line for an error that nothing raises on purpose. MINIMOE_TRACEBACK=1 shows where it comes from."""
    if os.environ.get(TRACEBACK):
        raise error
    what = " ".join(str(error).split())[:300]
    if is_out_of_memory(error):
        return complain(f"out of memory. {what} Try a smaller model, context or --dtype, or --ram.")
    if isinstance(error, RecursionError):
        return complain("the input is nested too deeply.")
    complain(f"unexpected {type(error).__name__}: {what}. Please report it, with what {TRACEBACK}=1 adds.")
    return FAULT_FOUND


def is_out_of_memory(error: Exception) -> bool:
    """Whether Python, or torch on a GPU or on the CPU, had no memory left. torch need not be imported for that."""
    torch_kind = getattr(sys.modules.get("torch"), "OutOfMemoryError", MemoryError)
    return isinstance(error, MemoryError | torch_kind) or "can't allocate memory" in str(error)


def complain(message: str) -> int:
    """One line on stderr, also where the message has several; control characters are spelt out."""
    line = " ".join(message.split())
    with contextlib.suppress(OSError):  # the exit code has to do where nothing can be written
        click.echo("minimoe: " + "".join(c if c.isprintable() else repr(c)[1:-1] for c in line), err=True)
    return BAD_INPUT


def show_warning(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, file: Any = None, line: Any = None
) -> None:
    """One line on stderr for a warning of minimoe's own; others as Python shows them."""
    if issubclass(category, MinimoeWarning):
        click.echo("minimoe: warning: " + " ".join(str(message).split()), err=True)
    else:
        click.echo(warnings.formatwarning(message, category, filename, lineno, line), err=True, nl=False)


def refuse(message: str) -> NoReturn:
    """End the command: bad input."""
    raise click.UsageError(message)


def table(rows: Iterable[Sequence[str]], right: Sequence[bool]) -> str:
    """Rows of cells as aligned text; `right` says which columns are flush right. Chinese characters count twice."""
    cells = [list(row) for row in rows]
    widths = [max(width(row[column]) for row in cells) for column in range(len(cells[0]))]

    def aligned(text: str, column: int) -> str:
        space = " " * (widths[column] - width(text))
        return space + text if right[column] else text + space

    return "\n".join("  ".join(aligned(text, column) for column, text in enumerate(row)).rstrip() for row in cells)


def width(text: str) -> int:
    """Columns that a text takes on a terminal."""
    wide = sum(unicodedata.east_asian_width(letter) in "WF" for letter in text)
    return len(text) + wide - sum(unicodedata.combining(letter) > 0 for letter in text)


def is_interactive() -> bool:
    """Whether a person is typing, and a prompt makes sense. A closed stream is None."""
    streams = (sys.stdin, sys.stdout)
    return all(stream is not None and stream.isatty() for stream in streams) and os.environ.get("TERM") != "dumb"


def open_closed_streams() -> None:
    """Let the descriptors 0, 1 and 2 lead to nothing where the caller closed them (`minimoe ... >&-`): the next file
    that is opened would get that number otherwise, and what a C library prints would go into it.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # the lowest free number
    if sys.stderr is None:  # progress bars write to it
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115
