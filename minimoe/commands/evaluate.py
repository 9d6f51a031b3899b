"""`minimoe evaluate`: measure a checkpoint that was trained on the generated corpus."""

import json

import click

from minimoe.atomic import check_writable
from minimoe.commands import options


@click.command()
@click.argument("path")
@click.option("--out", metavar="FILE", default="report.json", show_default=True, help="Report to write.")
@click.option("--count", type=click.IntRange(min=1, max=options.MOST), default=500, show_default=True,
              help="Questions of each kind and mode.")  # fmt: skip
@click.option("--dense", metavar="PATH", help="Run of the dense twin, trained on the same batches, for comparison.")
def evaluate(path: str, out: str, count: int, dense: str | None) -> None:
    """Measure a checkpoint trained on the generated corpus.

    Writes a report: held-out losses, specialisation of the experts, right answers by task with and without thinking.
    """
    options.require_checkpoint(path)
    check_writable(out, "--out")
    from minimoe.training.evaluation.evaluate import evaluate as evaluate_checkpoint

    report = evaluate_checkpoint(path, out, count, dense)
    click.echo(json.dumps(report, indent=1, ensure_ascii=False))
