"""The command line from a user's view: results on stdout, one clear line on stderr, the right exit code."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import transformers
from click.testing import CliRunner

from minimoe.checkpoint.save import save
from minimoe.cli import cli
from minimoe.commands import compare_libraries, conversation
from minimoe.commands.terminal import table
from minimoe.model.config import ModelConfig
from minimoe.model.transformer import Transformer
from minimoe.paths import checkout
from minimoe.routing.trace.trace import RoutingTrace, record_routing
from minimoe.text.tokenizer import Tokenizer
from tests.routing.conftest import SIZES

COMMANDS = ["chat", "trace", "plan", "verify", "quantise", "train", "evaluate", "check-real", "selfcheck"]


def run(*arguments, stdin=None):
    """(exit code, stdout, stderr) of a command in this process; any exception but SystemExit is a failure."""
    result = CliRunner().invoke(cli, [str(each) for each in arguments], input=stdin)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.stdout, result.stderr


def refused(*arguments):
    """The one line of a refusal."""
    code, out, err = run(*arguments)
    assert (code, out, err.count("\n")) == (2, "", 1), (code, out, err)
    assert err.startswith("minimoe: ")
    return err


def minimoe(*arguments, **settings):
    """Run a command in a separate process."""
    command = [sys.executable, "-m", "minimoe", *map(str, arguments)]
    settings = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "encoding": "utf-8"} | settings
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # tests run in the background inherit "ignored"
    try:
        return subprocess.Popen(command, cwd=checkout(), **settings)
    finally:
        signal.signal(signal.SIGINT, before)


def tokenizer():
    return Tokenizer.from_directory(checkout() / "data" / "mini")


def random_checkpoint(directory, **changes):
    torch.manual_seed(0)
    settings = (
        SIZES | dict(vocab_size=tokenizer().vocabulary_size, dtype="float32", max_position_embeddings=512) | changes
    )
    save(Transformer(ModelConfig(**settings)), tokenizer(), directory)
    return directory


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return random_checkpoint(tmp_path_factory.mktemp("cli") / "random")


# ------------------------------------------------------------------ help and bad input


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command):
    code, out, err = run(command, "--help")
    assert (code, err) == (0, "")
    assert command in out
    assert command in run("--help")[1] == run()[1]


def test_help_loads_nothing_heavy():
    code = (
        "import sys, minimoe.cli; from click.testing import CliRunner;"
        "CliRunner().invoke(minimoe.cli.cli, ['--help']);"
        "sys.exit(str([name for name in ('torch', 'plotly', 'transformers', 'tokenizers') if name in sys.modules]))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stderr == "[]\n"


@pytest.mark.parametrize(
    "case",
    [
        "dance | No such command 'dance'",
        "plan | Missing argument 'NAME_OR_PATH'",
        "plan Qwen3-30B-A3B --precision fp7 | 'fp7' is not one of 'fp32', 'bf16'",
        "plan Qwen3-30B-A3B --context -1 | -1 is not in the range",
        "plan no/such | there is no folder 'no/such', and no model is named",
        "chat hi --model no/such | hf download no/such",
        "chat _ | PROMPT is empty",
        "chat hi --precision fp8 | 'fp8' is not one of 'int4', 'int8', 'bf16'",
        "chat hi --precision int4 --ram 1GB | minimoe quantise PATH --to int4",
        "chat hi --seed x | 'x' is not a valid integer",
        "trace hi --model no/such/folder | no folder 'no/such/folder'",
        "trace _ | TEXT is empty",
        "trace hi --layers 1:3 | must begin with 0",
        "trace hi --precision int8 --ram 1GB | minimoe quantise PATH --to int4",
        "trace hi --layers all | expected A:B",
        "verify no-such | no folder 'no-such'",
        "train --config no-such | no-such cannot be read",
        "evaluate no-such | no folder 'no-such'",
        "check-real no-such | no folder 'no-such'",
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(case):
    arguments, sentence = case.split(" | ")
    assert sentence in refused(*("" if word == "_" else word for word in arguments.split()))


def test_the_module_and_its_exit_codes():
    process = minimoe("plan", "nothing")
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (2, "")
    assert err.startswith("minimoe: there is no folder 'nothing'")
    assert err.count("\n") == 1


def test_a_closed_pipe_is_no_traceback():
    """As `minimoe plan ... | head -0` does."""
    read, write = os.pipe()
    os.close(read)
    process = minimoe("plan", "Qwen3-30B-A3B", "--json", stdout=write)
    os.close(write)
    assert "Traceback" not in process.communicate(timeout=60)[1]
    assert process.returncode != 0


# ------------------------------------------------------------------ plan


def test_plan_prints_raw_integers_as_json():
    code, out, _ = run("plan", "Qwen3-235B-A22B", "--json", "--context", "1000", "--precision", "fp8")
    sizes = json.loads(out)
    assert code == 0
    assert sizes["parameters"] == 235_093_634_560
    assert sizes["active_parameters"] == 22_190_763_520
    assert sizes["weight_bytes"] == 236_416_915_456
    assert sizes["kv_cache_bytes"] == 192_512_000
    assert sizes["total_bytes"] == 236_416_915_456 + 192_512_000


def test_plan_prints_a_table():
    code, out, err = run("plan", "Qwen/Qwen3-235B-A22B")
    assert (code, err) == (0, "")
    assert "235,093,634,560" in out
    assert "454.19 GB" in out
    assert "int4 123.14 GB" in out
    assert "192,512 bytes a token, 7.89 GB for 40,960 tokens" in out
    assert "1 GB = 1,000,000,000 bytes" in out


def test_plan_reads_a_local_config(checkpoint):
    total = ModelConfig.from_file(checkpoint).total_parameters
    for path in (checkpoint, checkpoint / "config.json"):
        sizes = json.loads(run("plan", path, "--json")[1])
        assert (sizes["parameters"], sizes["precision"], sizes["weight_bytes"]) == (total, "fp32", 4 * total)
    (checkpoint.parent / "empty").mkdir()
    assert "config.json" in refused("plan", checkpoint.parent / "empty")


# ------------------------------------------------------------------ chat


def test_chat_answers_once_and_a_seed_repeats_it(checkpoint):
    arguments = ["chat", "Hello", "--model", checkpoint, "--max-new-tokens", "8", "--temperature", "1"]
    answers = [run(*arguments, "--seed", seed) for seed in ("1", "1", "2")]
    assert all((code, err) == (0, "") for code, _, err in answers)
    assert answers[0][1] == answers[1][1] != answers[2][1]
    assert answers[0][1].endswith("\n")


@pytest.fixture
def parrot(monkeypatch):
    """Replace `generate` by a function that records its calls and repeats the last message."""
    calls = []

    def generate(model, tokenizer, messages, **settings):
        calls.append(([message["content"] for message in messages], settings))
        yield from messages[-1]["content"].upper()

    monkeypatch.setattr(conversation, "generate", generate)
    return calls


def test_a_conversation_remembers_until_it_is_cleared(checkpoint, parrot):
    code, out, err = run("chat", "--model", checkpoint, stdin="one\ntwo\n\n/dance\n/clear\n你好\n")
    assert (code, out) == (0, "ONE\nTWO\n你好\n")
    assert [messages for messages, _ in parrot] == [["one"], ["one", "ONE", "two"], ["你好"]]
    assert err.startswith("minimoe: unknown command /dance")


def test_thinking_is_switched_by_option_and_by_command(checkpoint, parrot):
    run("chat", "--model", checkpoint, "--no-thinking", stdin="a\n/think\nb\n/no_think\nc\n")
    run("chat", "d", "--model", checkpoint)
    assert [settings["thinking"] for _, settings in parrot] == [False, True, False, None]


def test_a_checkpoint_without_the_switch_is_reported_and_the_conversation_continues(checkpoint, parrot, monkeypatch):
    monkeypatch.setattr(Tokenizer, "has_thinking_switch", False)
    code, out, err = run("chat", "--model", checkpoint, stdin="/think\na\n")
    assert (code, out) == (0, "A\n")
    assert "no thinking switch" in err


def test_an_error_in_one_turn_does_not_end_the_conversation(checkpoint):
    """The first question is longer than the model has positions for."""
    code, out, err = run("chat", "--model", checkpoint, "--max-new-tokens", 2, stdin="word " * 2000 + "\nhi\n")
    assert code == 0
    assert "positions" in err
    assert out.count("\n") >= 1


def test_ctrl_c_ends_with_130(checkpoint, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt
        yield

    monkeypatch.setattr(conversation, "generate", interrupted)
    code, _, err = run("chat", "hi", "--model", checkpoint)
    assert (code, err.strip()) == (130, "")


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_ctrl_c_in_a_real_process(checkpoint):
    process = minimoe("chat", "--model", checkpoint, "--temperature", "1", stdin=subprocess.PIPE, bufsize=0)
    process.stdin.write("hi\n")
    assert process.stdout.read(1)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in err


# ------------------------------------------------------------------ trace


def test_trace_prints_what_it_saves(checkpoint, tmp_path):
    file = tmp_path / "t.safetensors"
    code, out, err = run("trace", "Hello, 你好", "--model", checkpoint, "--out", file, "--show", 2, "--label", "random")
    assert (code, err) == (0, "")
    saved = RoutingTrace.load(file)
    assert saved.tokens.tolist() == tokenizer().encode("Hello, 你好")
    assert saved.metadata["label"] == "random"
    lines = out.splitlines()
    assert "experts of layer 2" in lines[0]
    at = saved.layers.tolist().index(2)
    for token in range(len(saved)):
        shown = [int(word) for word in lines[1 + token].split()[-5:-1]]
        assert shown == saved.experts[at, token].tolist()
        assert lines[1 + token].split()[-1] == f"{saved.margins[at, token]:.3f}" or saved.margins[at, token] > 0.5
    assert "3 layers" in out
    assert str(file) in out


def test_trace_of_the_first_layers_equals_the_whole_model(checkpoint, tmp_path):
    run("trace", "Hello", "--model", checkpoint, "--out", tmp_path / "all")
    run("trace", "Hello", "--model", checkpoint, "--out", tmp_path / "first", "--layers", "0:3")
    whole, first = RoutingTrace.load(tmp_path / "all"), RoutingTrace.load(tmp_path / "first")
    assert first.layers.tolist() == [0, 2]
    assert torch.equal(first.experts, whole.experts[:2])


def test_trace_verifies_against_its_checkpoint(checkpoint, tmp_path):
    import minimoe as library

    run(
        "trace", "A longer text, so that there is something to compare.", "--model", checkpoint, "--out", tmp_path / "t"
    )
    model, own = library.load(checkpoint)
    assert RoutingTrace.load(tmp_path / "t").verify(model, own).overlap == 1.0


def test_trace_writes_the_explorer(checkpoint, tmp_path):
    page = tmp_path / "t.html"
    code, out, err = run(
        "trace", "Hello, 你好 <b>", "--model", checkpoint, "--html", page, "--layers", "0:3", "--show", 2
    )
    assert (code, err) == (0, "") and out.splitlines()[-1] == f"saved to {page}"
    text = page.read_text(encoding="utf-8")
    assert "<title>Which experts? Hello, 你好 &lt;b&gt;</title>" in text
    header = json.loads(re.search(r'id="minimoe-header">(.*?)</script>', text).group(1))
    assert header["traces"][0]["layers"] == [0, 2] and header["state"] == {"layer": 1}
    assert "there is no folder" in refused("trace", "hi", "--model", checkpoint, "--html", tmp_path / "no" / "t.html")


def test_trace_of_a_question_records_roles(checkpoint, tmp_path):
    file = tmp_path / "t"
    code, out, err = run(
        "trace", "Hi", "--chat", "--max-new-tokens", 4, "--model", checkpoint, "--out", file, "--label", "random"
    )
    assert (code, err) == (0, "") and "\nanswer: " in out
    saved = RoutingTrace.load(file)
    parts = [[saved.token_bytes(t) for t in range(len(saved)) if saved.roles[t] == role] for role in range(4)]
    assert b"<|im_start|>" in parts[0] and b"".join(parts[1]) == b"Hi"
    assert len(parts[2]) + len(parts[3]) > 0
    assert "require --chat" in refused("trace", "Hi", "--thinking", "--model", checkpoint)


def test_trace_refuses_layers_and_files_that_are_not_there(checkpoint, tmp_path):
    assert "--show is 1" in refused("trace", "hi", "--model", checkpoint, "--show", 1)
    assert "layers is range(0, 9)" in refused("trace", "hi", "--model", checkpoint, "--layers", "0:9")
    assert "there is no folder" in refused("trace", "hi", "--model", checkpoint, "--out", tmp_path / "no" / "t")
    dense = random_checkpoint(tmp_path / "dense", model_type="qwen3", num_experts=0)
    assert "no router" in refused("trace", "hi", "--model", dense)


def test_a_table_lines_up_with_chinese_in_it():
    assert table([("a", "1"), ("你好", "22")], right=(False, True)) == "a      1\n你好  22"


# ------------------------------------------------------------------ verify, train, evaluate


def test_verify_reports_a_whole_checkpoint_and_a_fault(tmp_path):
    directory = random_checkpoint(tmp_path / "c")
    code, out, _ = run("verify", directory)
    assert code == 0
    assert "whole" in out
    shard = next(directory.glob("*.safetensors"))
    shard.write_bytes(shard.read_bytes()[:-1])
    code, out, err = run("verify", directory, "--sha256")
    assert (code, err) == (1, "")
    assert "TruncatedShard" in out


def test_train_leaves_a_checkpoint(tmp_path):
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus" / "a.txt").write_text("The cat sat on the mat. " * 400, encoding="utf-8")
    changes = dict(num_hidden_layers=1, mlp_only_layers=(), vocab_size=tokenizer().vocabulary_size)
    config = ModelConfig(**(SIZES | changes)).to_dict()
    (tmp_path / "config.json").write_text(json.dumps(config))
    arguments = [
        "train",
        "--config",
        tmp_path / "config.json",
        "--corpus",
        tmp_path / "corpus",
        "--out",
        tmp_path / "run",
    ]
    code, out, _ = run(*arguments, "--steps", 1)
    assert code == 0
    assert "learning_curve.html" in out and (tmp_path / "run" / "learning_curve.html").stat().st_size > 1000
    assert run("verify", tmp_path / "run" / "checkpoint")[0] == 0
    assert run(*arguments, "--steps", 2, "--resume")[0] == 0
    assert [record["step"] for record in json.loads((tmp_path / "run" / "history.json").read_text())["steps"]] == [1, 2]


def test_evaluate_writes_the_report(checkpoint, tmp_path, monkeypatch):
    from minimoe.training.evaluation import evaluate

    monkeypatch.setattr(evaluate, "evaluate", lambda path, out, count, dense: [str(path), str(out), count, dense])
    out = tmp_path / "r.json"
    assert json.loads(run("evaluate", checkpoint, "--out", out)[1]) == [str(checkpoint), str(out), 500, None]
    asked = run("evaluate", checkpoint, "--out", out, "--count", "7", "--dense", "twin")[1]
    assert json.loads(asked) == [str(checkpoint), str(out), 7, "twin"]


# ------------------------------------------------------------------ check-real


@pytest.fixture(scope="module")
def saved_by_transformers(tmp_path_factory):
    """A tiny model as transformers saves it, with the mini's tokenizer beside it."""
    directory = tmp_path_factory.mktemp("real")
    torch.manual_seed(1)
    settings = transformers.Qwen3MoeConfig(
        **(SIZES | dict(vocab_size=tokenizer().vocabulary_size, max_position_embeddings=512, mlp_only_layers=[1])),
    )
    transformers.Qwen3MoeForCausalLM(settings).to(torch.bfloat16).save_pretrained(directory)
    for name, content in tokenizer().files.items():
        (directory / name).write_bytes(content)
    return Path(directory)


