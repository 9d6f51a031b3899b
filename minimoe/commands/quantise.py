"""`minimoe quantise`: pack the weights of a checkpoint into fewer bits."""

from pathlib import Path

import click

from minimoe.atomic import check_folder_writable
from minimoe.commands import options
from minimoe.errors import BadArgument


@click.command()
@click.argument("path")
@click.option("--to", required=True, type=click.Choice(("int4", "int8")), help="Format of the packed linear layers.")
@click.option("--out", required=True, metavar="FOLDER", help="Folder to write.")
@click.option("--dry-run", is_flag=True, help="Check everything and print the sizes, but write nothing.")
@click.option("--replace", is_flag=True, help="Overwrite the checkpoint in --out.")
def quantise(path: str, to: str, out: str, dry_run: bool, replace: bool) -> None:
    """Pack a checkpoint into 4 or 8 bits a weight.

    Reads the checkpoint at PATH once, one matrix at a time. Router, norms, embedding and lm_head keep 16 bits.
    """
    options.require_checkpoint(path, may_be_remote=True)
    check_folder_writable(Path(out).expanduser(), "--out")
    from minimoe.checkpoint.quantise import carry_out, prepare

    job = prepare(path, to, out)
    click.echo(str(job))
    if dry_run:
        click.echo("nothing was written (--dry-run)")
        return
    if (job.out / "config.json").exists() and not replace:
        raise BadArgument(f"{job.out} already contains a checkpoint. Choose another --out, or pass --replace.")
    carry_out(job)
    click.echo(f"written to {job.out}; load it with minimoe.load({str(job.out)!r}) or --model {job.out}")
