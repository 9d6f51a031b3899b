"""The committed mini checkpoint: its card and report are those of these weights."""

import json
import re

import pytest
import torch

from minimoe.checkpoint.read import load
from minimoe.model.config import ModelConfig
from minimoe.paths import checkout
from minimoe.training.answers import greedy_answers, right
from minimoe.training.batches import GeneratedSource, read_tokenizer
from minimoe.training.card import model_card
from minimoe.training.evaluate import DEAD, held_out, questions

MINI = checkout() / "data" / "mini"
NEEDED = ("model.safetensors", "config.json", "report.json", "README.md", "history.json")
pytestmark = pytest.mark.skipif(
    not all((MINI / name).is_file() for name in NEEDED), reason=f"data/mini lacks one of {', '.join(NEEDED)}"
)


@pytest.fixture(scope="module")
def report() -> dict:
    return json.loads((MINI / "report.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def mini():  # type: ignore[no-untyped-def]
    return load(MINI, dtype=torch.float32)


def test_the_card_is_the_one_that_the_report_gives(report: dict) -> None:
    assert (MINI / "README.md").read_text(encoding="utf-8") == model_card(report, ModelConfig.from_file(MINI))


def test_it_has_the_shape_of_the_real_one_and_stays_small(report: dict) -> None:
    config = ModelConfig.from_file(MINI)
    assert (config.num_experts, config.num_experts_per_tok, config.model_type) == (128, 8, "qwen3_moe")
    assert config.num_attention_heads * config.head_dim != config.hidden_size
    assert config.vocab_size > read_tokenizer(MINI).get_vocab_size()
    assert report["parameters"] == {"total": config.total_parameters, "active": config.active_parameters}
    assert sum(file.stat().st_size for file in MINI.iterdir()) < 25_000_000


def test_no_layer_and_no_expert_is_dead(report: dict) -> None:
    assert report["routing"]["dead_experts"] == [0] * 4
    assert min(report["routing"]["least"]) >= DEAD


@pytest.mark.parametrize("domain", ["math", "zh"])
def test_the_held_out_loss_of_the_report_is_that_of_the_weights(mini, report: dict, domain: str) -> None:  # type: ignore[no-untyped-def]
    loss, counts = held_out(mini[0], GeneratedSource(read_tokenizer(MINI)), domain)
    assert loss == pytest.approx(report["held_out"][domain]["nats_per_token"], abs=2e-3)
    assert (counts.sum(dim=1) == counts.sum(dim=1)[0]).all()


@pytest.mark.parametrize("mode", ["thinking", "not_thinking"])
@pytest.mark.parametrize("task", ["addition_2_digits", "english_to_chinese"])
def test_a_sample_of_the_answers_is_as_right_as_reported(mini, report: dict, task: str, mode: str) -> None:  # type: ignore[no-untyped-def]
    model, tokenizer = mini
    asked = questions(task, 6)
    answers = greedy_answers(model, tokenizer, [turn.question for turn in asked], thinking=mode == "thinking")
    outcomes = "".join("01"[right(turn, answer)] for turn, answer in zip(asked, answers, strict=True))
    recorded = report["tasks"][task][mode]["outcomes"]
    # On another processor a near tie may fall the other way, so one of six may differ.
    assert sum(a != b for a, b in zip(outcomes, recorded, strict=False)) <= 1
    assert report["tasks"][task][mode]["right"] == recorded.count("1")
    assert len(recorded) == report["tasks"][task][mode]["of"]


def test_the_history_ends_where_the_report_says(report: dict) -> None:
    history = json.loads((MINI / "history.json").read_text(encoding="utf-8"))
    assert history["held_out"][-1]["step"] == history["settings"]["steps"] == report["training"]["steps"]


def test_it_was_made_by_the_recipe_that_minimoe_train_repeats() -> None:
    from dataclasses import asdict

    from minimoe.training.loop import Settings

    settings = json.loads((MINI / "history.json").read_text(encoding="utf-8"))["settings"]
    ours = json.loads(json.dumps(asdict(Settings())))
    timing = {
        "log_every",
        "evaluate_every",
        "checkpoint_every",
        "snapshots",
    }  # when to look does not change the weights
    assert {k: v for k, v in settings.items() if k not in timing} == {k: v for k, v in ours.items() if k not in timing}


def test_the_card_has_no_place_left_unfilled() -> None:
    assert not re.search(r"\{\w+\}", (MINI / "README.md").read_text(encoding="utf-8"))
