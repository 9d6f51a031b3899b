"""Starts the ranks of `minimoe selfcheck`, without loading PyTorch: they load it themselves, each for seconds."""

import os
import signal
import subprocess
import sys

import click

from minimoe.errors import BadArgument


def compare_ranks(device: str | None, count: int | None, quick: bool = False) -> bool:
    """Run the comparison on the ranks of torchrun, or start `count` ranks here, and print a table.

    quick: plain weights in the most exact dtype only. Returns whether all ranks agree. Raises BadArgument without a GPU
    for "cuda".
    """
    if "RANK" in os.environ:
        from minimoe.commands.compare_ranks import check_here

        return check_here(device or found_device(), quick)
    device = device or found_device()
    count = count or (number_of_gpus() if device == "cuda" else 2)
    if count == 0:
        raise BadArgument("--device is 'cuda', but PyTorch finds no GPU here. Use --device cpu.")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(count)]
    command += ["-m", "minimoe", "selfcheck", "--device", device, *(["--quick"] if quick else [])]
    code, errors = run_process(command)
    if code:
        lines = [line for line in errors.splitlines() if line.startswith("minimoe:")]
        click.echo("\n".join(lines or [errors]), err=True)
    return code == 0


def found_device() -> str:
    """ "cuda" if PyTorch finds a GPU, else "cpu"."""
    return "cuda" if number_of_gpus() else "cpu"


def number_of_gpus() -> int:
    """As PyTorch counts them, which is loaded for it."""
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def run_process(command: list[str]) -> tuple[int, str]:
    """(exit code, stderr) of a process, which is terminated if this one is interrupted or gets SIGTERM."""
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    process = subprocess.Popen(
        command, env=os.environ | {"OMP_NUM_THREADS": "1"}, stderr=subprocess.PIPE, text=True
    )  # fmt: skip
    try:
        _, errors = process.communicate()
        return process.returncode, errors
    finally:
        if process.poll() is None:
            process.terminate()  # torchrun ends its ranks before it ends
            process.communicate()
        signal.signal(signal.SIGTERM, before)
