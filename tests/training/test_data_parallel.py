"""Two processes train the same model as one."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from minimoe.errors import BadArgument
from minimoe.model.transformer import Transformer
from minimoe.training.corpus.batches import Batch
from minimoe.training.data_parallel import Ranks, processes, ranks
from minimoe.training.loop import train
from minimoe.training.state import read_state
from tests.training.test_loop import CONFIG, QUICK

# Without the balancing loss, which looks at each process's tokens alone, and with rows that are full.
ALONE = replace(CONFIG, router_aux_loss_coef=0.0)
TORCHRUN = {"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}
FEW = replace(QUICK, steps=3, rows=4, row_length=32, snapshots=0)
SCRIPT = """
import sys
from tests.training.test_data_parallel import ALONE, FEW
from minimoe.training.loop import train
train(ALONE, corpus=sys.argv[1], out=sys.argv[2], settings=FEW)
"""


def test_two_processes_reach_the_weights_of_one(tmp_path: Path) -> None:
    words = tmp_path / "words"
    words.mkdir()
    (words / "a.txt").write_text(
        "".join(f"{number} birds. {number}只鸟。\n" for number in range(900)), encoding="utf-8"
    )
    (tmp_path / "two.py").write_text(SCRIPT)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    subprocess.run([*command, tmp_path / "two.py", words, tmp_path / "two"], check=True, timeout=120)
    train(ALONE, corpus=words, out=tmp_path / "one", settings=FEW)
    one, two = Transformer(ALONE), Transformer(ALONE)
    assert read_state(tmp_path / "one", one)[0] == read_state(tmp_path / "two", two)[0] == 3
    for (name, mine), (_, theirs) in zip(one.named_parameters(), two.named_parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-4, msg=name)
    assert (tmp_path / "two" / "checkpoint" / "config.json").is_file()


def test_the_parts_are_the_batch() -> None:
    rows = torch.arange(6 * 3).reshape(6, 3)
    batch = Batch(rows, rows + 1, rows > 4, rows > 7)
    parts = [Ranks(rank, 2).part(batch) for rank in range(2)]
    assert sorted(torch.cat([part.inputs for part in parts])[:, 0].tolist()) == rows[:, 0].tolist()
    assert all(torch.equal(part.targets, part.inputs + 1) for part in parts)
    assert all(torch.equal(part.counted, part.inputs > 4) for part in parts)
    assert all(torch.equal(part.padding, part.inputs > 7) for part in parts)
    with pytest.raises(BadArgument, match="rows is 6, expected a multiple of the 4 processes"):
        Ranks(0, 4).part(batch)


def test_one_process_keeps_its_gradients() -> None:
    model = torch.nn.Linear(2, 2)
    model(torch.ones(1, 2)).sum().backward()
    before = model.weight.grad.clone()  # type: ignore[union-attr]
    Ranks().average_gradients(model)
    assert torch.equal(before, model.weight.grad)


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"RANK": "0", "WORLD_SIZE": "2"}, "LOCAL_RANK is not set, MASTER_ADDR is not set, MASTER_PORT is not set"),
        ({"WORLD_SIZE": "2"}, "RANK is not set"),
        ({"RANK": "1"}, "WORLD_SIZE is not set"),
        ({"RANK": "0", "WORLD_SIZE": "two"}, "WORLD_SIZE is 'two'"),
        ({"RANK": "", "WORLD_SIZE": "2"}, "RANK is ''"),
        (TORCHRUN | {"RANK": "2"}, "RANK is 2 and LOCAL_RANK is 1, expected less than WORLD_SIZE, which is 2"),
        (TORCHRUN | {"WORLD_SIZE": "0"}, "WORLD_SIZE, which is 0"),
    ],
)
def test_an_incomplete_environment_is_refused_in_one_line(
    environment: dict[str, str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in TORCHRUN:
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(BadArgument, match=message) as error, ranks(torch.device("cpu")):
        pass
    assert "torchrun" in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("environment", [{}, {"LOCAL_RANK": "3"}, {"WORLD_SIZE": "1"}, {"RANK": "0"}])
def test_one_process_needs_no_torchrun(environment: dict[str, str]) -> None:
    assert processes(environment) == 1
    assert processes(TORCHRUN) == 2
