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


class OneLineGroup(click.Group):
    """A group of commands that ends bad input with one line on stderr and exit code 2, instead of a usage text."""

    def main(self, *args: Any, **extra: Any) -> Any:
        """Run a command and leave the process with its exit code."""
        with contextlib.suppress(AttributeError):
            sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr]  # a terminal without Chinese shows "?"
        warnings.showwarning = show_warning
        try:
            run: Any = super().main
            code = run(*args, **(extra | {"standalone_mode": False}))
        except click.Abort:
            code = INTERRUPTED
        except click.ClickException as error:
            code = complain(error.format_message())
        except (MinimoeError, OSError) as error:
            code = complain(str(error))
        sys.exit(code if isinstance(code, int) else 0)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order in which they are written, not by the alphabet."""
        return list(self.commands)


def complain(message: str) -> int:
    """One line on stderr, also where the message has several."""
    click.echo("minimoe: " + " ".join(message.split()), err=True)
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
    """Whether a person is typing, and a prompt makes sense."""
    return sys.stdin.isatty() and sys.stdout.isatty() and os.environ.get("TERM") != "dumb"
