"""`minimoe verify`: check a checkpoint without loading it."""

import click

from minimoe.commands import options
from minimoe.commands.terminal import FAULT_FOUND


@click.command()
@click.argument("path")
@click.option("--sha256", is_flag=True, help="Also read every byte and compare it with the checksums that "
              "`hf download` stored, or with FILE.sha256 beside each file.")  # fmt: skip
def verify(path: str, sha256: bool) -> None:
    """Check that a checkpoint is complete and can be loaded.

    Reads indexes, headers, and the small tensors that a load inspects (norms, routers, scales). Exit code 1 if
    something is wrong.

    PATH is a folder, or an address: https://host/folder/ or hf://owner/name. An interrupted --sha256 run resumes where
    it stopped.
    """
    options.require_checkpoint(path, may_be_remote=True)
    from minimoe.checkpoint.verify import verify as verify_checkpoint

    report = verify_checkpoint(path, sha256=sha256)
    click.echo(str(report))
    if not report.ok:
        click.get_current_context().exit(FAULT_FOUND)
