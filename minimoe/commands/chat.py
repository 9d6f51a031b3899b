"""Talking with a model in a terminal: the loop behind `minimoe chat`."""

import contextlib
import re
import sys
from typing import TYPE_CHECKING, Any

import click

from minimoe.commands.options import require_text
from minimoe.commands.soft_switch import SWITCHES, split_switch
from minimoe.commands.stop_key import StopKey, stop_key
from minimoe.commands.terminal import complain, is_interactive
from minimoe.errors import MinimoeError, NoThinkingSwitch
from minimoe.model.transformer import Transformer
from minimoe.text.generate import generate
from minimoe.text.tokenizer import Tokenizer

if TYPE_CHECKING:
    from minimoe.scale.distributed.process_group import Ranks

HELP = "/think, /no_think: think aloud or not   /clear: forget the conversation   Ctrl-D: end"
COMMAND = re.compile(r"/[\w?-]*")  # alone on its line; "/etc/hosts" is a question


class Conversation:
    """The turns so far, and the settings that `generate` gets for the next one. With `ranks`, all of them hold the
    same conversation, with what is typed at rank 0.
    """

    def __init__(
        self, model: Transformer, tokenizer: Tokenizer, settings: dict[str, Any], ranks: "Ranks | None" = None
    ):
        self.model, self.tokenizer, self.settings, self.ranks = model, tokenizer, settings, ranks
        self.messages: list[dict[str, str]] = []
        self.key = StopKey()

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
        """Questions from stdin until it ends. An error ends its turn, not the conversation."""
        asks = is_interactive()
        if self.ranks is not None:
            asks = self.ranks.share(asks)
        if asks:
            with contextlib.suppress(ImportError):
                import readline  # noqa: F401  # arrows and history at the prompt
            click.echo(HELP)
        with stop_key(self.ranks if asks else None) as self.key:
            self.converse(asks)

    def converse(self, asks: bool) -> None:
        """Question and answer, until the input ends."""
        while True:
            try:
                line = self.next_line(asks).strip()
            except EOFError:
                if asks:
                    click.echo()
                return
            try:
                if COMMAND.fullmatch(line):
                    self.command(line)
                elif line:
                    self.ask(line)
            except MinimoeError as error:
                complain(str(error))
            except KeyboardInterrupt:
                if not asks:
                    raise
                click.echo(" (stopped)")

    def next_line(self, asks: bool) -> str:
        """What is typed next, on all ranks. Raises EOFError at the end."""
        if self.ranks is None:
            return input("> ") if asks else next_line()
        line = None
        if self.ranks.is_first:
            typed, line = self.key.take()
            if typed:
                click.echo(f"> {line or ''}")
            else:
                with contextlib.suppress(EOFError):
                    line = input("> ") if asks else next_line()
        line = self.ranks.share(line)
        self.key.forget()
        if line is None:
            raise EOFError
        return line

    def command(self, line: str) -> None:
        """A line that is a single word with a slash in front."""
        if line == "/clear":
            self.messages = []
        elif line in SWITCHES:
            self.switch(SWITCHES[line])
        else:
            complain(f"unknown command {line}. {HELP}")

    def ask(self, line: str) -> None:
        """A question, with or without a soft switch in it."""
        require_text(line, "the question", getattr(sys.stdin, "encoding", None))
        thinking, question = split_switch(line)
        if thinking is not None:
            self.switch(thinking)
        self.answer(question)

    def switch(self, thinking: bool) -> None:
        """Think aloud or not, from now on. Raises NoThinkingSwitch."""
        if not self.tokenizer.has_thinking_switch:
            raise NoThinkingSwitch(
                "this checkpoint's chat template has no thinking switch (enable_thinking): it always thinks or never "
                "does. Ask without /think and /no_think."
            )
        self.settings["thinking"] = thinking


def next_line() -> str:
    """A line of stdin that is not a terminal."""
    line = sys.stdin.readline()
    if not line:
        raise EOFError
    return line
