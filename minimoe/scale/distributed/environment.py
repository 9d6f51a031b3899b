"""The rank of this process, from the environment variables that torchrun or a scheduler sets.

    RANK, WORLD_SIZE               number of this process, and of all processes
    MASTER_ADDR, MASTER_PORT       address of the store through which they connect
    LOCAL_RANK, LOCAL_WORLD_SIZE   the same on this machine; by default all processes run on one machine

Source: https://docs.pytorch.org/docs/stable/elastic/run.html, "Environment Variables".
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NoReturn

from minimoe.errors import BadArgument

REQUIRED = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


@dataclass(frozen=True)
class RankEnvironment:
    """The rank of this process, and the address of the store."""

    rank: int
    world: int
    local_rank: int
    local_world: int
    host: str
    port: int


def under_torchrun(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether this process is one of several. Raises BadArgument if the variables are contradictory or not numbers."""
    if "RANK" not in environment and "WORLD_SIZE" not in environment:
        return False
    world = number("WORLD_SIZE", environment, 1) if "WORLD_SIZE" in environment else 1
    if "RANK" in environment:
        number("RANK", environment, 0, world)
    elif world > 1:
        refuse(f"WORLD_SIZE is {world}, but RANK is not set, so the rank of this process is unknown")
    return world > 1


def read_environment(environment: Mapping[str, str] = os.environ) -> RankEnvironment:
    """Read and check the variables. Raises BadArgument, with the names of those that are missing or invalid."""
    absent = [name for name in REQUIRED if name not in environment]
    if absent:
        present = [name for name in REQUIRED if name in environment]
        those_set = f"{', '.join(present)} {'is' if len(present) == 1 else 'are'} set, but " if present else ""
        refuse(f"{those_set}{', '.join(absent)} {'is' if len(absent) == 1 else 'are'} not")
    world = number("WORLD_SIZE", environment, 1)
    rank = number("RANK", environment, 0, world)
    local_world = number("LOCAL_WORLD_SIZE", environment, 1, world + 1, default=world)
    local_rank = number("LOCAL_RANK", environment, 0, local_world, default=rank % local_world)
    port = number("MASTER_PORT", environment, 1, 2**16)
    host = environment["MASTER_ADDR"].strip()
    if not host:
        refuse("MASTER_ADDR is empty, expected the address of the machine that has rank 0")
    return RankEnvironment(rank, world, local_rank, local_world, host, port)


def number(
    name: str, environment: Mapping[str, str], least: int, below: int | None = None, default: int | None = None
) -> int:
    """The value of a variable as a whole number with least <= value < below."""
    text = environment.get(name)
    if text is None and default is not None:
        return default
    expected = f"expected a whole number {f'from {least} to {below - 1}' if below else f'from {least} up'}"
    if text is None or not (text.isascii() and text.isdigit()):
        refuse(f"{name} is {text!r}, {expected}")
    value = int(text)
    if value < least or (below is not None and value >= below):
        refuse(f"{name} is {value}, {expected}")
    return value


def refuse(problem: str) -> NoReturn:
    """Raise BadArgument, with the fix that all of these problems share."""
    raise BadArgument(
        f"environment: {problem}. Start the ranks with torchrun, which sets {', '.join(REQUIRED)}, or unset RANK and "
        "WORLD_SIZE to run a single process."
    )
