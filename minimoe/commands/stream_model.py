"""What `--ram` does: open a model that stays on disk, say what it is about to read, and in the end what it has read."""

from collections.abc import Iterator
from contextlib import contextmanager

import click

from minimoe.commands.terminal import is_interactive, refuse
from minimoe.humanize import duration, parse_bytes, units
from minimoe.scale.distributed.process_group import under_torchrun
from minimoe.scale.streaming.budget import Budget
from minimoe.scale.streaming.statistics import StreamStatistics
from minimoe.scale.streaming.stream import StreamedTransformer, stream
from minimoe.text.generate import prompt_ids
from minimoe.text.tokenizer import Tokenizer

QUESTION = 32  # tokens that a question is taken to have, before it is typed
ASK_FROM = 120  # seconds
STATED_SPEEDS = {False: (500_000_000, "a SATA disk"), True: (12_500_000, "a network of 100 Mbit/s")}


@contextmanager
def streamed_model(
    path: str, ram: str, dtype: str | None, device: str, context: int | None, layers: range | None = None,
    text: str | None = None, answer: int | None = None, thinking: bool | None = None, yes: bool = False,
) -> Iterator[tuple[StreamedTransformer, Tokenizer, None]]:  # fmt: skip
    """The model and its tokenizer, for the time of the block (None stands for the ranks, of which there is one).

    text: what goes through it first, if that is known. answer: tokens that it may be answered with, in the chat
    template; None: only the routing of the text is wanted, so the experts of the last layer are not read.
    Tells on stderr what will be read and how long that takes, and asks before more than two minutes, unless `yes`.
    """
    if under_torchrun():
        refuse("--ram is for a single process; under torchrun every rank loads its part.")
    if device != "cpu":
        refuse(f"--ram computes on the CPU, but --device is {device!r}. Leave one of them out.")
    size, is_chat = parse_bytes(ram, "--ram"), answer is not None
    model, tokenizer = stream(path, size, layers, dtype, routing_only=not is_chat, context=context)
    tokens = QUESTION
    if text is not None:
        tokens = len(prompt_ids(tokenizer, [{"role": "user", "content": text}] if is_chat else text, thinking))
        refuse_too_long(model.budget, tokens, answer or 0, ram)
    speed, source = speed_of(model)
    for line in announcement(model.streaming, tokens, is_chat, text is not None, speed, source):
        click.echo(line, err=True)
    seconds = model.budget.prefill_seconds(tokens, speed)
    if seconds > ASK_FROM and not yes and is_interactive():
        click.confirm(f"This takes about {duration(seconds)} before the first token. Go on?", abort=True, err=True)
    try:
        yield model, tokenizer, None
    finally:
        click.echo(str(model.streaming), err=True)


def refuse_too_long(plan: Budget, tokens: int, answer: int, ram: str) -> None:
    """Before anything is asked or read: is there room for the text and its answer?"""
    if tokens + answer > plan.context:
        room = plan.context - tokens
        mend = f"Take --max-new-tokens {room} or fewer, or more --ram" if 0 < room < answer else "Take more --ram"
        refuse(
            f"the text has {tokens:,} tokens and may be answered with {answer:,}, but --ram {ram} keeps room for "
            f"{plan.context:,} in all. {mend}; --context says how many to keep room for."
        )


def speed_of(model: StreamedTransformer) -> tuple[float, str]:
    """Bytes a second, and where that number is from."""
    measured = model.streaming.bytes_per_second
    if measured is not None:
        return measured, "as it was while opening: a guess"
    speed, name = STATED_SPEEDS[model.is_remote]
    return speed, f"assumed, {name}; too little was read to measure"


def announcement(
    seen: StreamStatistics, tokens: int, is_chat: bool, is_known: bool, speed: float, source: str
) -> Iterator[str]:
    """The lines before it starts."""
    plan = seen.budget
    yield f"memory: {division(plan)}"
    yield f"read while opening: headers {units(seen.header_bytes)}, norms and routers {units(seen.opening_bytes)}"
    parts = ", ".join(f"{name} {units(size)}" for name, size in plan.prefill_parts(tokens).items() if size)
    what = f"{tokens:,} tokens" if is_known else f"a question of {tokens} tokens"
    yield f"to read for {what}: {units(plan.prefill_bytes(tokens))} ({parts})"
    yield f"that takes {duration(plan.prefill_seconds(tokens, speed))} at {units(round(speed))}/s ({source})"
    if is_chat:
        seconds = duration(plan.token_seconds(speed))
        yield f"then for each token of the answer: {units(plan.token_bytes())}, {seconds}"
    if plan.experts:
        yield "(experts: if routers chose uniformly; real ones repeat themselves)"


def division(plan: Budget) -> str:
    """Who has the RAM."""
    layers = f"{plan.resident} of {len(plan.dense)} layers' attention"
    parts = {
        "norms and routers": plan.small,
        "lm_head": plan.head,
        layers: sum(plan.places[plan.shared :]),
        f"places where the others take turns ({plan.shared})": sum(plan.places[: plan.shared]),
        f"{plan.slots:,} of {plan.experts:,} experts": plan.slots * plan.slot,
        f"KV cache of {plan.context:,} tokens": plan.cache,
        "work space": plan.work,
    }
    words = ", ".join(f"{name} {units(size)}" for name, size in parts.items() if size)
    return f"{units(plan.total)} of {units(plan.ram)}: {words}"
