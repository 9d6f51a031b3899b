"""Checks of options: the same limits as in the library, before torch is imported."""

import errno
import os
import subprocess
import sys

import pytest
import torch

from minimoe.commands import options
from minimoe.errors import BadArgument
from minimoe.text import sampling
from tests.commands.test_cli import refused, run


def test_limits_equal_those_of_the_library():
    assert options.COLDEST == sampling.COLDEST
    torch.Generator().manual_seed(options.SEED.max)


EARLY = [
    ("chat hi --seed 9223372036854775808", "0<=x<=9223372036854775807"),
    ("chat hi --temperature nan", "--temperature is nan"),
    ("chat hi --temperature 1e-9", "--temperature is 1e-09"),
    ("chat hi --temperature -1", "--temperature is -1.0"),
    ("chat hi --dtype fp7", "'fp7' is not one of"),
    ("chat hi --device gpu", "--device is 'gpu'"),
    ("chat hi --model none/there", "hf download none/there"),
    ("trace hi --model none", "there is no folder 'none'"),
    ("trace hi --layers 0:²", "expected A:B"),
    ("trace hi --layers 0:99999999999", "expected A:B"),
    ("trace hi --chat --layers 0:1", "needs all layers"),
    ("trace hi --show 99", "--show is 99"),
    ("trace hi --layers 0:2 --show 3", "--show is 3"),
    ("trace hi --out none/t", "there is no folder none"),
    ("trace hi --html .", "--html: . is a folder"),
    ("trace hi --out a --html ./a", "Give them different names"),
    ("verify none", "there is no folder 'none'"),
    ("quantise none --to int4 --out x", "there is no folder 'none'"),
    ("quantise data/mini --to int4 --out README.md", "not a folder"),
    ("evaluate none", "there is no folder 'none'"),
    ("evaluate data/mini --out none/r.json", "there is no folder none"),
    ("check-real none", "there is no folder 'none'"),
    ("check-real data/mini --device gpu", "--device is 'gpu'"),
    ("train --config none", "none cannot be read"),
    ("train --seed -1", "-1 is not in the range"),
    ("train --out README.md", "not a folder"),
    ("train --out README.md/run", "README.md is not a folder"),
]


def test_options_are_checked_before_torch_is_imported():
    """All in one process, in which torch must not be imported."""
    program = f"""
import sys
from click.testing import CliRunner
from minimoe.cli import cli
for line, sentence in {EARLY!r}:
    done = CliRunner().invoke(cli, line.split())
    assert done.exit_code == 2 and done.output.count("\\n") == 1 and sentence in done.output, (line, done.output)
    assert "torch" not in sys.modules, line
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("text", "encoding", "sentence"),
    [
        ("caf\udce9", "utf-8", "the byte 0xe9 as character 4, which is not valid UTF-8. Convert"),
        ("\udce4\udcbd", "ANSI_X3.4-1968", "which is not valid in the encoding of this terminal, ANSI_X3.4-1968."),
        ("a\ud800", "utf-8", "a lone surrogate as character 2"),
    ],
)
def test_undecodable_bytes(text, encoding, sentence):
    with pytest.raises(BadArgument, match=r"^TEXT has") as caught:
        options.require_text(text, "TEXT", encoding)
    assert sentence in str(caught.value)
    options.require_text("你好 \N{GRINNING FACE}", "TEXT", encoding)


@pytest.mark.parametrize("arguments", [("chat", "\udcff"), ("trace", "\udcff"), ("trace", "a", "--label", "\udcff")])
def test_every_text_of_a_command_line_is_checked(arguments):
    assert "0xff as character 1, which is not valid UTF-8" in refused(*arguments)


@pytest.mark.skipif(os.name != "posix", reason="locales of POSIX")
def test_a_terminal_that_is_not_utf_8_is_named():
    environment = os.environ | {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    command = [sys.executable, "-m", "minimoe", "chat", "你好".encode()]
    done = subprocess.run(command, env=environment, capture_output=True)
    assert done.returncode == 2 and b"the encoding of this terminal, ascii" in done.stderr, done.stderr
    assert b"LC_ALL=C.UTF-8" in done.stderr and done.stderr.count(b"\n") == 1


@pytest.mark.skipif(os.name != "posix", reason="shells of POSIX")
def test_a_file_never_gets_the_number_of_a_closed_stream(tmp_path):
    """Otherwise the output of C libraries would be written into it."""
    program = f"""
