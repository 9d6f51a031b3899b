"""The command line: `minimoe --help`, or `python -m minimoe --help`.

Each command is a file in `minimoe/commands`, imported when it is needed. None of these files imports torch before it
has checked its options, so help appears at once.

Exit codes: 0; 1 if a check finds a fault, or minimoe itself fails; 2 for bad input (with one line on stderr);
130 after Ctrl-C.
"""

from importlib import import_module

import click

from minimoe import __version__
from minimoe.commands.terminal import OneLineGroup, open_closed_streams

COMMANDS = ("chat", "trace", "plan", "verify", "quantise", "train", "evaluate", "selfcheck", "check-real")


class LazyGroup(OneLineGroup):
    """The commands in `COMMANDS`; "check-real" is the function `check_real` in `commands/check_real.py`."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All names, in the order of `COMMANDS` (click's default is alphabetical)."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command; None if there is no such command."""
        if cmd_name not in COMMANDS:
            return None
        name = cmd_name.replace("-", "_")
        command: click.Command = getattr(import_module(f"minimoe.commands.{name}"), name)
        return command


@click.group(
    cls=LazyGroup,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="minimoe")
@click.pass_context
def cli(context: click.Context) -> None:
    """A Qwen3 Mixture-of-Experts that you can read.

    A model is a folder in the Hugging Face layout; the default is the small model in data/mini.
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


def main() -> None:
    """Entry point of the console script."""
    open_closed_streams()
    cli(prog_name="minimoe")
