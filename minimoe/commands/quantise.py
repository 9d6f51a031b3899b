"""`minimoe quantise`: say what will be read and written, then do it."""

from collections.abc import Callable

from minimoe.checkpoint.quantise import carry_out, prepare
from minimoe.errors import BadArgument


def run(path: str, to: str, out: str, only_say: bool, replace: bool, say: Callable[[str], None]) -> None:
    """Pack the checkpoint at `path` into format `to`; `say` is told the sizes beforehand, and the result.

    Raises BadArgument if a checkpoint is there already, unless it is to be replaced; what `prepare` and `carry_out` do.
    """
    work = prepare(path, to, out)
    say(str(work))
    if (work.out / "config.json").exists() and not replace and not only_say:
        raise BadArgument(f"{work.out} holds a checkpoint already. Choose another --out, or say --replace.")
    if only_say:
        say("nothing was written (--dry-run)")
        return
    carry_out(work)
    say(f"written to {work.out}; load it with minimoe.load({str(work.out)!r}) or --model {work.out}")
