"""The model that a command works with: in this process, or divided among the processes that torchrun started."""

import contextlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from minimoe.checkpoint.read import load, read_tokenizer
from minimoe.model.transformer import Transformer
from minimoe.scale.ranks import Ranks, joined, under_torchrun
from minimoe.scale.read_time import SPEEDS
from minimoe.scale.units import units
from minimoe.text.tokenizer import Tokenizer

if TYPE_CHECKING:
    from minimoe.scale.rank_load import RankPart


@contextmanager
def opened_model(
    path: str, dtype: str | None, device: str, layers: range | None = None, split: str = "tensor",
    precision: str | None = None,
) -> Iterator[tuple[Transformer, Tokenizer, Ranks | None]]:  # fmt: skip
    """The model and its tokenizer, for the time of the block; and the ranks, or None in a single process.

    Under torchrun each rank loads its part, and inside the block only rank 0 can print. Arguments as for
    `minimoe.load`; split: "tensor" or "layers".
    """
    if not under_torchrun():
        yield (*load(path, dtype=dtype, device=device, layers=layers, precision=precision), None)
        return
    from minimoe.scale.rank_load import open_part, read_part

    with joined(device) as ranks, only_first_prints(ranks):
        part = open_part(path, ranks.rank, ranks.world, split, layers, precision)
        ranks.agree("the checkpoint", part.fingerprint)
        tokenizer = read_tokenizer(part.opened.folder, part.config)
        announce(part, ranks.local_world)
        model = read_part(part, ranks.device, dtype, show=ranks.local_rank == 0, neighbours=ranks.local_world)
        ranks.wait_for_all("loaded")
        yield model, tokenizer, ranks


@contextmanager
def only_first_prints(ranks: Ranks) -> Iterator[None]:
    """What the other ranks print goes nowhere; why a rank failed is told all the same (rank_watch.py)."""
    if ranks.is_first:
        yield
        return
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
        yield


def announce(part: "RankPart", neighbours: int) -> None:
    """How much is read, and how long that takes, before it begins; nothing of what takes no time. The ranks of a
    machine, `neighbours`, read at the same time from the same disk.
    """
    from minimoe.scale.rank_fill import SHOW_PROGRESS_FROM

    if part.bytes < SHOW_PROGRESS_FROM:
        return
    times = (f"{part.bytes * neighbours / speed:,.0f} s from {name}" for name, speed in SPEEDS.items() if speed > 10**8)
    together = f"{units(part.bytes)}, {neighbours} ranks here together {units(part.bytes * neighbours)}"
    click.echo(f"rank 0 of {part.world} reads {together}: {'; '.join(times)}", err=True)
