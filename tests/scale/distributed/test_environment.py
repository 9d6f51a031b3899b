"""The rank of a process is read from the environment; missing or invalid variables are refused in one line."""

import os
import re

import pytest
from click.testing import CliRunner

from minimoe.cli import cli
from minimoe.errors import BadArgument
from minimoe.scale.distributed.environment import RankEnvironment, read_environment, under_torchrun

VARIABLES = {"RANK": "1", "WORLD_SIZE": "4", "MASTER_ADDR": "node0", "MASTER_PORT": "29500"}


def test_a_single_process_is_not_under_torchrun(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RANK", raising=False)
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert not under_torchrun()
    monkeypatch.setenv("RANK", "0")
    assert not under_torchrun()
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert not under_torchrun()
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert under_torchrun()


def test_a_rank_is_read_from_the_environment() -> None:
    assert read_environment(VARIABLES) == RankEnvironment(1, 4, 1, 4, "node0", 29500)
    local = {"LOCAL_WORLD_SIZE": "2", "LOCAL_RANK": "0"}
    assert read_environment(VARIABLES | local) == RankEnvironment(1, 4, 0, 2, "node0", 29500)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"MASTER_ADDR": None}, "RANK, WORLD_SIZE, MASTER_PORT are set, but MASTER_ADDR is not"),
        ({"MASTER_ADDR": None, "MASTER_PORT": None}, "RANK, WORLD_SIZE are set, but MASTER_ADDR, MASTER_PORT are not"),
        ({"WORLD_SIZE": None}, "RANK, MASTER_ADDR, MASTER_PORT are set, but WORLD_SIZE is not"),
        (dict.fromkeys(VARIABLES), "RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT are not"),
        ({"RANK": "abc"}, "RANK is 'abc', expected a whole number from 0 to 3"),
        ({"RANK": "4"}, "RANK is 4, expected a whole number from 0 to 3"),
        ({"RANK": "-1"}, "RANK is '-1', expected a whole number from 0 to 3"),
        ({"WORLD_SIZE": ""}, "WORLD_SIZE is '', expected a whole number from 1 up"),
        ({"WORLD_SIZE": "two"}, "WORLD_SIZE is 'two', expected a whole number from 1 up"),
        ({"WORLD_SIZE": "0"}, "WORLD_SIZE is 0, expected a whole number from 1 up"),
        ({"WORLD_SIZE": "²"}, "WORLD_SIZE is '²', expected a whole number from 1 up"),
        ({"MASTER_ADDR": " "}, "MASTER_ADDR is empty"),
        ({"MASTER_PORT": "http"}, "MASTER_PORT is 'http', expected a whole number from 1 to 65535"),
        ({"MASTER_PORT": "70000"}, "MASTER_PORT is 70000, expected a whole number from 1 to 65535"),
        ({"LOCAL_RANK": "x"}, "LOCAL_RANK is 'x', expected a whole number from 0 to 3"),
        ({"LOCAL_WORLD_SIZE": "5"}, "LOCAL_WORLD_SIZE is 5, expected a whole number from 1 to 4"),
        ({"LOCAL_WORLD_SIZE": "2", "LOCAL_RANK": "2"}, "LOCAL_RANK is 2, expected a whole number from 0 to 1"),
    ],
)
def test_an_incomplete_environment_is_one_line(
    change: dict[str, str | None], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (*VARIABLES, "LOCAL_RANK", "LOCAL_WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in (VARIABLES | change).items():
        if value is not None:
            monkeypatch.setenv(name, value)
    with pytest.raises(BadArgument, match=re.escape(message)):
        read_environment()
    if "RANK" not in os.environ:
        return
    done = CliRunner().invoke(cli, ["selfcheck", "--device", "cpu"])
    assert (done.exit_code, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert message in done.stderr


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"RANK": "0", "WORLD_SIZE": "two"}, "WORLD_SIZE is 'two'"),
        ({"RANK": "x", "WORLD_SIZE": "2"}, "RANK is 'x'"),
        ({"RANK": "2", "WORLD_SIZE": "2"}, "RANK is 2, expected a whole number from 0 to 1"),
        ({"WORLD_SIZE": "2"}, "WORLD_SIZE is 2, but RANK is not set"),
    ],
)
def test_whether_there_are_other_ranks_is_not_guessed(environment: dict[str, str], message: str) -> None:
    with pytest.raises(BadArgument, match=re.escape(message)):
        under_torchrun(environment)
