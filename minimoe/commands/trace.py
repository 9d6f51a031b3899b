"""`minimoe trace`: run one text, or one question and its answer, and print the routing."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from minimoe.atomic import check_writable
from minimoe.commands import options
from minimoe.commands.terminal import refuse, table

if TYPE_CHECKING:
    from minimoe.model.transformer import Transformer
    from minimoe.routing.trace.trace import RoutingTrace
    from minimoe.text.tokenizer import Tokenizer


@click.command()
@click.argument("text", callback=options.plain_text)
@options.MODEL
@click.option("--layers", metavar="A:B", help="Load and run only layers A to B - 1; A is 0. [default: all]")
@click.option("--show", type=int, help="Layer to print. [default: the last recorded one]")
@click.option("--chat", is_flag=True, help="Trace TEXT as a question in the chat template, with its answer.")
@click.option("--thinking/--no-thinking", default=None, help="With --chat: turn thinking on or off.")
@click.option("--max-new-tokens", type=click.IntRange(min=1), default=256, show_default=True,
              help="With --chat: the longest answer, in tokens.")  # fmt: skip
@click.option("--out", metavar="FILE", help="Save the trace as safetensors.")
@click.option("--html", metavar="FILE", help="Write the explorer as one page that works offline.")
@click.option("--label", callback=options.plain_text,
              help='Description of the weights, such as "real weights" or "random"; stored in the trace.')  # fmt: skip
@options.DTYPE
@options.PRECISION
@options.DEVICE
@options.SPLIT
@options.RAM
@options.CONTEXT
@options.YES
def trace(
    text: str, model: str, layers: str | None, show: int | None, chat: bool, thinking: bool | None,
    max_new_tokens: int, out: str | None, html: str | None, label: str | None, dtype: str | None, device: str,
    precision: str | None, split: str, ram: str | None, context: int | None, yes: bool,
) -> None:  # fmt: skip
    """Show which experts each token of TEXT is routed to.

    Layer 0 of a model larger than the disk, from 150 MB of it:
    minimoe trace TEXT --model hf://Qwen/Qwen3-235B-A22B --layers 0:1 --ram 1GB
    """
    if not text:
        refuse("TEXT is empty, expected at least one character.")
    if thinking is not None and not chat:
        refuse("--thinking and --no-thinking require --chat: without it, TEXT is traced as given.")
    if chat and layers is not None:
        refuse("--layers and --chat exclude each other: an answer is generated, which needs all layers.")
    check_outputs(out, html)
    selected = options.parse_layers(layers)
    options.refuse_without_ram(ram, context)
    folder = options.require_checkpoint(model, may_be_remote=ram is not None)
    options.require_recorded(show, folder, selected)
    from minimoe.commands.load_model import Work, opened_model

    if label is None and Path(model).as_posix().rstrip("/").endswith("data/mini"):
        label = "mini checkpoint"
    work = Work(text, max_new_tokens if chat else None, thinking)
    opening: Any = opened_model(model, dtype, device, selected, split, precision, work)
    if ram is not None:
        from minimoe.commands.stream_model import streamed_model

        options.refuse_with_ram(precision)
        opening = streamed_model(model, ram, dtype, device, context, selected, work, yes)
    answer = None
    with opening as (transformer, tokenizer, ranks):
        recorded_layers = [layer for layer in transformer.layer_range if transformer.config.is_moe(layer)]
        if show is not None and recorded_layers and show not in recorded_layers:
            options.refuse_show(show, recorded_layers)
        if chat:
            recorded, answer = trace_chat(transformer, tokenizer, text, label, thinking, max_new_tokens)
        else:
            recorded = trace_text(transformer, tokenizer, text, label)
    if ranks is not None and not ranks.is_first:
        return
    layer = recorded_layers[-1] if show is None else show
    if out is not None:
        recorded.save(out)
    if html is not None:
        from minimoe.routing.explorer.export import export_html

        state = {"layer": recorded_layers.index(layer)}
        export_html(recorded, html, title=f"Which experts? {shortened(text)}", state=state)
    print_layer(recorded, tokenizer, layer, label)
    if answer is not None:
        click.echo(f"answer: {printable(answer)}")
    for file in (out, html):
        if file is not None:
            click.echo(f"saved to {file}")


def check_outputs(out: str | None, html: str | None) -> None:
    """Check that --out and --html can be written, and are two files."""
    for option, file in (("--out", out), ("--html", html)):
        if file is not None:
            check_writable(file, option)
    if out is not None and html is not None and os.path.realpath(out) == os.path.realpath(html):
        refuse(f"--out and --html are both {html!r}. Give them different names.")


def trace_text(model: "Transformer", tokenizer: "Tokenizer", text: str, label: str | None) -> "RoutingTrace":
    """The routing of `text` as given; chat markup in it, such as `<|im_start|>`, is markup.

    A long text is run in chunks of `model.chunk` positions with a KV cache, so it needs no more work space than a
    prompt.
    """
    import torch

    from minimoe.routing.trace.trace import record_routing

    ids = torch.tensor([tokenizer.encode(text)])
    length = ids.shape[1]
    chunk_size = model.chunk or length
    with record_routing(model, tokenizer, label) as recorded, torch.inference_mode():
        cache = model.new_cache(capacity=length) if length > chunk_size else None
        for chunk in ids.split(chunk_size, dim=1):
            model(chunk, cache=cache, last_only=True)
    return recorded


def trace_chat(
    model: "Transformer", tokenizer: "Tokenizer", question: str, label: str | None, thinking: bool | None, most: int
) -> tuple["RoutingTrace", str]:
    """The routing of a question in the checkpoint's chat template and of its greedy answer; and the answer.

    Up to `most` tokens are generated; the last one is not run through the model, so it has no routing. Raises
    BadArgument for a partly loaded model, NoThinkingSwitch for a template without that switch.
    """
    from minimoe.routing.trace.trace import record_routing
    from minimoe.text.generate import generate

    messages = [{"role": "user", "content": question}]
    with record_routing(model, tokenizer, label) as recorded:
        answer = "".join(generate(model, tokenizer, messages, max_new_tokens=most, thinking=thinking, temperature=0))
    return recorded, answer


def print_layer(trace: "RoutingTrace", tokenizer: "Tokenizer", layer: int, label: str | None) -> None:
    """Print the routing of one layer as a table with a row for each token."""
    layers = trace.layers.tolist()
    index = layers.index(layer)
    rows = [("token", "text", f"experts of layer {layer}, by falling weight", "margin")]
    for position, token in enumerate(trace.tokens.tolist()):
        experts = " ".join(f"{expert:3d}" for expert in trace.experts[index, position].tolist())
        margin = f"{trace.margins[index, position]:.3f}"
        rows.append((str(position), printable(tokenizer.token(token)), experts, margin))
    click.echo(table(rows, right=(True, False, False, True)))
    click.echo(f"{len(layers)} layers, {len(trace)} tokens, weights: {label or 'unlabelled (set --label)'}")
    click.echo("margin: router logit of the last selected expert minus that of the first one left out")


def printable(text: str) -> str:
    """A token's text without line breaks or control characters, for a table."""
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text).replace(" ", "·")


def shortened(text: str, most: int = 60) -> str:
    """The beginning of a text, on one line, for a title."""
    line = " ".join(text.split())
    return line if len(line) <= most else line[: most - 1] + "…"
