"""Record data/thinking/measured.json: the mini's thoughts, by tokens, temperature, vote and forced mistakes.

    python scripts/make_thinking.py

All questions are held out: the first COUNT of each task of `minimoe evaluate`; sums are all asked in the same words, so
that they run in one batch. The model runs in float32. It takes five minutes on one processor core. Draws depend on the
seed only, but a near tie may fall otherwise on another processor, so a second run elsewhere may differ a little.
"""

import argparse
import json
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from functools import partial
from random import Random
from typing import Any

import torch

from minimoe import atomic
from minimoe.checkpoint.load import load
from minimoe.course.figures import ch10_replies
from minimoe.course.figures.ch10_replies import CLOSE, GREEDY, OPEN, follows, problem_of, prompt_of, replies, same_words
from minimoe.paths import checkout, find
from minimoe.text.sampling import SamplingSettings
from minimoe.training.corpus.worlds.chat import Turn
from minimoe.training.evaluation.answering import final_part, right
from minimoe.training.evaluation.evaluate import TASKS, questions
from minimoe.training.evaluation.intervals import Z, rate

COUNT = 200
GROUP = 400  # prompts in a batch
TEMPERATURES = (0.0, 0.3, 0.6, 1.0, 1.5)
DRAWN = ("addition_4_digits", "sum_of_4_numbers")
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

    def write(self, prompts: Sequence[Sequence[int]], settings: SamplingSettings = GREEDY, seed: int = 0) -> list[str]:
        """The reply to each prompt."""
        ids = replies(self.model, self.tokenizer, prompts, settings, seed, group=GROUP)
        return [self.tokenizer.decode(row) for row in ids]

    def tokens(self, text: str) -> int:
        return len(self.tokenizer.encode(text))

    def costs(self, task: str) -> dict[str, Any]:
        """Tokens of thought and answer in both modes: the mean and its 95 % interval."""
        found: dict[str, Any] = {}
        turns = asked(task)
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
        turns = asked(task)
        prompts = [prompt_of(self.tokenizer, turn.question) for turn in turns]
        texts = self.write(prompts, SamplingSettings(temperature), seed=1)
        open_ended = sum("</think>" not in text for text in texts)
        correct = sum(right(turn, text) for turn, text in zip(turns, texts, strict=True))
        return {"temperature": temperature, **rate(correct, COUNT), "open_ended": open_ended}

    def temperatures(self, task: str) -> list[dict[str, Any]]:
        """The accuracy at each of TEMPERATURES."""
        return [self.temperature(task, temperature) for temperature in TEMPERATURES]

    def votes(self, task: str) -> dict[str, Any]:
        """Drawn answers without thinking: of the first n, is the most frequent right, the likeliest, or any at all?"""
        turns = asked(task)
        prompts = [prompt_of(self.tokenizer, turn.question, thinking=False) for turn in turns]
        repeated = [prompt for prompt in prompts for _ in range(ANSWERS)]
        drawn = self.write(repeated, SamplingSettings(VOTE_TEMPERATURE), seed=2)
        scores = self.likelihood(repeated, drawn)
        points = []
        for n in (1, 2, 4, 8, 16, 32):
            correct, tokens = Counter[str](), 0
            for number, turn in enumerate(turns):
                first = range(number * ANSWERS, number * ANSWERS + n)
                answers = [drawn[each] for each in first]
                likeliest = drawn[max(first, key=lambda each: scores[each])]
                chosen = {"vote": Counter(answers).most_common(1)[0][0], "likeliest": likeliest}
                correct.update(how for how, answer in chosen.items() if right(turn, answer))
                correct["any"] += any(right(turn, answer) for answer in set(answers))
                tokens += sum(self.tokens(answer) for answer in answers)
            rates = {how: rate(correct[how], COUNT) for how in ("vote", "likeliest", "any")}
            points.append({"answers": n, "tokens": round(tokens / COUNT, 1)} | rates)
        return {"temperature": VOTE_TEMPERATURE, "points": points}

    @torch.no_grad()
    def likelihood(self, prompts: Sequence[Sequence[int]], texts: Sequence[str]) -> list[float]:
        """The log-probability of each reply as a whole, without its end. Rows of one length run together."""
        rows = {(tuple(prompt), text) for prompt, text in zip(prompts, texts, strict=True)}
        by_shape: dict[tuple[int, int], list[tuple[tuple[int, ...], str]]] = defaultdict(list)
        for prompt, text in sorted(rows):
            by_shape[len(prompt), self.tokens(text)].append((prompt, text))
        known: dict[tuple[tuple[int, ...], str], float] = {}
        for (start, length), group in by_shape.items():
            for begin in range(0, len(group) if length else 0, GROUP):
                batch = group[begin : begin + GROUP]
                ids = torch.tensor([[*prompt, *self.tokenizer.encode(text)] for prompt, text in batch])
                logits = self.model(ids)[:, start - 1 : -1].log_softmax(dim=-1)
                chosen = logits.gather(-1, ids[:, start:, None])[..., 0].sum(dim=1)
                known.update(zip(batch, chosen.tolist(), strict=True))
        return [known.get((tuple(prompt), text), -math.inf) for prompt, text in zip(prompts, texts, strict=True)]

    def forced(self, task: str, kind: str) -> dict[str, Any]:
        """What becomes of the answer if the thought has one mistake."""
        turns, rng = asked(task), Random(f"forced {kind}")
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


def asked(task: str) -> list[Turn]:
    """The questions of a task; sums all in the same words."""
    turns = questions(task, COUNT)
    return same_words(turns) if turns[0].kind == "arithmetic" else turns


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
    parts: dict[str, dict[str, Callable[[], Any]]] = {
        "forced": {kind: partial(recorder.forced, "addition_4_digits", kind) for kind in FORCED},
        "votes": {task: partial(recorder.votes, task) for task in VOTED},
        "costs": {task: partial(recorder.costs, task) for task in TASKS},
        "temperatures": {task: partial(recorder.temperatures, task) for task in DRAWN},
    }
    measured: dict[str, Any] = {"count": COUNT}
    for part, measurements in parts.items():
        measured[part] = {}
        for what, measure in measurements.items():
            measured[part][what] = measure()
            print(part, what, flush=True)
            atomic.write(arguments.out, (json.dumps(measured, indent=1) + "\n").encode())


if __name__ == "__main__":
    main()