from minimoe.commands.terminal import open_closed_streams
open_closed_streams()
with open({str(tmp_path / "file")!r}, "w") as file:
    file.write(str(file.fileno()))
"""
    subprocess.run(["sh", "-c", '"$0" -c "$1" <&- >&- 2>&-', sys.executable, program], check=True)
    assert int((tmp_path / "file").read_text()) > 2


@pytest.mark.skipif(os.name != "posix", reason="shells of POSIX")
@pytest.mark.parametrize(("name", "code"), [("Qwen3-30B-A3B", 0), ("none", 2)])
def test_a_command_with_all_streams_closed(name, code):
    command = '"$0" -m minimoe plan "$1" <&- >&- 2>&-'
    assert subprocess.run(["sh", "-c", command, sys.executable, name]).returncode == code


@pytest.mark.skipif(os.name != "posix", reason="shells of POSIX")
def test_a_conversation_needs_standard_input():
    command = '"$0" -m minimoe chat <&-'
    done = subprocess.run(["sh", "-c", command, sys.executable], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "minimoe: standard input is closed, so no question can be read from it. Give a PROMPT.\n"


def test_a_line_that_is_not_utf_8_ends_its_turn_only():
    code, out, err = run("chat", "--max-new-tokens", 1, stdin=b"\xff\xfe\nHi\n")
    assert code == 0 and out and err.count("\n") == 1
    assert "the question has the byte 0xff as character 1, which is not valid UTF-8" in err


@pytest.mark.parametrize(
    ("environment", "sentence"),
    [
        ({"RANK": "abc"}, "RANK is 'abc', expected a whole number"),
        ({"WORLD_SIZE": "2"}, "RANK is not set"),
        ({"RANK": "0", "WORLD_SIZE": "2"}, "MASTER_ADDR, MASTER_PORT are not"),
    ],
)
def test_training_refuses_incomplete_torchrun_variables(environment, sentence, monkeypatch, tmp_path):
    for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert sentence in refused("train", "--out", tmp_path / "run", "--steps", 1)


# ------------------------------------------------------------------ unexpected errors


@pytest.mark.parametrize(
    ("error", "code", "sentence"),
    [
        (MemoryError(), 2, "out of memory"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB."), 2, "out of memory. CUDA out"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), 2, "out of memory. Default"),
        (RecursionError("maximum recursion depth exceeded"), 2, "nested too deeply"),
        (RuntimeError("two\nlines \x1b[2J"), 1, "unexpected RuntimeError: two lines \\x1b[2J. Please report it"),
        (OSError(errno.EIO, "Input/output error", "file"), 2, "Input/output error: 'file'"),
        (OSError(), 2, "minimoe: OSError"),
        (KeyboardInterrupt(), 130, ""),
        (EOFError(), 130, ""),
        (BrokenPipeError(errno.EPIPE, "Broken pipe"), 1, ""),
    ],
)
def test_an_unexpected_error_is_one_line(error, code, sentence, monkeypatch):
    def fail(*_, **__):
        raise error

    monkeypatch.delenv("MINIMOE_TRACEBACK", raising=False)
    monkeypatch.setattr("minimoe.commands.plan.plan_sizes", fail)
    found, out, err = run("plan", "Qwen3-30B-A3B")
    assert (found, out, sentence in err) == (code, "", True), err
    assert err.count("\n") == 1 or not sentence
    assert err.startswith("minimoe: ") or not sentence


def test_its_traceback_can_be_shown(monkeypatch):
    def fail(*_, **__):
        raise ZeroDivisionError("here")

    monkeypatch.setattr("minimoe.commands.plan.plan_sizes", fail)
    monkeypatch.setenv("MINIMOE_TRACEBACK", "1")
    with pytest.raises(AssertionError, match="here"):
        run("plan", "Qwen3-30B-A3B")
