"""`minimoe chat`: one answer, or a conversation."""

import os
import sys
from typing import Any

import click

from minimoe.commands import options
from minimoe.commands.soft_switch import split_switch
from minimoe.commands.terminal import refuse


@click.command()
@click.argument("prompt", required=False, callback=options.plain_text)
@options.MODEL
@click.option("--thinking/--no-thinking", default=None,
              help="Turn thinking on or off. [default: the chat template decides]")  # fmt: skip
@click.option("--max-new-tokens", type=click.IntRange(min=1), default=512, show_default=True,
              help="The longest answer, in tokens.")  # fmt: skip
@click.option("--temperature", type=float, callback=options.temperature,
              help="Sampling temperature; 0 selects the most likely token. [default: the checkpoint's "
              "own]")  # fmt: skip
@click.option("--seed", type=options.SEED, help="Seed of the sampling. The same seed repeats an answer on the same "
              "kind and number of devices.")  # fmt: skip
@options.DTYPE
@options.PRECISION
@options.DEVICE
@options.SPLIT
@options.RAM
@options.CONTEXT
@options.YES
def chat(
    prompt: str | None, model: str, dtype: str | None, precision: str | None, device: str, split: str, ram: str | None,
    context: int | None, yes: bool, **settings: Any,
) -> None:  # fmt: skip
    """Chat with a model.

    With a PROMPT, print one answer. Without, start a conversation: /think and /no_think turn thinking on and off,
    /clear starts a new conversation, Ctrl-D ends the program, Ctrl-C stops an answer.

    On several GPUs: torchrun --nproc-per-node 8 -m minimoe chat --model PATH --device cuda

    There, Ctrl-C stops the answer on all ranks before the next token, and the conversation continues; so does kill
    -INT with the process id of rank 0. Outside of a conversation (while the model is loaded, with a PROMPT, or without
    a terminal) Ctrl-C reaches torchrun, which ends all ranks.
    """
    if prompt is not None:
        thinking, prompt = split_switch(prompt)
        settings["thinking"] = settings["thinking"] if thinking is None else thinking
        if not prompt.strip():
            refuse("PROMPT is empty, expected a question. Leave it out for a conversation.")
    elif sys.stdin is None and os.environ.get("RANK", "0") == "0":
        refuse("standard input is closed, so no question can be read from it. Give a PROMPT.")
    options.refuse_without_ram(ram, context)
    options.require_checkpoint(model, may_be_remote=ram is not None)
    from minimoe.commands.conversation import Conversation
    from minimoe.commands.load_model import Work, opened_model

    work = Work(prompt, settings["max_new_tokens"], settings["thinking"])
    opening: Any = opened_model(model, dtype, device, split=split, precision=precision, work=work)
    if ram is not None:
        from minimoe.commands.stream_model import streamed_model

        options.refuse_with_ram(precision)
        opening = streamed_model(model, ram, dtype, device, context, None, work, yes)
    with opening as (transformer, tokenizer, ranks):
        conversation = Conversation(transformer, tokenizer, settings, ranks)
        if prompt is None:
            conversation.loop()
        else:
            conversation.answer(prompt)
