"""`minimoe plan`: the sizes of a model, and what it runs on."""

import json

import click

from minimoe.commands.terminal import refuse
from minimoe.errors import BadArgument, NotFound
from minimoe.humanize import parse_bytes
from minimoe.model.config import ModelConfig
from minimoe.paths import find
from minimoe.scale.planner.deployment import deploy
from minimoe.scale.planner.gpus import Card, find_card
from minimoe.scale.planner.model_size import plan as plan_sizes
from minimoe.scale.planner.precision import KV_PRECISIONS, PRECISIONS, SIZE_ONLY
from minimoe.scale.planner.report import as_dict
from minimoe.scale.planner.sharding import EXPERT_SPLITS, SPLITS


@click.command()
@click.argument("name_or_path")
@click.option("--precision", type=click.Choice((*PRECISIONS, *SIZE_ONLY)),
              help="Format of the weights. [default: the checkpoint's own]")  # fmt: skip
@click.option("--context", type=click.IntRange(min=0), help="Tokens in the KV cache. [default: the model's longest "
              "context]")  # fmt: skip
@click.option("--kv-precision", type=click.Choice(tuple(KV_PRECISIONS)), default="bf16", show_default=True,
              help="Format of the KV cache.")  # fmt: skip
@click.option("--devices", type=click.IntRange(min=1), help="Number of devices to divide the model among.")
@click.option("--device-memory", metavar="SIZE", help="Memory of each device: 80GB, 24564MiB, ...")
@click.option("--card", help="GPU model instead of --device-memory, such as H100 or RTX 4090; an unknown name lists "
              "all.")  # fmt: skip
@click.option("--split", type=click.Choice(SPLITS), default="tensor", show_default=True,
              help="Divide heads and experts among the devices, or layers.")  # fmt: skip
@click.option("--experts", type=click.Choice(EXPERT_SPLITS), default="whole", show_default=True,
              help="Place whole experts on a device, or a slice of each.")  # fmt: skip
@click.option("--serve", is_flag=True, help="Also print `vllm serve` commands for these cards. [default: for 4 and 8]")
@click.option("--json", "as_json", is_flag=True, help="Print counts and bytes as integers in JSON.")
def plan(
    name_or_path: str, precision: str | None, context: int | None, kv_precision: str, devices: int | None,
    device_memory: str | None, card: str | None, split: str, experts: str, serve: bool, as_json: bool,
) -> None:  # fmt: skip
    """Compute the size of a model, and what it can run on.

    NAME_OR_PATH is a known name, or a folder with a config.json. Prints parameters, bytes and KV cache; with --devices,
    --device-memory or --card also what each device holds, whether it fits, and what would.
    """
    from minimoe.commands.plan_report import deployment_report, serving_report, sizes_report
    from minimoe.scale.serving.vllm import Serving, vllm_commands

    local = find(name_or_path)
    try:
        config = ModelConfig.from_file(local) if local.exists() else ModelConfig.named(name_or_path)
    except BadArgument as error:
        raise NotFound(f"there is no folder {name_or_path!r}, and {error}") from error
    if card is not None and device_memory is not None:
        refuse("--card and --device-memory both set the memory of a device. Give one of them.")
    sizes = plan_sizes(config, context=context, precision=precision, name=name_or_path, kv_precision=kv_precision)
    known = find_card(card) if card is not None else None
    memory: Card | int | None = known
    if device_memory is not None:
        memory = parse_bytes(device_memory, "--device-memory")
    deployment = None
    if devices is not None or memory is not None:
        deployment = deploy(
            config, devices or 1, memory, sizes.precision, kv_precision, sizes.context, split, experts,
            name=name_or_path,
        )  # fmt: skip
    servers: tuple[Serving, ...] = ()
    if serve:
        if memory is None:
            refuse("--serve requires the memory of a device. Give --card H100, or --device-memory 80GB.")
        servers = vllm_commands(name_or_path, (devices,) if devices else (4, 8), memory)
    if as_json:
        content = sizes.to_dict() | ({"deployment": as_dict(deployment)} if deployment else {})
        content |= {"serve": [server.to_dict() for server in servers]} if serve else {}
        click.echo(json.dumps(content, indent=1))
        return
    lines = [*sizes_report(sizes), *(deployment_report(deployment, known.name if known else "") if deployment else ())]
    click.echo("\n".join([*lines, *serving_report(servers)]))
