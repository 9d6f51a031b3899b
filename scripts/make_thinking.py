"""Record data/thinking/measured.json: the mini's thoughts, by tokens, temperature, vote and forced mistakes.

    python scripts/make_thinking.py

All questions are held out: the first COUNT of each task of `minimoe evaluate`. The model runs in float32. It takes
about ten minutes on one processor core. Draws depend on the seed only, but a near tie may fall otherwise on another
processor, so a second run elsewhere may differ in the last percent.
"""

import argparse
import json
import math
from collections import Counter
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

import torch
from torch.nn import functional as F

from minimoe import atomic
from minimoe.checkpoint.load import load
from minimoe.course.figures import ch10_replies
from minimoe.course.figures.ch10_replies import CLOSE, GREEDY, OPEN, follows, problem_of, prompt_of, replies
from minimoe.paths import checkout, find
from minimoe.text.sampling import SamplingSettings
from minimoe.training.evaluation.answering import final_part, right
from minimoe.training.evaluation.evaluate import TASKS, questions
from minimoe.training.evaluation.intervals import Z, rate

COUNT = 200
TEMPERATURES = (0.0, 0.3, 0.6, 1.0, 1.5)
VOTED = ("addition_2_digits", "addition_4_digits")
ANSWERS = 32  # drawn answers a question
VOTE_TEMPERATURE = 0.7  # that the model cards suggest without thinking
FORCED: dict[str, Callable[..., str]] = {
    "result": ch10_replies.wrong_result,
    "digit": ch10_replies.wrong_digit,
    "step": ch10_replies.wrong_step,
    "another problem": ch10_replies.another_problem,
}


