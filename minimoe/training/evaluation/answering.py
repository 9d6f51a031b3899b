"""Decode answers greedily in batches, and check whether they are right."""

import re
from collections import defaultdict
from collections.abc import Sequence

import torch

from minimoe.model.transformer import Transformer
from minimoe.text.tokenizer import Tokenizer
from minimoe.training.corpus.worlds.chat import Turn
from minimoe.training.evaluation.sandbox import results

LONGEST_ANSWER = 320  # tokens
GROUP = 64  # conversations decoded together
PROBES: tuple[object, ...] = (
    *([], [1, 2, 3, 4, 5, 6, 7, 8, 9, 10], [12, 7, 7, 3]),
    *(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 12),
    *("cat", "elephant", "a", "star"),
)


def greedy_answers(
    model: Transformer, tokenizer: Tokenizer, questions: Sequence[str], thinking: bool, budget: int | None = None
) -> list[str]:
    """The model's greedy reply to each question, in the same order. Prompts of equal length are decoded together.

    budget: the maximum number of thinking tokens, after which `</think>` is forced (None: no limit).
    """
    by_length: dict[int, list[tuple[int, list[int]]]] = defaultdict(list)
    for number, question in enumerate(questions):
        ids = tokenizer.encode(tokenizer.chat([{"role": "user", "content": question}], thinking=thinking))
        by_length[len(ids)].append((number, ids))
    answers = [""] * len(questions)
    for group in by_length.values():
        for begin in range(0, len(group), GROUP):
            numbers, prompts = zip(*group[begin : begin + GROUP], strict=True)
            for number, ids in zip(numbers, greedy_batch(model, tokenizer, prompts, budget), strict=True):
                answers[number] = tokenizer.decode(ids)
    return answers


@torch.no_grad()
def greedy_batch(
    model: Transformer, tokenizer: Tokenizer, prompts: Sequence[Sequence[int]], budget: int | None = None
) -> list[list[int]]:
    """Continue prompts of equal length until all have stopped; open thinking is closed after `budget` tokens.

    Returns the new ids of each prompt, without the stop token.
    """
    length = len(prompts[0])
    cache = model.new_cache(batch=len(prompts), capacity=length + LONGEST_ANSWER)
    fresh = torch.tensor([list(prompt) for prompt in prompts], device=model.device)
    steps: list[list[int]] = []
    running = torch.ones(len(prompts), dtype=torch.bool)
    closing, end = tokenizer.encode("\n</think>\n\n"), tokenizer.encode("</think>")[0]
    opening = len(tokenizer.encode("<think>\n"))  # not counted as thinking tokens
    closed = torch.full((len(prompts),), budget is None)
    while running.any() and len(steps) < LONGEST_ANSWER:
        logits = model(fresh, cache=cache, last_only=True)[:, -1, : tokenizer.vocabulary_size]
        fresh = logits.argmax(dim=-1, keepdim=True)
        over_budget = len(steps) - opening - (budget or 0)
        if 0 <= over_budget < len(closing):
            fresh[~closed] = closing[over_budget]  # in every row whose thinking is still open
        elif over_budget < 0:
            closed |= fresh[:, 0].cpu() == end
        steps.append(fresh[:, 0].tolist())
        running &= ~torch.isin(fresh[:, 0].cpu(), torch.tensor(tokenizer.stop_ids))
    replies = []
    for row in zip(*steps, strict=True):
        stops = [position for position, token in enumerate(row) if token in tokenizer.stop_ids]
        replies.append(list(row[: stops[0]] if stops else row))
    return replies


def final_part(answer: str) -> str:
    """The answer without its thinking; "" if the thinking was never closed."""
    _thinking, closed, final = answer.rpartition("</think>")
    return final.strip() if closed or "<think>" not in final else ""


def right(turn: Turn, answer: str) -> bool:
    """Whether an answer is the expected text or, for Python, a function with the same results on all PROBES."""
    final = final_part(answer)
    if turn.kind != "python":
        return final == turn.answer
    outputs = results(code_in(final), PROBES)
    return bool(outputs) and outputs == results(code_in(turn.answer), PROBES)


def code_in(answer: str) -> str:
    """The content of the first fenced Python block of an answer, or ""."""
    block = re.search(r"```python\n(.*?)```", answer, re.DOTALL)
    return block.group(1) if block else ""
