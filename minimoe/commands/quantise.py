"""`minimoe quantise`: say what will be read and written, then do it."""

from collections.abc import Callable

from minimoe.checkpoint.quantise import carry_out, prepare


def run(path: str, to: str, out: str, only_say: bool, say: Callable[[str], None]) -> None:
    """Pack the checkpoint at `path` into format `to`; `say` is told the sizes beforehand, and the result."""
    work = prepare(path, to, out)
    say(str(work))
    if only_say:
        say("nothing was written (--dry-run)")
        return
    carry_out(work)
    say(f"written to {work.out}; load it with minimoe.load({str(work.out)!r}) or --model {work.out}")
