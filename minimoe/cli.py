"""The command line: `minimoe --help`, or `python -m minimoe --help`.

Heavy imports wait inside the commands, so that help comes at once. Exit codes: 0; 1 when a check finds
a fault, or minimoe itself fails; 2 for bad input (with one line on stderr); 130 after Ctrl-C.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

import click

from minimoe import __version__
from minimoe.atomic import check_folder_writable, check_writable
from minimoe.commands import options
from minimoe.commands.soft_switch import split_switch
from minimoe.commands.terminal import FAULT_FOUND, OneLineGroup, open_closed_streams, refuse, table
from minimoe.commands.training import check_before_training
from minimoe.dtypes import DTYPE_NAMES
from minimoe.errors import BadArgument, NotFound
from minimoe.humanize import parse_bytes
from minimoe.model.config import ModelConfig
from minimoe.paths import find
from minimoe.scale.planner.deployment import deploy
from minimoe.scale.planner.gpus import Card, find_card
from minimoe.scale.planner.model_size import plan as size_up
from minimoe.scale.planner.precision import KV_PRECISIONS, PRECISIONS, SIZE_ONLY
from minimoe.scale.planner.report import as_dict
from minimoe.scale.planner.sharding import EXPERT_SPLITS, SPLITS

MODEL = click.option("--model", "-m", default="data/mini", show_default=True, help="A folder with a checkpoint.")
RAM = click.option("--ram", metavar="SIZE",
                   help="Leave the weights on disk and stay within so much memory, such as 12GB; then --model may also "
                   "be an address, https://host/folder/ or hf://owner/name.")  # fmt: skip
CONTEXT = click.option("--context", type=click.IntRange(min=1),
                       help="With --ram: tokens that memory is kept for. [default: 4096, or what fits]")  # fmt: skip
YES = click.option("--yes", is_flag=True, help="With --ram on a terminal: do not ask before more than two minutes of "
                   "reading.")  # fmt: skip
DEVICE = click.option("--device", default="cpu", show_default=True, callback=options.device,
                      help='Where to compute: "cpu", "cuda", "mps".')  # fmt: skip
SPLIT = click.option("--split", type=click.Choice(SPLITS), default="tensor", show_default=True,
                     help="Under torchrun: heads and experts on every rank, or a run of layers.")  # fmt: skip
PRECISION = click.option("--precision", type=click.Choice(("int4", "int8", "bf16")),
                         help="Pack the weights while they are loaded, or unpack packed ones. [default: as the files "
                         "have them]")  # fmt: skip
DTYPE = click.option("--dtype", type=click.Choice(DTYPE_NAMES), metavar="DTYPE",
                     help='"bf16", "fp32", ... instead of the checkpoint\'s own.')  # fmt: skip


@click.group(
    cls=OneLineGroup,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="minimoe")
@click.pass_context
def cli(context: click.Context) -> None:
    """A Qwen3 Mixture-of-Experts that you can read.

    A model is any folder in the Hugging Face layout; the small one in data/mini is used unless you name another.
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


@cli.command()
@click.argument("prompt", required=False, callback=options.plain_text)
@MODEL
@click.option(
    "--thinking/--no-thinking", default=None, help="Let it think aloud first, or not; default: as it was made."
)
@click.option("--max-new-tokens", type=click.IntRange(min=1), default=512, show_default=True)
@click.option("--temperature", type=float, callback=options.temperature, help="0 always takes the likeliest token.")
@click.option("--seed", type=options.SEED, help="The same seed draws the same answer on the same devices; other ones, "
              "or another number of them, round differently.")  # fmt: skip
