"""Loads the model of a command, in this process or divided among the processes of torchrun."""

import contextlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click
import torch

from minimoe.checkpoint.layout import expected_tensors
from minimoe.checkpoint.load import check_device, check_dtype, check_precision, load_model, read_tokenizer
from minimoe.checkpoint.open import open_checkpoint
from minimoe.checkpoint.resolve import find_checkpoint
from minimoe.humanize import units
from minimoe.model.checks import check_layers
from minimoe.model.config import ModelConfig
from minimoe.model.transformer import Transformer
from minimoe.scale.distributed.process_group import Ranks, joined, under_torchrun
from minimoe.scale.planner.load_time import SPEEDS
from minimoe.scale.planner.run_memory import out_of_memory_is_one_error, require_memory, run_memory
from minimoe.scale.streaming.budget import CONTEXT
from minimoe.text.generate import context_length, prompt_ids
from minimoe.text.tokenizer import Tokenizer

if TYPE_CHECKING:
    from minimoe.checkpoint.load import ModelPart


@dataclass(frozen=True)
class Work:
    """The use of a model, as far as it is known before loading; the required memory depends on it.

    text: the input; None: a conversation. answer: the most tokens to generate; None: the text is run as given, without
    the chat template. thinking: as for `generate`.
    """

    text: str | None = None
    answer: int | None = None
    thinking: bool | None = None

    def tokens(self, tokenizer: Tokenizer, config: ModelConfig) -> int:
        """Size of the KV cache in tokens. Raises BadArgument, NoThinkingSwitch."""
        if self.text is None:
            count = CONTEXT + (self.answer or 0)
        elif self.answer is None:
            count = len(prompt_ids(tokenizer, self.text))
        else:
            question = [{"role": "user", "content": self.text}]
            count = len(prompt_ids(tokenizer, question, self.thinking)) + self.answer
        return min(count, context_length(config))


@contextmanager
def opened_model(
    path: str, dtype: str | None, device: str, layers: range | None = None, split: str = "tensor",
    precision: str | None = None, work: Work | None = None,
) -> Iterator[tuple[Transformer, Tokenizer, Ranks | None]]:  # fmt: skip
    """The model, its tokenizer, and the ranks (None in a single process), for the duration of the block.

    Under torchrun each rank loads its part, and inside the block only rank 0 can print. Arguments as for
    `minimoe.load`; split: "tensor" or "layers"; work: the use of the model, by default a conversation.

    Raises the errors of `minimoe.load`; PlanTooBig before the first weight is read if weights, KV cache and work space
    exceed the free memory, and inside the block if memory runs out after all.
    """
    work = work or Work()
    if not under_torchrun():
        with out_of_memory_is_one_error():
            yield (*open_here(path, dtype, device, layers, precision, work), None)
        return
    with joined(device) as ranks, only_first_prints(ranks), out_of_memory_is_one_error():
        yield (*open_on_ranks(ranks, path, dtype, layers, split, precision, work), ranks)


def open_here(
    path: str, dtype: str | None, device: str, layers: range | None, precision: str | None, work: Work
) -> tuple[Transformer, Tokenizer]:
    """The whole model, in this process."""
    opened = open_checkpoint(find_checkpoint(path), layers)  # refuses an address: only local files are loaded
    config = opened.config
    wanted, chosen = check_precision(precision, dtype, config)
    where, layers = check_device(device), check_layers(config, layers)
    if where.type == "cuda" and where.index is not None:  # else code that uses the current GPU would open the first one
        torch.cuda.set_device(where)
    tokenizer = read_tokenizer(opened.folder, config)
    weights = sum(tensor.nbytes(chosen.itemsize) for tensor in expected_tensors(wanted, layers))
    need = run_memory(wanted, weights, work.tokens(tokenizer, config), chosen, layers, device=where)
    require_memory(need, where, way_out=", weights that stay on disk (--ram SIZE)" if where.type == "cpu" else "")
    return load_model(path, dtype=dtype, device=where, layers=layers, precision=precision), tokenizer


def open_on_ranks(
    ranks: Ranks, path: str, dtype: str | None, layers: range | None, split: str, precision: str | None, work: Work
) -> tuple[Transformer, Tokenizer]:
    """The part of this rank. Called by every rank; none reads weights before all have enough memory."""
    from minimoe.scale.distributed.load_shard import open_part, read_part, weight_bytes

    part = open_part(path, ranks.rank, ranks.world, split, layers, precision)
    ranks.agree("the checkpoint", part.fingerprint)
    tokenizer, chosen = read_tokenizer(part.opened.folder, part.config), check_dtype(dtype, part.config)
    tokens, weights = work.tokens(tokenizer, part.config), weight_bytes(part, dtype)
    need = run_memory(part.target, weights, tokens, chosen, part.layers, ranks.rank, ranks.world, split, ranks.device)
    require_memory(need, ranks.device, ranks.rank, ranks.world, ranks.local_world)
    ranks.wait_for_all("fits")  # on the CPU, weights read by one rank would count as used memory for the next
    announce(part, ranks.local_world)
    model = read_part(part, ranks.device, dtype, show=ranks.local_rank == 0, neighbours=ranks.local_world)
    ranks.wait_for_all("loaded")
    return model, tokenizer


@contextmanager
def only_first_prints(ranks: Ranks) -> Iterator[None]:
    """Discard the output of the other ranks; their errors are still reported (scale/distributed/watchdog.py)."""
    if ranks.is_first:
        yield
        return
    with open(os.devnull, "w") as null, contextlib.redirect_stdout(null), contextlib.redirect_stderr(null):
        yield


def announce(part: "ModelPart", neighbours: int) -> None:
    """Print how much will be read and how long that takes, unless it is short. `neighbours` ranks of this machine read
    from the same disk at the same time.
    """
    from minimoe.checkpoint.weights.fill import SHOW_PROGRESS_FROM

    if part.bytes < SHOW_PROGRESS_FROM:
        return
    times = (f"{part.bytes * neighbours / speed:,.0f} s from {name}" for name, speed in SPEEDS.items() if speed > 10**8)
    together = f"{units(part.bytes)}, {neighbours} ranks here together {units(part.bytes * neighbours)}"
    click.echo(f"rank 0 of {part.world} reads {together}: {'; '.join(times)}", err=True)
