"""Replies of chapter 10: many prompts at once, thoughts of our own making, and how often an answer follows them."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from random import Random

import torch
from torch import Tensor

from minimoe.model.transformer import Transformer
from minimoe.text.sampling import SamplingSettings, sample
from minimoe.text.tokenizer import Tokenizer
from minimoe.training.corpus.worlds.arithmetic import Problem
from minimoe.training.corpus.worlds.chat import Turn

GREEDY = SamplingSettings(temperature=0)
MOST = 320  # new tokens of a reply
GROUP = 64  # prompts in a batch
OPEN, CLOSE = "<think>\n", "\n</think>\n\n"


@torch.no_grad()
def replies(
    model: Transformer,
    tokenizer: Tokenizer,
    prompts: Sequence[Sequence[int]],
    settings: SamplingSettings = GREEDY,
    seed: int = 0,
    most: int = MOST,
    group: int = GROUP,
) -> list[list[int]]:
    """The new ids of each prompt without the stop token; at most `most`. Prompts of one length run together."""
    by_length: dict[int, list[int]] = defaultdict(list)
    for number, prompt in enumerate(prompts):
        by_length[len(prompt)].append(number)
    written: list[list[int]] = [[] for _ in prompts]
    generator = torch.Generator().manual_seed(seed)
    for numbers in by_length.values():
        for begin in range(0, len(numbers), group):
            batch = numbers[begin : begin + group]
            rows = one_batch(model, tokenizer, [list(prompts[number]) for number in batch], settings, generator, most)
            for number, row in zip(batch, rows, strict=True):
                written[number] = row
    return written


def one_batch(
    model: Transformer,
    tokenizer: Tokenizer,
    prompts: list[list[int]],
    settings: SamplingSettings,
    generator: torch.Generator,
    most: int,
) -> list[list[int]]:
    """The new ids of prompts of equal length."""
    stops = torch.tensor(tokenizer.stop_ids)
    cache = model.new_cache(batch=len(prompts), capacity=len(prompts[0]) + most)
    fresh, running = torch.tensor(prompts), torch.ones(len(prompts), dtype=torch.bool)
    steps: list[Tensor] = []
    while running.any() and len(steps) < most:
        logits = model(fresh, cache=cache, last_only=True)[:, -1, : tokenizer.vocabulary_size]
        ids = sample(
            logits, settings.temperature, top_k=settings.top_k, top_p=settings.top_p, min_p=settings.min_p,
            generator=generator,
        )  # fmt: skip
        steps.append(ids)
        running &= ~torch.isin(ids, stops)
        fresh = ids[:, None]
    rows = torch.stack(steps, dim=1).tolist()
    return [row[: next((at for at, token in enumerate(row) if token in tokenizer.stop_ids), len(row))] for row in rows]


def prompt_of(tokenizer: Tokenizer, question: str, thinking: bool = True, begun: str = "") -> list[int]:
    """The ids of one question and the opening of its reply, of which `begun` is already written."""
    chat = tokenizer.chat([{"role": "user", "content": question}], thinking=thinking)
    return tokenizer.encode(chat + begun)


def same_words(turns: Sequence[Turn]) -> list[Turn]:
    """Turns of arithmetic, all asked in the same words, so that prompts of equally long sums run in one batch."""
    return [replace(turn, question=f"What is {problem_of(turn).text}?") for turn in turns]


# Wrong thoughts -------------------------------------------------------------------------------------------------------


def other_digit(digit: str, rng: Random) -> str:
    """A digit from 1 to 9 that is not this one."""
    return rng.choice([each for each in "123456789" if each != digit])


def wrong_result(problem: Problem, rng: Random) -> str:
    """The working, right to the last line; in the result after its colon, one digit is another one."""
    kept, result = problem.working.rsplit(": ", 1)
    at = rng.randrange(len(result))
    return f"{kept}: {result[:at]}{other_digit(result[at], rng)}{result[at + 1 :]}"


def wrong_digit(problem: Problem, rng: Random) -> str:
    """The working up to its first or second line, which writes the wrong digit; the model is to go on from there."""
    line = rng.choice((1, 2))
    kept, done = "\n".join(problem.working.splitlines()[:line]).rsplit(": ", 1)
    return f"{kept}: {other_digit(done[0], rng)}{done[1:]}"


def wrong_step(problem: Problem, rng: Random) -> str:
    """The working, in which one line claims another total, as in 7+5+0=15, and is right in all that follows."""
    lines = problem.working.splitlines()
    line = rng.randrange(len([each for each in lines if "=" in each]))
    before, after = lines[line].split("=")
    total, rest = after.split(",", 1)
    lines[line] = f"{before}={total[:-1]}{other_digit(total[-1], rng)},{rest}"
    return "\n".join(lines)


def another_problem(problem: Problem, rng: Random) -> str:
    """The working of another problem with numbers of the same length."""
    numbers = tuple(rng.randint(10 ** (len(str(n)) - 1), 10 ** len(str(n)) - 1) for n in problem.numbers)
    return replace(problem, numbers=numbers).working


def problem_of(turn: Turn) -> Problem:
    """The sum that a turn of arithmetic asks for."""
    return Problem(tuple(int(number) for number in turn.answer.split(" = ")[0].split(" + ")), "+")


def said(thought: str) -> str:
    """The result that a working states: what stands after the last colon."""
    return thought.strip().rsplit(": ", 1)[-1]


def follows(answer: str, thought: str, problem: Problem) -> str:
    """Whether a final answer is the "right" result, the one that the "thought" states, or an "other" one."""
    result = answer.strip().rsplit(" = ", 1)[-1]
    if result == str(problem.result):
        return "right"
    return "thought" if result == said(thought) else "other"