@DTYPE
@PRECISION
@DEVICE
@SPLIT
@RAM
@CONTEXT
@YES
def chat(
    prompt: str | None, model: str, dtype: str | None, precision: str | None, device: str, split: str, ram: str | None,
    context: int | None, yes: bool, **settings: Any,
) -> None:  # fmt: skip
    """Talk with a model.

    With a PROMPT it answers once. Without, a conversation begins, in which /think and /no_think switch thinking on and
    off, /clear forgets what was said, and Ctrl-D ends; Ctrl-C stops an answer.

    On several GPUs: torchrun --nproc-per-node 8 -m minimoe chat --model PATH --device cuda

    There, Ctrl-C stops the answer on all ranks before its next token, and the conversation continues; kill -INT with
    the process number of rank 0 does the same. Outside of a conversation (while the model is loaded, with a PROMPT, or
    without a terminal) Ctrl-C reaches torchrun, which ends all ranks.
    """
    if prompt is not None:
        switched, prompt = split_switch(prompt)
        settings["thinking"] = settings["thinking"] if switched is None else switched
        if not prompt.strip():
            refuse("PROMPT is empty, expected a question. Leave it out for a conversation.")
    elif sys.stdin is None and os.environ.get("RANK", "0") == "0":
        refuse("standard input is closed, so no question can be read from it. Give a PROMPT.")
    refuse_without_ram(ram, context)
    options.require_checkpoint(model, may_be_remote=ram is not None)
    from minimoe.commands.chat import Conversation
    from minimoe.commands.load_model import Work, opened_model

    work = Work(prompt, settings["max_new_tokens"], settings["thinking"])
    opening: Any = opened_model(model, dtype, device, split=split, precision=precision, work=work)
    if ram is not None:
        from minimoe.commands.stream_model import streamed_model

        thinking, answer = settings["thinking"], settings["max_new_tokens"]
        refuse_with_ram(precision)
        opening = streamed_model(model, ram, dtype, device, context, None, prompt, answer, thinking, yes)
    with opening as (transformer, tokenizer, ranks):
        conversation = Conversation(transformer, tokenizer, settings, ranks)
        if prompt is None:
            conversation.loop()
        else:
            conversation.answer(prompt)


@cli.command()
@click.argument("text", callback=options.plain_text)
@MODEL
@click.option("--layers", metavar="A:B", help="Load and run only layers A to B - 1; A is 0. [default: all]")
@click.option("--show", type=int, help="The layer to print. [default: the last one recorded]")
@click.option("--chat", is_flag=True, help="TEXT is a question: trace it in the chat template, with its answer.")
@click.option("--thinking/--no-thinking", default=None, help="With --chat: let it think aloud first, or not.")
@click.option("--max-new-tokens", type=click.IntRange(min=1), default=256, show_default=True, help="With --chat.")
@click.option("--out", metavar="FILE", help="Save the trace here, as safetensors.")
@click.option("--html", metavar="FILE", help="Write the explorer here: one page, no network needed.")
@click.option("--label", callback=options.plain_text,
              help='What the weights are, such as "real weights" or "random"; kept in the trace.')  # fmt: skip
