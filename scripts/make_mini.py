"""Recreate data/mini from scratch in four commands; the second and third take hours of processor time.

    python scripts/make_mini.py vocabulary
    torchrun --nproc-per-node 2 -m minimoe train --out runs/mini
    torchrun --nproc-per-node 2 -m minimoe train --out runs/dense --dense-twin
    python scripts/make_mini.py publish runs/mini runs/dense

The first learns the vocabulary from the corpus and writes it into data/mini, where training reads it. The last copies
weights and history into data/mini, evaluates them, and writes the report, the card and the questions of the lessons.
"""

import argparse
import json
import shutil
from pathlib import Path

from minimoe.model.config import ModelConfig
from minimoe.paths import find
from minimoe.training.corpus.vocabulary import mini_vocabulary, write_vocabulary
from minimoe.training.evaluation.evaluate import TASKS, evaluate, questions
from minimoe.training.evaluation.model_card import write_card


def vocabulary() -> None:
    """Write tokenizer.json, tokenizer_config.json and generation_config.json of data/mini."""
    mini = find("data/mini")
    write_vocabulary(mini_vocabulary(), mini, ModelConfig.from_file(mini).max_position_embeddings)


def publish(run: Path, dense: Path, count: int) -> None:
    """Copy a finished run into data/mini, and evaluate it with its dense twin for comparison."""
    mini = find("data/mini")
    for name in ("model.safetensors", "config.json"):
        shutil.copyfile(run / "checkpoint" / name, mini / name)
    shutil.copyfile(run / "history.json", mini / "history.json")
    shutil.rmtree(mini / "history", ignore_errors=True)
    shutil.copytree(run / "history", mini / "history")
    shutil.copyfile(dense / "history.json", mini / "history" / "dense.json")
    evaluate(mini, mini / "report.json", count, dense)
    write_card(mini)
    prompts = {task: [turn.question for turn in questions(task, 5)] for task in TASKS}
    text = json.dumps(prompts, indent=1, ensure_ascii=False)
    (find("data/prompts") / "mini.json").write_text(text + "\n", encoding="utf-8")


def main() -> None:
    """Run one of the two steps."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    steps = parser.add_subparsers(dest="step", required=True)
    steps.add_parser("vocabulary", help="learn the vocabulary of data/mini")
    finish = steps.add_parser("publish", help="copy a run into data/mini and evaluate it")
    finish.add_argument("run", type=Path)
    finish.add_argument("dense", type=Path)
    finish.add_argument("--count", type=int, default=500, help="questions of each kind and mode")
    arguments = parser.parse_args()
    if arguments.step == "vocabulary":
        vocabulary()
    else:
        publish(arguments.run, arguments.dense, arguments.count)


if __name__ == "__main__":
    main()
