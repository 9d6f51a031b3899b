"""The cells of lesson 14 that wait behind a switch, switched on: nbval sees them switched off only.

Each is taken from the notebook as it stands there, with the names that the cells before it have made.
"""

import os
import subprocess
import sys
import threading
from http.server import ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest
import torch

import minimoe
from minimoe.humanize import duration, units
from minimoe.paths import checkout
from minimoe.scale.planner.deployment import deploy
from minimoe.scale.planner.gpus import CARDS
from minimoe.scale.planner.load_time import reading
from minimoe.scale.planner.model_size import plan
from minimoe.scale.streaming.budget import budget
from tests.scale.serving.test_openai_client import ANSWER, TAGGED, Stub

LESSON = checkout() / "notebooks" / "14_the_whole_235b.ipynb"
BIG = minimoe.ModelConfig.named("Qwen3-235B-A22B")


def cell(text, **changes):
    """The source of the one code cell that holds `text`, with some of its lines changed."""
    cells = nbformat.read(LESSON, as_version=4).cells
    (source,) = [each.source for each in cells if each.cell_type == "code" and text in each.source]
    for old, new in changes.values():
        assert source.count(old) == 1, old
        source = source.replace(old, new)
    return source


def after(cell_source, **names):
    """What a cell has made, given these names; run in the folder of the lessons, as the reader's kernel is."""
    scope = {"torch": torch, "minimoe": minimoe, "os": os, "sys": sys, "subprocess": subprocess, "Path": Path}
    scope |= {"units": units, "duration": duration, "budget": budget, "deploy": deploy, "big": BIG} | names
    exec(compile(cell_source, "cell", "exec"), scope)
    return scope


def test_the_routing_of_layer_0_is_that_of_the_loaded_model(capsys):
    source = cell(
        "RUN_REAL = False",
        switch=("RUN_REAL = False", "RUN_REAL = True"),
        source=('SOURCE, TEXT = "hf://Qwen/Qwen3-235B-A22B"', 'SOURCE, TEXT = "data/mini"'),
    )
    opened = SimpleNamespace(streaming=SimpleNamespace(header_bytes=3_397_823))
    found = after(source, layer_0=opened)
    model, tokenizer = minimoe.load("data/mini", layers=range(0, 1))
    model.engine = "loop"
    with torch.no_grad(), minimoe.record_routing(model, tokenizer) as trace:
        model(torch.tensor([tokenizer.encode(found["TEXT"])]))
    assert torch.equal(found["real_trace"].experts, trace.experts)
    assert "L0·E" in capsys.readouterr().out and found["cost"] < 200_000_000


def settings(**changes):
    """What the settings of part 9 make, with some of them changed."""
    scope = {"CARDS": CARDS, "sizes": plan(BIG, context=32_768)}
    return after(cell("CARD, COUNT =", **changes), **scope)


def printed_commands(capsys, **changes):
    """The settings, and all that the cells after them print."""
    names = settings(**changes)
    after(cell("hf download"), **names)
    names |= {"load": reading(names["offer"]).total, "reading": reading}
    after(cell("def command("), **names)
    return names, capsys.readouterr().out


def test_every_command_follows_the_settings(capsys):
    _, told = printed_commands(capsys)
    assert "hf download Qwen/Qwen3-235B-A22B --local-dir models/Qwen3-235B-A22B\n" in told
    assert "--nproc-per-node 8 -m minimoe chat --model models/Qwen3-235B-A22B --device cuda --split tensor\n" in told
    assert "--precision" not in told and "quantise" not in told

    changes = {"offer": ('CARD, COUNT = "H100", 8', 'CARD, COUNT = "H200", 1'), "files": ('"models"', '"/data/big"')}
    names, told = printed_commands(capsys, precision=('PRECISION = "bf16"', 'PRECISION = "int4"'), **changes)
    assert "hf download Qwen/Qwen3-235B-A22B --local-dir /data/big/Qwen3-235B-A22B\n" in told
    assert "minimoe quantise /data/big/Qwen3-235B-A22B --to int4" in told
    assert "--nproc-per-node 1 " in told and told.count("--precision int4\n") == 1
    assert names["offer"].precision == "int4" and names["offer"].fits and names["stored"] == 470_187_269_120

    names, told = printed_commands(capsys, precision=('PRECISION = "bf16"', 'PRECISION = "fp8"'))
    assert "hf download Qwen/Qwen3-235B-A22B-FP8 --local-dir models/Qwen3-235B-A22B-FP8\n" in told
    assert "--model models/Qwen3-235B-A22B-FP8 " in told and "--precision" not in told


def ranks_answer(precision, where, cards, memory):
    """The names after the cell that starts ranks, on CPUs, with the switch turned on."""
    names = settings(precision=('PRECISION = "bf16"', f'PRECISION = "{precision}"')) | {"load": 0}
    after(cell("def command("), **names)
    names |= {"WHERE": str(where), "cards": [None] * cards, "memory": memory, "kernel": "plain", "reading": reading}
    names |= {"command": after(cell("def command("), **names)["command"]}
    source = cell("RUN_SPREAD, DEVICE", switch=("= False,", "= True,"), device=('"cuda"', '"cpu"'))
    return after(source, **names)


@pytest.mark.parametrize("fits", [True, False])
def test_the_ranks_of_this_computer_answer_if_the_plan_fits(fits, capsys):
    mini = checkout() / "data" / "mini"
    if not fits:  # all of it is kept back
        with pytest.raises(minimoe.MinimoeError, match="rank 0 of 2 needs"):
            ranks_answer("bf16", mini, 2, 2**31)
        return
    assert ranks_answer("bf16", mini, 2, 2**32)["answered"] == 0
    told = capsys.readouterr().out
    assert "before the first word" in told and len(told) > 50


def test_a_precision_reaches_the_ranks_and_the_plan():
    found = ranks_answer("int4", "data/mini", 1, 2**32)  # found as the commands find it
    assert found["answered"] == 0 and found["plan_here"].precision == "int4"
    assert found["line"][-3:-1] == ["--precision", "int4"]


def test_a_server_answers_in_both_modes(monkeypatch, capsys):
    stub = ThreadingHTTPServer(("127.0.0.1", 0), Stub)
    stub.requests, stub.models, stub.field, stub.fails, stub.says = [], ["it"], "reasoning", "", ANSWER
    stub.finish = None
    stub.allowed = stub.turn = threading.Semaphore(1000)
    threading.Thread(target=stub.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    monkeypatch.setenv("MINIMOE_ENDPOINT", f"http://127.0.0.1:{stub.server_port}/v1")
    try:
        found = after(cell("MINIMOE_ENDPOINT"))
    finally:
        stub.shutdown()
        stub.server_close()
    assert found["answers"] == {True: TAGGED, False: "It is 4."}
    assert "thinking=False" in capsys.readouterr().out