@DTYPE
@PRECISION
@DEVICE
@SPLIT
@RAM
@CONTEXT
@YES
def trace(
    text: str, model: str, layers: str | None, show: int | None, chat: bool, thinking: bool | None,
    max_new_tokens: int, out: str | None, html: str | None, label: str | None, dtype: str | None, device: str,
    precision: str | None, split: str, ram: str | None, context: int | None, yes: bool,
) -> None:  # fmt: skip
    """Run TEXT through a model and see which experts each token was sent to.

    Layer 0 of a model that is too large for any disk here, from 150 MB of it:
    minimoe trace TEXT --model hf://Qwen/Qwen3-235B-A22B --layers 0:1 --ram 1GB
    """
    if not text:
        refuse("TEXT is empty, expected at least one character.")
    if thinking is not None and not chat:
        refuse("--thinking and --no-thinking belong to --chat: without it, TEXT is traced as it stands.")
    if label is None and Path(model).as_posix().rstrip("/").endswith("data/mini"):
        label = "mini checkpoint"
    if chat and layers is not None:
        refuse("--layers is for a text as it stands: with --chat an answer is generated, which needs all layers.")
    answer, wanted = None, options.parse_layers(layers)
    for option, file in (("--out", out), ("--html", html)):
        if file is not None:
            check_writable(file, option)
    if None not in (out, html) and os.path.realpath(str(out)) == os.path.realpath(str(html)):
        refuse(f"--out and --html are both {html!r}. Give them different names.")
    refuse_without_ram(ram, context)
    folder = options.require_checkpoint(model, may_be_remote=ram is not None)
    options.require_recorded(show, folder, wanted)
    from minimoe.commands.load_model import Work, opened_model
    from minimoe.commands.trace import trace_chat, trace_text

    work = Work(text, max_new_tokens if chat else None, thinking)
    opening: Any = opened_model(model, dtype, device, wanted, split, precision, work)
    if ram is not None:
        from minimoe.commands.stream_model import streamed_model

        refuse_with_ram(precision)
        opening = streamed_model(model, ram, dtype, device, context, wanted, text, max_new_tokens if chat else None,
                                 thinking, yes)  # fmt: skip
    with opening as (transformer, tokenizer, ranks):
        numbers = [number for number in transformer.layer_range if transformer.config.is_moe(number)]
        if show is not None and numbers and show not in numbers:
            options.refuse_show(show, numbers)
        if chat:
            recorded, answer = trace_chat(transformer, tokenizer, text, label, thinking, max_new_tokens)
        else:
            recorded = trace_text(transformer, tokenizer, text, label)
    if ranks is not None and not ranks.is_first:
        return
    layer = numbers[-1] if show is None else show
    at = numbers.index(layer)
    if out is not None:
        recorded.save(out)
    if html is not None:
        from minimoe.routing.explorer.export import export_html

        export_html(recorded, html, title=f"Which experts? {shortened(text)}", state={"layer": at})
    rows = [("token", "text", f"experts of layer {layer}, by falling weight", "margin")]
    for token, number in enumerate(recorded.tokens.tolist()):
        experts = " ".join(f"{expert:3d}" for expert in recorded.experts[at, token].tolist())
        rows.append((str(token), printable(tokenizer.token(number)), experts, f"{recorded.margins[at, token]:.3f}"))
    click.echo(table(rows, right=(True, False, False, True)))
    click.echo(f"{len(numbers)} layers, {len(recorded)} tokens, weights: {label or 'not said, see --label'}")
    click.echo("margin: router logit of the last expert that was selected, minus that of the first one left out")
    if answer is not None:
        click.echo(f"answer: {printable(answer)}")
    for file in (out, html):
        if file is not None:
            click.echo(f"saved to {file}")


@cli.command()
@click.argument("name_or_path")
@click.option("--precision", type=click.Choice((*PRECISIONS, *SIZE_ONLY)),
              help="How the weights are stored. [default: as the checkpoint has them]")  # fmt: skip
@click.option("--context", type=click.IntRange(min=0), help="Tokens in the KV cache. [default: the longest context]")
@click.option("--kv-precision", type=click.Choice(tuple(KV_PRECISIONS)), default="bf16", show_default=True,
              help="How the KV cache is stored.")  # fmt: skip
@click.option("--devices", type=click.IntRange(min=1), help="Divide it among so many devices.")
@click.option("--device-memory", metavar="SIZE", help="Memory of each device: 80GB, 24564MiB, ...")
@click.option("--card", help="A common card instead, such as H100 or RTX 4090; a wrong name lists them.")
@click.option("--split", type=click.Choice(SPLITS), default="tensor", show_default=True,
              help="Heads and experts on every device, or a run of layers.")  # fmt: skip
@click.option("--experts", type=click.Choice(EXPERT_SPLITS), default="whole", show_default=True,
              help="Whole experts on a device, or a slice of each.")  # fmt: skip
