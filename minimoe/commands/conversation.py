"""Talking with a model in a terminal: the loop behind `minimoe chat`."""

import contextlib
import sys
from typing import Any

import click

from minimoe.commands.terminal import complain, is_interactive
from minimoe.errors import MinimoeError, NoThinkingSwitch
from minimoe.model.transformer import Transformer
from minimoe.text.generate import generate
from minimoe.text.tokenizer import Tokenizer

HELP = "/think, /no_think: think aloud or not   /clear: forget the conversation   Ctrl-D: end"


class Conversation:
    """The turns so far, and the settings that `generate` gets for the next one."""

    def __init__(self, model: Transformer, tokenizer: Tokenizer, settings: dict[str, Any]):
        self.model, self.tokenizer, self.settings = model, tokenizer, settings
        self.messages: list[dict[str, str]] = []

    def answer(self, text: str) -> None:
        """Add the user's turn, print the model's as it comes, remember both; neither if it is cut off."""
        messages = [*self.messages, {"role": "user", "content": text}]
        pieces: list[str] = []
        for piece in generate(self.model, self.tokenizer, messages, **self.settings):
            pieces.append(piece)
            click.echo(piece, nl=False)
        click.echo()
        self.messages = [*messages, {"role": "assistant", "content": "".join(pieces)}]

    def loop(self) -> None:
        """Questions from stdin until it ends. An error is told and the conversation goes on."""
        asks = is_interactive()
        if asks:
            with contextlib.suppress(ImportError):
                import readline  # noqa: F401  # arrows and history at the prompt
            click.echo(HELP)
        while True:
            try:
                line = (input("> ") if asks else next_line()).strip()
            except EOFError:
                if asks:
                    click.echo()
                return
            try:
                if line.startswith("/"):
                    self.command(line)
                elif line:
                    self.answer(line)
            except MinimoeError as error:
                complain(str(error))
            except KeyboardInterrupt:
                if not asks:
                    raise
                click.echo(" (stopped)")

    def command(self, line: str) -> None:
        """A line that begins with a slash."""
        if line == "/clear":
            self.messages = []
        elif line in ("/think", "/no_think"):
            if not self.tokenizer.has_thinking_switch:
                raise NoThinkingSwitch("this checkpoint's chat template has no thinking switch.")
            self.settings["thinking"] = line == "/think"
        else:
            complain(f"unknown command {line}. {HELP}")


def next_line() -> str:
    """A line of stdin that is not a terminal."""
    line = sys.stdin.readline()
    if not line:
        raise EOFError
    return line
