"""Ctrl-C while several ranks answer: it ends the answer, and the ranks stay for the next question.

A terminal turns Ctrl-C into SIGINT for all of its foreground processes, and torchrun ends every rank when it gets one.
So for the time of a conversation the terminal is asked not to: the key then arrives as a character. Rank 0 looks for it
before it sends a token to the others (rank_draw.py), and the answer ends on all ranks after the same token. A SIGINT
that reaches rank 0 in another way, such as `kill -INT`, has the same effect.
"""

import contextlib
import os
import select
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, Any

from minimoe.scale.distributed.shared_draw import stopping_on

if TYPE_CHECKING:
    from minimoe.scale.distributed.process_group import Ranks

TERMINAL = 0  # file descriptor: stdin
CTRL_C = b"\x03"


class StopKey:
    """What is typed while an answer is computed: the request to stop it, and whole lines, which are kept."""

    def __init__(self) -> None:
        self.signalled = False
        self.typed: list[str | None] = []  # None: the end of the input

    def was_pressed(self) -> bool:
        """Whether the answer is to stop. Does not wait."""
        pressed, self.signalled = self.signalled, False
        while select.select([TERMINAL], [], [], 0)[0]:
            line = os.read(TERMINAL, 4096)  # one line, as the terminal hands them out
            if not line:
                self.typed.append(None)
                break
            if CTRL_C in line:
                pressed = True
            else:
                self.typed.append(line.decode(errors="replace").rstrip("\n"))
        return pressed

    def take(self) -> tuple[bool, str | None]:
        """(whether a line was typed during the answer, that line)."""
        return (True, self.typed.pop(0)) if self.typed else (False, None)

    def forget(self) -> None:
        """Drop a request to stop that came when there was no answer to stop."""
        self.signalled = False


@contextmanager
def stop_key(ranks: "Ranks | None") -> Iterator[StopKey]:
    """The key, for the time of a conversation at the terminal of rank 0; without ranks it does nothing.

    Every rank enters. The terminal is put back as it was at the end, also when a rank fails.
    """
    key = StopKey()
    if ranks is None:
        yield key
        return
    with ExitStack() as stack:
        stack.enter_context(signals_kept(ranks, key))
        settings = terminal_settings()
        ranks.wait_for_all("terminal")  # all have read the settings before rank 0 changes them
        if settings is not None:
            # whichever rank of this machine is left puts them back: the first one may have been killed
            ranks.watch.before_leaving = lambda: restore(settings)
            stack.callback(restore, settings)
        if ranks.is_first:
            if settings is not None:
                key_instead_of_signal(settings)
            stack.enter_context(stopping_on(key.was_pressed))
        yield key


@contextmanager
def signals_kept(ranks: "Ranks", key: StopKey) -> Iterator[None]:
    """SIGINT becomes a request to stop on rank 0, and nothing on the others."""

    def note(*_: object) -> None:
        key.signalled = True

    before = signal.signal(signal.SIGINT, note)
    ranks.watch.keeps_running = True
    try:
        yield
    finally:
        ranks.watch.keeps_running = False
        signal.signal(signal.SIGINT, before)


def terminal_settings() -> list[Any] | None:
    """Those of the terminal that is stdin; None if it is something else."""
    with suppress(ImportError, OSError):
        import termios

        if os.isatty(TERMINAL):
            return termios.tcgetattr(TERMINAL)
    return None


def key_instead_of_signal(settings: list[Any]) -> None:
    """Ctrl-C ends a line, as Enter does, and sends no signal."""
    import termios

    changed = [*settings[:6], list(settings[6])]
    changed[6][termios.VINTR] = b"\0"  # no character
    changed[6][termios.VEOL] = CTRL_C
    termios.tcsetattr(TERMINAL, termios.TCSADRAIN, changed)
    with suppress(ImportError):
        import readline

        readline.parse_and_bind(r'"\C-c": unix-line-discard')  # at the prompt, which readline reads key by key


def restore(settings: list[Any]) -> None:
    """Put the settings back."""
    import termios

    with contextlib.suppress(termios.error):
        termios.tcsetattr(TERMINAL, termios.TCSANOW, settings)