@click.option("--serve", is_flag=True, help="Also the `vllm serve` commands for such cards. [4 and 8 of them]")
@click.option("--json", "as_json", is_flag=True, help="Raw integers: counts and bytes.")
def plan(
    name_or_path: str, precision: str | None, context: int | None, kv_precision: str, devices: int | None,
    device_memory: str | None, card: str | None, split: str, experts: str, serve: bool, as_json: bool,
) -> None:  # fmt: skip
    """How large is a model, and what does it run on?

    NAME_OR_PATH is a known name or a folder with a config.json. Prints parameters, bytes and KV cache; with --devices,
    --device-memory or --card also what each device holds, whether it fits, and what would.
    """
    from minimoe.commands.plan import deployment_report, serving_report, sizes_report
    from minimoe.scale.serving.vllm import vllm_commands

    local = find(name_or_path)
    try:
        config = ModelConfig.from_file(local) if local.exists() else ModelConfig.named(name_or_path)
    except BadArgument as error:
        raise NotFound(f"there is no folder {name_or_path!r}, and {error}") from error
    if card is not None and device_memory is not None:
        refuse("--card and --device-memory both say how much memory a device has. Give one of them.")
    sizes = size_up(config, context=context, precision=precision, name=name_or_path, kv_precision=kv_precision)
    known = find_card(card) if card is not None else None
    memory: Card | int | None = known
    if device_memory is not None:
        memory = parse_bytes(device_memory, "--device-memory")
    placed = None
    if devices is not None or memory is not None:
        placed = deploy(
            config, devices or 1, memory, sizes.precision, kv_precision, sizes.context, split, experts,
            name=name_or_path,
        )  # fmt: skip
    if serve and memory is None:
        refuse("--serve needs to know the cards. Give --card H100, or --device-memory 80GB.")
    cards = ((devices,) if devices else (4, 8)) if serve else ()
    servers = vllm_commands(name_or_path, cards, memory or 0) if serve else ()
    if as_json:
        content = sizes.to_dict() | ({"deployment": as_dict(placed)} if placed else {})
        content |= {"serve": [each.to_dict() for each in servers]} if serve else {}
        click.echo(json.dumps(content, indent=1))
        return
    lines = [*sizes_report(sizes), *(deployment_report(placed, known.name if known else "") if placed else ())]
    click.echo("\n".join([*lines, *serving_report(servers)]))


@cli.command()
@click.argument("path")
@click.option("--sha256", is_flag=True, help="Read every byte as well, and compare with the "
              "checksums that `hf download` left, or a FILE.sha256 beside the file.")  # fmt: skip
def verify(path: str, sha256: bool) -> None:
    """Is the checkpoint at PATH whole, and can it be loaded? Reads indexes, headers, and the small tensors that a load
    inspects (norms, routers, scales). Exit code 1 if something is wrong.

    PATH is a folder, or an address: https://host/folder/ or hf://owner/name. An interrupted --sha256 goes on where it
    stopped.
    """
    options.require_checkpoint(path, may_be_remote=True)
    from minimoe.checkpoint.verify import verify as examine

    report = examine(path, sha256=sha256)
    click.echo(str(report))
    if not report.ok:
        click.get_current_context().exit(FAULT_FOUND)


@cli.command()
@click.argument("path")
@click.option("--to", required=True, type=click.Choice(("int4", "int8")), help="What to pack linear layers into.")
@click.option("--out", required=True, metavar="FOLDER", help="The folder to write.")
@click.option("--dry-run", is_flag=True, help="Only check everything, and say what would be read and written.")
@click.option("--replace", is_flag=True, help="A checkpoint that is in --out already may go.")
def quantise(path: str, to: str, out: str, dry_run: bool, replace: bool) -> None:
    """Pack the checkpoint at PATH into 4 or 8 bits a weight, and write it to --out.

    Reads it once, with memory for one matrix. Router, norms, embedding and lm_head stay in 16 bits.
    """
    options.require_checkpoint(path, may_be_remote=True)
    check_folder_writable(Path(out).expanduser(), "--out")
    from minimoe.commands.quantise import run

    run(path, to, out, dry_run, replace, say=click.echo)