def test_check_real_finds_both_libraries_equal(saved_by_transformers):
    report = compare_libraries.compare_libraries(saved_by_transformers)
    own, single = report.comparisons
    assert (own.dtype, single.dtype) == (torch.bfloat16, torch.float32)
    assert (own.difference, own.top1, own.router) == (0.0, 1.0, 1.0)
    assert own.overlap == {0: 1.0, 2: 1.0, 3: 1.0}
    assert single.difference < 1e-4
    assert own.spread > 0.1
    assert report.faults == []


def test_check_real_as_a_command(saved_by_transformers, monkeypatch):
    monkeypatch.setattr(compare_libraries, "fits", lambda nbytes: False)
    code, out, err = run("check-real", saved_by_transformers)
    assert code == 0
    assert "they agree" in out
    assert "same experts, whole model        100.00%" in out
    assert "minimoe, bfloat16" in err


def test_check_real_sees_a_router_that_forgets_to_renormalise(saved_by_transformers, monkeypatch):
    from minimoe.model import router

    honest = router.route
    monkeypatch.setattr(router, "route", lambda logits, top_k, renormalise: honest(logits, top_k, False))
    code, out, _ = run("check-real", saved_by_transformers)
    assert code == 1
    assert "fault: float32: logits differ" in out
    assert "they differ" in out


