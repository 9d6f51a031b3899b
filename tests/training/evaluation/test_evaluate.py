"""Measuring: questions are held out, answers are judged rightly, model-written code cannot do harm."""

import json
import time
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
import torch

from minimoe.checkpoint.load import load
from minimoe.errors import BadArgument
from minimoe.paths import checkout
from minimoe.training.corpus.documents import split_of
from minimoe.training.corpus.worlds import chat, functions
from minimoe.training.evaluation import evaluate as room
from minimoe.training.evaluation.answering import LONGEST_ANSWER, PROBES, code_in, final_part, greedy_answers, right
from minimoe.training.evaluation.dense_twin import dense_twin
from minimoe.training.evaluation.intervals import rate
from minimoe.training.evaluation.model_card import MODES, PYTHON_NAMES, model_card
from minimoe.training.evaluation.sandbox import only_function, results
from minimoe.training.figures import learning_curve, thinking_curve
from minimoe.training.loop import train
from tests.training.test_loop import CONFIG, QUICK

MINI = checkout() / "data" / "mini"


@pytest.mark.parametrize("task", room.TASKS)
def test_questions_are_held_out_and_always_the_same(task: str) -> None:
    asked = room.questions(task, 8)
    assert asked == room.questions(task, 8) == room.questions(task, 12)[:8]
    assert all(turn.key is not None and split_of(turn.key) == "held-out" for turn in asked)


