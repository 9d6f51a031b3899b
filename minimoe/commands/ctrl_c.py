"""Ctrl-C during an answer of several ranks: it stops the answer, and the ranks keep running.

A terminal turns Ctrl-C into SIGINT for all foreground processes, and torchrun ends every rank on SIGINT. So during a
conversation the terminal is configured to deliver Ctrl-C as a character. Rank 0 checks for it before it sends a token
to the others (scale/distributed/shared_draw.py), and the answer ends on all ranks after the same token. A SIGINT sent
to rank 0 in another way, such as `kill -INT`, has the same effect.
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
    """Input during an answer: a request to stop, and complete lines, which are kept for later."""

    def __init__(self) -> None:
        self.signalled = False
        self.typed: list[str | None] = []  # None: the end of the input

    def was_pressed(self) -> bool:
        """Whether the answer should stop. Does not block."""
        pressed, self.signalled = self.signalled, False
        while select.select([TERMINAL], [], [], 0)[0]:
            line = os.read(TERMINAL, 4096)  # a terminal returns one line at a time
            if not line:
                self.typed.append(None)
                break
            if CTRL_C in line:
                pressed = True
            else:
                self.typed.append(line.decode(errors="replace").rstrip("\n"))
        return pressed

    def take(self) -> tuple[bool, str | None]:
        """(True, the next line typed during an answer), or (False, None). A line of None is the end of the input."""
        return (True, self.typed.pop(0)) if self.typed else (False, None)

    def forget(self) -> None:
        """Drop a request to stop that arrived between two answers."""
        self.signalled = False


@contextmanager
def stop_key(ranks: "Ranks | None") -> Iterator[StopKey]:
    """Handle Ctrl-C during a conversation at the terminal of rank 0; without ranks, do nothing.

    Entered by every rank. The terminal settings are restored at the end, also if a rank fails.
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
            # restored by any remaining rank of this machine, since rank 0 may have been killed
            ranks.watch.before_leaving = lambda: restore(settings)
            stack.callback(restore, settings)
        if ranks.is_first:
            if settings is not None:
                key_instead_of_signal(settings)
            stack.enter_context(stopping_on(key.was_pressed))
        yield key


@contextmanager
def signals_kept(ranks: "Ranks", key: StopKey) -> Iterator[None]:
    """Turn SIGINT into a request to stop on rank 0, and ignore it on the others."""

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
    """The settings of the terminal on stdin; None if stdin is not a terminal."""
    with suppress(ImportError, OSError):
        import termios

        if os.isatty(TERMINAL):
            return termios.tcgetattr(TERMINAL)
    return None


def key_instead_of_signal(settings: list[Any]) -> None:
    """Make Ctrl-C end a line, as Enter does, instead of sending a signal."""
    import termios

    changed = [*settings[:6], list(settings[6])]
    changed[6][termios.VINTR] = b"\0"  # no character
    changed[6][termios.VEOL] = CTRL_C
    termios.tcsetattr(TERMINAL, termios.TCSADRAIN, changed)
    with suppress(ImportError):
        import readline

        readline.parse_and_bind(r'"\C-c": unix-line-discard')  # at the prompt, where readline reads single keys


def restore(settings: list[Any]) -> None:
    """Restore terminal settings."""
    import termios

    with contextlib.suppress(termios.error):
        termios.tcsetattr(TERMINAL, termios.TCSANOW, settings)