def test_check_real_sees_a_wrong_choice(saved_by_transformers, monkeypatch):
    from minimoe.model import router

    honest = router.route
    monkeypatch.setattr(router, "route", lambda logits, top_k, renormalise: honest(-logits, top_k, renormalise))
    monkeypatch.setattr(compare_libraries, "fits", lambda nbytes: False)
    report = compare_libraries.compare_libraries(saved_by_transformers)
    assert any("the router, given equal input" in fault for fault in report.faults)
    assert any("the selection of layer 0" in fault for fault in report.faults)


def test_check_real_sees_other_token_ids(saved_by_transformers, monkeypatch):
    honest = Tokenizer.encode
    monkeypatch.setattr(compare_libraries, "fits", lambda nbytes: False)
    monkeypatch.setattr(Tokenizer, "encode", lambda self, text, **settings: honest(self, text + "!", **settings))
    assert any("ids of" in fault for fault in compare_libraries.compare_libraries(saved_by_transformers).faults)


def test_check_real_without_a_tokenizer_or_memory(saved_by_transformers, tmp_path, monkeypatch):
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).write_bytes((saved_by_transformers / name).read_bytes())
    monkeypatch.setattr(compare_libraries, "fits", lambda nbytes: False)
    report = compare_libraries.compare_libraries(tmp_path)
    assert len(report.comparisons) == 1
    assert report.faults == []
    assert "no usable tokenizer" in report.notes[0]
    assert "float32 was left out" in report.notes[1]


