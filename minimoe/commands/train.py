"""`minimoe train`: train a small model from scratch."""

import os
from pathlib import Path
from typing import Any

import click

from minimoe.atomic import check_folder_writable, check_writable
from minimoe.commands import options
from minimoe.model.config import ModelConfig
from minimoe.paths import find
from minimoe.scale.distributed.environment import read_environment, under_torchrun

FILES = ("training_state.safetensors", "history.json", "learning_curve.html")
FOLDERS = ("history", "checkpoint")


@click.command()
@click.option("--config", default="data/mini", show_default=True, help="A config.json, or its folder.")
@click.option("--corpus", help="Folder of text files. [default: the generated corpus]")
@click.option("--out", default="runs/mini", show_default=True, help="Folder for training state, history and "
              "checkpoint.")  # fmt: skip
@click.option("--tokenizer", default="data/mini", show_default=True, help="Folder with a tokenizer.json.")
@click.option("--steps", type=click.IntRange(min=1, max=options.MOST), help="Updates. [default: the recipe's]")
@click.option("--seed", type=options.SEED, default=0, show_default=True, help="Seed of the weights and of the batches.")
@click.option("--resume", is_flag=True, help="Resume the run in --out.")
@click.option("--dense-twin", is_flag=True, help="Train the dense model with the same active size instead.")
@options.DEVICE
def train(config: str, dense_twin: bool, **arguments: Any) -> None:
    """Train a small model from scratch.

    With several processes, each takes a part of every batch: torchrun --nproc-per-node 2 -m minimoe train. The folder
    --out receives the weights in checkpoint/, a learning curve, and the state for --resume.
    """
    sizes = ModelConfig.from_file(find(config))
    check_before_training(arguments["out"], arguments["tokenizer"], arguments["device"])
    from minimoe.training.evaluation.dense_twin import dense_twin as twin_of
    from minimoe.training.loop import train as run_training

    run_training(twin_of(sizes) if dense_twin else sizes, **arguments)
    if os.environ.get("RANK", "0") == "0":
        out = Path(arguments["out"])
        click.echo(f"weights in {out / 'checkpoint'}, curves in {out / 'learning_curve.html'}")


def check_before_training(out: str, tokenizer: str, device: str) -> None:
    """Check before hours of work that the variables of torchrun are complete, every file of the run can be written, the
    device exists, and the tokenizer loads.

    Raises BadArgument, BadTokenizer, WriteFailed.
    """
    if under_torchrun():
        read_environment()
    if os.environ.get("RANK", "0") == "0":  # only the first process writes
        folder = check_folder_writable(out, "--out")
        if folder.is_dir():
            for name in FILES:
                check_writable(folder / name, "--out")
            for name in FOLDERS:
                check_folder_writable(folder / name, "--out")
    from minimoe.checkpoint.load import check_device
    from minimoe.text.tokenizer import Tokenizer

    check_device(device)
    Tokenizer.from_directory(find(tokenizer))  # its files are copied into the checkpoint at the end of the run
