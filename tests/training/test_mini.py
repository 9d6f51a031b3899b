"""The committed mini checkpoint: its card and report are those of these weights."""

import json
import re
from itertools import pairwise

import pytest
import torch
from safetensors.torch import load_file

from minimoe.checkpoint.load import load
from minimoe.model.config import ModelConfig
from minimoe.paths import checkout
from minimoe.training.corpus.batches import GeneratedSource, read_tokenizer
from minimoe.training.evaluation.answering import greedy_answers, right
from minimoe.training.evaluation.dense_twin import dense_twin
from minimoe.training.evaluation.evaluate import DEAD, ROW_LENGTH, ROWS, held_out, questions
from minimoe.training.evaluation.model_card import model_card
from minimoe.training.evaluation.specialisation import specialisation
from minimoe.training.losses import RouterTap
from minimoe.training.snapshots import snapshot_steps

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
    assert sum(file.stat().st_size for file in MINI.rglob("*") if file.is_file()) <= 25_000_000


def test_no_layer_and_no_expert_is_dead(report: dict) -> None:
    assert report["routing"]["dead_experts"] == [0] * 4
    assert min(report["routing"]["least"]) >= DEAD


@pytest.mark.parametrize("domain", ["math", "zh"])
def test_the_held_out_loss_of_the_report_is_that_of_the_weights(mini, report: dict, domain: str) -> None:  # type: ignore[no-untyped-def]
    source = GeneratedSource(read_tokenizer(MINI))
    loss, counts = held_out(mini[0], source, domain)
    assert loss == pytest.approx(report["held_out"][domain]["nats_per_token"], abs=2e-3)
    text = ~source.held_out(domain, ROWS, ROW_LENGTH).padding
    assert counts.sum(dim=1).tolist() == [int(text.sum()) * 8] * 4 and not text.all()


@pytest.mark.parametrize("mode", ["thinking", "not_thinking"])
@pytest.mark.parametrize("task", ["addition_2_digits", "sum_of_4_numbers", "english_to_chinese"])
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


def test_the_report_has_what_the_course_promises(report: dict) -> None:
    """The rates that lessons rely on, each of 500 answers or more."""
    deep = report["tasks"][report["thinking_curve"]["task"]]
    assert deep["thinking"]["rate"] >= 0.95 and deep["not_thinking"]["rate"] <= 0.40
    for mode in ("thinking", "not_thinking"):
        for task in ("english_to_chinese", "chinese_to_english"):
            assert report["tasks"][task][mode]["rate"] >= 0.95, (task, mode)
        written = report["python"][mode]
        assert written["parse"]["rate"] >= 0.95 and written["not_in_training"]["rate"] >= 0.95
        assert written["stated_result_right"]["rate"] >= 0.90
    assert all(modes[mode]["of"] >= 500 for modes in report["tasks"].values() for mode in modes)
    assert all(near["equal"] == 0 for near in report["nearest_training_text"].values())
    passage, token = (report["specialisation"][key] for key in ("domain_of_a_passage", "domain_of_one_shared_token"))
    assert passage["rate"] >= 0.95 and passage["of"] >= 500
    assert token["interval"][0] > token["chance_band"][1]


def test_more_thinking_is_never_much_worse_and_enough_is_as_good_as_all(report: dict) -> None:
    points = report["thinking_curve"]["points"]
    rates = [point["rate"] for point in points]
    assert all(later >= earlier - 0.05 for earlier, later in pairwise(rates))
    assert rates[0] <= 0.4 and rates[-1] >= 0.95
    assert rates[-1] == pytest.approx(report["tasks"][report["thinking_curve"]["task"]]["thinking"]["rate"], abs=0.02)


def test_a_sample_of_the_routing_measurements_can_be_repeated(mini, report: dict) -> None:  # type: ignore[no-untyped-def]
    found = specialisation(mini[0], GeneratedSource(read_tokenizer(MINI)), count=30)
    assert found["domain_of_a_passage"]["rate"] >= 0.9
    shared, reported = found["domain_of_one_shared_token"], report["specialisation"]["domain_of_one_shared_token"]
    assert shared["interval"][0] > shared["chance_band"][1]
    assert shared["rate"] == pytest.approx(reported["rate"], abs=0.12)


def test_the_dense_twin_read_the_same_and_is_as_large(report: dict) -> None:
    config = ModelConfig.from_file(MINI)
    assert report["dense_twin"]["parameters"] == dense_twin(config).total_parameters
    assert abs(report["dense_twin"]["parameters"] / config.active_parameters - 1) < 0.01
    mine, theirs = (
        {record["step"]: record for record in json.loads((MINI / name).read_text(encoding="utf-8"))["held_out"]}
        for name in ("history.json", "history/dense.json")
    )
    step = report["dense_twin"]["steps"]
    assert step == max(set(mine) & set(theirs))
    for domain, nats in report["dense_twin"]["nats_per_token"].items():
        assert nats == {"moe": mine[step][domain], "dense": theirs[step][domain]}


def test_the_last_snapshot_of_the_history_is_this_model(mini, report: dict) -> None:  # type: ignore[no-untyped-def]
    files = sorted((MINI / "history").glob("step_*.safetensors"))
    steps = [int(file.stem.removeprefix("step_")) for file in files]
    assert steps == snapshot_steps(report["training"]["steps"], 10)
    model, last = mini[0], load_file(files[-1])
    for layer in range(model.config.num_hidden_layers):
        gate = model.get_parameter(f"layers.{layer}.mlp.gate.weight")
        assert torch.equal(gate.to(torch.bfloat16), last[f"gate.{layer}"])
    with torch.no_grad(), RouterTap(model) as tap:
        model(last["zh.tokens"][None], last_only=True)
    now = torch.stack([routing.experts for routing in tap.routings.values()])
    # the snapshot was taken in float32, before the weights were rounded to bfloat16: near ties may fall otherwise
    same = [
        len(set(a) & set(b))
        for a, b in zip(now.flatten(0, 1).tolist(), last["zh.experts"].flatten(0, 1).tolist(), strict=True)
    ]
    assert sum(same) / len(same) > 7.8


def test_the_history_ends_where_the_report_says(report: dict) -> None:
    history = json.loads((MINI / "history.json").read_text(encoding="utf-8"))
    assert history["held_out"][-1]["step"] == history["settings"]["steps"] == report["training"]["steps"]


def test_the_card_says_that_padding_was_counted_while_it_was_trained(report: dict) -> None:
    """The one point in which `minimoe train` no longer repeats the run that made these weights."""
    history = json.loads((MINI / "history.json").read_text(encoding="utf-8"))
    counted = history.get("padding_counted", True)
    assert report["training"]["padding_counted"] == counted
    assert ("**Padding**" in (MINI / "README.md").read_text(encoding="utf-8")) == counted


def test_it_was_made_by_the_recipe_of_minimoe_train() -> None:
    """Its settings; see the test above for what has changed beside them."""
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
