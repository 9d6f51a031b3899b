"""The loop: it learns, stops, resumes, and leaves a checkpoint that loads. Tiny models, a few steps."""

import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import minimoe.training.loop as loop
from minimoe.checkpoint.load import load
from minimoe.errors import BadArgument, BadCheckpoint, BadTokenizer, NotFound
from minimoe.model.config import ModelConfig
from minimoe.model.transformer import Transformer
from minimoe.paths import checkout
from minimoe.training.corpus.batches import Batch, FolderSource, GeneratedSource, read_tokenizer
from minimoe.training.data_parallel import Ranks
from minimoe.training.loop import Settings, make_optimizer, one_step, train
from minimoe.training.losses import RouterTap, balance_each_layer
from minimoe.training.state import NAME, read_state

MINI = checkout() / "data" / "mini"
CONFIG = ModelConfig(
    vocab_size=2048,
    hidden_size=32,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=8,
    intermediate_size=64,
    moe_intermediate_size=16,
    num_experts=8,
    num_experts_per_tok=2,
    norm_topk_prob=True,
    router_aux_loss_coef=0.02,
)
QUICK = Settings(
    steps=20, rows=2, row_length=96, learning_rate=1e-2, warm_up=4, log_every=5, evaluate_every=10, checkpoint_every=10
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> tuple[Path, dict]:  # type: ignore[no-untyped-def]
    out = tmp_path_factory.mktemp("run")
    return out, train(CONFIG, out=out, settings=QUICK)


def test_the_loss_falls_and_the_history_tells(finished) -> None:  # type: ignore[no-untyped-def]
    out, history = finished
    losses = [record["loss"] for record in history["steps"]]
    assert losses[-1] < losses[0] - 0.5
    assert [record["step"] for record in history["held_out"]] == [10, 20]
    assert set(history["held_out"][0]) == {"step", "en", "zh", "code", "math", "chat"}
    assert all(len(record["least"]) == len(record["most"]) == 2 for record in history["steps"])
    assert json.loads((out / "history.json").read_text())["steps"] == history["steps"]
    assert history["padding_counted"] is False


def test_the_checkpoint_loads_with_the_weights_of_the_state(finished) -> None:  # type: ignore[no-untyped-def]
    out, _ = finished
    model, tokenizer = load(out / "checkpoint", dtype=torch.float32)
    assert tokenizer.encode("Tom")
    stored = Transformer(CONFIG)
    assert read_state(out, stored)[0] == 20
    for (name, mine), (_, theirs) in zip(model.named_parameters(), stored.named_parameters(), strict=True):
        torch.testing.assert_close(mine, theirs.to(torch.bfloat16).float(), rtol=0, atol=0, msg=name)


def test_a_run_that_stops_half_way_and_resumes_ends_with_the_same_weights(finished, tmp_path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    """To the bit: batches and rates are functions of the step, and the optimizer's moments are kept."""
    whole, _ = finished

    class Stopped(Exception):
        pass

    def stop_after_ten(*arguments, **named):  # type: ignore[no-untyped-def]
        if arguments[-1] == 13:
            raise Stopped
        return one_step(*arguments, **named)

    one_step = loop.one_step
    with monkeypatch.context() as patch:
        patch.setattr(loop, "one_step", stop_after_ten)
        with pytest.raises(Stopped):
            train(CONFIG, out=tmp_path, settings=QUICK)
    assert read_state(tmp_path, Transformer(CONFIG))[0] == 10
    train(CONFIG, out=tmp_path, settings=QUICK, resume=True)
    first, second = Transformer(CONFIG), Transformer(CONFIG)
    read_state(whole, first)
    read_state(tmp_path, second)
    for (name, mine), (_, theirs) in zip(first.named_parameters(), second.named_parameters(), strict=True):
        assert torch.equal(mine, theirs), name


ENDLESS = """
import sys
from dataclasses import replace
from tests.training.test_loop import CONFIG, QUICK
from minimoe.training.loop import train
train(CONFIG, out=sys.argv[1], settings=replace(QUICK, checkpoint_every=1))
"""


def test_a_run_that_is_killed_and_resumed_ends_with_the_same_weights(finished, tmp_path) -> None:  # type: ignore[no-untyped-def]
    """A real SIGKILL, wherever it falls; how often the state is written does not change the weights."""
    whole, _ = finished
    process = subprocess.Popen([sys.executable, "-c", ENDLESS, tmp_path], cwd=checkout())
    while not (tmp_path / NAME).is_file() and process.poll() is None:
        time.sleep(0.01)
    process.kill()
    process.wait()
    assert 1 <= read_state(tmp_path, Transformer(CONFIG))[0] <= QUICK.steps
    train(CONFIG, out=tmp_path, settings=QUICK, resume=True)
    first, second = Transformer(CONFIG), Transformer(CONFIG)
    read_state(whole, first)
    read_state(tmp_path, second)
    for (name, mine), (_, theirs) in zip(first.named_parameters(), second.named_parameters(), strict=True):
        assert torch.equal(mine, theirs), name


def test_resuming_needs_a_run_and_its_config(finished, tmp_path) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(NotFound, match="no run to resume"):
        train(CONFIG, out=tmp_path, settings=QUICK, resume=True)
    with pytest.raises(BadCheckpoint, match="config of that run"):
        train(replace(CONFIG, hidden_size=40), out=finished[0], settings=QUICK, resume=True)


def test_a_crash_while_writing_leaves_the_old_state(finished, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    out, history = finished
    before = (out / NAME).read_bytes()
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError("power cut")))
    model = Transformer(CONFIG)
    with pytest.raises(OSError, match="power cut"):
        loop.write_state(out, model, loop.make_optimizer(model, QUICK), 99, history)
    assert (out / NAME).read_bytes() == before


def test_bad_arguments_are_named(tmp_path) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(BadArgument, match="steps is 0"):
        train(CONFIG, out=tmp_path, steps=0)
    with pytest.raises(BadArgument, match="vocab_size is 100"):
        train(replace(CONFIG, vocab_size=100), out=tmp_path, settings=QUICK)
    with pytest.raises(BadTokenizer, match=r"tokenizer\.json"):
        train(CONFIG, out=tmp_path, settings=QUICK, tokenizer=tmp_path)


def test_a_folder_of_text_trains_too(tmp_path) -> None:  # type: ignore[no-untyped-def]
    words = tmp_path / "words"
    words.mkdir()
    (words / "a.txt").write_text("Tom has a red ball. 汤姆有一个红色的球。\n" * 80, encoding="utf-8")
    history = train(CONFIG, corpus=words, out=tmp_path / "out", settings=replace(QUICK, steps=10))
    assert set(history["held_out"][0]) == {"step", "text"}
    assert history["steps"][-1]["loss"] < history["steps"][0]["loss"]


def test_a_batch_depends_on_seed_and_step_alone() -> None:
    source = GeneratedSource(read_tokenizer(MINI))
    once, again = source.batch(7, 3, 2, 64), source.batch(7, 3, 2, 64)
    assert torch.equal(once.inputs, again.inputs) and torch.equal(once.counted, again.counted)
    assert torch.equal(once.inputs[:, 1:], once.targets[:, :-1])
    assert not torch.equal(once.inputs, source.batch(7, 4, 2, 64).inputs)
    assert not torch.equal(once.inputs, source.batch(8, 3, 2, 64).inputs)


def padding_by_hand(batch: Batch, end: int) -> torch.Tensor:
    """What follows the last <|endoftext|> that is counted: nothing there is a target of the loss."""
    padding = torch.zeros_like(batch.inputs, dtype=torch.bool)
    for row, ids in enumerate(batch.inputs.tolist()):
        place = len(ids) - 1
        while place > 0 and ids[place] == end and not batch.counted[row, place - 1]:
            padding[row, place] = True
            place -= 1
    return padding


def test_a_batch_says_which_tokens_are_padding_and_a_question_is_none() -> None:
    source = GeneratedSource(read_tokenizer(MINI))
    batch = source.batch(0, 0, 4, 64)
    assert torch.equal(batch.padding, padding_by_hand(batch, source.end)) and batch.padding.any()
    chats = source.held_out("chat", 4, 128)
    assert torch.equal(chats.padding, padding_by_hand(chats, source.end))
    assert (~chats.counted & ~chats.padding).any()


def test_a_step_counts_no_padding() -> None:
    """The balance and the counts of a step are those of the router logits without the rows of padding."""
    source, settings = GeneratedSource(read_tokenizer(MINI)), replace(QUICK, rows=4, row_length=64)
    model = Transformer(CONFIG)
    batch = source.batch(settings.seed, 0, settings.rows, settings.row_length)
    with torch.no_grad(), RouterTap(model) as all_tokens:
        model(batch.inputs)
    text = ~padding_by_hand(batch, source.end).flatten()
    logits = [layer[text] for layer in all_tokens.logits]
    with RouterTap(model) as tap:
        _, balance = one_step(model, make_optimizer(model, settings), tap, source, settings, Ranks(), 0)
    torch.testing.assert_close(balance, balance_each_layer(logits, 2) / 2)
    chosen = [layer.topk(2).indices.flatten().bincount(minlength=8) for layer in logits]
    assert torch.equal(tap.counts(), torch.stack(chosen))


def test_a_folder_s_held_out_windows_are_not_trained_on(tmp_path) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "a.txt").write_text("".join(f"{number}\n" for number in range(3000)), encoding="utf-8")
    source = FolderSource(tmp_path, read_tokenizer(MINI))
    trained, kept = set(source.windows(32, held_out=False)), set(source.windows(32, held_out=True))
    assert kept and not trained & kept
    last = max(trained | kept)
    row = source.window(last, 32)
    assert row.counted.count(False) == 33 - row.text == (last + 1) * 32 + 1 - len(source.ids)


def test_the_rate_warms_up_and_comes_down() -> None:
    settings = Settings(steps=1000, warm_up=100, learning_rate=1.0, final_rate=0.1)
    rates = [settings.rate(step) for step in range(1000)]
    assert rates[0] == 0.01 and max(rates) == rates[100] == 1.0
    assert rates[100:] == sorted(rates[100:], reverse=True)
    assert settings.rate(1000) == pytest.approx(0.1)


def test_without_progress_nothing_is_printed(tmp_path, capsys) -> None:  # type: ignore[no-untyped-def]
    train(CONFIG, out=tmp_path, settings=replace(QUICK, steps=2, evaluate_every=1), show_progress=False)
    assert capsys.readouterr() == ("", "")
