"""`--ram` on the command line: its estimates, statistics and refusals."""

from minimoe.checkpoint.sparse_checkpoint import write_sparse
from minimoe.commands import stream_model as streaming
from minimoe.model.config import ModelConfig
from minimoe.routing.trace.trace import RoutingTrace
from minimoe.scale.streaming.stream import stream_model
from tests.commands.test_cli import refused, run


def test_chat_estimates_its_reads_and_answers_the_same():
    question = ("chat", "--max-new-tokens", "8", "--temperature", "0", "What is 3 + 4?")
    code, answer, err = run(*question, "--ram", "6MB", "--dtype", "bf16")
    assert code == 0 and (code, answer) == run(*question, "--dtype", "bf16")[:2]
    lines = err.splitlines()
    assert [line.split(":")[0] for line in lines] == [
        "memory", "read while opening", "to read for 16 tokens",
        "that takes 0.0 s at 500.00 MB/s (assumed, a SATA disk; too little was read to measure)",
        "then for each token of the answer", "(experts", lines[-1],
    ]  # fmt: skip
    assert "of 6.00 MB" in lines[0] and "headers" in lines[1] and "embedding rows 6.14 kB" in lines[2]
    assert lines[-1].startswith("read ") and "of a budget of 6.00 MB" in lines[-1]


def test_trace_without_an_answer_reads_no_expert_of_the_last_layer(tmp_path):
    code, table, err = run("trace", "The cat.", "--ram", "2MB", "--layers", "0:1", "--out", tmp_path / "mine")
    assert code == 0 and "experts of layer 0" in table
    assert "experts" not in err and "1 of 1 layers' attention" in err
    run("trace", "The cat.", "--layers", "0:1", "--out", tmp_path / "theirs")
    mine, theirs = (RoutingTrace.load(tmp_path / name) for name in ("mine", "theirs"))
    assert mine.experts.equal(theirs.experts) and mine.metadata["router_sha256"] == theirs.metadata["router_sha256"]
    code, _, err = run("trace", "The cat.", "--ram", "6MB")
    assert code == 0 and "of 384 experts" in err


def test_a_conversation_without_a_first_question():
    code, answer, err = run("chat", "--ram", "6MB", "--max-new-tokens", "4", stdin="What is 3 + 4?\n")
    assert code == 0 and answer and "a question of 32 tokens" in err


def test_long_reads_are_confirmed(monkeypatch):
    monkeypatch.setattr(streaming, "ASK_FROM", 0)
    monkeypatch.setattr(streaming, "is_interactive", lambda: True)
    arguments = ("trace", "The cat.", "--ram", "2MB", "--layers", "0:1")
    code, out, err = run(*arguments, stdin="n\n")
    assert code != 0 and out == "" and "Continue?" in err
    code, out, err = run(*arguments, stdin="y\n")
    assert code == 0 and "experts of layer 0" in out
    code, out, err = run(*arguments, "--yes")
    assert code == 0 and "Continue?" not in err


def test_refusals():
    assert "--ram is '2'" in refused("trace", "hi", "--ram", "2")
    assert "is the minimum for" in refused("chat", "hi", "--ram", "1MB")
    assert "--ram computes on the CPU" in refused("chat", "hi", "--ram", "1GB", "--device", "cuda")
    assert "--ram" in refused("trace", "hi", "--model", "https://127.0.0.1:1/none/")
    assert "a context of 4,000 tokens" in refused("chat", "hi", "--ram", "6MB", "--context", "4000")


def test_a_long_answer_is_refused_before_reading():
    code, _, err = run("chat", "hi", "--ram", "2MB", "--max-new-tokens", "500")
    assert code == 2 and "Use --max-new-tokens 54 or fewer" in err


def test_the_235b_is_announced(tmp_path):
    """94 layers in 3 GB: the estimate is printed, and only norms and routers are read."""
    write_sparse(tmp_path / "big", ModelConfig.named("Qwen3-235B-A22B"))
    model = stream_model(tmp_path / "big", "3GB")
    lines = list(streaming.announcement(model.streaming, 32, True, True, 1e9, "assumed"))
    assert "experts 396.61 GB" in lines[2] and lines[3] == "that takes 6.9 min at 1.00 GB/s (assumed)"
    assert model.streaming.bytes_read == model.budget.small
