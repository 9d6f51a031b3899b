"""`--ram`: stream the weights from disk, with an estimate of the reads before and statistics after."""

from collections.abc import Iterator
from contextlib import contextmanager

import click

from minimoe.commands.load_model import Work
from minimoe.commands.terminal import is_interactive, refuse
from minimoe.humanize import duration, parse_bytes, units
from minimoe.scale.distributed.process_group import under_torchrun
from minimoe.scale.streaming.budget import Budget
from minimoe.scale.streaming.statistics import StreamStatistics
from minimoe.scale.streaming.stream import StreamedTransformer, stream
from minimoe.text.generate import prompt_ids
from minimoe.text.tokenizer import Tokenizer

QUESTION = 32  # assumed length of a question that is not known yet, in tokens
ASK_FROM = 120  # seconds; longer reads are confirmed first
STATED_SPEEDS = {False: (500_000_000, "a SATA disk"), True: (12_500_000, "a network of 100 Mbit/s")}


@contextmanager
def streamed_model(
    path: str, ram: str, dtype: str | None, device: str, context: int | None, layers: range | None, work: Work,
    yes: bool = False,
) -> Iterator[tuple[StreamedTransformer, Tokenizer, None]]:  # fmt: skip
    """The model, its tokenizer, and None for the ranks, for the duration of the block.

    work: the use of the model; without an answer only routing is recorded, so the experts of the last layer are not
    read. Prints on stderr how much will be read and how long that takes, and asks for confirmation if that is more than
    two minutes, unless `yes`.
    """
    if under_torchrun():
        refuse("--ram is for a single process; under torchrun every rank loads its part.")
    if device != "cpu":
        refuse(f"--ram computes on the CPU, but --device is {device!r}. Leave one of them out.")
    text, answer = work.text, work.answer
    size, is_chat = parse_bytes(ram, "--ram"), answer is not None
    model, tokenizer = stream(path, size, layers, dtype, routing_only=not is_chat, context=context)
    tokens = QUESTION
    if text is not None:
        tokens = len(prompt_ids(tokenizer, [{"role": "user", "content": text}] if is_chat else text, work.thinking))
        refuse_too_long(model.budget, tokens, answer or 0, ram)
    speed, source = speed_of(model)
    for line in announcement(model.streaming, tokens, is_chat, text is not None, speed, source):
        click.echo(line, err=True)
    seconds = model.budget.prefill_seconds(tokens, speed)
    if seconds > ASK_FROM and not yes and is_interactive():
        click.confirm(f"This takes about {duration(seconds)} before the first token. Continue?", abort=True, err=True)
    try:
        yield model, tokenizer, None
    finally:
        click.echo(str(model.streaming), err=True)


def refuse_too_long(plan: Budget, tokens: int, answer: int, ram: str) -> None:
    """Refuse a text that does not fit into the KV cache with its answer, before anything is read."""
    if tokens + answer > plan.context:
        left = plan.context - tokens
        fix = f"Use --max-new-tokens {left} or fewer, or a larger --ram" if 0 < left < answer else "Use a larger --ram"
        refuse(
            f"the text has {tokens:,} tokens and its answer up to {answer:,}, but with --ram {ram} the KV cache holds "
            f"{plan.context:,}. {fix}; --context sets the size of the cache."
        )


def speed_of(model: StreamedTransformer) -> tuple[float, str]:
    """(bytes per second, source of that number)."""
    measured = model.streaming.bytes_per_second
    if measured is not None:
        return measured, "estimated from opening the model"
    speed, name = STATED_SPEEDS[model.is_remote]
    return speed, f"assumed, {name}; too little was read to measure"


def announcement(
    seen: StreamStatistics, tokens: int, is_chat: bool, is_known: bool, speed: float, source: str
) -> Iterator[str]:
    """The lines printed before the first read."""
    plan = seen.budget
    yield f"memory: {division(plan)}"
    yield f"read while opening: headers {units(seen.header_bytes)}, norms and routers {units(seen.opening_bytes)}"
    parts = ", ".join(f"{name} {units(size)}" for name, size in plan.prefill_parts(tokens).items() if size)
    prompt = f"{tokens:,} tokens" if is_known else f"a question of {tokens} tokens"
    yield f"to read for {prompt}: {units(plan.prefill_bytes(tokens))} ({parts})"
    yield f"that takes {duration(plan.prefill_seconds(tokens, speed))} at {units(round(speed))}/s ({source})"
    if is_chat:
        seconds = duration(plan.token_seconds(speed))
        yield f"then for each token of the answer: {units(plan.token_bytes())}, {seconds}"
    if plan.experts:
        yield "(experts: assuming uniform routing; real routing repeats experts)"


def division(plan: Budget) -> str:
    """The memory budget and its parts."""
    layers = f"{plan.resident} of {len(plan.dense)} layers' attention"
    parts = {
        "norms and routers": plan.small,
        "lm_head": plan.head,
        layers: sum(plan.places[plan.shared :]),
        f"{plan.shared} shared buffers for the other layers": sum(plan.places[: plan.shared]),
        f"{plan.slots:,} of {plan.experts:,} experts": plan.slots * plan.slot,
        f"KV cache of {plan.context:,} tokens": plan.cache,
        "work space": plan.work,
    }
    words = ", ".join(f"{name} {units(size)}" for name, size in parts.items() if size)
    return f"{units(plan.total)} of {units(plan.ram)}: {words}"