@pytest.mark.parametrize("task", room.TASKS)
def test_the_expected_answer_is_right_with_and_without_thinking_and_another_is_not(task: str) -> None:
    asked = room.questions(task, 4)
    for turn in asked:
        assert right(turn, turn.answer)
        assert right(turn, f"<think>\n{turn.thinking}\n</think>\n\n{turn.answer}")
        assert not right(turn, turn.thinking + turn.answer[: len(turn.answer) // 4])
        assert not right(turn, f"<think>\n{turn.answer}")  # still thinking when the tokens ran out


def test_a_function_is_judged_by_what_it_does() -> None:
    turn = chat.Turn("python", "", "", "```python\ndef f(x):\n    return x * 2\n```", None)
    assert right(turn, "```python\ndef twice(n):\n    return n + n\n```")
    assert not right(turn, "```python\ndef f(x):\n    return x * 3\n```")
    assert not right(turn, "def f(x):\n    return x * 2")
    assert code_in("nothing here") == "" and final_part("<think>\na\n</think>\n\n b ") == "b"


@pytest.mark.parametrize(
    "source",
    [
        "import os\ndef f(x):\n    return x\n",
        "def f(x):\n    return open('/etc/passwd').read()\n",
        "def f(x):\n    return ().__class__.__bases__\n",
        "def f(x):\n    return x.__class__\n",
        "def f(x):\n    return x.clear()\n",
        "def f(x):\n    while True:\n        x = 1\n",
        "def f(x):\n    return x ** 99999999\n",
        "def f(x):\n    return f(x)\n",
        "def f(x):\n    return __import__('os')\n",
        "def f(x, y=print('hello')):\n    return x\n",
        "@print\ndef f(x):\n    return x\n",
        "x = 1",
        "def f(:",
        "",
    ],
)
def test_code_beyond_the_small_world_is_not_run(source: str) -> None:
    assert only_function(source) is None and results(source, [1]) == []


def test_an_endless_function_is_stopped() -> None:
    begun = time.monotonic()
    assert results("def f(x):\n    for n in x:\n        x.append(n)\n    return x\n", [[1]]) in ([], ["MemoryError"])
    assert time.monotonic() - begun < 60


def test_every_generated_function_is_allowed() -> None:
    for seed in range(300):
        given = functions.function(Random(seed))
        assert only_function(given.source) == given.name
    outcome = results(given.source, PROBES)
    assert len(outcome) == len(PROBES)


def test_decoding_together_gives_what_decoding_alone_gives() -> None:
    if not (MINI / "model.safetensors").is_file():
        pytest.skip("data/mini has no weights yet")
    from minimoe.text.generate import generate

    model, tokenizer = load(MINI, dtype=torch.float32)
    asked = [turn.question for turn in room.questions("english_to_chinese", 6)]
    together = greedy_answers(model, tokenizer, asked, thinking=False)
    alone = [
        "".join(
            generate(
                model,
                tokenizer,
                [{"role": "user", "content": question}],
                thinking=False,
                temperature=0,
                max_new_tokens=LONGEST_ANSWER,
            )
        )
        for question in asked
    ]
    assert sum(one == other for one, other in zip(together, alone, strict=True)) >= 5  # sums may round otherwise


def small_report() -> dict:
    """What `evaluate` writes, with numbers that occur nowhere else."""
    part = {"shared_tokens": 7, "chance": 0.4, "chance_band": [0.35, 0.45], **rate(33, 44)}
    return {
        "parameters": {"total": 1234, "active": 567},
        "training": {"steps": 10, "tokens_per_step": 100, "minutes": 77, "padding_counted": False},
        "held_out": {"en": {"nats_per_token": 0.5, "perplexity": 1.649}},
        "dense_twin": {"parameters": 560, "steps": 8, "nats_per_token": {"en": {"moe": 0.5, "dense": 0.6}}},
        "routing": {"tokens": 9876, "dead_experts": [0, 2], "least": [0.5, 0.6], "most": [1.5, 1.25]},
        "tasks": {"python": {"thinking": rate(3, 4), "not_thinking": rate(1, 4)}},
        "python": {mode: {key: rate(2, 4) for key in PYTHON_NAMES} for mode in MODES},
        "thinking_curve": {
            "task": "python",
            "points": [{"budget": 0, **rate(0, 4)}, {"budget": 30, **rate(3, 4)}],
        },
        "nearest_training_text": {
            "python": {"training_texts": 20000, "equal": 0, "mean": 0.61, "median": 0.6, "highest": 0.93}
        },
        "specialisation": {
            "domain_of_a_passage": {**rate(98, 100), "chance": 0.25, "passage_tokens": 64},
            "domain_of_one_shared_token": {**part, "kinds": {"digits": part}},
            "overlap": {
                "neighbours": {"en": [0.1, 0.2], "zh": [0.3, 0.4]},
                "same_domain_at_random": {"en": [0.07, 0.08], "zh": [0.07, 0.08]},
                "two_random_sets": 0.0625,
            },
        },
    }


def test_the_card_says_what_the_report_says() -> None:
    from tests.training.test_losses import CONFIG

    card = model_card(small_report(), CONFIG)
    for said in (
        *("1,234", "567", "1,000 tokens", "77 minutes", "of 560 parameters", "same 8 batches"),
        *("| English | 0.500 | 1.65 |", "| English | 1.649 | 1.822 |", "experts are better in 1 of 1"),
        "| 75.0 % (30.1 to 95.4) | 25.0 % (4.6 to 69.9) |",
        "| correct | 0% | 75% |",
        "| 20,000 | 0 | 0.61 | 0.93 |",
        *(
            " 2 got less",
            "0.50, 0.60",
            "for 98.0 % (93.0 to 99.5) of 100",
            "gives 35.0 to 45.0 %",
            "0.200, 0.300",
            "0.070, 0.080",
        ),
        "| digits | 7 | 44 |",
    ):
        assert said in card, said


def test_the_thinking_curve_shows_every_budget_and_says_itself_in_words() -> None:
    picture = thinking_curve(small_report())
    assert list(picture.figure.data[0].x) == [0, 30] and list(picture.figure.data[0].y) == [0.0, 0.75]
    assert "0% with 0, 75% with 30" in picture.alt and "Without thinking: 25%" in picture.alt
    title = picture.figure.layout.title.text.replace("<br>", " ")
    assert title.startswith("Python: 0% right with 0 tokens of thinking, 75% with 30")


def test_minutes_are_those_of_the_log(tmp_path: Path) -> None:
    settings = {"steps": 300, "rows": 2, "row_length": 50}
    steps = [{"step": 100, "tokens_per_second": 10}, {"step": 300, "tokens_per_second": 100}]
    (tmp_path / "history.json").write_text(json.dumps({"settings": settings, "steps": steps}), encoding="utf-8")
    assert room.summary_of_training(tmp_path)["training"] == {
        "steps": 300,
        "tokens_per_step": 100,
        "minutes": round((100 * 100 / 10 + 200 * 100 / 100) / 60),
        "padding_counted": True,  # as in every history that does not say otherwise
    }
    assert room.summary_of_training(tmp_path / "no" / "run") == {}


def test_the_learning_curve_has_a_line_for_each_domain_and_says_itself_in_words() -> None:
    history = {
        "held_out": [{"step": 1, "en": 2.0, "zh": 3.0}, {"step": 2, "en": 1.0, "zh": 2.5}],
        "steps": [{"step": 1, "least": [0.5], "most": [1.5]}, {"step": 2, "least": [0.6], "most": [1.4]}],
    }
    picture = learning_curve(history)
    assert [trace.name for trace in picture.figure.data][:2] == ["en", "zh"]
    assert "en 1.00, zh 2.50" in picture.alt


def test_the_prompts_for_lessons_are_questions_the_mini_never_saw() -> None:
    prompts = json.loads((checkout() / "data" / "prompts" / "mini.json").read_text(encoding="utf-8"))
    assert prompts == {task: [turn.question for turn in room.questions(task, 5)] for task in room.TASKS}


def test_a_thinking_budget_closes_the_thinking_and_a_large_one_changes_nothing() -> None:
    model, tokenizer = load(MINI, dtype=torch.float32)
    asked = [turn.question for turn in room.questions("addition_2_digits", 4)]
    free = greedy_answers(model, tokenizer, asked, thinking=True)
    assert greedy_answers(model, tokenizer, asked, thinking=True, budget=1000) == free
    for answer in greedy_answers(model, tokenizer, asked, thinking=True, budget=7):
        thought, closed, said = answer.removeprefix("<think>\n").partition("\n</think>\n\n")
        assert closed and said and len(tokenizer.encode(thought)) == 7


def test_the_dense_twin_is_compared_after_the_same_batches(tmp_path: Path) -> None:
    """Its run may have stopped early; a model with experts, other batches and no run at all are refused."""
    few = replace(QUICK, steps=4, evaluate_every=1, checkpoint_every=2, snapshots=0)
    experts, dense = tmp_path / "experts", tmp_path / "dense"
    mine = train(CONFIG, out=experts, settings=few)
    theirs = train(dense_twin(CONFIG), out=dense, settings=few)
    cut = {**theirs, "held_out": theirs["held_out"][:3]}
    (dense / "history.json").write_text(json.dumps(cut), encoding="utf-8")
    beside = room.beside_dense_twin(CONFIG, experts, dense)
    assert beside["parameters"] == dense_twin(CONFIG).total_parameters and beside["steps"] == 3
    assert beside["nats_per_token"] == {
        domain: {"moe": mine["held_out"][2][domain], "dense": theirs["held_out"][2][domain]} for domain in room.DOMAINS
    }
    with pytest.raises(BadArgument, match="whose model has experts"):
        room.beside_dense_twin(CONFIG, experts, experts)
    with pytest.raises(BadArgument, match="has steps = 4, not"):
        room.beside_dense_twin(CONFIG, MINI, dense)
    with pytest.raises(BadArgument, match="expected the folder of a run"):
        room.beside_dense_twin(CONFIG, experts, tmp_path / "nowhere" / "run")