@cli.command()
@click.option("--config", default="data/mini", show_default=True, help="A config.json, or the folder that holds one.")
@click.option("--corpus", help="A folder of text files. [default: the generated corpus]")
@click.option("--out", default="runs/mini", show_default=True, help="Where training state, history and checkpoint go.")
@click.option("--tokenizer", default="data/mini", show_default=True, help="A folder with a tokenizer.json.")
@click.option("--steps", type=click.IntRange(min=1, max=options.MOST), help="How many updates. [default: the recipe's]")
@click.option("--seed", type=options.SEED, default=0, show_default=True)
@click.option("--resume", is_flag=True, help="Go on where the run in --out stopped.")
@click.option("--dense-twin", is_flag=True, help="Train the dense model of the same active size instead.")
@DEVICE
def train(config: str, dense_twin: bool, **arguments: Any) -> None:
    """Train a small model from scratch.

    Several processes, each with a part of every batch: torchrun --nproc-per-node 2 -m minimoe train. The folder --out
    gets the weights in checkpoint/, a learning curve to look at, and what --resume needs.
    """
    sizes = ModelConfig.from_file(find(config))
    check_before_training(arguments["out"], arguments["tokenizer"], arguments["device"])
    from minimoe.training.evaluation.dense_twin import dense_twin as twin_of
    from minimoe.training.loop import train as run

    run(twin_of(sizes) if dense_twin else sizes, **arguments)
    if os.environ.get("RANK", "0") == "0":
        out = Path(arguments["out"])
        click.echo(f"weights in {out / 'checkpoint'}, curves in {out / 'learning_curve.html'}")


@cli.command()
@click.argument("path")
@click.option("--out", metavar="FILE", default="report.json", show_default=True)
@click.option("--count", type=click.IntRange(min=1, max=options.MOST), default=500, show_default=True,
              help="Questions of each kind and mode.")  # fmt: skip
@click.option("--dense", metavar="PATH", help="The run of its dense twin, trained on the same batches, for comparison.")
def evaluate(path: str, out: str, count: int, dense: str | None) -> None:
    """Measure what a checkpoint of the small world can do, and write the report."""
    options.require_checkpoint(path)
    check_writable(out, "--out")
    from minimoe.training.evaluation.evaluate import evaluate as measure

    report = measure(path, out, count, dense)
    click.echo(json.dumps(report, indent=1, ensure_ascii=False))


@cli.command()
@click.option("--ranks", type=click.IntRange(min=1, max=256),
              help="How many processes to start. [default: one a GPU, or 2]")  # fmt: skip
@click.option("--device", type=click.Choice(("cpu", "cuda")), help="[default: cuda where there is one]")
def selfcheck(ranks: int | None, device: str | None) -> None:
    """Do several ranks compute what one computes? A tiny model tells, in seconds. Exit code 1 if not.

    On several machines start it by torchrun on each: torchrun ... -m minimoe selfcheck
    """
    from minimoe.commands.selfcheck import selfcheck as check

    if not check(device, ranks):
        click.get_current_context().exit(FAULT_FOUND)


@cli.command("check-real")
@click.argument("path")
@DEVICE
def check_real(path: str, device: str) -> None:
    """Run the checkpoint at PATH through transformers and minimoe, and report where they differ.

    Same tokens for both, in the checkpoint's own dtype and, if memory permits, in float32. Exit code 1 if they differ
    by more than rounding explains.
    """
    options.require_checkpoint(path)
    from minimoe.commands.check_real import check_real as compare

    report = compare(path, device=device, say=lambda line: click.echo(line, err=True))
    click.echo(str(report))
    if report.faults:
        click.get_current_context().exit(FAULT_FOUND)


def refuse_with_ram(precision: str | None) -> None:
    """What stays on disk stays as it is there."""
    if precision is not None:
        refuse("--ram takes the weights as the files have them. Pack them once with: minimoe quantise PATH --to int4")


def refuse_without_ram(ram: str | None, context: int | None) -> None:
    """A loaded model makes room for what it is asked."""
    if ram is None and context is not None:
        refuse("--context belongs to --ram: without it, memory is taken as it is needed.")


def printable(text: str) -> str:
    """A token's text without line breaks or control characters, for a table."""
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text).replace(" ", "·")


def shortened(text: str, most: int = 60) -> str:
    """The beginning of a text, on one line, for a title."""
    line = " ".join(text.split())
    return line if len(line) <= most else line[: most - 1] + "…"


def main() -> None:
    """The entry point."""
    open_closed_streams()
    cli(prog_name="minimoe")