def test_check_real_of_a_dense_model(tmp_path):
    settings = {
        key: value
        for key, value in SIZES.items()
        if "expert" not in key and key not in ("norm_topk_prob", "mlp_only_layers")
    }
    transformers.Qwen3ForCausalLM(transformers.Qwen3Config(**settings)).save_pretrained(tmp_path)
    report = compare_libraries.compare_libraries(tmp_path)
    assert report.faults == []
    assert report.comparisons[0].overlap == {}
    assert "same experts" not in str(report)


def test_check_real_without_transformers(saved_by_transformers, monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    assert "pip install 'transformers" in refused("check-real", saved_by_transformers)


def test_recording_through_the_public_names(checkpoint):
    """What the README shows."""
    import minimoe as library

    model, own = library.load(checkpoint)
    with library.record_routing(model, own) as trace:
        model(torch.tensor([own.encode("Hello")]))
    assert trace.experts.shape[0] == 3
    assert record_routing is library.record_routing


# ------------------------------------------------------------------ refused before anything is read


@pytest.mark.parametrize(
    "case",
    [
        "trace hi --show 9 | --show is 9, expected one of the recorded layers 0 to 3",
        "trace hi --out no/such/folder/t.safetensors | there is no folder no/such/folder",
        "trace hi --html no/such/folder/t.html | there is no folder no/such/folder",
        "chat hi --context 64 | --context requires --ram",
        "chat hi --ram 30MB --context 64 | Use --max-new-tokens",
        "chat hi --ram 30MB --context 4 | Use a larger --ram",
    ],
)
def test_bad_input_is_refused_before_the_model_runs(case, monkeypatch):
    monkeypatch.setattr(Transformer, "forward", None)
    arguments, sentence = case.split(" | ")
    code, _, err = run(*arguments.split())
    assert (code, sentence in err) == (2, True), err


def test_quantise_overwrites_a_checkpoint_only_with_replace(tmp_path):
    out = tmp_path / "packed"
    assert run("quantise", "data/mini", "--to", "int8", "--out", out)[0] == 0
    code, _, err = run("quantise", "data/mini", "--to", "int4", "--out", out)
    assert (code, "pass --replace" in err) == (2, True)
    assert run("quantise", "data/mini", "--to", "int4", "--out", out, "--dry-run")[0] == 0
    assert ModelConfig.from_file(out).quantization_config["bits"] == 8
    assert run("quantise", "data/mini", "--to", "int4", "--out", out, "--replace")[0] == 0
    assert ModelConfig.from_file(out).quantization_config["bits"] == 4


def test_a_hub_that_cannot_be_reached_is_one_line(monkeypatch):
    monkeypatch.setattr("huggingface_hub.HfApi.model_info", lambda *_, **__: 1 / 0)
    err = refused("trace", "hi", "--model", "hf://owner/name", "--ram", "1GB")
    assert "hf://owner/name@main: the hub cannot be reached: division by zero" in err


def test_selfcheck_without_gpus(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert "PyTorch finds no GPU here" in refused("selfcheck", "--device", "cuda")