class Recorder:
    """The model with its tokenizer."""

    def __init__(self) -> None:
        self.model, self.tokenizer = load(find("data/mini"), dtype="fp32")
        self.known: dict[Any, float] = {}

    def write(self, prompts: Sequence[Sequence[int]], settings: SamplingSettings = GREEDY, seed: int = 0) -> list[str]:
        """The reply to each prompt."""
        ids = replies(self.model, self.tokenizer, prompts, settings, seed, group=256)
        return [self.tokenizer.decode(row) for row in ids]

    def tokens(self, text: str) -> int:
        return len(self.tokenizer.encode(text))

    def costs(self, task: str) -> dict[str, Any]:
        """Tokens of thought and answer in both modes: the mean and its 95 % interval."""
        found: dict[str, Any] = {}
        turns = questions(task, COUNT)
        for mode, thinking in (("thinking", True), ("not_thinking", False)):
            texts = self.write([prompt_of(self.tokenizer, turn.question, thinking) for turn in turns])
            parts = [text.rpartition("</think>\n\n") for text in texts]
            found[mode] = {
                "thought": mean([self.tokens(thought + mark) for thought, mark, _ in parts]),
                "answer": mean([self.tokens(answer) for *_, answer in parts]),
            }
        return found

    def temperature(self, task: str, temperature: float) -> dict[str, Any]:
        """Accuracy of drawn thoughts and answers, and how many thoughts never end."""
        turns = questions(task, COUNT)
        prompts = [prompt_of(self.tokenizer, turn.question) for turn in turns]
        texts = self.write(prompts, SamplingSettings(temperature), seed=1)
        open_ended = sum("</think>" not in text for text in texts)
        correct = sum(right(turn, text) for turn, text in zip(turns, texts, strict=True))
        return {"temperature": temperature, **rate(correct, COUNT), "open_ended": open_ended}

    def votes(self, task: str) -> dict[str, Any]:
        """Drawn answers without thinking: of the first n, is the most frequent right, the likeliest, or any at all?"""
        turns = questions(task, COUNT)
        prompts = [prompt_of(self.tokenizer, turn.question, thinking=False) for turn in turns]
        drawn = [self.write(prompts, SamplingSettings(VOTE_TEMPERATURE), seed=n) for n in range(ANSWERS)]
        scores = [self.likelihood(prompts, texts) for texts in drawn]
        points = []
        for n in (1, 2, 4, 8, 16, 32):
            correct = Counter[str]()
            for number, turn in enumerate(turns):
                answers = [texts[number] for texts in drawn[:n]]
                likeliest = max(range(n), key=lambda each: scores[each][number])
                chosen = {"vote": Counter(answers).most_common(1)[0][0], "likeliest": answers[likeliest]}
                correct.update(how for how, answer in chosen.items() if right(turn, answer))
                correct["any"] += any(right(turn, answer) for answer in set(answers))
            tokens = n * sum(self.tokens(texts[number]) for texts in drawn[:n] for number in range(COUNT)) / n / COUNT
            points.append({"answers": n, "tokens": round(tokens, 1)} | {
                how: rate(correct[how], COUNT) for how in ("vote", "likeliest", "any")
            })  # fmt: skip
        return {"temperature": VOTE_TEMPERATURE, "points": points}

    @torch.no_grad()
    def likelihood(self, prompts: Sequence[Sequence[int]], texts: Sequence[str]) -> list[float]:
        """The log-probability of each reply as a whole, without its end."""
        found = []
        for prompt, text in zip(prompts, texts, strict=True):
            key = (*prompt, text)
            if key in self.known:
                found.append(self.known[key])
                continue
            ids = torch.tensor([[*prompt, *self.tokenizer.encode(text)]])
            logits = self.model(ids)[0, len(prompt) - 1 : -1]
            found.append(-float(F.cross_entropy(logits, ids[0, len(prompt) :], reduction="sum")))
            self.known[key] = found[-1]
        return found

    def forced(self, task: str, kind: str) -> dict[str, Any]:
        """What becomes of the answer if the thought has one mistake."""
        turns, rng = questions(task, COUNT), Random(f"forced {kind}")
        problems = [problem_of(turn) for turn in turns]
        thoughts = [FORCED[kind](problem, rng) for problem in problems]
        begun = [OPEN + thought + ("\n" if kind == "digit" else CLOSE) for thought in thoughts]
        prompts = [
            prompt_of(self.tokenizer, turn.question, begun=text) for turn, text in zip(turns, begun, strict=True)
        ]
        texts = [start + text for start, text in zip(begun, self.write(prompts), strict=True)]
        stated = [text.removeprefix(OPEN).split("\n</think>")[0] for text in texts]
        outcomes = Counter(
            follows(final_part(text), thought, problem)
            for text, thought, problem in zip(texts, stated, problems, strict=True)
        )
        wrong = sum(
            thought.strip().rsplit(": ", 1)[-1] != str(problem.result)
            for thought, problem in zip(stated, problems, strict=True)
        )
        return {how: rate(outcomes[how], COUNT) for how in ("right", "thought", "other")} | {"wrong_thoughts": wrong}


def mean(values: Sequence[int]) -> dict[str, Any]:
    """{"mean", "interval"}: the mean and its 95 % interval, by its standard error."""
    middle = sum(values) / len(values)
    spread = math.sqrt(sum((value - middle) ** 2 for value in values) / (len(values) - 1) / len(values))
    return {"mean": round(middle, 1), "interval": [round(middle - Z * spread, 1), round(middle + Z * spread, 1)]}


def main() -> None:
    """Record and write the measurements."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", default=str(checkout() / "data" / "thinking" / "measured.json"))
    arguments = parser.parse_args()
    recorder = Recorder()
    torch.set_num_threads(1)
    measured: dict[str, Any] = {
        "count": COUNT,
        "costs": {task: recorder.costs(task) for task in TASKS},
        "temperatures": {
            task: [recorder.temperature(task, temperature) for temperature in TEMPERATURES]
            for task in ("sum_of_4_numbers", "addition_4_digits")
        },
        "votes": {task: recorder.votes(task) for task in VOTED},
        "forced": {kind: recorder.forced("addition_4_digits", kind) for kind in FORCED},
    }
    atomic.write(arguments.out, (json.dumps(measured, indent=1) + "\n").encode())


if __name__ == "__main__":
    main()
