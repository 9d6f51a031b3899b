"""Evaluate a checkpoint trained on the small world on fixed held-out data, and write `report.json`."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import torch
from tqdm.auto import tqdm

from minimoe import atomic
from minimoe.checkpoint.load import load
from minimoe.checkpoint.resolve import find_checkpoint
from minimoe.errors import BadArgument
from minimoe.model.config import ModelConfig
from minimoe.model.transformer import Transformer
from minimoe.text.tokenizer import Tokenizer
from minimoe.training.corpus.batches import GeneratedSource, read_tokenizer
from minimoe.training.corpus.documents import DOMAINS, draw
from minimoe.training.corpus.worlds import chat
from minimoe.training.corpus.worlds.arithmetic import Problem, number_of
from minimoe.training.evaluation.answering import greedy_answers, right
from minimoe.training.evaluation.contamination import nearest_training_text
from minimoe.training.evaluation.dense_twin import dense_twin
from minimoe.training.evaluation.intervals import rate
from minimoe.training.evaluation.python_answers import python_report, training_shapes
from minimoe.training.evaluation.specialisation import specialisation
from minimoe.training.loop import evenness
from minimoe.training.losses import RouterTap, next_token_loss

DEAD = 0.1  # an expert with less than this fraction of an even load counts as dead
ROWS, ROW_LENGTH = 24, 256
BUDGETS = (0, 20, 40, 60, 80, 100, 120, 140, 160, 180, 200, 240)  # tokens of thinking


def addition(count: int, digits: int) -> Callable[[Random], chat.Turn]:
    """A generator of sums of `count` numbers with `digits` digits each."""
    return lambda rng: chat.calculation(rng, Problem(tuple(number_of(rng, digits) for _ in range(count)), "+"))


TASKS: dict[str, Callable[[Random], chat.Turn]] = {
    "addition_2_digits": addition(2, 2),
    "addition_4_digits": addition(2, 4),
    "addition_6_digits": addition(2, 6),
    "sum_of_4_numbers": addition(4, 4),
    "english_to_chinese": chat.translate_to_chinese,
    "chinese_to_english": chat.translate_to_english,
    "python": chat.write_function,
    "questions": chat.answer_question,
}
DEEP_TASK = "sum_of_4_numbers"  # the task of the curve of accuracy against the thinking budget


def questions(task: str, count: int) -> list[chat.Turn]:
    """The first `count` held-out questions of a task, the same on every machine."""
    rng = Random(f"evaluate/{task}")
    return [draw(TASKS[task], lambda turn: turn.key, rng, "held-out") for _ in range(count)]


@torch.no_grad()
def held_out(model: Transformer, source: GeneratedSource, domain: str, rows: int = ROWS) -> tuple[float, torch.Tensor]:
    """(nats per token, (layer, expert) selection counts) of the first held-out rows of a domain, without padding."""
    batch = source.held_out(domain, rows, ROW_LENGTH).to(model.device)
    with RouterTap(model, counted=~batch.padding) as tap:
        loss = next_token_loss(model(batch.inputs), batch.targets, batch.counted)
        return float(loss), tap.counts().cpu() if tap.routings else torch.zeros(0, 0)


def language(model: Transformer, directory: str | Path) -> dict[str, Any]:
    """Held-out loss of each domain, and the load of the experts of each layer by the tokens of all domains."""
    source = GeneratedSource(read_tokenizer(directory))
    losses, total = {}, torch.zeros(1)
    for domain in tqdm(DOMAINS, desc="held-out text"):
        loss, counts = held_out(model, source, domain)
        losses[domain] = {"nats_per_token": round(loss, 4), "perplexity": round(math.exp(loss), 3)}
        total = total + counts
    if not model.config.moe_layers:
        return {"held_out": losses}
    relative_load = total / total.sum(dim=-1, keepdim=True) * total.shape[-1]
    routing = {
        "tokens": int(total.sum() / model.config.num_experts_per_tok / len(total)),
        "dead_experts": (relative_load < DEAD).sum(dim=-1).tolist(),
        **evenness(total),
    }
    return {"held_out": losses, "routing": routing}


def tasks(model: Transformer, tokenizer: Tokenizer, count: int) -> dict[str, Any]:
    """Accuracy of greedy answers to held-out questions in both modes.

    Returns {"tasks", "python", "nearest_training_text"}. "outcomes" of a task has a 1 for each correct answer, in
    order. "python": whether generated functions parse, are new, and return the stated result. "nearest_training_text":
    similarity of the questions to the training data.
    """
    report: dict[str, Any] = {}
    code: dict[str, Any] = {}
    nearest: dict[str, Any] = {}
    known_shapes = training_shapes()
    for task in tqdm(TASKS, desc="held-out tasks"):
        turns = questions(task, count)
        report[task] = {}
        nearest[task] = nearest_training_text(TASKS[task], turns)
        for mode, thinking in (("thinking", True), ("not_thinking", False)):
            answers = greedy_answers(model, tokenizer, [turn.question for turn in turns], thinking)
            outcomes = [right(turn, answer) for turn, answer in zip(turns, answers, strict=True)]
            report[task][mode] = {**rate(sum(outcomes), count), "outcomes": "".join("01"[ok] for ok in outcomes)}
            if task == "python":
                code[mode] = python_report(answers, known_shapes)
    return {"tasks": report, "python": code, "nearest_training_text": nearest}


def thinking_curve(model: Transformer, tokenizer: Tokenizer, count: int, task: str) -> list[dict[str, Any]]:
    """Accuracy on a task for each of BUDGETS, the maximum number of thinking tokens."""
    turns = questions(task, count)
    points = []
    for budget in tqdm(BUDGETS, desc="thinking budgets"):
        answers = greedy_answers(model, tokenizer, [turn.question for turn in turns], thinking=True, budget=budget)
        correct = sum(right(turn, answer) for turn, answer in zip(turns, answers, strict=True))
        points.append({"budget": budget, **rate(correct, count)})
    return points


def history_of(directory: Path) -> dict[str, Any]:
    """The history.json of a directory or, for the checkpoint/ of a run, of its parent; empty if there is none.

    Raises BadArgument for a file that `minimoe train` did not write.
    """
    candidates = (directory / "history.json", directory.parent / "history.json")
    file = next((candidate for candidate in candidates if candidate.is_file()), None)
    if file is None:
        return {}
    try:
        history = json.loads(file.read_text(encoding="utf-8"))
        numbers = [history["settings"][key] for key in ("steps", "rows", "row_length")]
        numbers += [record[key] for record in history["steps"] for key in ("step", "tokens_per_second")]
        numbers += [record["step"] for record in history.get("held_out", ())]
        if not all(isinstance(number, int) and number > 0 for number in numbers):
            raise ValueError("expected counts and steps of at least 1")
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise BadArgument(
            f"{file} is not the history of a run of minimoe train ({type(error).__name__}: {error}). Remove it."
        ) from error
    return history


def summary_of_training(directory: Path) -> dict[str, Any]:
    """Steps, tokens and duration of training, and whether its balance loss counted padding; empty without a history."""
    history = history_of(directory)
    if not history:
        return {}
    settings, seconds, before = history["settings"], 0.0, 0
    tokens = settings["rows"] * settings["row_length"]
    for record in history["steps"]:
        seconds += (record["step"] - before) * tokens / record["tokens_per_second"]
        before = record["step"]
    return {
        "training": {
            "steps": settings["steps"],
            "tokens_per_step": tokens,
            "minutes": round(seconds / 60),
            "padding_counted": history.get("padding_counted", True),
        },
    }


def beside_dense_twin(config: ModelConfig, directory: Path, dense: str | Path) -> dict[str, Any]:
    """Held-out losses of the model and of its dense twin after the same batches, from the histories of both runs.

    They are compared at the last step at which both were measured, on the same held-out rows. (If the twin's run was
    stopped early, neither learning rate had decayed at that step.) Raises BadArgument unless the runs match.
    """
    mine, other = history_of(directory), history_of(Path(dense))
    if not mine or not other:
        raise BadArgument(
            f"--dense is {dense}; expected the folder of a run of minimoe train --dense-twin, with history."
        )
    if any("least" in record for record in other["steps"]):
        raise BadArgument(f"--dense is {dense}, whose model has experts. Expected a run of minimoe train --dense-twin.")
    differing = [key for key, value in mine["settings"].items() if other["settings"].get(key) != value]
    if differing:
        key = differing[0]
        raise BadArgument(
            f"--dense is {dense}, whose history has {key} = {other['settings'].get(key)}, not {mine['settings'][key]}."
        )
    measured = [{record["step"]: record for record in history["held_out"]} for history in (mine, other)]
    both = set(measured[0]) & set(measured[1])
    if not both:
        raise BadArgument(f"--dense is {dense}, which has no held-out losses after a step that both runs measured.")
    step = max(both)
    losses = {
        domain: {"moe": measured[0][step][domain], "dense": measured[1][step][domain]}
        for domain in measured[0][step]
        if domain != "step"
    }
    return {"parameters": dense_twin(config).total_parameters, "steps": step, "nats_per_token": losses}


def evaluate(
    path: str | Path, out: str | Path | None = None, count: int = 500, dense: str | Path | None = None
) -> dict[str, Any]:
    """Measure the checkpoint at `path` in float32 and, if `out` is given, write the report there as JSON.

    dense: the folder of the run of its dense twin, to report its held-out losses too. count: questions per task and
    mode. Intended for checkpoints trained on the small world. Raises BadArgument if the twin was trained on other
    batches.
    """
    directory = find_checkpoint(path)
    training = summary_of_training(directory)
    beside = None
    if dense is not None:  # invalid arguments are rejected before the measurements
        beside = beside_dense_twin(ModelConfig.from_file(directory), directory, dense)
    model, tokenizer = load(path, dtype=torch.float32)
    report = {
        "parameters": {"total": model.config.total_parameters, "active": model.config.active_parameters},
        **training,
        **language(model, tokenizer.source),
        "specialisation": specialisation(model, GeneratedSource(read_tokenizer(tokenizer.source))),
        **tasks(model, tokenizer, count),
        "thinking_curve": {"task": DEEP_TASK, "points": thinking_curve(model, tokenizer, count, DEEP_TASK)},
    }
    if beside is not None:
        report["dense_twin"] = beside
    if out is not None:
        atomic.write(out, (json.dumps(report, indent=1, ensure_ascii=False) + "\n").encode())
    return report
