"""`minimoe check-real`: compare minimoe with transformers on one checkpoint."""

import click

from minimoe.commands import options
from minimoe.commands.terminal import FAULT_FOUND


@click.command("check-real")
@click.argument("path")
@options.DEVICE
def check_real(path: str, device: str) -> None:
    """Compare minimoe with transformers on a checkpoint.

    Both run the checkpoint at PATH on the same tokens, in its own dtype and, if memory permits, in float32. Exit code 1
    if they differ by more than rounding explains.
    """
    options.require_checkpoint(path)
    from minimoe.commands.compare_libraries import compare_libraries

    report = compare_libraries(path, device=device, log=lambda line: click.echo(line, err=True))
    click.echo(str(report))
    if report.faults:
        click.get_current_context().exit(FAULT_FOUND)
