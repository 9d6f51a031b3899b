"""The conversation of `minimoe chat`: read a question, print the answer, repeat."""

import contextlib
import re
import sys
from typing import TYPE_CHECKING, Any

import click

from minimoe.commands.ctrl_c import StopKey, stop_key
from minimoe.commands.options import require_text
from minimoe.commands.soft_switch import SWITCHES, split_switch
from minimoe.commands.terminal import is_interactive, print_error
from minimoe.errors import MinimoeError, NoThinkingSwitch
from minimoe.model.transformer import Transformer
from minimoe.text.generate import generate
from minimoe.text.tokenizer import Tokenizer

if TYPE_CHECKING:
    from minimoe.scale.distributed.process_group import Ranks

HELP = "/think, /no_think: turn thinking on or off   /clear: start a new conversation   Ctrl-D: end"
COMMAND = re.compile(r"/[\w?-]*")  # the whole line; "/etc/hosts" is a question


class Conversation:
    """The messages so far, and the settings of `generate` for the next answer.

    With `ranks`, every rank holds the same conversation; its input is read on rank 0.
    """

    def __init__(
        self, model: Transformer, tokenizer: Tokenizer, settings: dict[str, Any], ranks: "Ranks | None" = None
    ):
        self.model, self.tokenizer, self.settings, self.ranks = model, tokenizer, settings, ranks
        self.messages: list[dict[str, str]] = []
        self.key = StopKey()

    def answer(self, text: str) -> None:
        """Print the answer as it is generated, and add question and answer to the messages unless interrupted."""
        messages = [*self.messages, {"role": "user", "content": text}]
        pieces: list[str] = []
        for piece in generate(self.model, self.tokenizer, messages, **self.settings):
            pieces.append(piece)
            click.echo(piece, nl=False)
        click.echo()
        self.messages = [*messages, {"role": "assistant", "content": "".join(pieces)}]

    def loop(self) -> None:
        """Answer the lines of stdin until it ends. An error ends its turn, not the conversation."""
        interactive = is_interactive()
        if self.ranks is not None:
            interactive = self.ranks.share(interactive)
        if interactive:
            with contextlib.suppress(ImportError):
                import readline  # noqa: F401  # arrows and history at the prompt
            click.echo(HELP)
        with stop_key(self.ranks if interactive else None) as self.key:
            self.answer_lines(interactive)

    def answer_lines(self, interactive: bool) -> None:
        """Answer line after line until the input ends."""
        while True:
            try:
                line = self.next_line(interactive).strip()
            except EOFError:
                if interactive:
                    click.echo()
                return
            try:
                if COMMAND.fullmatch(line):
                    self.command(line)
                elif line:
                    self.question(line)
            except MinimoeError as error:
                print_error(str(error))
            except KeyboardInterrupt:
                if not interactive:
                    raise
                click.echo(" (stopped)")

    def next_line(self, interactive: bool) -> str:
        """The next line of input, the same on all ranks. Raises EOFError at the end."""
        if self.ranks is None:
            return input("> ") if interactive else next_line()
        line = None
        if self.ranks.is_first:
            typed, line = self.key.take()
            if typed:
                click.echo(f"> {line or ''}")
            else:
                with contextlib.suppress(EOFError):
                    line = input("> ") if interactive else next_line()
        line = self.ranks.share(line)
        self.key.forget()
        if line is None:
            raise EOFError
        return line

    def command(self, line: str) -> None:
        """Run a command such as /clear."""
        if line == "/clear":
            self.messages = []
        elif line in SWITCHES:
            self.switch(SWITCHES[line])
        else:
            print_error(f"unknown command {line}. {HELP}")

    def question(self, line: str) -> None:
        """Answer a question, after applying a soft switch in it."""
        require_text(line, "the question", getattr(sys.stdin, "encoding", None))
        thinking, question = split_switch(line)
        if thinking is not None:
            self.switch(thinking)
        self.answer(question)

    def switch(self, thinking: bool) -> None:
        """Turn thinking on or off for the following answers. Raises NoThinkingSwitch."""
        if not self.tokenizer.has_thinking_switch:
            raise NoThinkingSwitch(
                "this checkpoint's chat template has no thinking switch (enable_thinking): thinking is always on or "
                "always off. Leave out /think and /no_think."
            )
        self.settings["thinking"] = thinking


def next_line() -> str:
    """The next line of a stdin that is not a terminal. Raises EOFError at the end."""
    line = sys.stdin.readline()
    if not line:
        raise EOFError
    return line
