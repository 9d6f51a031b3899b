"""`minimoe selfcheck`: check on a tiny model that several ranks compute what one process computes."""

import click

from minimoe.commands.terminal import FAULT_FOUND


@click.command()
@click.option("--ranks", type=click.IntRange(min=1, max=256),
              help="Number of processes to start. [default: one per GPU, or 2]")  # fmt: skip
@click.option("--device", type=click.Choice(("cpu", "cuda")), help="[default: cuda if available]")
@click.option("--quick", is_flag=True, help="Plain weights in the most exact dtype only: a third of the comparisons.")
def selfcheck(ranks: int | None, device: str | None, quick: bool) -> None:
    """Compare several ranks with one process on a tiny model.

    Takes seconds, and shows whether a large model can be run on this machine's ranks. Exit code 1 if they differ.

    On several machines, start it with torchrun on each: torchrun ... -m minimoe selfcheck
    """
    from minimoe.commands.start_ranks import compare_ranks

    if not compare_ranks(device, ranks, quick):
        click.get_current_context().exit(FAULT_FOUND)
